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
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from datetime import datetime

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.history.contents import Contents
from ctg_assets.history.entries import HistoryEntry, UndoRecord
from ctg_assets.history.entry_files import (
    HISTORY_FOLDER,
    entry_folder,
    frame_writer,
    history_path,
    read_ahead,
    read_entry,
    read_frame,
    write_entry,
    write_frame,
)
from ctg_assets.history.period_index import index_after
from ctg_assets.history.schemas import (
    CHANGES_FILE,
    CONTENTS_FILE,
    CONTENTS_SCHEMA,
    EVENT_RULES_KEY,
    FIELD_CHANGES_FILE,
    IDS_SCHEMA,
    PERIODS_FILE,
    PERIODS_SCHEMA,
    REASONS_FILE,
    REASONS_SCHEMA,
    SEEN_FILE,
    STALE_IDS_FILE,
    TOUCHED_FILE,
    TOUCHED_PERIODS_FILE,
    TYPED_EVENTS_FILE,
    TYPED_EVENTS_SCHEMA,
    UNDONE_SCHEMA,
)
from ctg_assets.storage.files import Storage, StorageError, Work
from ctg_assets.storage.records import read_record, write_record
from ctg_assets.storage.sealed_parquet import open_sealed

_UNDONE = f"{HISTORY_FOLDER}/undone"
_PLAN = "plan.json"

# Single studies are read from among hundreds of thousands, so little is decompressed for one: with 32
# studies to a row group, 600 kB of JSON. The footer of 600,000 studies is then 4 MB.
_CONTENTS_ROW_GROUP_ROWS = 32

# The newest index, and the one before it for whoever is reading it.
_KEPT_INDEXES = 2


class IndexLostError(StorageError):
    """An index of periods is gone, and an entry does not say how to derive it."""


