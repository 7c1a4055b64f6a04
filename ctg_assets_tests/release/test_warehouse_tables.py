"""Tables out of Postgres in a release: types, order, keys, what is kept, and one moment for all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import ServerUnavailableError
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.release.manifest import newest_release
from ctg_assets.release.verification import verify_release
from ctg_assets.release.warehouse_tables import ReleasedWarehouse, WarehouseContent
from ctg_assets.storage.files import Storage
from ctg_assets_tests.release.released import ReleasedLake, few_studies

_TABLES = """
CREATE SCHEMA marts;
CREATE TABLE marts.dim_country (country_key text NOT NULL, names text[], population bigint);
CREATE UNIQUE INDEX ON marts.dim_country (country_key);
COMMENT ON TABLE marts.dim_country IS 'Countries.';
COMMENT ON COLUMN marts.dim_country.names IS 'What they are called; it''s a list.';
INSERT INTO marts.dim_country VALUES ('é', '{b,NULL}', 1), ('Z', NULL, NULL), ('a', '{}', 3);
CREATE TABLE marts.fct_site (
    site_key integer NOT NULL PRIMARY KEY, nct_id text, country_key text, exact numeric, place numeric(10,6),
    document json, day date, at timestamptz, local_at timestamp, is_open boolean, share double precision,
    kind varchar(9)
);
INSERT INTO marts.fct_site VALUES
    (3, 'NCT00000001', 'Z', 0.1, 59.913868, '{"b":1, "a": [null]}', '2026-02-28', '2026-02-28 01:00+02',
        '2026-02-28 01:00', true, 0.1, 'x'),
    (1, 'NCT99999999', 'é', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (2, 'NCT00000001', NULL, 2, -1, '1', '0999-01-01', '1999-12-31 23:59:59.999999+00', '1999-01-01',
        false, 'NaN', '');
CREATE TABLE marts.of_somebody_else (a integer);
"""


@pytest.fixture
def warehouse(address: PostgresAddress) -> PostgresAddress:
    """A database with two marts, and a table that is none of ours."""
    with connect(address) as connection:
        connection.execute(_TABLES)
    return replace(address, schemas=Schemas())


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> ReleasedLake:
    """A lake, and a release of it alone in the folder `alone`, so that its own tables cost nothing more."""
    lake = ReleasedLake(tmp_path_factory.mktemp("walked"))
    lake.walk(1, few_studies())
    lake.release(Storage.local(lake.folder / "alone"))
    return lake


@pytest.fixture
def folder(walked: ReleasedLake, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return Path(shutil.copytree(walked.folder / "alone", tmp_path / "releases"))


def _made_from(text: str) -> Callable[[object], WarehouseContent]:
    content = WarehouseContent({"dim_country": text, "fct_site": text}, None)
    return lambda _: content


def test_types_order_and_keys_are_kept(
    walked: ReleasedLake, warehouse: PostgresAddress, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come by study and key, text in the order of its bytes, every type as what it is, with comments."""
    place = Storage.local(folder)
    walked.release(place, warehouse=ReleasedWarehouse(warehouse, _made_from("1")))
    manifest = newest_release(place)
    assert manifest is not None
    marts = {table.name: table for table in manifest.tables if table.schema == "marts"}
    assert marts.keys() == {"dim_country", "fct_site"}
    assert (marts["fct_site"].key, marts["fct_site"].sorted_by) == (
        ["site_key"],
        ["nct_id", "site_key"],
    )
    assert marts["dim_country"].key == ["country_key"]
    assert verify_release(place).findings == []
    monkeypatch.chdir(folder)
    with duckdb.connect(
        folder / f"releases/{manifest.name}/ctg.duckdb", read_only=True
    ) as connection:
        countries = connection.table("marts.dim_country").to_arrow_table()
        sites = connection.table("marts.fct_site").to_arrow_table()
        assert connection.execute(
            "SELECT comment FROM duckdb_columns() WHERE table_name = 'dim_country' AND column_name = 'names'"
        ).fetchone() == ("What they are called; it's a list.",)
    assert countries.to_pylist() == [
        {"country_key": "Z", "names": None, "population": None},
        {"country_key": "a", "names": [], "population": 3},
        {"country_key": "é", "names": ["b", None], "population": 1},
    ]
    assert sites["site_key"].to_pylist() == [2, 3, 1]
    _, full, empty = sites.to_pylist()
    at = full.pop("at")
    assert at.astimezone(UTC) == datetime(2026, 2, 27, 23, tzinfo=UTC)
    assert full == {
        "site_key": 3,
        "nct_id": "NCT00000001",
        "country_key": "Z",
        "exact": 0.1,
        "place": Decimal("59.913868"),
        "document": '{"b":1, "a": [null]}',
        "day": date(2026, 2, 28),
        "local_at": datetime.fromisoformat("2026-02-28T01:00"),
        "is_open": True,
        "share": 0.1,
        "kind": "x",
    }
    assert {name for name, value in empty.items() if value is not None} == {
        "site_key",
        "nct_id",
        "country_key",
    }
    [path] = [folder / file.path for file in marts["fct_site"].files]
    assert pq.read_schema(path).field("at").type == pa.timestamp("us", "UTC")


def test_what_is_made_from_the_same_is_not_read_again(
    walked: ReleasedLake, warehouse: PostgresAddress, folder: Path
) -> None:
    """A mart keeps its files as long as what it is made from does; then it is read, and is the same file if nothing changed."""
    place = Storage.local(folder)
    said: list[str] = []

    def release(made_from: str) -> int:
        said.clear()
        given = ReleasedWarehouse(warehouse, _made_from(made_from))
        return walked.release(place, warehouse=given, show=said.append).written

    assert release("1") == 2
    assert release("1") == 0
    assert not any(text.startswith("reading marts") for text in said)
    assert release("2") == 0
    assert "reading marts.fct_site" in said
    with connect(warehouse) as connection:
        connection.execute("UPDATE marts.fct_site SET kind = 'other' WHERE site_key = 1")
    assert release("3") == 1
    assert verify_release(place).findings == []


def test_tables_that_are_replaced_meanwhile_are_not_mixed(
    walked: ReleasedLake, warehouse: PostgresAddress, folder: Path
) -> None:
    """If the database holds something else once the moment is taken, there is no release."""
    answers = iter(["1", "2"])
    before = newest_release(Storage.local(folder))
    with pytest.raises(ServerUnavailableError, match="replaced just now"):
        walked.release(
            Storage.local(folder),
            warehouse=ReleasedWarehouse(
                warehouse, lambda _: WarehouseContent({"dim_country": next(answers)}, None)
            ),
        )
    assert newest_release(Storage.local(folder)) == before
