"""`backup` and `restore`: what cannot be fetched again, copied while others work, and brought back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctg_assets.cli.console import err, labelled, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings

if TYPE_CHECKING:
    from ctg_assets.integrity.copying import Copied
    from ctg_assets.storage.files import Storage

# Within the folder of a backup.
_LAKE = "lake"
_FEED = "feed.json"

_LakeOnly = Annotated[
    bool,
    typer.Option(
        "--lake-only", help="Leave the feed's positions alone, and the database with them."
    ),
]


@with_exit_code
def backup(
    folder: Annotated[Path, typer.Argument(help="Where the backup lies, or is to lie.")],
    lake_only: _LakeOnly = False,
) -> None:
    """Copy what cannot be fetched or made again to a folder, and check the copy; refreshes may go on meanwhile.

    That is the history with every content ever seen, what was extracted and is not in it yet, answers of
    saved searches, and the feed's positions and dead letters. A folder with an earlier backup is brought up
    to date, at the cost of what is new. Tables, marts and snapshots are made again from these.

    Exit codes: 0 the copy is whole, 1 it is not (something was pruned or undone meanwhile: run it
    again) or the folder cannot be used, 2 unusable settings.
    """
    from ctg_assets.feed.kept import feed_notes
    from ctg_assets.integrity.copying import copy_lake
    from ctg_assets.lake import existing_lake
    from ctg_assets.postgres.server import open_postgres
    from ctg_assets.storage.files import Storage, Work
    from ctg_assets.storage.records import write_record

    settings = load_settings()
    target = Storage.local(folder.expanduser().absolute())
    copy = Storage.local(Path(target.root) / _LAKE)
    # One backup at a time; the lake itself is not locked.
    with copy.lock(Work.SNAPSHOT):
        notes = None
        if settings.has_warehouse and not lake_only:
            with open_postgres(settings) as address:
                notes = feed_notes(address)
        _tell("copied", copy_lake(existing_lake(settings).storage, copy))
        if notes is not None:
            write_record(target, _FEED, notes)
            out.print(
                f"positions of {len(notes.positions):,} sinks, {len(notes.dead_letters):,} dead letters"
            )
        _require_whole(copy, "run backup again: something was removed while it copied")


@with_exit_code
def restore(
    folder: Annotated[Path, typer.Argument(help="Where the backup lies.")],
    lake_only: _LakeOnly = False,
) -> None:
    """Bring a backup back into the data folder; [bold]refresh[/] then makes the rest, without a new walk of all.

    The backup is checked first. The data folder may have no history that the backup does not have. Sinks of
    the feed go on where they were at the backup; what they were sent since comes again.

    Exit codes: 0 done, 1 the backup is damaged, or the data folder has another history, 2 unusable
    settings, 4 another process is at work.
    """
    from ctg_assets.feed.history_events import HistoryEvents
    from ctg_assets.feed.kept import KeptFeed, bring_back
    from ctg_assets.integrity.copying import copy_lake
    from ctg_assets.lake import open_lake
    from ctg_assets.postgres.server import open_postgres
    from ctg_assets.storage.files import Storage, Work
    from ctg_assets.storage.records import read_record

    settings = load_settings()
    source = Storage.local(folder.expanduser().absolute())
    copy = Storage.local(Path(source.root) / _LAKE)
    if not copy.names("history"):
        err.print(
            f"{printable(source.root)} holds no backup: there is no {_LAKE}/history in it",
            style="red",
        )
        raise typer.Exit(ExitCode.FAILED)
    _require_whole(copy, "nothing was brought back; take another backup")
    notes = KeptFeed()
    if source.exists(_FEED):
        notes = read_record(source, _FEED, KeptFeed)
    lake = open_lake(settings)
    with (
        lake.storage.lock(Work.EXTRACTION),
        lake.storage.lock(Work.SNAPSHOT),
        lake.storage.lock(Work.WHO),
    ):
        _tell("brought back", copy_lake(copy, lake.storage))
        if settings.has_warehouse and not lake_only:
            with open_postgres(settings) as address:
                brought = bring_back(address, notes, HistoryEvents(lake.history).newest())
            if brought:
                out.print(f"sinks of the feed: {', '.join(brought)}")


def _tell(what: str, copied: Copied) -> None:
    out.print(
        f"{what}: {copied.files:,} files, {copied.file_bytes / 1e6:,.1f} MB; "
        f"{copied.kept:,} were there already"
    )


def _require_whole(copy: Storage, remedy: str) -> None:
    from ctg_assets.integrity.verification import verify

    found = verify(copy)
    for finding in found.findings:
        err.print(
            labelled("not whole", "red", f": {copy.path(finding.relative)}: {finding.problem}")
        )
    if found.findings:
        err.print(remedy, style="red")
        raise typer.Exit(ExitCode.FAILED)
    out.print(f"checked: {found.files:,} files, {found.file_bytes / 1e6:,.1f} MB, all as written")
