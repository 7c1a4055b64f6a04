"""The encoding of Arrow rows for COPY, read back through Postgres."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from ctg_assets.model.spec import Column, ColumnType, TableShape
from ctg_assets.postgres import copy_format, ddl
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect
from ctg_assets.postgres.copy_format import UnencodableError, encode_rows

_KINDS = [kind for kind in ColumnType if kind.is_copied]
SHAPE = TableShape(
    name="everything",
    description="One column of each type.",
    columns=tuple(Column(kind.value, kind, "Any value.") for kind in _KINDS),
    primary_key=("bigint",),
)
# Dates and times as numbers: Python's own stop at the year 9999, and Postgres' extract() rounds.
_AS_NUMBERS = sql.SQL(
    'SELECT "text", "boolean", "integer", "bigint", "double", "date" - date \'1970-01-01\', '
    'timestamptz_send("timestamp"), timestamp_send("local timestamp"), "json"::text, "varchar" '
    "FROM copied.everything ORDER BY ctid"
)
_VALUES: dict[ColumnType, st.SearchStrategy[Any]] = {
    ColumnType.TEXT: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    ColumnType.BOOLEAN: st.booleans(),
    ColumnType.INTEGER: st.integers(-(2**31), 2**31 - 1),
    ColumnType.BIGINT: st.integers(-(2**63), 2**63 - 1),
    ColumnType.DOUBLE: st.floats(),
    ColumnType.DATE: st.integers(-2_440_588, 2_145_042_905),
    ColumnType.TIMESTAMP: st.integers(-210_866_803_200_000_000, 2**63 - 1),
    ColumnType.LOCAL_TIMESTAMP: st.integers(-210_866_803_200_000_000, 2**63 - 1),
    ColumnType.VARCHAR: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    ColumnType.JSON: st.sampled_from(['{"a" : 1.50}', "null", '"\\\\u0000"', '"é"', "[]"]),
}
_ROWS = st.lists(st.tuples(*(st.none() | _VALUES[kind] for kind in _KINDS)), max_size=20)
_NUMBERS = {
    ColumnType.DATE: pa.int32(),
    ColumnType.TIMESTAMP: pa.int64(),
    ColumnType.LOCAL_TIMESTAMP: pa.int64(),
}


@pytest.fixture(scope="module")
def connection(server: PostgresAddress) -> Iterator[Connection]:
    """A connection for all examples."""
    with connect(server) as connection:
        yield connection


def _as_arrow(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = [
        pa.array([row[index] for row in rows], _NUMBERS.get(kind, kind.arrow)).cast(kind.arrow)
        for index, kind in enumerate(_KINDS)
    ]
    return pa.table(columns, schema=SHAPE.arrow_schema)


def _through_postgres(connection: Connection, rows: pa.Table) -> list[tuple[Any, ...]]:
    with connection.transaction(force_rollback=True):
        connection.execute("CREATE SCHEMA copied")
        connection.execute(ddl.create_table(SHAPE, "copied"))
        with connection.cursor().copy(ddl.copy_rows(SHAPE, "copied", freeze=True)) as copy:
            for piece in encode_rows(rows):
                copy.write(piece)
        arrived = connection.execute(_AS_NUMBERS).fetchall()
    return [(*row[:6], _microseconds(row[6]), _microseconds(row[7]), *row[8:]) for row in arrived]


_MICROSECONDS_TO_2000 = 946_684_800_000_000


def _microseconds(sent: bytes | None) -> int | None:
    """Arrow's number for a time as Postgres sends it."""
    return None if sent is None else int.from_bytes(sent, signed=True) + _MICROSECONDS_TO_2000


def _comparable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple("NaN" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row)


@settings(deadline=None, max_examples=60)
@given(rows=_ROWS, offset=st.integers(0, 3))
def test_every_type_survives(
    connection: Connection, rows: list[tuple[Any, ...]], offset: int
) -> None:
    """Whatever a column type can hold arrives unchanged, from slices of larger tables as well."""
    arrived = _through_postgres(connection, _as_arrow(rows).slice(offset))
    assert [_comparable(row) for row in arrived] == [_comparable(row) for row in rows[offset:]]


def test_large_tables_are_sent_in_pieces(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table larger than a piece arrives whole and in order."""
    monkeypatch.setattr(copy_format, "_PIECE_BYTES", 100)
    rows = _as_arrow([(str(n), True, n, n, n / 2, n, n, n, "{}", str(n)) for n in range(50)])
    assert len(list(encode_rows(rows))) > 10
    assert [row[2] for row in _through_postgres(connection, rows)] == list(range(50))


def test_chunked_columns(connection: Connection) -> None:
    """Columns made of several chunks arrive whole."""
    parts = [_as_arrow([("é", None, n, n, 0.5, n, n, n, None, None)]) for n in range(3)]
    arrived = _through_postgres(connection, pa.concat_tables(parts))
    assert [(row[0], row[2]) for row in arrived] == [("é", 0), ("é", 1), ("é", 2)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ColumnType.DATE, -2_440_589),
        (ColumnType.DATE, 2_145_042_906),
        (ColumnType.DATE, -(2**31)),
        (ColumnType.DATE, -(2**31) + 10_957),  # would be "-infinity"
        (ColumnType.TIMESTAMP, -210_866_803_200_000_001),
        (ColumnType.TIMESTAMP, -(2**63)),
        (ColumnType.LOCAL_TIMESTAMP, -210_866_803_200_000_001),
    ],
)
def test_dates_that_postgres_lacks(kind: ColumnType, value: int) -> None:
    """A date or time before or after Postgres' calendar is an error, not another date."""
    row = [value if column is kind else None for column in _KINDS]
    with pytest.raises(UnencodableError, match=f"column {kind.value} holds a date or time outside"):
        list(encode_rows(_as_arrow([tuple(row)])))


def test_types_without_encoding() -> None:
    """A column of a type that no staging column has is an error."""
    with pytest.raises(UnencodableError, match="column odd: no COPY encoding for Arrow type"):
        list(encode_rows(pa.table({"odd": pa.array([[1]])})))


def test_rows_are_frozen(server: PostgresAddress) -> None:
    """A reader whose snapshot is older than the COPY sees its rows, as FREEZE promises."""
    with connect(server) as reader, connect(server) as writer:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        try:
            with writer.transaction():
                writer.execute("CREATE SCHEMA frozen")
                writer.execute(ddl.create_table(SHAPE, "frozen"))
                with writer.cursor().copy(ddl.copy_rows(SHAPE, "frozen", freeze=True)) as copy:
                    for piece in encode_rows(_as_arrow([(None,) * len(ColumnType)])):
                        copy.write(piece)
            assert reader.execute("SELECT count(*) FROM frozen.everything").fetchone() == (1,)
        finally:
            reader.execute("ROLLBACK")
            writer.execute("DROP SCHEMA IF EXISTS frozen CASCADE")


def test_nul_characters_are_replaced(connection: Connection) -> None:
    """Postgres text has no NUL character: U+FFFD comes back, in each row and piece, and all else as it was."""
    rows = [("a\0b\0", *[None] * (len(ColumnType) - 1)), (None,) * len(ColumnType)]
    back = _through_postgres(connection, _as_arrow(rows))
    assert [row[0] for row in back] == ["a\ufffdb\ufffd", None]
