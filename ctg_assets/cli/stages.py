"""Running the stages that are due, in this process, and printing the outcome.

Commands import this module only when they run, because it imports much of the package.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from ctg_assets.aact.other_rows import require_usable_files
from ctg_assets.cli.console import (
    SafeConsole,
    err,
    facts,
    labelled,
    log_to,
    out,
    quiet_dagster,
    rows_table,
    tell,
)
from ctg_assets.cli.refresh_display import RefreshDisplay
from ctg_assets.cli.refresh_log import RefreshLog
from ctg_assets.errors import ExitCode
from ctg_assets.integrity.repair_run import mend_lake
from ctg_assets.lake import open_lake
from ctg_assets.postgres.server import open_postgres
from ctg_assets.printable import printable
from ctg_assets.refresh.planner import Idle, Step
from ctg_assets.refresh.status import WarehouseStatus, warehouse_status
from ctg_assets.settings import Settings
from ctg_assets.storage.damage import DamagedFileError

# The lock on running stages from the command line.
REFRESH_LOCK = "refresh"


def run_until_idle(
    settings: Settings, following: Callable[[], Step | Idle], first: Step | None = None
) -> None:
    """Run stages until nothing is left to do, and print what the database holds then.

    `following` says what is next; `first`, if given, runs before it is asked. Raises typer.Exit with the
    exit code of a stage that failed or of a check that blocks, what `following` raises, and SearchFileError
    or MeshFileError for files of the settings that cannot be used.
    """
    # In the midst of a run it would be that run's failure, and after an hour's walk.
    require_usable_files(settings)
    # Held to the end: the embedded server starts once, and a server that is down is reported at once.
    with open_postgres(settings) if settings.has_warehouse else nullcontext():
        next_step = partial(_following_after_mending, settings, following)
        upcoming = first or next_step()
        rest = (
            upcoming if isinstance(upcoming, Idle) else _run_stages(settings, upcoming, next_step)
        )
        if rest.blocked:
            err.print(labelled("stopped", "yellow", f": {rest.reason}"))
            raise typer.Exit(ExitCode.BLOCKED_BY_CHECK)
        if rest is upcoming:
            tell("everything is up to date; there was nothing to do")
        _print_outcome(settings)


def _following_after_mending(
    settings: Settings, following: Callable[[], Step | Idle]
) -> Step | Idle:
    """What is next; if a damaged file prevents the answer, mend what can be mended and ask again."""
    try:
        return following()
    except DamagedFileError as error:
        err.print(printable(error), style="yellow")
        if not _mend(settings):
            raise
        return following()


def _mend(settings: Settings) -> bool:
    """Mend the damaged files of the lake and print what was done; returns whether any was mended."""
    err.print("a file of the lake is damaged; looking at all of them", style="yellow")
    report = mend_lake(settings, open_lake(settings))
    for mended in report.mended:
        err.print(labelled("mended", "green", f": {mended.relative}: {mended.done}"))
    for _, reason in report.left:
        err.print(labelled("not mended", "red", f": {reason}"))
    return bool(report.mended)


def _run_stages(settings: Settings, first: Step, following: Callable[[], Step | Idle]) -> Idle:
    # Imported here because it takes seconds: a refresh that finds nothing to do needs no Dagster.
    from ctg_assets.orchestration.refresh import StageFailedError, run_stages

    with _stages(settings) as (definitions, instance, display):
        try:
            return run_stages(
                settings,
                definitions,
                instance,
                listener=display,
                first=first,
                following=following,
                mend=partial(_mend, settings),
            )
        except StageFailedError as error:
            display.close()
            err.print(Text.assemble((f"{error.stage} failed", "red"), f": {error.reason}"))
            err.print(
                f"The last good data are untouched. Details: {printable(error.log)}, and run "
                f"{error.run_id} in the Dagster UI ({_program()} dev). Running refresh again goes on from here.",
                style="dim",
            )
            raise typer.Exit(ExitCode.FAILED) from error


@contextmanager
def _stages(settings: Settings) -> Iterator[tuple[Any, Any, RefreshDisplay | RefreshLog]]:
    """Dagster's definitions and instance, and a display of the progress, or a log of it."""
    # Bound to this stdout: while a stage runs, what Dagster and dbt print goes to a file.
    screen = SafeConsole(file=sys.stdout)
    # Warnings of ours (retries, waits) appear above the live display rather than through it.
    log_to(screen)
    display = RefreshLog() if err.as_records else RefreshDisplay(screen, open_lake(settings))
    with screen.status("starting"), quiet_dagster():
        from ctg_assets.definitions import build_definitions
        from ctg_assets.orchestration.instance import open_instance

        definitions = build_definitions(
            data_dir=str(settings.data_dir), refresh_mode=str(settings.refresh_mode)
        )
        instance = open_instance()
    try:
        with instance, display.live():
            yield definitions, instance, display
    finally:
        display.close()
        log_to(err)


def _print_outcome(settings: Settings) -> None:
    if not settings.has_warehouse:
        tell(
            f"studies and their history are in {open_lake(settings).location}; there is no database"
        )
        return
    database = warehouse_status(settings)
    if database.problem is not None:
        err.print(database.problem, style="red")
        raise typer.Exit(ExitCode.FAILED)
    if err.as_records:
        tell(f"the database at {database.address} holds {_in_words(database)}")
        return
    out.print()
    out.print(rows_table("staging tables", database.staging_rows or {}))
    if database.marts_rows is not None:
        out.print()
        out.print(rows_table("marts", dict(sorted(database.marts_rows.items()))))
    out.print()
    aact = database.ctgov_rows
    out.print(
        facts(
            [
                ("database", database.address or ""),
                *([("AACT's tables", f"schema ctgov, {len(aact)} tables")] if aact else []),
                ("SQL shell", f"{_program()} psql"),
                ("other clients", f"{_program()} db-url"),
                ("Parquet", open_lake(settings).location + "/snapshots"),
                ("Dagster UI", f"{_program()} dev"),
            ]
        )
    )


def _in_words(database: WarehouseStatus) -> str:
    counts = {
        "staging tables": database.staging_rows,
        "marts": database.marts_rows,
        "of AACT's tables": database.ctgov_rows,
    }
    return ", ".join(
        f"{len(rows)} {what} ({sum(rows.values()):,} rows)" for what, rows in counts.items() if rows
    )


def _program() -> str:
    """How to call this program from here: by name if that is on PATH, else by its path."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) is not None:
        return called.name
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)
