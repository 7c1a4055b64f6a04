"""A peer: DuckDB, `read_json` and one SELECT with `unnest` for each of the same tables, into Postgres.

Each table has our columns, found from its declaration. In the peer's favour, the JSON lies ready in
files when the clock starts, the types of all fields are told rather than guessed, each level of lists
carries only what its rows need, values are written as they were sent (no dates, numbers or ages are
computed), and there are no references between rows, no filters, no keys. A value of another type than
the field tree has becomes NULL. Nothing is downloaded: DuckDB's extension for Postgres is used if it is
installed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import sql

from benchmarks.inputs import settings_of
from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import pages
from ctg_assets.model.fields import FieldNode, field_tree
from ctg_assets.model.tables import Table, readings, staging_tables
from ctg_assets.model.tables.column_values import Constant, Position, RowId, Snapshot
from ctg_assets.model.tables.declaration import NCT_ID, Field, Source, enclosing_lists
from ctg_assets.model.tables.readings import Read
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.server import open_postgres

if TYPE_CHECKING:
    import duckdb

BY_EXTENSION = "postgres extension"
BY_FILES = "CSV files, COPY"

_SCHEMA = "peer"
_STUDIES_PER_FILE = 250
_CHUNK_BYTES = 1 << 20

_DUCKDB_TYPES = {
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "long": "BIGINT",
    "number": "DOUBLE",
    "GeoPoint": "STRUCT(lat DOUBLE, lon DOUBLE)",
}
# Begin no name of a column.
_LIST, _ITEM, _PLACE = '"^list"', '"^item"', '"^place"'

_POSTGRES_TYPES = {
    "BOOLEAN": "boolean",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "DOUBLE": "double precision",
    "VARCHAR": "text",
    "JSON": "text",
    '"NULL"': "text",
}


def way() -> str:
    """How rows can go from DuckDB to Postgres here: BY_EXTENSION or BY_FILES."""
    import duckdb

    with _engine() as engine:
        try:
            engine.execute("LOAD postgres")
        except duckdb.Error:
            return BY_FILES
    return BY_EXTENSION


def run(data_dir: str, server_dir: str, dbname: str, way: str) -> Outcome:
    """From a set's JSON to all tables, in the way that `way` found."""
    reading, writing = Clock(), Clock()
    with (
        tempfile.TemporaryDirectory() as name,
        open_postgres(settings_of(Path(server_dir))) as server,
        _engine() as engine,
    ):
        folder = Path(name)
        _write_json(data_dir, folder)
        address = server.database(dbname)
        with connect(address) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_SCHEMA)))
        with reading.running():
            engine.execute(read_json(folder))
        write = _write_by_extension if way == BY_EXTENSION else _write_by_files
        with writing.running():
            rows = write(engine, address, folder)
    parts = {"read": reading.seconds, "unnest and write": writing.seconds}
    return Outcome(reading.seconds + writing.seconds, parts=parts, rows=rows)


def _engine() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(
        config={"autoinstall_known_extensions": False, "preserve_insertion_order": False}
    )


def _write_json(data_dir: str, folder: Path) -> None:
    """A study a line, in files small enough that all cores have some to read."""
    for number, page in enumerate(pages(data_dir)):
        for start in range(0, len(page), _STUDIES_PER_FILE):
            # Line breaks can only be white space between tokens: inside strings JSON wants them escaped.
            lines = (
                study.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"
                for study in page[start : start + _STUDIES_PER_FILE]
            )
            (folder / f"{number:06}-{start:06}.ndjson").write_bytes(b"".join(lines))


def read_json(folder: Path) -> str:
    """The statement that makes table `sent` of a folder's files."""
    columns = ", ".join(f"{_text(node.name)}: {_text(_type(node))}" for node in field_tree())
    return (
        f"CREATE TABLE sent AS SELECT * FROM read_json({_text(f'{folder}/*.ndjson')},"
        f" format = 'newline_delimited', columns = {{{columns}}}, ignore_errors = true)"
    )


def _type(node: FieldNode) -> str:
    if node.children:
        fields = (f"{_name(child.name)} {_type(child)}" for child in node.children)
        item = f"STRUCT({', '.join(fields)})"
    else:
        item = _DUCKDB_TYPES.get(node.base_type, "VARCHAR")
    return f"{item}[]" if node.is_list else item


# to Postgres


def _write_by_extension(
    engine: duckdb.DuckDBPyConnection, address: PostgresAddress, folder: Path
) -> dict[str, int]:
    del folder
    engine.execute("LOAD postgres")
    engine.execute(f"ATTACH {_text(address.url)} AS target (TYPE postgres)")
    rows = {}
    for table in staging_tables():
        place = f"target.{_SCHEMA}.{_name(table.name)}"
        done = engine.execute(f"CREATE TABLE {place} AS {rows_of(table)}").fetchone()
        rows[table.name] = 0 if done is None else int(done[0])
    return rows


