"""History: every content that a study was ever seen with, when it had it, and what changed.

Each complete extraction adds one entry, a folder `history/<sequence>` with

- `contents.parquet`: contents never seen before, JSON byte for byte as sent, sorted by NCT id;
- `changes.parquet`, `field_changes.parquet`, `typed_events.parquet`: what happened to studies;
- `touched.parquet`: the studies whose periods are not as they were before;
- `wanted.parquet`: studies that a census found to be missing or outdated here;
- `periods.parquet`: the index over all contents so far, one row for each stretch of time in which a
  study had one content. It is written anew by each entry; those of older entries are removed;
- `seen.parquet`, `touched_periods.parquet`: what the extraction saw, and the periods of the studies
  that it touched as they are afterwards. From these of all entries the index can be derived again;
- `plan.json`, `fates.parquet`: the extraction's plan, and what the registry said became of studies that
  it did not see, so that it can be recorded once more when its folder is long gone;
- `entry.json`, written last: without it there is no entry.

A study that cannot be told apart by an NCT id is known by its content: `?` and the first digits of its
hash stand in place of the id.

An undo (`undo.py`) is one file, `history/undone/<id>.json`. From then on the entries that it names are
withdrawn, and those that were written for it, with its id in their `entry.json`, stand in their place.
Before there is that file the latter do not count; numbers of entries and changes are never given twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.extract.credible_times import REGISTRY_BEGAN
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan, parse_data_timestamp
from ctg_assets.history.period_index import index_after
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets.storage.records import read_record, write_record
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer

_FOLDER = "history"
_UNDONE = f"{_FOLDER}/undone"
_ENTRY = "entry.json"
CONTENTS_FILE = "contents.parquet"
CHANGES_FILE = "changes.parquet"
FIELD_CHANGES_FILE = "field_changes.parquet"
TYPED_EVENTS_FILE = "typed_events.parquet"
TOUCHED_FILE = "touched.parquet"
WANTED_FILE = "wanted.parquet"
PERIODS_FILE = "periods.parquet"
SEEN_FILE = "seen.parquet"
TOUCHED_PERIODS_FILE = "touched_periods.parquet"
FATES_FILE = "fates.parquet"
_PLAN = "plan.json"

# Single studies are read from among hundreds of thousands, so little is decompressed for one: with 32
# studies to a row group, 600 kB of JSON. The footer of 600,000 studies is then 4 MB.
_CONTENTS_ROW_GROUP_ROWS = 32

# Contents that lie apart are read so many at a time, with their neighbours some 35 MB of JSON. A
# hundred leave the processor's caches and the allocator's pools: 1.8 ms each instead of 1.1 ms.
SCATTERED_AT_A_TIME = 50

# JSON at level 1 is written at about 450 MB/s to a sixth of its size; level 3 takes twice as long.
_COMPRESSION_LEVEL = 1

# The newest index, and the one before it for whoever is reading it.
_KEPT_INDEXES = 2

_REPEATING = ("kind", "ended_by", "extraction_id", "path", "change", "last_observed_at")

_TIME = pa.timestamp("us", "UTC")


class ChangeKind(StrEnum):
    """What happened to a study between two observations."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    RESTORE = "restore"
    MERGE = "merge"
    LEAVE_SCOPE = "leave_scope"


CONTENTS_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        # The study's JSON, byte for byte as the registry sent it.
        pa.field("study", pa.large_binary(), nullable=False),
    ]
)

PERIODS_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        # The study's contents in the order in which they were first observed, from 1. A content that
        # comes back keeps its number, so a number may have several periods.
        pa.field("version_number", pa.int32(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        # When the content was first observed, and when something else (or nothing) was; NULL: it is
        # current. Times are the registry's data timestamps.
        pa.field("valid_from", _TIME, nullable=False),
        pa.field("valid_to", _TIME),
        # The kind of the change that ended the period.
        pa.field("ended_by", pa.string()),
        # The last time that the content was seen in this period.
        pa.field("last_observed_at", _TIME, nullable=False),
        pa.field("last_update_post_date", pa.date32()),
        pa.field("json_bytes", pa.int64(), nullable=False),
        # Whence the content was taken first, and the entry in whose contents it lies.
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("contents_entry", pa.int32(), nullable=False),
    ]
)

