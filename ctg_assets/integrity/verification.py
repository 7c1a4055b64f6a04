"""Verification: whether all of a lake is as it was written, and fits together."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import polars as pl

from ctg_assets.extract.extractions import ExtractionMode, ExtractionState, ExtractionStore
from ctg_assets.extract.shards import ShardStore
from ctg_assets.history.entries import HistoryEntry, UndoRecord
from ctg_assets.history.entry_files import history_path
from ctg_assets.history.schemas import (
    CHANGES_FILE,
    CONTENTS_FILE,
    FIELD_CHANGES_FILE,
    PERIODS_FILE,
    STALE_IDS_FILE,
    TOUCHED_FILE,
    TYPED_EVENTS_FILE,
)
from ctg_assets.history.store import HistoryStore
from ctg_assets.snapshot.store import (
    EXTRAS_FILE,
    QUARANTINE_FILE,
    REPLACED_FILE,
    STUDIES_FILE,
    SnapshotStore,
    snapshot_path,
)
from ctg_assets.storage.damage import DamagedFileError, KindOfFile, kind_of_file
from ctg_assets.storage.files import Storage, StorageError, TransientStorageError
from ctg_assets.storage.records import check_record
from ctg_assets.storage.sealed_parquet import check_sealed, open_sealed

_FOLDERS = ("registries", "searches", "mesh", "who", "extractions", "history", "snapshots")


@dataclass(frozen=True)
class Damage:
    """A damaged or missing file, by its path within the lake, and what is wrong with it."""

    relative: str
    problem: str

    @property
    def kind(self) -> KindOfFile:
        """What the file is, what hangs on it and what can be done."""
        return kind_of_file(self.relative)


@dataclass
class Verification:
    """What a look at all of a lake found.

    `unchecked` are files that carry no digest: of an earlier release, or not of the lake's making.
    """

    files: int = 0
    file_bytes: int = 0
    findings: list[Damage] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def verify(storage: Storage, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Look at every file of a lake, offline; `progress` is called with the files read and their total.

    Never fails on damage: that is what it finds. Raises StorageError when folders cannot be listed or
    files not be read for another reason (permissions).
    """
    found = Verification()
    paths = [path for folder in _FOLDERS for path in storage.files(folder)]
    for done, path in enumerate(paths, start=1):
        try:
            if not _check(storage, path):
                found.unchecked.append(path)
        except FileNotFoundError:
            continue  # another process removed it meanwhile
        except DamagedFileError as error:
            if not storage.exists(path):
                continue
            found.findings.append(Damage(path, error.problem))
        found.files += 1
        found.file_bytes += storage.size(path)
        if progress is not None:
            progress(done, len(paths))
    damaged = {finding.relative for finding in found.findings}
    found.findings += [
        finding
        for finding in _References(storage, damaged).findings()
        if finding.relative not in damaged
    ]
    return found


def _check(storage: Storage, path: str) -> bool:
    """Whether a file carries a digest; raises DamagedFileError if it is not as it was written."""
    if path.endswith(".parquet"):
        return check_sealed(storage, path)
    return path.endswith(".json") and check_record(storage, path)


