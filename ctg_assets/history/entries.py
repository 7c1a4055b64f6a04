"""Records of the history: what an entry says of itself, what an undo does, and the kinds of changes."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.times import REGISTRY_BEGAN, parse_data_timestamp


class StudyChangeKind(StrEnum):
    """What happened to a study between two observations."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    RESTORE = "restore"
    MERGE = "merge"
    LEAVE_SCOPE = "leave_scope"


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the history: what a complete extraction added.

    `observed_at` is the time (UTC) that its observations count for, `recorded_at` that of writing.
    `complete` says that a whole scope was walked and counted, so that studies not seen are gone.
    `studies` are current afterwards. `changes` counts by kind. Changes have the numbers from
    `first_change_seq` up to, not including, `next_change_seq`. `revision` is the sequence of the last
    entry that changed anything. `stale` studies are still to be fetched. `duplicate_rows` repeated a
    study within the extraction. `impossible_dates` counts last update dates that an import by such dates
    did not go by, since they cannot be; `impossible_date` is one of them, with its study.

    An entry written by an undo names it in `undo`, and in `replays` the entry that it stands in for.
    Changes that are as they were have kept their numbers, which are in `kept_numbers`: ranges like that
    from `first_change_seq` to `next_change_seq`, which has the others.
    """

    sequence: int
    extraction_id: str
    mode: ExtractionMode
    source: str
    query: str
    data_timestamp: str
    observed_at: datetime
    recorded_at: datetime
    complete: bool
    studies: int
    changes: dict[str, int]
    silent: int
    first_change_seq: int
    next_change_seq: int
    revision: int
    # In files of before, and for releases of before, under its earlier name.
    stale: int = msgspec.field(default=0, name="wanted")
    duplicate_rows: int = 0
    impossible_dates: int = 0
    impossible_date: str | None = None
    undo: str | None = None
    replays: int | None = None
    kept_numbers: list[tuple[int, int]] = []

    @property
    def is_import(self) -> bool:
        """Whether it was brought in with a file, and not walked."""
        return self.mode is ExtractionMode.IMPORT

    @property
    def counted_timestamp(self) -> str:
        """The data timestamp; where that cannot be, the time that counts in its place, spelled alike."""
        said = parse_data_timestamp(self.data_timestamp)
        if said.date() >= REGISTRY_BEGAN and said <= self.observed_at:
            return self.data_timestamp
        return self.observed_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")

    @property
    def numbers(self) -> list[tuple[int, int]]:
        """The ranges (first, next) in which the numbers of its changes are, ascending."""
        own = (self.first_change_seq, self.next_change_seq)
        return sorted(each for each in (*self.kept_numbers, own) if each[0] < each[1])


class UndoRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One undo: which entries were taken back, when, by what and why.

    `undone` are the entries taken back, `extractions` whence they were. `replayed` entries came later:
    they were recorded once more without those; it maps their numbers before to those now. The undoings
    of withdrawn changes have the numbers from `first_change_seq` up to, not including,
    `next_change_seq`. `undone_at` is UTC.
    """

    undo_id: str
    undone_at: datetime
    undone: list[int]
    extractions: list[str]
    replayed: dict[int, int]
    first_change_seq: int
    next_change_seq: int
    command: str
    user: str
    host: str
    reason: str = ""

    @property
    def withdrawn(self) -> set[int]:
        """The entries that do not count any more."""
        return {*self.undone, *self.replayed}
