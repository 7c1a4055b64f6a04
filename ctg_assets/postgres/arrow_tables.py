"""Whole tables as Arrow, all of one moment: how they are declared, their rows some at a time.

The driver that reads them is one of the extras `release` and `clickhouse`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import psycopg
import pyarrow as pa
from psycopg import sql

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.errors import ServerSetupError, ServerUnavailableError

if TYPE_CHECKING:
    import adbc_driver_postgresql.dbapi as adbc

_DRIVER = "adbc_driver_postgresql"

_STUDY = "nct_id"


@dataclass(frozen=True)
class ArrowColumn:
    """A column: its type in Arrow, and as SQL spells it."""

    name: str
    type: pa.DataType
    spelled: str
    nullable: bool
    description: str


@dataclass(frozen=True)
class ArrowReference:
    """Columns that are a key of another table of the schema."""

    columns: tuple[str, ...]
    table: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class ArrowTable:
    """A table as it is declared; `key` tells its rows apart, and is empty where none is declared."""

    schema: str
    name: str
    description: str
    columns: tuple[ArrowColumn, ...]
    key: tuple[str, ...]
    references: tuple[ArrowReference, ...]

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns as Arrow has them."""
        return pa.schema([pa.field(each.name, each.type, each.nullable) for each in self.columns])


class TablesMoment:
    """A transaction that sees one state of the database, and one beside it that reads the same as Arrow."""

    def __init__(self, connection: Connection, cursor: adbc.Cursor) -> None:
        """Use `one_moment`."""
        self.connection = connection
        self._cursor = cursor

    def hold(self, tables: Collection[ArrowTable]) -> None:
        """Keep tables from being replaced until the end."""
        if tables:
            names = [sql.Identifier(table.schema, table.name) for table in tables]
            self.connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names))
            )

    def tables(self, schema: str, names: Collection[str]) -> list[ArrowTable]:
        """Those of these tables of a schema that are there, by name."""
        asked = [schema, sorted(names)]
        columns: dict[str, list[ArrowColumn]] = {}
        described: dict[str, str] = {}
        for table, about, name, spelled, nullable, told in self.connection.execute(_COLUMNS, asked):
            column = ArrowColumn(name, _arrow(spelled), spelled, nullable, told or "")
            columns.setdefault(table, []).append(column)
            described[table] = about or ""
        keys: dict[str, tuple[str, ...]] = {}
        references: dict[str, list[ArrowReference]] = {}
        for table, key in self.connection.execute(_KEYS, asked):
            keys.setdefault(table, tuple(key))
        for table, other, own, to in self.connection.execute(_REFERENCES, asked):
            if other in names:
                reference = ArrowReference(tuple(own), other, tuple(to))
                references.setdefault(table, []).append(reference)
        return [
            ArrowTable(
                schema=schema,
                name=table,
                description=described[table],
                columns=tuple(of_table),
                key=keys.get(table, ()),
                references=tuple(references.get(table, ())),
            )
            for table, of_table in columns.items()
        ]

    def is_by_study(self, table: ArrowTable) -> bool:
        """Whether each row is of a study, which it names; all rows are looked at."""
        types = {column.name: column.type for column in table.columns}
        if _STUDY not in types or not pa.types.is_string(types[_STUDY]):
            return False
        statement = sql.SQL(
            "SELECT NOT EXISTS (SELECT 1 FROM {} WHERE nct_id IS NULL OR nct_id !~ '^NCT[0-9]{{8}}$')"
        ).format(sql.Identifier(table.schema, table.name))
        return self.connection.execute(statement).fetchone() == (True,)

    def rows(self, table: ArrowTable, order: Sequence[str] = ()) -> Iterator[pa.Table]:
        """The rows of a table, some at a time, in the order of these columns: text in that of its bytes.

        Raises ServerUnavailableError.
        """
        by = [_ordered(column) for name in order for column in table.columns if column.name == name]
        statement = sql.SQL("SELECT {} FROM {}").format(
            sql.SQL(", ").join(map(_selected, table.columns)),
            sql.Identifier(table.schema, table.name),
        )
        if by:
            statement += sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(by))
        schema = table.arrow_schema
        with _arrow_errors(f"reading {table.schema}.{table.name}"):
            self._cursor.execute(statement.as_string())
            for batch in self._cursor.fetch_record_batch():
                yield pa.Table.from_batches([batch]).cast(schema)


