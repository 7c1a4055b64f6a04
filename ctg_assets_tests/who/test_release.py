"""WHO's numbers in a release of the tables as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.release.verification import verify_release
from ctg_assets.release.warehouse_tables import ReleasedWarehouse, WarehouseContent
from ctg_assets.simulator.who_rows import gho_rows
from ctg_assets.storage.files import Storage
from ctg_assets.who.refreshing import WhoSource
from ctg_assets_tests.release.released import ReleasedLake, few_studies
from ctg_assets_tests.who.conftest import Who, gho


def test_who_s_numbers_are_released_and_read_again_only_when_they_changed(
    who: Who, address: PostgresAddress, tmp_path: Path
) -> None:
    """All four tables are there, with the rows of the database; other numbers make another release (2 s)."""
    lake = ReleasedLake(tmp_path)
    lake.walk(1, few_studies()[:1])
    place = Storage.local(tmp_path / "releases")
    there = replace(address, schemas=Schemas())
    said: list[str] = []

    def release() -> set[str]:
        said.clear()
        given = ReleasedWarehouse(there, lambda _: WarehouseContent({}, None))
        report = lake.release(place, warehouse=given, show=said.append)
        return {table.name for table in report.manifest.tables if table.schema == "who"}

    rows = gho_rows("WHOSIS_000001", years=range(2020, 2021))
    source = WhoSource(who.settings(postgres_url=address.url))
    assert release() == set()
    who.simulator.entities["WHOSIS_000001"] = rows
    source.refresh([gho("WHOSIS_000001")])
    assert release() == {"global_health_estimates", "indicators", "observations", "releases"}
    assert verify_release(place).findings == []
    [path] = (tmp_path / "releases/tables/who/observations").iterdir()
    held = pq.read_table(path)
    assert sorted(held["numeric_value"].to_pylist()) == sorted(row["NumericValue"] for row in rows)
    assert set(held["indicator"].to_pylist()) == {"WHOSIS_000001"}

    assert release()
    assert "reading who.observations" not in said
    who.simulator.entities["WHOSIS_000001"] = [dict(row, NumericValue=1.5) for row in rows]
    source.refresh([gho("WHOSIS_000001")])
    assert release()
    assert "reading who.observations" in said