class HistoryStore:
    """The history of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep the history in `storage`."""
        self._storage = storage

    def lock(self) -> AbstractContextManager[None]:
        """The right to write history and snapshots, which one process at a time has; raises BusyError."""
        return self._storage.lock(Work.SNAPSHOT)

    def entries(self) -> list[HistoryEntry]:
        """All entries that count, oldest first."""
        return self.since(0)

    def latest(self) -> HistoryEntry | None:
        """The newest entry, if there is one."""
        return next(self._newest_first(), None)

    def entry_of(self, extraction_id: str) -> HistoryEntry | None:
        """The entry that an extraction added; None if it has not been recorded, or was undone."""
        newest_first = self._newest_first(all_of_them=True)
        return next((entry for entry in newest_first if entry.extraction_id == extraction_id), None)

    def since(self, sequence: int) -> list[HistoryEntry]:
        """The entries after one (0: all), oldest first."""
        return [*self._newest_first(sequence, all_of_them=True)][::-1]

    def _newest_first(self, after: int = 0, *, all_of_them: bool = False) -> Iterator[HistoryEntry]:
        undos = self.undos()
        withdrawn = {sequence for undo in undos for sequence in undo.withdrawn}
        known = {undo.undo_id for undo in undos}
        sequences = [each for each in self._sequences() if each > after]
        if all_of_them:
            read_ahead(self._storage, sequences)
        for sequence in reversed(sequences):
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
        sequences = self._sequences()
        read_ahead(self._storage, sequences)
        for sequence in sequences:
            entry = self._entry(sequence)
            if entry is not None and (entry.undo is None or entry.undo in known):
                found.append((entry, by.get(sequence)))
        return found

    def undone_changes(self, undo_id: str) -> pl.DataFrame:
        """The undoings of changes by an undo (UNDONE_SCHEMA), by number."""
        return read_frame(self._storage, f"{_UNDONE}/{undo_id}.parquet")

    def keeps_contents(self, sequence: int) -> bool:
        """Whether an entry's own contents are there: of a withdrawn one they are until pruned."""
        return self._storage.exists(history_path(sequence, CONTENTS_FILE))

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
        if self._storage.exists(history_path(sequence, PERIODS_FILE)):
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
                    f"needed. Bring {self._storage.path(history_path(sequence, PERIODS_FILE))} back from a "
                    "backup"
                )
                raise IndexLostError(message)
            to_do.append(each)
        for each in reversed(to_do):
            periods = index_after(periods, self.seen(each), self.touched_periods(each))
        return periods

    def tells_what_it_did(self, sequence: int) -> bool:
        """Whether an entry keeps what it saw, so that the index can be derived through it."""
        return self._storage.exists(history_path(sequence, SEEN_FILE))

    def seen(self, sequence: int) -> pl.DataFrame:
        """What the extraction of an entry saw (SEEN_SCHEMA)."""
        return self._read(sequence, SEEN_FILE)

    def touched_periods(self, sequence: int) -> pl.DataFrame:
        """The periods of the studies that an entry touched, as they were afterwards."""
        return self._read(sequence, TOUCHED_PERIODS_FILE)

    def reasons(self, sequence: int) -> pl.DataFrame:
        """What was said to have become of studies that an entry's extraction missed (REASONS_SCHEMA)."""
        if not self._storage.exists(history_path(sequence, REASONS_FILE)):
            return pl.DataFrame(REASONS_SCHEMA.empty_table())  # nothing was asked
        return self._read(sequence, REASONS_FILE)

    def plan(self, sequence: int) -> ExtractionPlan:
        """The plan of an entry's extraction; raises KeyError for entries that do not keep it."""
        try:
            return read_record(self._storage, history_path(sequence, _PLAN), ExtractionPlan)
        except FileNotFoundError:
            message = f"entry {sequence} of the history does not keep the plan of its extraction"
            raise KeyError(message) from None

    def periods_path(self) -> str | None:
        """Where the index lies; None while there is no history."""
        latest = self.latest()
        return (
            None
            if latest is None
            else self._storage.path(history_path(latest.sequence, PERIODS_FILE))
        )

    def touched(self, sequence: int) -> pl.Series:
        """The NCT ids of studies whose periods an entry changed."""
        return self._read(sequence, TOUCHED_FILE)["nct_id"]

    def stale_ids(self, sequence: int) -> list[str]:
        """The NCT ids that the census of an entry found missing or outdated, sorted."""
        return self._read(sequence, STALE_IDS_FILE)["nct_id"].to_list()

    def changes(self, sequence: int) -> pl.DataFrame:
        """The changes of an entry (CHANGES_SCHEMA), by number."""
        return self._read(sequence, CHANGES_FILE)

    def field_changes(self, sequence: int) -> pl.DataFrame:
        """The changed fields of an entry (FIELD_CHANGES_SCHEMA), by number and position."""
        return self._read(sequence, FIELD_CHANGES_FILE)

    def typed_events(self, sequence: int) -> pl.DataFrame:
        """The typed events of an entry (TYPED_EVENTS_SCHEMA), by number and position."""
        groups = list(self.tables(sequence, TYPED_EVENTS_FILE))
        found = pl.from_arrow(pa.concat_tables([TYPED_EVENTS_SCHEMA.empty_table(), *groups]))
        assert isinstance(found, pl.DataFrame)  # noqa: S101 - what a table becomes
        return found

    def events_told_by(self, sequence: int) -> str | None:
        """The rules by which an entry's events were told; None of releases that did not say."""
        with open_sealed(self._storage, history_path(sequence, TYPED_EVENTS_FILE)) as file:
            told_by = (file.schema_arrow.metadata or {}).get(EVENT_RULES_KEY.encode())
        return None if told_by is None else told_by.decode()

    def tables(self, sequence: int, name: str) -> Iterator[pa.Table]:
        """One of an entry's Parquet files, a row group at a time."""
        with open_sealed(self._storage, history_path(sequence, name)) as file:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                yield _with_similarity(rows) if name == TYPED_EVENTS_FILE else rows

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
                    open_sealed(self._storage, history_path(sequence, CONTENTS_FILE))
                )
            )

    # writing

    @contextlib.contextmanager
    def contents_writer(self, sequence: int) -> Iterator[pq.ParquetWriter]:
        """A writer of new contents (CONTENTS_SCHEMA), which must come sorted by NCT id."""
        path = history_path(sequence, CONTENTS_FILE)
        with frame_writer(self._storage, path, CONTENTS_SCHEMA) as writer:
            yield writer

    def write_contents(self, writer: pq.ParquetWriter, contents: pa.Table) -> None:
        """Add contents to those being written."""
        writer.write_table(contents, row_group_size=_CONTENTS_ROW_GROUP_ROWS)

    @contextlib.contextmanager
    def writer(self, sequence: int, name: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
        """A writer of another of an entry's files."""
        with frame_writer(self._storage, history_path(sequence, name), schema) as writer:
            yield writer

    def write_periods(self, sequence: int, periods: pl.DataFrame) -> None:
        """Write the index as of an entry."""
        self._write_frame(sequence, PERIODS_FILE, periods, PERIODS_SCHEMA)

    def write_plan(self, sequence: int, plan: ExtractionPlan) -> None:
        """Keep the plan of an entry's extraction."""
        write_record(self._storage, history_path(sequence, _PLAN), plan)

    def write_rows(self, sequence: int, name: str, rows: pl.DataFrame, schema: pa.Schema) -> None:
        """Write one of an entry's small tables."""
        self._write_frame(sequence, name, rows, schema)

    def write_ids(self, sequence: int, name: str, nct_ids: pl.Series) -> None:
        """Write a list of NCT ids, sorted."""
        frame = pl.DataFrame({"nct_id": nct_ids.unique().sort()})
        self._write_frame(sequence, name, frame, IDS_SCHEMA)

    def commit(self, entry: HistoryEntry) -> None:
        """Make an entry whose files are in place visible, and remove indexes that it overtook."""
        self.write_entry(entry)
        self._remove_overtaken_indexes()

    def write_entry(self, entry: HistoryEntry) -> None:
        """Write the last file of an entry; one that belongs to an undo counts only with that."""
        write_entry(self._storage, entry)

    def write_undone_changes(self, undo_id: str, rows: pl.DataFrame) -> None:
        """Write the undoings of an undo that is not committed yet."""
        write_frame(self._storage, f"{_UNDONE}/{undo_id}.parquet", rows, UNDONE_SCHEMA)

    def commit_undo(self, undo: UndoRecord) -> None:
        """Let an undo count whose files are in place, and remove indexes that it overtook."""
        write_record(self._storage, f"{_UNDONE}/{undo.undo_id}.json", undo, create=True)
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
                        self._storage.delete_file(history_path(sequence, name))
        return pruned

    def _remove_overtaken_indexes(self) -> None:
        """Remove indexes that nobody needs: they can be derived, or are older than one that cannot."""
        sequences = [entry.sequence for entry in self.entries()]
        derivable = [self.tells_what_it_did(sequence) for sequence in sequences]
        # The newest entry that does not say what it did is where deriving begins.
        beginning = max((i for i, told in enumerate(derivable) if not told), default=-1)
        for place, sequence in enumerate(sequences[:-_KEPT_INDEXES]):
            if place != beginning:
                self._storage.delete_file(history_path(sequence, PERIODS_FILE))

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
        return [int(name) for name in self._storage.names(HISTORY_FOLDER) if name.isdecimal()]

    def _entry(self, sequence: int) -> HistoryEntry | None:
        return read_entry(self._storage, sequence)

    def _remove_leftover(self, sequence: int) -> None:
        if (
            self._storage.exists(history_path(sequence, PERIODS_FILE))
            and self._entry(sequence) is None
        ):
            # All but the entry itself is there: it may have been lost later, so nothing is deleted.
            self._storage.set_aside(entry_folder(sequence))
        else:
            self._storage.delete_folder(entry_folder(sequence))

    def _index_if_readable(self, sequence: int) -> pl.DataFrame | None:
        if not self._storage.exists(history_path(sequence, PERIODS_FILE)):
            return None
        try:
            return self._read(sequence, PERIODS_FILE)
        except StorageError:
            return None  # damaged; an older one will do

    def _read(
        self, sequence: int, name: str, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        return read_frame(self._storage, history_path(sequence, name), columns)

    def _write_frame(
        self, sequence: int, name: str, frame: pl.DataFrame, schema: pa.Schema
    ) -> None:
        write_frame(self._storage, history_path(sequence, name), frame, schema)


def _with_similarity(events: pa.Table) -> pa.Table:
    """Events with all columns of TYPED_EVENTS_SCHEMA; earlier releases did not write the last one."""
    columns = [
        events[field.name]
        if field.name in events.schema.names
        else pa.nulls(len(events), field.type)
        for field in TYPED_EVENTS_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=TYPED_EVENTS_SCHEMA)