@contextlib.contextmanager
def one_moment(address: PostgresAddress, *, application_name: str) -> Iterator[TablesMoment]:
    """The database as it is now, until the block ends. Raises WarehouseErrors."""
    if find_spec(_DRIVER) is None:
        message = (
            f"tables of Postgres are read by {_DRIVER}, which is not installed; install it with "
            "`pip install 'ctg-assets[clickhouse]'` or `pip install 'ctg-assets[release]'`"
        )
        raise ServerSetupError(message)
    import adbc_driver_postgresql.dbapi as adbc  # noqa: PLC0415

    doing = f"reading {address.public_url}"
    with connect(address, application_name=application_name) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with postgres_errors(doing), connection.transaction():
            (snapshot,) = connection.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            with (
                _arrow_errors(doing),
                adbc.connect(address.url) as beside,
                beside.cursor() as cursor,
            ):
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                yield TablesMoment(connection, cursor)


@contextlib.contextmanager
def _arrow_errors(doing: str) -> Iterator[None]:
    from adbc_driver_manager import Error  # noqa: PLC0415

    try:
        yield
    except Error as error:
        message = f"{doing}: {' '.join(str(error).split())}. Check the server, then try again."
        raise ServerUnavailableError(message) from error


def _list(of: pa.DataType) -> pa.DataType:
    """A list as Parquet has it, whose items it calls elements."""
    return pa.list_(pa.field("element", of))


_SCALED = re.compile(r"numeric\((\d+),(\d+)\)")
_LENGTH = re.compile(r"\(\d+\)")
_ARROW_TYPES = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    # Digits without end: what fits best. AACT's tables have the text beside the number.
    "numeric": pa.float64(),
    "text": pa.string(),
    "character varying": pa.string(),
    "date": pa.date32(),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "timestamp without time zone": pa.timestamp("us"),
    "text[]": _list(pa.string()),
    "character varying[]": _list(pa.string()),
    "integer[]": _list(pa.int32()),
    "bigint[]": _list(pa.int64()),
}


def _arrow(spelled: str) -> pa.DataType:
    """Arrow's type for one of SQL; text for those that it has none for."""
    scaled = _SCALED.fullmatch(spelled)
    if scaled is not None:
        return pa.decimal128(int(scaled[1]), int(scaled[2]))
    return _ARROW_TYPES.get(_LENGTH.sub("", spelled), pa.string())


def _selected(column: ArrowColumn) -> sql.Composed:
    """The expression that brings a column."""
    name = sql.Identifier(column.name)
    if column.spelled == "numeric":
        return sql.SQL("{}::double precision AS {}").format(name, name)
    if _LENGTH.sub("", column.spelled) in _ARROW_TYPES:
        return sql.SQL("{}").format(name)
    return sql.SQL("{}::text AS {}").format(name, name)


def _ordered(column: ArrowColumn) -> sql.Composed:
    """The expression by which rows are in the order of a column."""
    name = sql.Identifier(column.name)
    if pa.types.is_string(column.type):
        return sql.SQL('{}::text COLLATE "C"').format(name)
    return sql.SQL("{}").format(name)


_COLUMNS = """
SELECT
    c.relname, obj_description(c.oid, 'pg_class'), a.attname, format_type(a.atttypid, a.atttypmod),
    NOT a.attnotnull, col_description(c.oid, a.attnum)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind IN ('r', 'p')
ORDER BY c.relname, a.attnum
"""

# Primary keys first, then what else is unique and has no missing values, as marts have it.
_KEYS = """
SELECT
    c.relname,
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = u.number ORDER BY u.place)
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY(%s) AND i.indisunique AND i.indisvalid
    AND i.indpred IS NULL AND i.indexprs IS NULL
    AND NOT EXISTS (
        SELECT 1 FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum = ANY(i.indkey) AND NOT a.attnotnull
    )
ORDER BY c.relname, i.indisprimary DESC, i.indnatts, i.indkey::text
"""

_REFERENCES = """
SELECT
    c.relname, f.relname,
    ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.number ORDER BY u.place),
    ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u (number, place)
        JOIN pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = u.number ORDER BY u.place)
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid
JOIN pg_class AS f ON f.oid = k.confrelid AND f.relnamespace = c.relnamespace
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = ANY(%s) AND k.contype = 'f'
ORDER BY c.relname, k.conname
"""
