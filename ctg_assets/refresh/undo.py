"""Taking entries of the history back, with what the database shows of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime

from ctg_assets.history.entries import UndoRecord
from ctg_assets.history.replay import Scope
from ctg_assets.history.undo import Author, Consequences, Undoer
from ctg_assets.lake import Lake
from ctg_assets.load.emptying import emptied
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.pending import is_current
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import remove_withdrawn_snapshots


def undoer(lake: Lake) -> Undoer:
    """What takes back entries of a lake's history, and removes the snapshots that stand on them."""
    return Undoer(lake.storage, lambda: remove_withdrawn_snapshots(lake.history, lake.snapshots))


def leaves_nothing(settings: Settings, lake: Lake, scope: Scope) -> bool:
    """Whether, without what an undo takes back, nothing is recorded that the settings ask for.

    Then there is no snapshot that the tables could be loaded from.
    """
    first = scope.undone[0].sequence
    left = [entry for entry in lake.history.entries() if entry.sequence < first]
    # What is recorded once more has the same source as before.
    left += scope.replayed
    return not left or not is_current(left[-1], settings)


def take_back(
    settings: Settings,
    lake: Lake,
    sequence: int,
    author: Author,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[UndoRecord, Consequences]:
    """Undo an entry (see `Undoer.undo`), and empty the tables if nothing is left that they could hold.

    They are emptied first. Whatever ends this before the undo counts, the entry is still there, and the
    next refresh loads it again; once the undo counts, nothing of it is in the tables.

    Raises BusyError when another process extracts or records, and what `Undoer.undo` and `emptied` raise;
    the history is then as it was.
    """
    with lake.extractions.lock(), lake.history.lock():
        if not leaves_nothing(settings, lake, undoer(lake).scope(sequence)):
            return undoer(lake).undo(sequence, author, progress)
        # Raises what the undo would, before any row is gone.
        undoer(lake).preview(sequence)
        with contextlib.ExitStack() as stack:
            if settings.has_warehouse:
                stack.enter_context(emptied(stack.enter_context(open_postgres(settings))))
            return undoer(lake).undo(sequence, author, progress)


def prune_undone(lake: Lake, before: datetime) -> list[int]:
    """Remove for good the contents of entries that were undone before a time; returns their numbers.

    Raises BusyError when another process writes snapshots, and StorageError.
    """
    with lake.history.lock():
        return lake.history.prune_withdrawn(before)
