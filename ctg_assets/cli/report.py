"""`report` and `study`: pages to look at."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctg_assets.cli.console import err, facts, out, quiet_dagster
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.results import FailedCheck
from ctg_assets.settings import load_settings

if TYPE_CHECKING:
    from ctg_assets.report.study_card import StudyCard


@with_exit_code
def report(
    output: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File to write; report/index.html in the data folder if not given."
        ),
    ] = None,
) -> None:
    """Write a page about what is in this warehouse: one HTML file that opens from disk, with no network.

    Studies, recruitment, sponsors, countries, results that are due, what changed this week, and the state of
    the data; each figure with its numbers and its SQL. It needs `pip install 'ctg-assets[report]'`.

    A section whose mart is not built yet says so. The file is replaced when the new one is whole.
    """
    from ctg_assets.report.extra import require_plots

    require_plots()
    from ctg_assets.postgres.server import open_postgres
    from ctg_assets.report.building import write_report

    settings = load_settings()
    path = None if output is None else output.expanduser().absolute()
    with err.status("opening the database") as live:
        findings = _findings()
        with open_postgres(settings) as address:
            made = write_report(settings, address, findings, output=path, show=live.update)
    for title in made.missing:
        err.print(
            f"cannot be told yet: {title}; `ctg-assets refresh` builds what it needs",
            style="yellow",
        )
    out.print(
        facts(
            [
                ("file", str(made.path)),
                ("bytes", f"{made.bytes:,}"),
                ("data version", made.data_version),
            ]
        )
    )


@with_exit_code
def study(
    nct_id: Annotated[str, typer.Argument(help="The study's NCT id, or an alias of it.")],
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Write a page with the study's timeline to this file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show one study: what it is, its versions, and what changed when.

    It is read from the lake, so that no database is needed. Studies that are gone, or were merged into others, are
    shown as they last were.
    """
    from ctg_assets.lake import existing_lake
    from ctg_assets.report.study_card import study_card

    card = study_card(existing_lake(load_settings()), nct_id)
    if html is not None:
        _write_page(card, html.expanduser().absolute())
    elif as_json:
        # ASCII alone: nothing in it can do more than be read.
        print(json.dumps(asdict(card), default=_json, indent=2))
    else:
        _print(card)


def _findings() -> list[FailedCheck]:
    """The checks that did not pass, as Dagster's instance remembers them."""
    from ctg_assets.orchestration.instance import open_instance
    from ctg_assets.orchestration.runs import failed_checks

    with quiet_dagster(), open_instance() as instance:
        return failed_checks(instance)


def _json(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value))


def _write_page(card: StudyCard, path: Path) -> None:
    from ctg_assets.report.study_page import study_page
    from ctg_assets.storage.whole_file import write_whole

    page = study_page(card, datetime.now(UTC)).encode()
    with write_whole(path) as stream:
        stream.write(page)
    out.print(str(path))


def _print(card: StudyCard) -> None:
    from rich.text import Text

    from ctg_assets.printable import printable
    from ctg_assets.report.study_words import details, headline, is_end

    out.print(Text(printable(f"{card.nct_id}  {card.title}"), style="bold"))
    if card.asked:
        out.print(f"{printable(card.asked)} is an alias of it")
    out.print()
    out.print(facts([("state", card.state), *card.facts]))
    out.print()
    versions = len({version.number for version in card.versions})
    out.print(
        Text(
            f"{versions:,} version{'' if versions == 1 else 's'}; what changed when (UTC)",
            style="bold",
        )
    )
    for change in card.changes:
        style = "red" if is_end(change) else ""
        out.print(
            Text(printable(f"{change.observed_at:%Y-%m-%d %H:%M}  {headline(change)}"), style=style)
        )
        for line in details(change):
            out.print(f"                  {printable(line)}")
