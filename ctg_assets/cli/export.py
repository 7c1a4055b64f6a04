"""`export`: files for people who have no access to the database."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ctg_assets.cli.console import err, facts, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.settings import Settings, load_settings

app = typer.Typer(
    no_args_is_help=True, help="Write files for people who have no access to the database."
)


class DownloadFormat(StrEnum):
    """What can be asked for."""

    PIPE = "pipe"
    CSV = "csv"
    DUMP = "dump"
    DICTIONARY = "dictionary"


@app.callback()
def group() -> None:
    """Keep `aact` a command of its own, though it is the only one."""


@app.command()
@with_exit_code
def aact(
    format_: Annotated[
        DownloadFormat,
        typer.Option(
            "--format",
            help="pipe or csv: text, one file a table, in a zip; dump: for pg_restore, in a zip; dictionary: "
            "the data dictionary alone.",
        ),
    ] = DownloadFormat.PIPE,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A folder, or a file: .zip, of a dump also .dmp, of the dictionary .csv. "
            "The data folder's exports if not given.",
        ),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(
            help="The schema with AACT's tables: ctgov if not given, or ctgov_2023, or one made by as-of."
        ),
    ] = None,
    aact_exact: Annotated[
        bool,
        typer.Option(
            "--aact-exact",
            help="Text as AACT writes it, with its losses: line ends become ~, doubled quotes and empty "
            "texts vanish.",
        ),
    ] = False,
) -> None:
    """Write AACT's downloads from its tables here: all of one moment, in one file.

    Nothing is lost in text unless --aact-exact is given: an empty text is "", NULL is nothing at all.
    A file of the same name is replaced when the new one is whole.
    """
    if aact_exact and format_ not in {DownloadFormat.PIPE, DownloadFormat.CSV}:
        message = "only text has a form that is exactly AACT's; leave out --aact-exact"
        raise typer.BadParameter(message)
    settings = load_settings()
    if format_ is DownloadFormat.DICTIONARY:
        _dictionary(settings, output)
    else:
        _tables(settings, format_, output, schema, aact_exact=aact_exact)


def _folder(settings: Settings, output: Path | None) -> Path:
    from ctg_assets.storage.data_folder import EXPORTS, data_folder

    return data_folder(settings, EXPORTS) if output is None else output.expanduser().absolute()


def _dictionary(settings: Settings, output: Path | None) -> None:
    from ctg_assets.aact.export import write_dictionary

    out.print(str(write_dictionary(_folder(settings, output))))


def _tables(
    settings: Settings,
    format_: DownloadFormat,
    output: Path | None,
    schema: str | None,
    *,
    aact_exact: bool,
) -> None:
    from ctg_assets.aact.export import ExportFormat, ExportRequest, export_aact
    from ctg_assets.postgres.server import open_postgres

    with open_postgres(settings) as address, err.status("waiting for the tables") as live:
        report = export_aact(
            ExportRequest(
                address,
                ExportFormat(format_),
                _folder(settings, output),
                schema or settings.ctgov_schema,
                aact_exact,
                lambda progress: live.update(str(progress)),
            )
        )
    out.print(
        facts(
            [
                ("file", str(report.path)),
                ("bytes", f"{report.bytes:,}"),
                ("SHA-256", report.sha256),
                ("data version", f"{report.data_version:%Y-%m-%d %H:%M:%S} UTC"),
                ("rows", f"{sum(report.rows.values()):,} in {len(report.rows)} tables"),
            ]
        )
    )