def _write_by_files(
    engine: duckdb.DuckDBPyConnection, address: PostgresAddress, folder: Path
) -> dict[str, int]:
    """A file for each table, sent while the next ones are written."""
    with ThreadPoolExecutor(os.cpu_count()) as senders:
        sent = {}
        for table in staging_tables():
            query = rows_of(table)
            described = engine.execute(f"DESCRIBE {query}").fetchall()
            types = {row[0]: _POSTGRES_TYPES[row[1]] for row in described}
            file = folder / f"{table.name}.csv"
            engine.execute(f"COPY ({query}) TO {_text(str(file))} (FORMAT csv, HEADER false)")
            sent[table.name] = senders.submit(_send, address, table.name, types, file)
        return {name: sending.result() for name, sending in sent.items()}


def _send(address: PostgresAddress, table: str, types: dict[str, str], file: Path) -> int:
    place = sql.Identifier(_SCHEMA, table)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in types.items()
    )
    with (
        connect(address) as connection,
        connection.transaction(),
        connection.cursor() as cursor,
        file.open("rb") as lines,
    ):
        cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(place, columns))
        with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(place)) as copy:
            while chunk := lines.read(_CHUNK_BYTES):
                copy.write(chunk)
        return cursor.rowcount


# what a table is selected by


def rows_of(table: Table) -> str:
    """The SELECT for all rows of a table of ours, from table `sent`."""
    rows = " UNION ALL ".join(_rows_from(table, source) for source in table.sources)
    columns = ", ".join(
        f"row_number() OVER () AS {_name(item.name)}"
        if isinstance(item.value, RowId)
        else _name(item.name)
        for item in table.fields
    )
    return f"SELECT {columns} FROM ({rows})"


def _rows_from(table: Table, source: Source) -> str:
    """The SELECT for the rows of one source: list by list on the way to them, the items unnested."""
    lists = enclosing_lists(source.path)
    paths = {item.name: path for item in table.fields if (path := _path(item, source)) is not None}
    reads = {item.name: item.value for item in table.fields if isinstance(item.value, Read)}
    rows = "sent"
    carried = [f"{_at('', NCT_ID)} AS {_name(NCT_ID)}"]
    for at, following in zip(lists, (*lists[1:], None), strict=True):
        here = [name for name, path in paths.items() if _home(path, lists) == at]
        columns = [*carried, *(f"{_value(reads[n], at, paths[n])} AS {_name(n)}" for n in here)]
        if following is None:
            columns.append(f"{_PLACE if at else 1} AS {_PLACE}")
        else:
            columns.append(f"{_at(at, following)} AS {_LIST}")
        rows = f"(SELECT {', '.join(columns)} FROM {rows}{_where(source, at, following)})"
        carried = [_name(NCT_ID), *(_name(n) for n in paths if n in here or _name(n) in carried)]
        if following is not None:
            unnested = f"unnest({_LIST}) AS {_ITEM}, generate_subscripts({_LIST}, 1) AS {_PLACE}"
            rows = f"(SELECT {', '.join(carried)}, {unnested} FROM {rows})"
    columns = [f"{_column(item, source, paths)} AS {_name(item.name)}" for item in table.fields]
    return f"SELECT {', '.join(columns)} FROM {rows}"


def _where(source: Source, at: str, following: str | None) -> str:
    """A row for each object that is there."""
    if following is not None or source.is_list or not source.path:
        return ""
    return f" WHERE {_at(at, source.path)} IS NOT NULL"


def _path(item: Field, source: Source) -> str | None:
    """The full registry path that a column is read from, if it is read."""
    return source.resolve(item.value.path) if isinstance(item.value, Read) else None


def _home(path: str, lists: tuple[str, ...]) -> str:
    """The last list on the way to the rows that a path leads through."""
    return next(at for at in reversed(lists) if not at or path == at or path.startswith(f"{at}."))


def _at(base: str, path: str) -> str:
    """What is found at a path, as seen from an item of the list `base`, or from the study."""
    # A list below the row stays one.
    below = path.removeprefix(base).removeprefix(".").partition("[]")[0]
    steps = [_name(step) for step in below.split(".") if step]
    return ".".join([_ITEM, *steps] if base else steps)


def _value(read: Read, base: str, path: str) -> str:
    found = _at(base, path)
    if read.reading is readings.part:
        return f"{found}.{_name(str(read.argument))}"
    return f"to_json({found})" if "[]" in path.removeprefix(base) else found


def _column(item: Field, source: Source, paths: Mapping[str, str]) -> str:
    match item.value:
        case Snapshot("nct_id"):
            return _name(NCT_ID)
        case Constant():
            constant = source.constants[item.name]
            return _text(constant) if isinstance(constant, str) else str(constant)
        case Position():
            return _PLACE
        case _:
            return _name(item.name) if item.name in paths else "NULL"


def _name(name: str) -> str:
    return f'"{name}"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
