"""The tables that are in Postgres alone, marts, AACT's and WHO's, in a release: read as Arrow, all of one moment."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
from psycopg import sql

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.errors import ServerUnavailableError
from ctg_assets.postgres.ownership import owned_relations
from ctg_assets.release.manifest import ReleasedTable, TableReference
from ctg_assets.release.spool import Spool
from ctg_assets.release.staging_tables import Made, ReleaseBefore
from ctg_assets.release.table_files import ReleasedColumnShape, ReleasedShape, TableWriter
from ctg_assets.snapshot.store import SnapshotManifest

MARTS, CTGOV, WHO = "marts", "ctgov", "who"

_STUDY = "nct_id"
_WHO_INDICATORS, _WHO_RELEASES = "indicators", "releases"


@dataclass(frozen=True)
class WarehouseContent:
    """What the tables in the database are made from: a text for each mart, and one for all of AACT's (None: none)."""

    marts: Mapping[str, str]
    ctgov: str | None


@dataclass(frozen=True)
class ReleasedWarehouse:
    """A database whose marts and AACT's tables are released.

    `content` says what they are made from if they stand for a snapshot, and raises if they do not.
    """

    address: PostgresAddress
    content: Callable[[SnapshotManifest], WarehouseContent]


def make_warehouse_tables(
    warehouse: ReleasedWarehouse,
    manifest: SnapshotManifest,
    writer: TableWriter,
    before: ReleaseBefore,
    show: Callable[[str], None],
) -> Made:
    """Put the files of marts and AACT's tables in place; one that is made from the same keeps its files.

    Rows are read in the order of the study and the key, some at a time. Raises what `warehouse.content` raises, and
    WarehouseErrors.
    """
    made = Made()
    held = {} if before.manifest is None else {t.qualified: t for t in before.manifest.tables}
    content = warehouse.content(manifest)
    with _one_moment(warehouse.address) as moment:
        shapes = [*_shapes(moment, content)]
        moment.hold([shape for shape, _, _ in shapes])
        # What was so before and after the moment was so at it.
        if warehouse.content(manifest) != content:
            message = "the tables were replaced just now; release again"
            raise ServerUnavailableError(message)
        for shape, relation, made_from in shapes:
            old, sizes = held.get(shape.qualified), before.leaves.get(shape.qualified)
            if (
                _is_as_before(old, made_from, shape, writer)
                and old is not None
                and sizes is not None
            ):
                made.add(shape, old, sizes)
                continue
            show(f"reading {shape.qualified}")
            folder = writer.scratch / "rows" / shape.qualified
            spool = Spool(folder, shape.arrow_schema, shape.sorted_by, is_sorted=True)
            for rows in moment.rows(shape, relation):
                spool.add(rows)
            files, leaves = writer.write(shape, spool, None, {})
            made.add(shape, shape.released(made_from, files), leaves)
            shutil.rmtree(folder)
    return made


def _is_as_before(
    old: ReleasedTable | None, made_from: str, shape: ReleasedShape, writer: TableWriter
) -> bool:
    return (
        old is not None
        and old == shape.released(made_from, old.files)
        and all(file.path in writer.there for file in old.files)
    )


class _Moment:
    """A transaction that sees one state of the database, and one beside it that reads the same as Arrow."""

    def __init__(self, connection: Connection, cursor: adbc.Cursor) -> None:
        self.connection = connection
        self._cursor = cursor

    def hold(self, shapes: list[ReleasedShape]) -> None:
        """Keep tables from being replaced until the end."""
        if shapes:
            names = [self._relation(shape) for shape in shapes]
            self.connection.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names))
            )

    def _relation(self, shape: ReleasedShape) -> sql.Identifier:
        return sql.Identifier(getattr(self.connection.schemas, shape.schema), shape.name)

    def rows(self, shape: ReleasedShape, columns: Mapping[str, _SqlType]) -> Iterator[pa.Table]:
        """The rows of a table in the order that its shape says, some at a time."""
        chosen = [columns[each.name].selected(each.name) for each in shape.columns]
        order = [columns[name].ordered(name) for name in shape.sorted_by]
        statement = sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
            sql.SQL(", ").join(chosen), self._relation(shape), sql.SQL(", ").join(order)
        )
        with _arrow_errors(f"reading {shape.qualified}"):
            self._cursor.execute(statement.as_string())
            for batch in self._cursor.fetch_record_batch():
                yield pa.Table.from_batches([batch]).cast(shape.arrow_schema)


@contextlib.contextmanager
def _one_moment(address: PostgresAddress) -> Iterator[_Moment]:
    doing = f"reading {address.public_url}"
    with connect(address, application_name="ctg_assets release") as connection:
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
                yield _Moment(connection, cursor)


@contextlib.contextmanager
def _arrow_errors(doing: str) -> Iterator[None]:
    try:
        yield
    except adbc_driver_manager.Error as error:
        message = f"{doing}: {' '.join(str(error).split())}. Check the server, then try again."
        raise ServerUnavailableError(message) from error


