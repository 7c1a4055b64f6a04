"""A release of all recorded studies, by real commands, against what Postgres holds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi as adbc
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ctg_assets.postgres.server import open_postgres
from ctg_assets.release.manifest import ReleasedTable, newest_release
from ctg_assets.release.verification import verify_release
from ctg_assets.storage.files import Storage
from ctg_assets_tests.orchestration.workplace import EVERYTHING, Workplace, workplace
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import IS_LONG, only_in_soaks

pytestmark = [pytest.mark.process, pytest.mark.soak, only_in_soaks]

# In a short soak without marts and AACT's tables, which take minutes to build.
_GIVEN = EVERYTHING if IS_LONG else {}


@pytest.fixture(scope="module")
def released() -> Iterator[tuple[Workplace, Path]]:
    """A workplace with the recorded studies in all tables, and a release of them (4 minutes with all marts)."""
    studies = shared_path("ctg/studies.jsonl.gz")
    with workplace("http://127.0.0.1:9/api/v2", **_GIVEN) as place:
        for command in (["import-file", str(studies)], ["release", str(place.folder / "releases")]):
            done = place.ctg(*command)
            assert done.returncode == 0, done.stdout + done.stderr
        yield place, place.folder / "releases"


def _expected(cursor: adbc.Cursor, table: ReleasedTable) -> pa.Table:
    """The rows that Postgres has, in the order of the release."""
    types = {column.name: column.type for column in table.columns}
    cursor.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        f"WHERE attrelid = '{table.qualified}'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    spelled = dict(cursor.fetchall())
    assert spelled.keys() == types.keys()
    casts = {"numeric": "::double precision", "numeric(10,6)": "::text", "json": "::text"}
    columns = ", ".join(f'"{name}"{casts.get(spelled[name], "")} AS "{name}"' for name in types)
    order = ", ".join(
        f'"{name}"' + (' COLLATE "C"' if types[name] == "string" else "")
        for name in table.sorted_by
    )
    cursor.execute(f"SELECT {columns} FROM {table.qualified} ORDER BY {order}")
    rows: pa.Table = cursor.fetch_arrow_table()
    decimals = {name: pa.decimal128(10, 6) for name, kind in types.items() if "decimal" in kind}
    for name, kind in decimals.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].cast(kind))
    return rows


def _by_pandas(paths: list[str]) -> pa.Table:
    frame = pd.read_parquet(paths, dtype_backend="pyarrow")
    return pa.table({name: pa.array(frame[name].array) for name in frame.columns})


_READERS: Mapping[str, Callable[[list[str]], Any]] = {
    "duckdb": lambda paths: duckdb.from_parquet(paths).to_arrow_table(),
    "polars": lambda paths: pl.read_parquet(paths).to_arrow(),
    "pandas": _by_pandas,
}


def test_every_table_is_that_of_postgres_whoever_reads(released: tuple[Workplace, Path]) -> None:
    """All rows and columns of all tables, in order: dates, times, numbers, booleans, lists, what is missing."""
    place, folder = released
    manifest = newest_release(Storage.local(folder))
    assert manifest is not None
    assert verify_release(Storage.local(folder)).findings == []
    assert manifest.census.here == 3394
    if IS_LONG:
        assert {table.schema for table in manifest.tables} == {"staging", "marts", "ctgov"}
    with (
        open_postgres(place.settings) as address,
        adbc.connect(address.url) as connection,
        connection.cursor() as cursor,
    ):
        for table in manifest.tables:
            expected = _expected(cursor, table)
            assert expected.num_rows == table.rows
            paths = [str(folder / file.path) for file in table.files]
            for reader, read in _READERS.items():
                found = read(paths)
                assert found.column_names == expected.column_names
                for name, column in zip(found.column_names, found.columns, strict=True):
                    wanted = expected[name]
                    same = column.cast(wanted.type).combine_chunks()
                    assert same.equals(wanted.combine_chunks()), (reader, table.qualified, name)


@pytest.mark.skipif(importlib.util.find_spec("chdb") is None, reason="chdb is not installed")
def test_clickhouse_reads_all(
    released: tuple[Workplace, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded engine counts the rows of each table, as the README has it, and dates are dates to it."""
    import chdb  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    _, folder = released
    manifest = newest_release(Storage.local(folder))
    assert manifest is not None
    monkeypatch.chdir(folder)
    for table in manifest.tables:
        files = "{" + ",".join(file.path for file in table.files) + "}"
        counted = chdb.query(f"SELECT count() FROM file('{files}', Parquet)")
        assert int(str(counted)) == table.rows, table.qualified


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="Spark is not installed")
def test_spark_reads_all(released: tuple[Workplace, Path]) -> None:
    """Each table has its rows and its columns."""
    from pyspark.sql import (  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415
        SparkSession,
    )

    _, folder = released
    manifest = newest_release(Storage.local(folder))
    assert manifest is not None
    spark = SparkSession.builder.master("local[2]").getOrCreate()
    try:
        for table in manifest.tables:
            frame = spark.read.parquet(*(str(folder / file.path) for file in table.files))
            assert frame.columns == [column.name for column in table.columns]
            assert frame.count() == table.rows, table.qualified
    finally:
        spark.stop()
