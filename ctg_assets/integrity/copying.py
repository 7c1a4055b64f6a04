"""Copies of a lake, made while others work on it: for a backup, and back from one.

Nothing is locked in the lake that is read. A copy is whole because what depends on something is looked at
before that: an undo before the entries of the history that it had recorded once more, an entry before
its files, entries before the extractions that they lack. What is published meanwhile is not taken
along. What is removed meanwhile (pruned, overtaken) may be missing from the copy; `verify` tells, and a
second copy has it.

The copy is written in the order in which a lake is, what depends on something last, so that it is a
whole lake at any moment, also when it is killed while it brings an earlier copy up to date.

What is derived is left out: snapshots, and shards of extractions that the history has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ctg_assets.extract.extractions import ExtractionState, ExtractionStore
from ctg_assets.history.entry_files import HISTORY_FOLDER, entry_folder
from ctg_assets.history.store import HistoryStore
from ctg_assets.storage.files import Storage, StorageError

# What each data version left behind, and WHO's releases, each with its record last; nothing else depends on them.
_OTHER_FOLDERS = ("registries", "searches", "mesh", "who")


class OtherHistoryError(StorageError):
    """A copy would overwrite a history that is not an earlier state of the one that is copied."""


@dataclass
class Copied:
    """What a copy took: files written with their bytes, and files that were there already."""

    files: int = 0
    file_bytes: int = 0
    kept: int = 0


def copy_lake(source: Storage, target: Storage) -> Copied:
    """Copy a lake, or bring a copy of it up to date.

    Raises OtherHistoryError, before anything is written, when `target` has entries that `source` does not
    have, and StorageError when files cannot be read or written.
    """
    return _Copy(source, target).copy()


class _Copy:
    def __init__(self, source: Storage, target: Storage) -> None:
        self._source = source
        self._target = target
        self._copied = Copied()
        self._needless: list[str] = []

    def copy(self) -> Copied:
        history = HistoryStore(self._source)
        undos = history.undos()
        told = history.with_withdrawn()
        # An undo that came between the two lines: neither it nor what it had recorded once more.
        known = {undo.undo_id for undo in undos}
        entries = [entry for entry, _ in told if entry.undo is None or entry.undo in known]
        self._require_earlier_state({entry.sequence: entry for entry in entries})
        for entry in entries:
            self._copy_folder(entry_folder(entry.sequence), last="entry.json")
        for undo in undos:
            for kind in ("parquet", "json"):
                self._copy_file(f"{HISTORY_FOLDER}/undone/{undo.undo_id}.{kind}")
        for folder in _OTHER_FOLDERS:
            self._copy_folder(folder)
        wanted = self._copy_extractions({entry.extraction_id for entry in entries})
        self._remove_needless(wanted)
        return self._copied

    def _require_earlier_state(self, entries: dict[int, object]) -> None:
        for there, _ in HistoryStore(self._target).with_withdrawn():
            if entries.get(there.sequence) != there:
                message = (
                    f"{self._target.root} holds a history that is no earlier state of the one in "
                    f"{self._source.root}: entry {there.sequence}, of {there.extraction_id}. Nothing was "
                    "copied; name another folder, or move that one away"
                )
                raise OtherHistoryError(message)

    def _copy_extractions(self, recorded: set[str]) -> set[str]:
        """Copy those that the history lacks; returns their ids."""
        extractions = ExtractionStore(self._source)
        wanted = set()
        for extraction_id in self._source.names("extractions"):
            folder = f"extractions/{extraction_id}"
            # Read before the pages: what is complete has them all.
            records = self._records(folder)
            if extraction_id in recorded or f"{folder}/plan.json" not in records:
                continue
            if extractions.state(extraction_id) is ExtractionState.SUPERSEDED:
                continue
            wanted.add(extraction_id)
            self._copy_files(self._source.files(f"{folder}/pages"))
            # As they are created: the ids, the plan, the end.
            for path in sorted(records, key=lambda path: (path.endswith("complete.json"), path)):
                self._write(path, records[path])
        return wanted

    def _copy_folder(self, folder: str, last: str = "") -> None:
        """Copy a folder, its records as they were before the other files were looked at, and `last` last."""
        records = self._records(folder)
        paths = self._source.files(folder)
        self._copy_files(
            path for path in paths if path not in records and not path.endswith(".json")
        )
        for path in sorted(records, key=lambda path: (path.endswith(f"/{last}"), path)):
            self._write(path, records[path])
        there = {*paths, *records}
        self._needless += [path for path in self._target.files(folder) if path not in there]

    def _records(self, folder: str) -> dict[str, bytes]:
        records = {}
        for path in self._source.files(folder):
            if path.endswith(".json"):
                try:
                    records[path] = self._source.read_bytes(path)
                except FileNotFoundError:
                    continue  # another process removed it meanwhile
        return records

    def _copy_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._copy_file(path)

    def _copy_file(self, path: str) -> None:
        """Copy a file, unless it is there as it is: files are replaced as a whole, so by newer ones."""
        if self._is_there(path):
            self._copied.kept += 1
            return
        try:
            self._copied.file_bytes += self._source.copy_to(self._target, path)
        except StorageError:
            if self._source.exists(path):
                raise
            return  # another process removed it meanwhile
        self._copied.files += 1

    def _is_there(self, path: str) -> bool:
        if not self._target.exists(path) or not self._source.exists(path):
            return False
        return self._target.size(path) == self._source.size(path) and (
            self._target.modified(path) >= self._source.modified(path)
        )

    def _write(self, path: str, content: bytes) -> None:
        if self._target.exists(path) and self._target.read_bytes(path) == content:
            self._copied.kept += 1
            return
        self._target.write_bytes(path, content)
        self._copied.files += 1
        self._copied.file_bytes += len(content)

    def _remove_needless(self, wanted: set[str]) -> None:
        for path in self._needless:
            self._target.delete_file(path)
        there = ExtractionStore(self._target)
        for extraction_id in self._target.names("extractions"):
            if extraction_id not in wanted:
                there.delete(extraction_id)
