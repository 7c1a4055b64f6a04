"""AACT's tables as text: one file each, with a header row, in a zip."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from psycopg import sql

from ctg_assets.aact.moment import Moment
from ctg_assets.aact.schema import aact_tables
from ctg_assets.model.spec import ColumnType, TableShape

_CHUNK_BYTES = 1 << 20
_TEXT = {ColumnType.TEXT, ColumnType.VARCHAR}


@dataclass(frozen=True)
class TextForm:
    """How values are written: what stands between them, the files' ending, and whether AACT's losses are made.

    Without them each value can be read back: it is quoted where it has a delimiter, quote or line end, and
    NULL is nothing at all where an empty text is two quotes.
    """

    delimiter: str
    ending: str
    aact_exact: bool = False


def zip_entry(name: str, moment: datetime) -> zipfile.ZipInfo:
    """The head of a file in a zip, which depends on nothing but the name and the time."""
    entry = zipfile.ZipInfo(name, date_time=moment.timetuple()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def write_tables(
    archive: zipfile.ZipFile,
    moment: Moment,
    form: TextForm,
    tell: Callable[[int, int], None],
) -> dict[str, int]:
    """Write all tables, by name, rows in the order of their keys; returns how many rows each has.

    `tell` hears how many tables are done, and of how many.
    """
    rows: dict[str, int] = {}
    tables = sorted(aact_tables(), key=lambda table: table.name)
    for done, table in enumerate(tables):
        tell(done, len(tables))
        entry = zip_entry(f"{table.name}.{form.ending}", moment.data_version)
        # How large it becomes is not known beforehand.
        with archive.open(entry, "w", force_zip64=True) as file:
            rows[table.name] = _copy(moment, table.shape, form, file)
    tell(len(tables), len(tables))
    return rows


def _copy(moment: Moment, shape: TableShape, form: TextForm, file: IO[bytes]) -> int:
    statement = _copy_statement(shape, moment.schema, form.delimiter)
    chunk = bytearray()
    with moment.connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            # Each piece is one row, the header being the first.
            for row in copy:
                chunk += as_aact_writes(bytes(row)) if form.aact_exact else row
                if len(chunk) >= _CHUNK_BYTES:
                    file.write(chunk)
                    chunk.clear()
        file.write(chunk)
        return cursor.rowcount


def _copy_statement(shape: TableShape, schema: str, delimiter: str) -> sql.Composed:
    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in shape.columns)
    # Sorted by bytes where it is text, for a database's own order differs from machine to machine.
    text = {column.name for column in shape.columns if column.type in _TEXT}
    order = sql.SQL(", ").join(
        sql.SQL('{} COLLATE "C"' if name in text else "{}").format(sql.Identifier(name))
        for name in shape.primary_key
    )
    return sql.SQL(
        "COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT "
        "(FORMAT csv, DELIMITER {}, HEADER true, ENCODING 'UTF8')"
    ).format(columns, sql.Identifier(schema, shape.name), order, sql.Literal(delimiter))


_LINE_END = re.compile(rb"\n[ \t\r\n\f\v]?")


def as_aact_writes(row: bytes) -> bytes:
    """A row of COPY's CSV with AACT's losses.

    Its exporter drops doubled quotes, empty texts among them, and makes `~` of each line end within a value,
    with the white space after it if there is any. Quotes around values stay.
    """
    return _LINE_END.sub(b"~", row.replace(b'""', b"").removesuffix(b"\n")) + b"\n"
