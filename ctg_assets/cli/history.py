"""`history`: what each import and each walk brought, and taking it back."""

from __future__ import annotations

import getpass
import socket
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ctg_assets.cli.console import MOST_LISTED, err, facts, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from ctg_assets.history.undo import Consequences
    from ctg_assets.lake import Lake

app = typer.Typer(
    help="What each import and each walk brought, and taking it back.", no_args_is_help=True
)


@app.command("list")
@with_exit_code
def list_entries() -> None:
    """All entries of the history, oldest first: what was recorded when, from where, with what changes.

    Entries that were undone are listed as well, with the undo that withdrew them.
    """
    from ctg_assets.cli.history_lines import history_lines
    from ctg_assets.lake import open_lake

    entries = open_lake(load_settings()).history.with_withdrawn()
    for line in history_lines(entries) if entries else ():
        out.print(line)
    if not entries:
        out.print("nothing is recorded yet; `ctg-assets refresh` begins")


@app.command("show")
@with_exit_code
def show(
    entry: Annotated[int, typer.Argument(help="The entry's number, as `history list` shows it.")],
) -> None:
    """One entry of the history: whence it came, what it changed, and the first studies concerned."""
    from ctg_assets.cli.history_lines import entry_facts
    from ctg_assets.lake import open_lake

    store = open_lake(load_settings()).history
    found = {each.sequence: (each, undo) for each, undo in store.with_withdrawn()}
    if entry not in found:
        err.print(f"there is no entry {entry}; `ctg-assets history list` shows all", style="red")
        raise typer.Exit(ExitCode.FAILED)
    out.print(facts(entry_facts(*found[entry])))
    changes = store.changes(entry)
    for change in changes.head(MOST_LISTED).iter_rows(named=True):
        out.print(
            f"  {change['nct_id']}: {change['kind']}, {change['fields_changed']:,} fields "
            f"(change {change['change_seq']:,})"
        )
    if changes.height > MOST_LISTED:
        out.print(f"  {changes.height - MOST_LISTED:,} more, in staging.study_changes")


@app.command("undo")
@with_exit_code
def undo(
    entry: Annotated[
        int, typer.Argument(help="The entry to take back, as `history list` shows it.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before doing it.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
) -> None:
    """Take back an entry as if it had never been, and build snapshot, tables and marts without it.

    An import is taken back wherever it is in the history: what was recorded later is recorded once more
    without it, from what is kept, with no question to the registry. A walk is taken back together with
    everything after it, since later walks were chosen by what it had found.

    When nothing is left that the settings ask for, the tables are emptied.

    What is taken back is kept aside until `history prune`. The extraction is not recorded again: a file
    can be imported again, and the registry is walked again when a walk is due. Sinks of the feed are
    sent an event of kind `undone` for each change that is withdrawn.

    Exit codes: 0 done, 1 it cannot be taken back, failed or was declined, 2 unusable settings, 3 a check
    forbids to load what is left, 4 another process is at work, 130 interrupted.
    """
    from ctg_assets.cli.history_lines import consequences_lines
    from ctg_assets.cli.stages import REFRESH_LOCK, run_until_idle
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh.planner import next_build_step
    from ctg_assets.refresh.undo import leaves_nothing, undoer
    from ctg_assets.storage.data_folder import file_lock

    settings = load_settings()
    lake = open_lake(settings)
    if dry_run:
        with out.status("recording later entries once more, for a trial"):
            consequences = undoer(lake).preview(entry)
        nothing_left = leaves_nothing(settings, lake, consequences.scope)
        for line in consequences_lines(consequences, nothing_left=nothing_left):
            out.print(line)
        return
    with file_lock(settings, REFRESH_LOCK):
        consequences = _undo(settings, lake, entry, reason, ask=not yes)
        if leaves_nothing(settings, lake, consequences.scope):
            out.print("the tables are empty until something is recorded")
            return
        run_until_idle(settings, partial(next_build_step, settings, lake))
        _rebuild_past_months(settings, lake, consequences)


@app.command("prune")
@with_exit_code
def prune(
    days: Annotated[
        int, typer.Option(min=0, help="Keep what was undone in the last so many days.")
    ] = 30,
) -> None:
    """Remove for good the contents of entries that were undone; nothing is pruned but by this command.

    The record of the undo and the withdrawn changes stay.
    """
    from ctg_assets.cli.stages import REFRESH_LOCK
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh.undo import prune_undone
    from ctg_assets.storage.data_folder import file_lock

    settings = load_settings()
    with file_lock(settings, REFRESH_LOCK):
        before = datetime.now(UTC) - timedelta(days=days)
        pruned = prune_undone(open_lake(settings), before)
    listed = ", ".join(map(str, pruned))
    out.print(f"contents removed of withdrawn entries: {listed or 'none'}")


def _undo(settings: Settings, lake: Lake, entry: int, reason: str, *, ask: bool) -> Consequences:
    """Print what taking back an entry changes, ask unless told not to, and take it back."""
    from ctg_assets.cli.history_lines import consequences_lines
    from ctg_assets.history.undo import Author
    from ctg_assets.refresh.undo import leaves_nothing, take_back, undoer

    nothing_left = leaves_nothing(settings, lake, undoer(lake).scope(entry))
    if ask:
        with out.status("recording later entries once more, for a trial"):
            preview = undoer(lake).preview(entry)
        for line in consequences_lines(preview, nothing_left=nothing_left):
            out.print(line)
        typer.confirm("Take this back?", abort=True)
    author = Author(
        command=" ".join(["ctg-assets", *sys.argv[1:]]),
        user=getpass.getuser(),
        host=socket.gethostname(),
        reason=reason,
    )
    with out.status("taking back") as live:

        def show(done: int, total: int) -> None:
            live.update(f"entries recorded once more: {done:,} of {total:,}")

        record, consequences = take_back(settings, lake, entry, author, show)
    if not ask:
        for line in consequences_lines(consequences, nothing_left=nothing_left):
            out.print(line)
    out.print(f"undone; the record is history/undone/{record.undo_id}.json")
    return consequences


def _rebuild_past_months(settings: Settings, lake: Lake, consequences: Consequences) -> None:
    """Correct the monthly snapshot where it counted what was undone, and print what changed."""
    from ctg_assets.refresh.past_months import (
        rebuild_undone_months,
        remove_undone_months,
    )

    for month, rows in remove_undone_months(settings, lake, consequences).items():
        out.print(f"{month:%Y-%m}: removed, nothing was observed in it; it had {rows:,} studies")
    with out.status("rebuilding past months"):
        months = rebuild_undone_months(settings, lake, consequences)
    for each in months:
        out.print(f"{each.month:%Y-%m}: {each.rows:,} studies; it had {each.rows_before:,}")