CHANGES_SCHEMA = pa.schema(
    [
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("observed_at", _TIME, nullable=False),
        pa.field("recorded_at", _TIME, nullable=False),
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("old_content_hash", pa.string()),
        pa.field("new_content_hash", pa.string()),
        pa.field("old_version_number", pa.int32()),
        pa.field("new_version_number", pa.int32()),
        # The content changed and the last update date did not.
        pa.field("is_silent", pa.bool_(), nullable=False),
        pa.field("merged_into", pa.string()),
        # Found by bringing in an older content: it happened before changes with lower numbers.
        pa.field("is_backfill", pa.bool_(), nullable=False),
        pa.field("fields_changed", pa.int32(), nullable=False),
    ]
)

FIELD_CHANGES_SCHEMA = pa.schema(
    [
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("module", pa.string()),
        pa.field("path", pa.string(), nullable=False),
        pa.field("item", pa.string()),
        pa.field("change", pa.string(), nullable=False),
        pa.field("old_value", pa.string()),
        pa.field("new_value", pa.string()),
    ]
)

TYPED_EVENTS_SCHEMA = pa.schema(
    [
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
        pa.field("old_value", pa.string()),
        pa.field("new_value", pa.string()),
        pa.field("days", pa.int32()),
        pa.field("after_primary_completion", pa.bool_()),
    ]
)

SEEN_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        # The study had the content that was current before (of a census: the date), which is not named
        # again.
        pa.field("as_before", pa.bool_(), nullable=False),
        pa.field("content_hash", pa.string()),
        pa.field("last_update_post_date", pa.date32()),
        pa.field("page", pa.int32()),
        # Of a study whose periods stayed as they were: when its content was last observed, if that moved.
        pa.field("last_observed_at", _TIME),
    ]
)

FATES_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        # The kind of the change; NULL: the registry had the study after all.
        pa.field("kind", pa.string()),
        pa.field("merged_into", pa.string()),
    ]
)

