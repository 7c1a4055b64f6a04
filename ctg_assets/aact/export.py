"""AACT's downloads: its tables as text or as a dump, in one file, all of one moment."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

from psycopg import sql

from ctg_assets.aact.dictionary import DICTIONARY_FILE, dictionary_csv
from ctg_assets.aact.moment import Moment, one_moment
from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.text_files import TextForm, write_tables, zip_entry
from ctg_assets.aact.views import view_queries
from ctg_assets.errors import CtgAssetsError, ExitCode
from ctg_assets.load.request import LoadProgress
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.dumping import DumpRequest, write_dump
from ctg_assets.storage.whole_file import write_whole

# The name that AACT's own dumps have in their zips.
_DUMP_ENTRY = "postgres_data.dmp"


class ExportFormat(StrEnum):
    """What AACT offers for download: text with `|` between values, or with commas, or a dump for pg_restore."""

    PIPE = "pipe"
    CSV = "csv"
    DUMP = "dump"


class ExportRequestError(CtgAssetsError, ValueError):
    """What is asked for does not go together."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


@dataclass(frozen=True)
class ExportRequest:
    """What to write, of which schema with AACT's tables, and where to: a folder, or a file by its ending.

    `aact_exact` writes text as AACT does, with its losses.
    """

    address: PostgresAddress
    format: ExportFormat
    output: Path
    schema: str
    aact_exact: bool = False
    progress: Callable[[LoadProgress], None] | None = None

    def tell(self, phase: str, done: int, total: int | None = None) -> None:
        """Say how far the export is, if anybody wants to know."""
        if self.progress is not None:
            self.progress(LoadProgress(phase, done, total))


@dataclass(frozen=True)
class ExportReport:
    """What was written: the file, its size and digest, rows per table, and the state of the registry."""

    path: Path
    bytes: int
    sha256: str
    data_version: datetime
    rows: Mapping[str, int] = field(default_factory=dict)


_FORMS = {
    ExportFormat.PIPE: TextForm("|", "txt"),
    ExportFormat.CSV: TextForm(",", "csv"),
}
# AACT's names where it has one: those who fetch its files look for them.
_NAMES = {
    ExportFormat.PIPE: "{date:%Y%m%d}_export_{schema}.zip",
    ExportFormat.CSV: "{date:%Y%m%d}_export_{schema}_csv.zip",
    ExportFormat.DUMP: "{date:%Y%m%d}_clinical_trials_{schema}.zip",
}
_PLAIN_DUMP = ".dmp"
_TOLD_BYTES = 64 << 20


def export_aact(request: ExportRequest) -> ExportReport:
    """Write AACT's tables of a schema into one file, which is there when it is whole.

    All tables are of one moment. The same content of the same database gives the same bytes. Memory is
    bounded. Whole tables are swapped in only after the end; deltas do not wait.

    Raises ExportRequestError for what does not go together, PermanentWarehouseError when AACT's tables are
    not there, ServerSetupError without a pg_dump, BusyError, WholeFileError, and other WarehouseErrors.
    """
    if request.aact_exact and request.format not in _FORMS:
        message = (
            "only text has a form that is exactly AACT's; leave out --aact-exact, or --format dump"
        )
        raise ExportRequestError(message)
    with one_moment(request.address, request.schema) as moment:
        path = _path(request, moment.data_version)
        with write_whole(path) as stream:
            if request.format is ExportFormat.DUMP:
                rows = _write_dump(request, moment, stream, plain=path.suffix == _PLAIN_DUMP)
            else:
                rows = _write_text(request, moment, stream)
    return ExportReport(path, path.stat().st_size, _digest(path), moment.data_version, rows)


def write_dictionary(output: Path) -> Path:
    """Write the data dictionary to a folder, or to a file that ends on `.csv`; returns where it is."""
    path = output if output.suffix == ".csv" else output / DICTIONARY_FILE
    with write_whole(path) as stream:
        stream.write(dictionary_csv().encode())
    return path


def _path(request: ExportRequest, date: datetime) -> Path:
    endings = {".zip", _PLAIN_DUMP} if request.format is ExportFormat.DUMP else {".zip"}
    if request.output.suffix in endings:
        return request.output
    return request.output / _NAMES[request.format].format(date=date, schema=request.schema)


def _write_text(request: ExportRequest, moment: Moment, stream: BinaryIO) -> dict[str, int]:
    form = _FORMS[request.format]
    if request.aact_exact:
        form = TextForm(form.delimiter, form.ending, aact_exact=True)
    with zipfile.ZipFile(stream, "w") as archive:
        rows = write_tables(archive, moment, form, partial(request.tell, "tables"))
        _add_dictionary(archive, moment)
    return rows


def _write_dump(
    request: ExportRequest, moment: Moment, stream: BinaryIO, *, plain: bool
) -> dict[str, int]:
    rows = _count(moment)
    schemas = _schemas(request)
    wanted = DumpRequest(
        address=request.address,
        connection=moment.connection,
        snapshot=moment.snapshot,
        schemas=schemas,
        left_out=_relations_of_others(moment, schemas),
        made_at=moment.data_version,
    )
    if plain:
        write_dump(wanted, _telling(request, stream))
        return rows
    with zipfile.ZipFile(stream, "w") as archive:
        entry = zip_entry(_DUMP_ENTRY, moment.data_version)
        entry.compress_type = zipfile.ZIP_STORED  # it is compressed already
        with archive.open(entry, "w", force_zip64=True) as file:
            write_dump(wanted, _telling(request, file))
        _add_dictionary(archive, moment)
    return rows


def _telling(request: ExportRequest, file: IO[bytes]) -> Callable[[bytes], None]:
    """How to write to a file and say, now and then, how many megabytes it has."""
    written = told = 0

    def write(piece: bytes) -> None:
        nonlocal written, told
        file.write(piece)
        written += len(piece)
        if written >= told + _TOLD_BYTES:
            told = written
            request.tell("megabytes", written >> 20)

    return write


def _schemas(request: ExportRequest) -> list[str]:
    """The schemas that a dump needs: the tables with the old labels are views on those with today's."""
    schemas = request.address.schemas
    if request.schema == schemas.ctgov_2023 and schemas.ctgov is not None:
        return [schemas.ctgov, request.schema]
    return [request.schema]


def _relations_of_others(moment: Moment, schemas: Iterable[str]) -> list[tuple[str, str]]:
    """What people have made in these schemas, which may lie on anything and so could not be restored."""
    own = [*(table.name for table in aact_tables()), *view_queries()]
    return moment.connection.execute(
        """
        SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY(%s) AND c.relname <> ALL(%s) AND c.relkind IN ('r', 'v', 'm', 'f', 'p', 'S')
        ORDER BY 1, 2
        """,
        [list(schemas), own],
    ).fetchall()


def _count(moment: Moment) -> dict[str, int]:
    rows = {}
    for name in sorted(table.name for table in aact_tables()):
        statement = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(moment.schema, name))
        (rows[name],) = moment.connection.execute(statement).fetchone() or (0,)
    return rows


def _add_dictionary(archive: zipfile.ZipFile, moment: Moment) -> None:
    archive.writestr(zip_entry(DICTIONARY_FILE, moment.data_version), dictionary_csv())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
