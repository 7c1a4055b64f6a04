"""Making the report: asking the warehouse and the lake, writing the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ctg_assets.lake import Lake, open_lake
from ctg_assets.postgres.builds import load_info
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.report.asking import ask
from ctg_assets.report.figures import OVERVIEW, all_figures
from ctg_assets.report.page import DataState, report_page, shown_sections
from ctg_assets.results import FailedCheck
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import REPORT, data_folder
from ctg_assets.storage.whole_file import write_whole

_FILE = "index.html"

# Of a long list, the page has the beginning.
_MOST_LISTED = 50


@dataclass(frozen=True)
class ReportFile:
    """Where the report lies, its size, and the figures for which something is missing in the warehouse."""

    path: Path
    bytes: int
    data_version: str
    missing: tuple[str, ...]


def write_report(
    settings: Settings,
    address: PostgresAddress,
    findings: Sequence[FailedCheck] | None,
    *,
    output: Path | None = None,
    show: Callable[[str], None] = lambda _: None,
) -> ReportFile:
    """Write the report to a file, by default `report/index.html` in the data folder; it appears when it is whole.

    `findings` are checks that did not pass, None if that is not known; `show` is told what is being done. Raises
    WarehouseErrors, DataFolderError, WholeFileError and BusyError.
    """
    now = datetime.now(UTC)
    path = data_folder(settings, REPORT) / _FILE if output is None else output
    answers = ask(address, all_figures(), show)
    show("state of the data")
    data_version, state = _state(open_lake(settings), address, findings, now)
    show("drawing")
    page = report_page(answers, state, now, data_version).encode()
    with write_whole(path) as stream:
        stream.write(page)
    missing = tuple(
        answers[figure.name].figure.title
        for figure in (
            OVERVIEW,
            *(f for section in shown_sections(answers) for f in section.figures),
        )
        if answers[figure.name].missing is not None
    )
    return ReportFile(path, len(page), data_version, missing)


def _state(
    lake: Lake, address: PostgresAddress, findings: Sequence[FailedCheck] | None, now: datetime
) -> tuple[str, DataState]:
    """The data version in words, and the state of the data."""
    loaded, manifest = load_info(address), lake.snapshots.latest()
    version = None if loaded is None else loaded.data_timestamp
    facts = [
        (
            "Data version of the tables",
            "nothing is loaded" if loaded is None else _moment(version, now),
        ),
        ("Loaded", "never" if loaded is None else _moment(loaded.loaded_at, now)),
    ]
    quarantine: list[tuple[str, str]] = []
    if manifest is not None:
        rows = lake.snapshots.quarantine(manifest.snapshot_id).to_pylist()
        quarantine = [(row["nct_id"] or "-", row["reason"]) for row in rows]
        facts += [
            ("Newest snapshot in the lake", f"{manifest.data_timestamp} UTC"),
            ("Studies in it", f"{manifest.studies:,}"),
            ("Studies in quarantine", f"{manifest.quarantined:,}"),
            # Without the scheme: a page that opens offline has no addresses in it.
            ("From", manifest.source.partition("://")[2] or manifest.source),
            *([("Where", manifest.query)] if manifest.query else []),
        ]
        if manifest.unknown_fields:
            facts.append(("Fields outside the model", ", ".join(sorted(manifest.unknown_fields))))
    if len(quarantine) > _MOST_LISTED:
        rest = len(quarantine) - _MOST_LISTED
        quarantine = [*quarantine[:_MOST_LISTED], ("…", f"{rest:,} more")]
    state = DataState(
        tuple(facts), tuple(quarantine), None if findings is None else tuple(findings)
    )
    return ("no known day" if version is None else f"{version:%Y-%m-%d %H:%M} UTC"), state


def _moment(moment: datetime | None, now: datetime) -> str:
    """A time and how old it was when the page was made: a page is read later."""
    if moment is None:
        return "unknown"
    days = (now - moment).days
    age = (
        "today"
        if days == 0
        else f"{days:,} day{'' if days == 1 else 's'} before this page was made"
    )
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({age})"