class _References:
    """Whether files that are sound each by itself fit together."""

    def __init__(self, storage: Storage, damaged: set[str]) -> None:
        self._storage = storage
        self._damaged = damaged
        self._history = HistoryStore(storage)
        self._extractions = ExtractionStore(storage)
        self._shards = ShardStore(storage)
        self._snapshots = SnapshotStore(storage)

    def findings(self) -> Iterator[Damage]:
        """What does not fit."""
        for look in (self._of_extractions, self._of_history, self._of_snapshots):
            try:
                yield from look()
            except DamagedFileError as error:
                # Of a file that is damaged nothing more can be told, nor of what hangs on it.
                yield Damage(error.relative, error.problem)

    def _of_extractions(self) -> Iterator[Damage]:
        for extraction_id in self._storage.names("extractions"):
            if not self._storage.exists(f"extractions/{extraction_id}/plan.json"):
                continue  # begun and killed, or deleted and killed: nobody sees it
            try:
                yield from self._of_extraction(extraction_id)
            except DamagedFileError as error:
                yield Damage(error.relative, error.problem)

    def _of_extraction(self, extraction_id: str) -> Iterator[Damage]:
        folder = f"extractions/{extraction_id}"
        plan = self._extractions.plan(extraction_id)
        pages = self._shards.pages(extraction_id)
        for page in pages:
            path = f"{folder}/pages/{page:05d}.parquet"
            if path in self._damaged:
                continue
            info = self._shards.info(extraction_id, page)
            if (info.extraction_id, info.page) != (plan.extraction_id, page):
                yield Damage(path, f"it is page {info.page} of {info.extraction_id}")
        completion = self._extractions.completion(extraction_id)
        is_complete = self._extractions.state(extraction_id) is ExtractionState.COMPLETE
        if (
            is_complete
            and completion is not None
            and completion.pages != len(pages)
            # What is recorded needs its pages no more.
            and self._history.entry_of(extraction_id) is None
        ):
            problem = f"it speaks of {completion.pages} pages, and {len(pages)} are there"
            yield Damage(f"{folder}/complete.json", problem)

    def _of_history(self) -> Iterator[Damage]:
        told = self._history.with_withdrawn()
        there = {entry.sequence for entry, _ in told}
        for sequence in range(1, max(there, default=0)):
            if sequence not in there:
                path = history_path(sequence, "entry.json")
                yield Damage(path, "it is not there, though later entries are")
        numbers = [(entry.first_change_seq, entry.next_change_seq) for entry, _ in told]
        numbers += [(undo.first_change_seq, undo.next_change_seq) for undo in self._history.undos()]
        change_seq = 1
        for first, following in sorted(each for each in numbers if each[0] < each[1]):
            if first != change_seq:
                path = next(
                    (
                        history_path(entry.sequence, "entry.json")
                        for entry, _ in told
                        if entry.first_change_seq == first
                    ),
                    "history/undone",
                )
                problem = f"its changes begin with number {first}, and {change_seq} is the next one"
                yield Damage(path, problem)
            change_seq = following
        for undo in self._history.undos():
            yield from self._of_undo(undo)
        entries = self._history.entries()
        for entry in entries:
            yield from self._of_entry(entry)
        if entries:
            yield from self._of_index(entries[-1])

    def _of_undo(self, undo: UndoRecord) -> Iterator[Damage]:
        path = f"history/undone/{undo.undo_id}.parquet"
        if path in self._damaged:
            return
        if not self._storage.exists(path):
            yield Damage(path, "it is not there")
            return
        with open_sealed(self._storage, path) as file:
            rows = file.metadata.num_rows
        told = undo.next_change_seq - undo.first_change_seq
        if rows != told:
            yield Damage(
                path, f"it has {rows} changes, and the record of its undo speaks of {told}"
            )

    def _of_entry(self, entry: HistoryEntry) -> Iterator[Damage]:
        is_census = entry.mode is ExtractionMode.CENSUS
        wanted = [CHANGES_FILE, FIELD_CHANGES_FILE, TYPED_EVENTS_FILE, TOUCHED_FILE]
        for name in [*wanted, STALE_IDS_FILE if is_census else CONTENTS_FILE]:
            path = history_path(entry.sequence, name)
            if path not in self._damaged and not self._storage.exists(path):
                yield Damage(path, "it is not there")
        path = history_path(entry.sequence, CHANGES_FILE)
        if path not in self._damaged and self._storage.exists(path):
            with open_sealed(self._storage, path) as file:
                numbers = pl.Series("n", file.read(columns=["change_seq"])["change_seq"])
            # Of a range that an entry recorded once more has kept, only changes that are as they were.
            new = numbers.is_between(entry.first_change_seq, entry.next_change_seq, closed="left")
            kept = [numbers.is_between(*each, closed="left") for each in entry.kept_numbers]
            is_told = functools.reduce(operator.or_, kept, new)
            if new.sum() != entry.next_change_seq - entry.first_change_seq or not is_told.all():
                problem = f"it has {len(numbers)} changes, and its entry speaks of others"
                yield Damage(path, problem)

    def _of_index(self, latest: HistoryEntry) -> Iterator[Damage]:
        index = history_path(latest.sequence, PERIODS_FILE)
        if index in self._damaged:
            return
        try:
            periods = self._history.periods(["nct_id", "content_hash", "contents_entry"])
        except (DamagedFileError, TransientStorageError):
            raise
        except StorageError as error:
            yield Damage(index, str(error))
            return
        for (sequence,), expected in (
            periods.unique().partition_by("contents_entry", as_dict=True).items()
        ):
            path = history_path(int(str(sequence)), CONTENTS_FILE)
            if path in self._damaged or not self._storage.exists(path):
                if path not in self._damaged:
                    yield Damage(path, "it is not there")
                continue
            with open_sealed(self._storage, path) as file:
                there = pl.DataFrame(file.read(columns=["nct_id", "content_hash"]))
            lost = expected.join(there, on=["nct_id", "content_hash"], how="anti")
            if lost.height:
                yield Damage(path, f"{lost.height} contents of the index are not in it")

    def _of_snapshots(self) -> Iterator[Damage]:
        known = {entry.sequence for entry, _ in self._history.with_withdrawn()}
        for manifest in self._snapshots.manifests():
            path = snapshot_path(manifest.snapshot_id, "manifest.json")
            if manifest.history_sequence not in known:
                yield Damage(
                    history_path(manifest.history_sequence, "entry.json"),
                    f"snapshot {manifest.snapshot_id} was made from it, and it is not there",
                )
            for place, part in enumerate(manifest.parts):
                names = [STUDIES_FILE, EXTRAS_FILE, QUARANTINE_FILE]
                for name in names + ([REPLACED_FILE] if place else []):
                    file = snapshot_path(part, name)
                    if file not in self._damaged and not self._storage.exists(file):
                        yield Damage(file, "it is not there")
            if self._damaged & {
                file for part in manifest.parts for file in self._storage.files(f"snapshots/{part}")
            }:
                continue
            rows = sum(
                rows.num_rows
                for rows in self._snapshots.batches(manifest.snapshot_id, ["nct_id"], row_groups=50)
            )
            if rows != manifest.studies:
                yield Damage(path, f"it speaks of {manifest.studies} studies, and {rows} are there")