@dataclass(frozen=True)
class _SqlType:
    """A type as SQL spells it, and what it becomes."""

    spelled: str

    @property
    def arrow(self) -> pa.DataType:
        """Arrow's type; text for those that it has none for."""
        scaled = _SCALED.fullmatch(self.spelled)
        if scaled is not None:
            return pa.decimal128(int(scaled[1]), int(scaled[2]))
        return _ARROW_TYPES.get(self._bare, pa.string())

    @property
    def _bare(self) -> str:
        return _LENGTH.sub("", self.spelled)

    def selected(self, name: str) -> sql.Composed:
        """The expression that brings a column."""
        column = sql.Identifier(name)
        if self.spelled == "numeric":
            return sql.SQL("{}::double precision AS {}").format(column, column)
        if self._bare in _ARROW_TYPES:
            return sql.SQL("{}").format(column)
        return sql.SQL("{}::text AS {}").format(column, column)

    def ordered(self, name: str) -> sql.Composed:
        """The expression by which rows are in the order of a column."""
        column = sql.Identifier(name)
        if pa.types.is_string(self.arrow):
            return sql.SQL('{}::text COLLATE "C"').format(column)
        return sql.SQL("{}").format(column)


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

_Shape = tuple[ReleasedShape, Mapping[str, _SqlType], str]


def _shapes(moment: _Moment, content: WarehouseContent) -> Iterator[_Shape]:
    """The tables with the SQL types of their columns, and what they are made from."""
    schemas = moment.connection.schemas
    yield from _shapes_of(moment, MARTS, schemas.marts, content.marts)
    if content.ctgov is not None and schemas.ctgov is not None:
        own = dict.fromkeys(owned_relations(moment.connection, schemas.ctgov), content.ctgov)
        yield from _shapes_of(moment, CTGOV, schemas.ctgov, own)
    yield from _shapes_of(moment, WHO, schemas.who, _who(moment))


def _who(moment: _Moment) -> Mapping[str, str]:
    """WHO's tables, if somebody asked for its numbers, and a digest of the releases of indicators that they hold.

    No snapshot says what they hold: `who refresh` changes them at any time.
    """
    names = owned_relations(moment.connection, moment.connection.schemas.who)
    if not {_WHO_INDICATORS, _WHO_RELEASES} <= names.keys():
        return {}
    digest = hashlib.sha256()
    for table in (_WHO_INDICATORS, _WHO_RELEASES):
        statement = sql.SQL("SELECT t::text FROM {} AS t ORDER BY t.indicator, t::text").format(
            sql.Identifier(moment.connection.schemas.who, table)
        )
        for (row,) in moment.connection.execute(statement):
            digest.update(f"{table} {row}\n".encode())
    return dict.fromkeys(names, digest.hexdigest())


def _shapes_of(
    moment: _Moment, purpose: str, schema: str, made_from: Mapping[str, str]
) -> Iterator[_Shape]:
    connection, names = moment.connection, sorted(made_from)
    columns: dict[str, list[ReleasedColumnShape]] = {}
    types: dict[str, dict[str, _SqlType]] = {}
    described: dict[str, str] = {}
    for table, about, name, spelled, nullable, told in connection.execute(
        _COLUMNS, [schema, names]
    ):
        kind = _SqlType(spelled)
        columns.setdefault(table, []).append(
            ReleasedColumnShape(name, kind.arrow, nullable, told or "")
        )
        types.setdefault(table, {})[name] = kind
        described[table] = about or ""
    keys: dict[str, tuple[str, ...]] = {}
    references: dict[str, list[TableReference]] = {}
    for table, key in connection.execute(_KEYS, [schema, names]):
        keys.setdefault(table, tuple(key))
    for table, other, own, to in connection.execute(_REFERENCES, [schema, names]):
        if other in made_from:
            reference = TableReference(columns=own, table=f"{purpose}.{other}", to=to)
            references.setdefault(table, []).append(reference)
    for table, shapes in columns.items():
        key = keys.get(table, ())
        first = (_STUDY,) if _is_by_study(connection, schema, table, types[table]) else ()
        others = key or [each.name for each in shapes if not pa.types.is_list(each.type)]
        by = (*first, *(name for name in others if name not in first))
        shape = ReleasedShape(
            schema=purpose,
            name=table,
            description=described[table],
            columns=tuple(shapes),
            key=key,
            sorted_by=by,
            references=tuple(references.get(table, ())),
        )
        yield shape, types[table], made_from[table]


def _is_by_study(
    connection: Connection, schema: str, table: str, types: Mapping[str, _SqlType]
) -> bool:
    """Whether each row is of a study, which it names."""
    if _STUDY not in types or not pa.types.is_string(types[_STUDY].arrow):
        return False
    statement = sql.SQL(
        "SELECT NOT EXISTS (SELECT 1 FROM {} WHERE nct_id IS NULL OR nct_id !~ '^NCT[0-9]{{8}}$')"
    ).format(sql.Identifier(schema, table))
    return connection.execute(statement).fetchone() == (True,)
