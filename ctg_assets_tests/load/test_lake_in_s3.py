"""A whole refresh with the lake in S3: the tables are those that a lake on a disk comes to."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.extract.import_file import import_file
from ctg_assets.history.undo import Author
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh.undo import undoer
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.simulator.in_memory import InMemorySource, study
from ctg_assets_tests.soak import only_at_night
from ctg_assets_tests.support.following import refresh
from ctg_assets_tests.support.lakes import json_of
from ctg_assets_tests.support.object_store import S3Server
from ctg_assets_tests.support.postgres import query

pytestmark = [pytest.mark.process, pytest.mark.soak, only_at_night]

_IMPORTED_AT = datetime(2026, 11, 1, tzinfo=UTC)

# When and by which walk something was seen differs between any two lakes.
_OF_THE_LAKE = {
    "extraction_id",
    "snapshot_id",
    "page",
    "recorded_at",
    "loaded_at",
    "observed_at",
    "valid_from",
    "valid_to",
    "last_observed_at",
}


def _source(version: int) -> InMemorySource:
    return InMemorySource(
        study(number, title=f"Title {version * (number % 5 == 0)}", enrollment=number)
        for number in range(1 + version, 31)
    )


def _tables(address: PostgresAddress) -> dict[str, list[Any]]:
    held = {}
    for shape in staging_shapes():
        columns = [column.name for column in shape.columns if column.name not in _OF_THE_LAKE]
        rows = query(address, f"SELECT {', '.join(columns)} FROM staging.{shape.name}")
        held[shape.name] = sorted(rows, key=repr)
    return held


def test_tables_are_those_of_a_lake_on_a_disk(
    s3: S3Server,
    simulator: RunningSimulator,
    address: PostgresAddress,
    server: PostgresAddress,
    tmp_path: Path,
) -> None:
    """A first load, a refresh after changes and an import, and the import's undo."""

    def settings_of(name: str, database: PostgresAddress, **more: str) -> Settings:
        return load_settings(
            data_dir=tmp_path / name,
            api_url=simulator.api_url,
            query="",
            page_size=8,
            requests_per_minute=10_000,
            max_shrink_fraction=1,
            postgres_url=database.url,
            **more,
        )

    def import_wrong(lake: Lake) -> None:
        file = tmp_path / "wrong.json"
        file.write_bytes(b"[" + b",".join(json_of(7, 99, title="Wrong")) + b"]")
        import_file(lake, file, page_size=8, data_timestamp=_IMPORTED_AT)

    def undo(lake: Lake) -> None:
        newest = lake.history.latest()
        assert newest is not None
        undoer(lake).undo(newest.sequence, Author("test", "somebody", "somewhere"))

    with new_database(server) as other:
        both = settings_of("s3", address, data_url=s3.new_url()), settings_of("disk", other)
        for version, change in enumerate((None, import_wrong, undo)):
            if version < 2:
                simulator.advance(_source(version))
            for settings in both:
                if change is not None:
                    change(open_lake(settings))
                refresh(settings)
            there, expected = _tables(address), _tables(other)
            assert there["studies"]
            for table, rows in expected.items():
                assert there[table] == rows, table
    assert not (tmp_path / "s3" / "lake").exists()
    lakes = [open_lake(settings) for settings in both]
    assert lakes[0].location == both[0].data_url
    recorded = [
        [(entry.mode, entry.changes, undo is None) for entry, undo in lake.history.with_withdrawn()]
        for lake in lakes
    ]
    assert recorded[0] == recorded[1]
    assert [counts for _, _, counts in recorded[0]].count(False) == 1