UNDONE_SCHEMA = pa.schema(
    [
        # The undoing has a number like a change, above all before.
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("undone_change_seq", pa.int64(), nullable=False),
        # The withdrawn entry that holds the change.
        pa.field("entry", pa.int32(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("observed_at", _TIME, nullable=False),
        # What the change had led to, and what the study has now; NULL: it is not there.
        pa.field("old_content_hash", pa.string()),
        pa.field("old_version_number", pa.int32()),
        pa.field("new_content_hash", pa.string()),
        pa.field("new_version_number", pa.int32()),
        # The content that the change was about, and the entry in whose contents it lies.
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("contents_entry", pa.int32(), nullable=False),
    ]
)

_IDS_SCHEMA = pa.schema([pa.field("nct_id", pa.string(), nullable=False)])


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the history: what a complete extraction added.

    `observed_at` is the time (UTC) that its observations count for, `recorded_at` that of writing.
    `complete` says that a whole scope was walked and counted, so that studies not seen are gone.
    `studies` are current afterwards. `changes` counts by kind. Changes have the numbers from
    `first_change_seq` up to, not including, `next_change_seq`. `revision` is the sequence of the last
    entry that changed anything. `wanted` studies are still to be fetched. `duplicate_rows` repeated a
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
    wanted: int = 0
    duplicate_rows: int = 0
    impossible_dates: int = 0
    impossible_date: str | None = None
    undo: str | None = None
    replays: int | None = None
    kept_numbers: list[tuple[int, int]] = []

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


class IndexLostError(StorageError):
    """An index of periods is gone, and an entry does not say how to derive it."""


class HistoryStore:
    """The history of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep the history in `storage`."""
        self._storage = storage

    def entries(self) -> list[HistoryEntry]:
        """All entries that count, oldest first."""
        return self.since(0)

    def latest(self) -> HistoryEntry | None:
        """The newest entry, if there is one."""
        return next(self._newest_first(), None)

    def entry_of(self, extraction_id: str) -> HistoryEntry | None:
        """The entry that an extraction added; None if it has not been recorded, or was undone."""
        newest_first = self._newest_first()
        return next((entry for entry in newest_first if entry.extraction_id == extraction_id), None)

    def since(self, sequence: int) -> list[HistoryEntry]:
        """The entries after one (0: all), oldest first."""
        return [*self._newest_first(sequence)][::-1]

    def _newest_first(self, after: int = 0) -> Iterator[HistoryEntry]:
        undos = self.undos()
        withdrawn = {sequence for undo in undos for sequence in undo.withdrawn}
        known = {undo.undo_id for undo in undos}
        for sequence in reversed(self._sequences()):
            if sequence <= after:
                return
            entry = None if sequence in withdrawn else self._entry(sequence)
            if entry is not None and (entry.undo is None or entry.undo in known):
                yield entry

    # undone

    def undos(self) -> list[UndoRecord]:
        """All undos, oldest first."""
        names = [name for name in self._storage.names(_UNDONE) if name.endswith(".json")]
        found = [read_record(self._storage, f"{_UNDONE}/{name}", UndoRecord) for name in names]
        return sorted(found, key=lambda undo: undo.next_change_seq)

    def undone_extractions(self) -> set[str]:
        """The extractions whose entries were taken back."""
        return {extraction_id for undo in self.undos() for extraction_id in undo.extractions}

    def with_withdrawn(self) -> list[tuple[HistoryEntry, UndoRecord | None]]:
        """All entries that count or once did, oldest first, with the undo that withdrew them."""
        undos = self.undos()
        known = {undo.undo_id for undo in undos}
        by = {sequence: undo for undo in undos for sequence in undo.withdrawn}
        found = []
        for sequence in self._sequences():
            entry = self._entry(sequence)
            if entry is not None and (entry.undo is None or entry.undo in known):
                found.append((entry, by.get(sequence)))
        return found

    def undone_changes(self, undo_id: str) -> pl.DataFrame:
        """The undoings of changes by an undo (UNDONE_SCHEMA), by number."""
        return self._read_frame(f"{_UNDONE}/{undo_id}.parquet")

    def keeps_contents(self, sequence: int) -> bool:
        """Whether an entry's own contents are there: of a withdrawn one they are until pruned."""
        return self._storage.exists(_path(sequence, CONTENTS_FILE))

    def next_sequence(self) -> int:
        """The number of the next entry: no entry, withdrawn or not, ever had it or a higher one."""
        numbers = [entry.sequence for entry, _ in self.with_withdrawn()]
        numbers += [sequence for undo in self.undos() for sequence in undo.withdrawn]
        return max(numbers, default=0) + 1

    def next_change_seq(self) -> int:
        """The number of the next change: no change or undoing ever had it or a higher one."""
        numbers = [entry.next_change_seq for entry, _ in self.with_withdrawn()]
        return max([1, *numbers, *(undo.next_change_seq for undo in self.undos())])

    # the index

    def periods(self, columns: Collection[str] | None = None) -> pl.DataFrame:
        """The index: all periods (PERIODS_SCHEMA), sorted by NCT id and time.

        Where its file is missing it is derived. Raises IndexLostError if that cannot be done.
        """
        latest = self.latest()
        if latest is None:
            return pl.DataFrame(PERIODS_SCHEMA.empty_table())
        return self.periods_after(latest.sequence, columns)

    def periods_after(self, sequence: int, columns: Collection[str] | None = None) -> pl.DataFrame:
        """The index as it was after an entry: as written, or derived if that is gone.

        Raises IndexLostError if it can be had neither way.
        """
        if self._storage.exists(_path(sequence, PERIODS_FILE)):
            return self._read(sequence, PERIODS_FILE, columns)
        derived = self.derived_periods(sequence)
        return derived if columns is None else derived.select(list(columns))

    def derived_periods(self, sequence: int) -> pl.DataFrame:
        """The index after an entry, made again from what the entries say; its own file is not read.

        It begins with the nearest index of an older entry that can be read, or with nothing before the
        first entry. Raises IndexLostError if entries between do not say what they did to it (those of
        releases before 2026-11-26 do not), StorageError if what they say cannot be read.
        """
        chain = [entry.sequence for entry in self.entries() if entry.sequence <= sequence]
        to_do: list[int] = []
        periods = pl.DataFrame(PERIODS_SCHEMA.empty_table())
        for each in reversed(chain):
            older = None if each == sequence else self._index_if_readable(each)
            if older is not None:
                periods = older
                break
            if not self.tells_what_it_did(each):
                message = (
                    f"the index of periods after entry {sequence} of the history cannot be derived: "
                    f"entry {each} was recorded by an earlier release, which did not keep what is "
                    f"needed. Bring {self._storage.path(_path(sequence, PERIODS_FILE))} back from a "
                    "backup"
                )
                raise IndexLostError(message)
            to_do.append(each)
        for each in reversed(to_do):
            periods = index_after(periods, self.seen(each), self.touched_periods(each))
        return periods

    def tells_what_it_did(self, sequence: int) -> bool:
        """Whether an entry keeps what it saw, so that the index can be derived through it."""
        return self._storage.exists(_path(sequence, SEEN_FILE))

    def seen(self, sequence: int) -> pl.DataFrame:
        """What the extraction of an entry saw (SEEN_SCHEMA)."""
        return self._read(sequence, SEEN_FILE)

    def touched_periods(self, sequence: int) -> pl.DataFrame:
        """The periods of the studies that an entry touched, as they were afterwards."""
        return self._read(sequence, TOUCHED_PERIODS_FILE)

    def fates(self, sequence: int) -> pl.DataFrame:
        """What was said to have become of studies that an entry's extraction missed (FATES_SCHEMA)."""
        if not self._storage.exists(_path(sequence, FATES_FILE)):
            return pl.DataFrame(FATES_SCHEMA.empty_table())  # nothing was asked
        return self._read(sequence, FATES_FILE)

    def plan(self, sequence: int) -> ExtractionPlan:
        """The plan of an entry's extraction; raises KeyError for entries that do not keep it."""
        try:
            return read_record(self._storage, _path(sequence, _PLAN), ExtractionPlan)
        except FileNotFoundError:
            message = f"entry {sequence} of the history does not keep the plan of its extraction"
            raise KeyError(message) from None

    def periods_path(self) -> str | None:
        """Where the index lies; None while there is no history."""
        latest = self.latest()
        return None if latest is None else self._storage.path(_path(latest.sequence, PERIODS_FILE))

    def touched(self, sequence: int) -> pl.Series:
        """The NCT ids of studies whose periods an entry changed."""
        return self._read(sequence, TOUCHED_FILE)["nct_id"]

    def wanted_ids(self, sequence: int) -> list[str]:
        """The NCT ids that the census of an entry found missing or outdated, sorted."""
        return self._read(sequence, WANTED_FILE)["nct_id"].to_list()

    def changes(self, sequence: int) -> pl.DataFrame:
        """The changes of an entry (CHANGES_SCHEMA), by number."""
        return self._read(sequence, CHANGES_FILE)

    def field_changes(self, sequence: int) -> pl.DataFrame:
        """The changed fields of an entry (FIELD_CHANGES_SCHEMA), by number and position."""
        return self._read(sequence, FIELD_CHANGES_FILE)

    def typed_events(self, sequence: int) -> pl.DataFrame:
        """The typed events of an entry (TYPED_EVENTS_SCHEMA), by number and position."""
        return self._read(sequence, TYPED_EVENTS_FILE)

    def tables(self, sequence: int, name: str) -> Iterator[pa.Table]:
        """One of an entry's Parquet files, a row group at a time."""
        with open_sealed(self._storage, _path(sequence, name)) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)

    def contents(self, wanted: pl.DataFrame, rows_at_a_time: int) -> Iterator[pa.Table]:
        """The JSON of some contents, in the order of `wanted`, some rows at a time.

        `wanted` names them by `nct_id`, `content_hash` and `contents_entry`, sorted by `nct_id`; its
        other columns are handed through, and `study` is added.
        """
        with self.open_contents() as contents:
            yield from contents.rows(wanted, rows_at_a_time)

    @contextlib.contextmanager
    def open_contents(self) -> Iterator[Contents]:
        """For reading contents several times: files stay open, with their footers read."""
        with contextlib.ExitStack() as stack:
            yield Contents(
                lambda sequence: stack.enter_context(
                    open_sealed(self._storage, _path(sequence, CONTENTS_FILE))
                )
            )

    # writing

    @contextlib.contextmanager
    def contents_writer(self, sequence: int) -> Iterator[pq.ParquetWriter]:
        """A writer of new contents (CONTENTS_SCHEMA), which must come sorted by NCT id."""
        with self._publish(sequence, CONTENTS_FILE, CONTENTS_SCHEMA) as writer:
            yield writer

    def write_contents(self, writer: pq.ParquetWriter, contents: pa.Table) -> None:
        """Add contents to those being written."""
        writer.write_table(contents, row_group_size=_CONTENTS_ROW_GROUP_ROWS)

    @contextlib.contextmanager
    def writer(self, sequence: int, name: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """A writer of another of an entry's files."""
        with self._publish(sequence, name, schema) as writer:
            yield writer

    def write_periods(self, sequence: int, periods: pl.DataFrame) -> None:
        """Write the index as of an entry."""
        self._write_frame(sequence, PERIODS_FILE, periods, PERIODS_SCHEMA)

    def write_plan(self, sequence: int, plan: ExtractionPlan) -> None:
        """Keep the plan of an entry's extraction."""
        write_record(self._storage, _path(sequence, _PLAN), plan)

    def write_rows(self, sequence: int, name: str, rows: pl.DataFrame, schema: pa.Schema) -> None:
        """Write one of an entry's small tables."""
        self._write_frame(sequence, name, rows, schema)

    def write_ids(self, sequence: int, name: str, nct_ids: pl.Series) -> None:
        """Write a list of NCT ids, sorted."""
        frame = pl.DataFrame({"nct_id": nct_ids.unique().sort()})
        self._write_frame(sequence, name, frame, _IDS_SCHEMA)

    def commit(self, entry: HistoryEntry) -> None:
        """Make an entry whose files are in place visible, and remove indexes that it overtook."""
        self.write_entry(entry)
        self._remove_overtaken_indexes()

    def write_entry(self, entry: HistoryEntry) -> None:
        """Write the last file of an entry; one that belongs to an undo counts only with that."""
        self._write_json(_path(entry.sequence, _ENTRY), entry)

    def write_undone_changes(self, undo_id: str, rows: pl.DataFrame) -> None:
        """Write the undoings of an undo that is not committed yet."""
        self._write_to(f"{_UNDONE}/{undo_id}.parquet", rows, UNDONE_SCHEMA)

    def commit_undo(self, undo: UndoRecord) -> None:
        """Let an undo count whose files are in place, and remove indexes that it overtook."""
        self._write_json(f"{_UNDONE}/{undo.undo_id}.json", undo)
        self._remove_overtaken_indexes()

    def prune_withdrawn(self, before: datetime) -> list[int]:
        """Remove the contents of entries withdrawn before a time; returns whose.

        What is small stays, for the feed and as a record.
        """
        pruned = []
        for undo in self.undos():
            if undo.undone_at < before:
                for sequence in sorted(undo.withdrawn):
                    if self.keeps_contents(sequence):
                        pruned.append(sequence)
                    for name in (CONTENTS_FILE, PERIODS_FILE, TOUCHED_PERIODS_FILE, SEEN_FILE):
                        self._storage.delete_file(_path(sequence, name))
        return pruned

    def _remove_overtaken_indexes(self) -> None:
        """Remove indexes that nobody needs: they can be derived, or are older than one that cannot."""
        sequences = [entry.sequence for entry in self.entries()]
        derivable = [self.tells_what_it_did(sequence) for sequence in sequences]
        # The newest entry that does not say what it did is where deriving begins.
        beginning = max((i for i, told in enumerate(derivable) if not told), default=-1)
        for place, sequence in enumerate(sequences[:-_KEPT_INDEXES]):
            if place != beginning:
                self._storage.delete_file(_path(sequence, PERIODS_FILE))

    def clean(self) -> None:
        """Remove what killed writers left; call only while no other is at work."""
        first = self.next_sequence()
        for sequence in self._sequences():
            # Of older ones there is nothing left over: that an entry lacks its file would be damage.
            if sequence >= first:
                self._remove_leftover(sequence)
        known = {undo.undo_id for undo in self.undos()}
        for name in self._storage.names(_UNDONE):
            if name.rpartition(".")[0] not in known:
                self._storage.delete_file(f"{_UNDONE}/{name}")

    def _sequences(self) -> list[int]:
        return [int(name) for name in self._storage.names(_FOLDER) if name.isdecimal()]

    def _entry(self, sequence: int) -> HistoryEntry | None:
        # A damaged entry is an error, never none: the next one would take its place.
        try:
            return read_record(self._storage, _path(sequence, _ENTRY), HistoryEntry)
        except FileNotFoundError:
            return None

    def _remove_leftover(self, sequence: int) -> None:
        if self._storage.exists(_path(sequence, PERIODS_FILE)) and self._entry(sequence) is None:
            # All but the entry itself is there: it may have been lost later, so nothing is deleted.
            self._storage.set_aside(f"{_FOLDER}/{_name(sequence)}")
        else:
            self._storage.delete_folder(f"{_FOLDER}/{_name(sequence)}")

    def _index_if_readable(self, sequence: int) -> pl.DataFrame | None:
        if not self._storage.exists(_path(sequence, PERIODS_FILE)):
            return None
        try:
            return self._read(sequence, PERIODS_FILE)
        except StorageError:
            return None  # damaged; an older one will do

    def _read(
        self, sequence: int, name: str, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        return self._read_frame(_path(sequence, name), columns)

    def _read_frame(self, path: str, columns: Collection[str] | None = None) -> pl.DataFrame:
        with open_sealed(self._storage, path) as file:
            chosen = None if columns is None else list(columns)
            frame = pl.from_arrow(file.read(columns=chosen))
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - what a table becomes
        return frame

    def _write_frame(
        self, sequence: int, name: str, frame: pl.DataFrame, schema: pa.Schema
    ) -> None:
        self._write_to(_path(sequence, name), frame, schema)

    def _write_to(self, path: str, frame: pl.DataFrame, schema: pa.Schema) -> None:
        with self._publish_at(path, schema) as writer:
            writer.write_table(frame.select(schema.names).to_arrow().cast(schema))

    def _write_json(self, path: str, content: msgspec.Struct) -> None:
        write_record(self._storage, path, content)

    @contextlib.contextmanager
    def _publish(self, sequence: int, name: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        with self._publish_at(_path(sequence, name), schema) as writer:
            yield writer

    @contextlib.contextmanager
    def _publish_at(self, path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        with sealed_writer(
            self._storage,
            path,
            schema,
            compression="zstd",
            compression_level=_COMPRESSION_LEVEL,
            use_dictionary=[field.name for field in schema if field.name in _REPEATING],
            # What one walk after another sees is a list of all ids, close to one another.
            column_encoding={"nct_id": "DELTA_BYTE_ARRAY"} if schema == SEEN_SCHEMA else None,
            write_statistics=["nct_id"] if "nct_id" in schema.names else False,
        ) as writer:
            yield writer


class Contents:
    """The contents of all entries; each file is opened once."""

    def __init__(self, open_file: Callable[[int], pq.ParquetFile]) -> None:
        self._open_file = open_file
        self._files: dict[int, _ContentsFile] = {}

    def rows(self, wanted: pl.DataFrame, rows_at_a_time: int) -> Iterator[pa.Table]:
        """As `HistoryStore.contents`."""
        for chunk in wanted.iter_slices(rows_at_a_time):
            parts = []
            numbered = chunk.with_row_index("place")
            for (sequence,), rows in numbered.partition_by("contents_entry", as_dict=True).items():
                assert isinstance(sequence, int)  # noqa: S101 - the column's type
                if sequence not in self._files:
                    self._files[sequence] = _ContentsFile(self._open_file(sequence))
                parts.append(self._files[sequence].read(rows))
            found = pa.concat_tables(parts)
            order = pl.Series(found["place"]).arg_sort().to_arrow()
            yield found.take(order).drop_columns("place")


class _ContentsFile:
    """One entry's contents, open for reading single studies."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        metadata = self._file.metadata
        column = self._file.schema_arrow.get_field_index("nct_id")
        self._first_ids = np.array(
            [
                metadata.row_group(group).column(column).statistics.min
                for group in range(metadata.num_row_groups)
            ],
            dtype=str,
        )
        self._last_ids = np.array(
            [
                metadata.row_group(group).column(column).statistics.max
                for group in range(metadata.num_row_groups)
            ],
            dtype=str,
        )

    def read(self, wanted: pl.DataFrame) -> pa.Table:
        """The wanted rows with their JSON, in the order of the file."""
        rows = self._file.read_row_groups(
            self._groups(wanted["nct_id"]), columns=["nct_id", "content_hash", "study"]
        )
        found = pl.DataFrame(rows.drop_columns("study")).with_row_index("row")
        matched = found.join(wanted, on=["nct_id", "content_hash"], how="inner").sort("row")
        if matched.height != wanted.height:
            message = (
                f"{wanted.height - matched.height} contents of the history are not in its files"
            )
            raise pa.ArrowInvalid(message)
        study = rows["study"].take(matched["row"].to_arrow())
        named: Any = matched.drop("row").to_arrow()
        return named.append_column("study", study)

    def _groups(self, nct_ids: pl.Series) -> list[int]:
        ids = nct_ids.unique().to_numpy().astype(str)
        # The contents of a study may reach from one row group into the next.
        first = np.searchsorted(self._last_ids, ids, side="left")
        last = np.searchsorted(self._first_ids, ids, side="right") - 1
        groups = {int(group) for group in first} | {int(group) for group in last}
        for start, end in zip(first, last, strict=True):
            groups.update(range(int(start), int(end) + 1))
        return sorted(group for group in groups if 0 <= group < len(self._first_ids))


def _name(sequence: int) -> str:
    return f"{sequence:06d}"


def history_path(sequence: int, name: str) -> str:
    """The path within the lake of one of an entry's files."""
    return _path(sequence, name)


def _path(sequence: int, name: str) -> str:
    return f"{_FOLDER}/{_name(sequence)}/{name}"
