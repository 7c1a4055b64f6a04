"""Taking entries of the history back, with what the database shows of them.

Belongs here: that the database does not go on showing what was taken back when nothing takes its place.
Does not belong here: the undo itself (`lake/undoing.py`), and loading what is left (as after any entry).
"""

from __future__ import annotations

from collections.abc import Callable

from ctg_assets.lake.history import UndoRecord
from ctg_assets.lake.undoing import Author, Consequences, Scope
from ctg_assets.pipeline.next_step import is_current
from ctg_assets.pipeline.services import Lake
from ctg_assets.settings import Settings
from ctg_assets.warehouse.emptying import emptied
from ctg_assets.warehouse.server import open_postgres


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

    Raises what `Undoer.undo` and `emptied` raise; the history is then as it was.
    """
    if not leaves_nothing(settings, lake, lake.undoer.scope(sequence)):
        return lake.undoer.undo(sequence, author, progress)
    # Raises what the undo would, before any row is gone.
    lake.undoer.preview(sequence)
    with open_postgres(settings) as address, emptied(address):
        return lake.undoer.undo(sequence, author, progress)
