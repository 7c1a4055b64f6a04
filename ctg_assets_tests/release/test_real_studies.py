"""A release of all recorded studies, by real commands, against what Postgres holds."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
import pytest

from ctg_assets.postgres.server import open_postgres
from ctg_assets.release.manifest import ReleasedTable, newest_release
from ctg_assets.release.verification import verify_release
from ctg_assets.simulator.serving import running_application
from ctg_assets.simulator.who import GHO_PREFIX, WhoSimulator
from ctg_assets.simulator.who_rows import gho_rows
from ctg_assets.storage.files import Storage
from ctg_assets.who.refreshing import WhoSource
from ctg_assets_tests.orchestration.workplace import EVERYTHING, Workplace, workplace
from ctg_assets_tests.release.reading import (
    by_clickhouse,
    by_duckdb,
    by_pandas,
    by_polars,
    by_spark,
    spark_session,
)
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import IS_LONG, only_in_soaks
from ctg_assets_tests.who.conftest import gho

pytestmark = [pytest.mark.process, pytest.mark.soak, only_in_soaks]

# In a short soak without marts and AACT's tables, which take minutes to build.
_GIVEN = EVERYTHING if IS_LONG else {}


@pytest.fixture(scope="module")
def released() -> Iterator[tuple[Workplace, Path]]:
    """A workplace with the recorded studies in all tables, and a release of them (4 minutes with all marts)."""
    studies = shared_path("ctg/studies.jsonl.gz")
    rows = gho_rows("WHOSIS_000001", years=range(2020, 2021))
    with (
        running_application(WhoSimulator({"WHOSIS_000001": rows})) as who,
        workplace("http://127.0.0.1:9/api/v2", who_gho_url=who + GHO_PREFIX, **_GIVEN) as place,
    ):
        WhoSource(place.settings).refresh([gho("WHOSIS_000001")])
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


def check_same(found: pa.Table, expected: pa.Table, what: object) -> None:
    """Check that a table is another, column by column, with types of the same kind."""
    assert found.column_names == expected.column_names, what
    for name, column in zip(found.column_names, found.columns, strict=True):
        wanted = expected[name]
        assert _kind(column.type) == _kind(wanted.type), (what, name, column.type)
        same = column.cast(wanted.type).combine_chunks()
        assert same.equals(wanted.combine_chunks()), (what, name)


def _kind(kind: pa.DataType) -> str:
    """What a type is, however an engine stores it: a date is none that is a time, a number none that is text."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"list of {_kind(kind.value_type)}"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_timestamp(kind):
        return "local time" if kind.tz is None else "time"
    return str(kind)


def _as_in_clickhouse(expected: pa.Table) -> pa.Table:
    """As ClickHouse has it, where a list that is missing is one without items, and a local time is called UTC."""
    for index, field in enumerate(expected.schema):
        column = expected[field.name]
        if pa.types.is_list(field.type):
            filled = pa.array([each or [] for each in column.to_pylist()], field.type)
            expected = expected.set_column(index, field.name, filled)
        elif pa.types.is_timestamp(field.type):
            times = column.cast(pa.timestamp("us", "UTC"))
            expected = expected.set_column(index, field.name, times)
    return expected


@pytest.fixture(scope="module")
def expected(released: tuple[Workplace, Path]) -> Mapping[str, tuple[list[str], pa.Table]]:
    """By table the files of the newest release, and the rows that Postgres has."""
    place, folder = released
    manifest = newest_release(Storage.local(folder))
    assert manifest is not None
    assert verify_release(Storage.local(folder)).findings == []
    assert manifest.census.here == 3394
    schemas = {"staging", "who"} | ({"marts", "ctgov"} if IS_LONG else set())
    assert {table.schema for table in manifest.tables} == schemas
    found = {}
    with (
        open_postgres(place.settings) as address,
        adbc.connect(address.url) as connection,
        connection.cursor() as cursor,
    ):
        for table in manifest.tables:
            rows = _expected(cursor, table)
            assert rows.num_rows == table.rows, table.qualified
            paths = [str(folder / file.path) for file in table.files]
            found[table.qualified] = (paths, rows)
    return found


@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_pandas])
def test_every_table_is_that_of_postgres(
    read: Callable[[Sequence[str]], pa.Table], expected: Mapping[str, tuple[list[str], pa.Table]]
) -> None:
    """All rows and columns of all tables, in order: dates, times, numbers, booleans, lists, what is missing."""
    for name, (paths, rows) in expected.items():
        check_same(read(paths), rows, name)


def test_clickhouse_reads_every_table_as_postgres(
    expected: Mapping[str, tuple[list[str], pa.Table]],
) -> None:
    """By the embedded engine, which has no missing lists and no local times."""
    pytest.importorskip("chdb", reason="the extra clickhouse-embedded is not installed")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        tables = [paths for paths, _ in expected.values()]
        read = pool.submit(by_clickhouse, tables).result(600)
    for found, (name, (_, rows)) in zip(read, expected.items(), strict=True):
        check_same(found, _as_in_clickhouse(rows), name)


@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, which is not installed")
def test_spark_reads_every_table_as_postgres(
    expected: Mapping[str, tuple[list[str], pa.Table]],
) -> None:
    """By a Spark of this machine; it is no package of ours, and half a gigabyte."""
    pytest.importorskip("pyspark", reason="pyspark is not installed: pip install pyspark")
    with spark_session() as spark:
        for name, (paths, rows) in expected.items():
            check_same(by_spark(spark, paths), rows, name)
