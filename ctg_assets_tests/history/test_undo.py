"""Entries taken back: the history is as if they had never been, whatever came before and after."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from polars.testing import assert_frame_equal

from ctg_assets.extract.extractions import ExtractionMode, ExtractionState, ExtractionStore
from ctg_assets.history.recording import UndoneExtractionError
from ctg_assets.history.store import HistoryStore
from ctg_assets.history.undo import Undoer, UndoError
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets_tests.history.histories import Chronicler
from ctg_assets_tests.history.undone import AUTHOR, History, Step, Undo, steps, told
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.made_lakes import kill_at_signal, memory_storage, study

ONE, TWO, THREE = (f"NCT0000000{digit}" for digit in range(1, 4))


@pytest.mark.soak
@settings(max_examples=times(8, 100), deadline=None)
@given(steps)
def test_any_sequence_is_as_without_what_was_undone(drawn: list[Step | Undo]) -> None:
    """Periods, changes, their fields and events, contents: all as if it had never been.

    Drawn: up to eleven steps over nine days and five studies, one of them without an id: imports, dated
    by themselves or not, of any time; whole walks and censuses, of another scope now and then, counted
    right or not, with every reason of what they miss; incremental walks and picked studies; and undos of
    any entry at any point, also of what was recorded once more. Numbers only go up.
    """
    with tempfile.TemporaryDirectory() as scratch:
        made = History(memory_storage(), Path(scratch))
        store = made.lake.history
        numbers: dict[int, tuple[Any, ...]] = {}
        sequences = [0]
        for step in drawn:
            if isinstance(step, Undo):
                entry = made.chosen(step)
                if entry is None:
                    continue
                preview = made.undoer.preview(entry.sequence)
                current = made.lake.current()
                made.undo(entry.sequence)
                now = made.lake.current()
                assert preview.studies == len(now)
                assert preview.added == len(now.keys() - current.keys())
                assert preview.removed == len(current.keys() - now.keys())
                assert preview.changed == sum(
                    now[nct_id] != current[nct_id] for nct_id in now.keys() & current.keys()
                )
                with pytest.raises(UndoError, match=f"entry {entry.sequence} was undone already"):
                    made.undoer.scope(entry.sequence)
            else:
                sequences.append(made.record(step).sequence)
            _check_numbers(store, numbers)
        assert sequences == sorted(set(sequences))
        other = made.without(memory_storage(), Path(scratch))
        assert told(made.lake) == told(other.lake)
        for entry in store.entries():
            made.lake.storage.delete_file(f"history/{entry.sequence:06d}/periods.parquet")
        index = ["nct_id", "valid_from", "content_hash", "last_observed_at", "version_number"]
        assert_frame_equal(
            store.periods(index), other.lake.history.periods(index), check_row_order=True
        )


def _check_numbers(store: HistoryStore, known: dict[int, tuple[Any, ...]]) -> None:
    """A number stands for one change, for ever; whatever is new has a number above all before."""
    newest = max(known, default=0)
    facts = ["change_seq", "nct_id", "kind", "old_content_hash", "new_content_hash"]
    found: dict[int, tuple[Any, ...]] = {}
    for entry in store.entries():
        for number, *facts_of in store.changes(entry.sequence).select(facts).rows():
            assert number not in found
            assert any(first <= number < after for first, after in entry.numbers)
            found[number] = tuple(facts_of)
    for undo in store.undos():
        for number, nct_id, undone in (
            store.undone_changes(undo.undo_id)
            .select("change_seq", "nct_id", "undone_change_seq")
            .rows()
        ):
            assert number not in found
            assert known[undone][0] == nct_id
            found[number] = (nct_id, undone)
    for number, rest in found.items():
        assert known.get(number, rest) == rest
        assert number in known or number > newest
    known.update(found)
    assert store.next_change_seq() > max(known, default=0)


# --- one by one -----------------------------------------------------------------------------------


@pytest.fixture
def lake(storage: Storage, tmp_path: Path) -> Chronicler:
    """A lake without history."""
    return Chronicler(storage, tmp_path / "scratch")


def _mistaken(lake: Chronicler) -> None:
    """Entry 2 is an import that is a mistake; entries 1, 3 and 4 are walks, 5 an import."""
    lake.record(1, study(ONE, title="a"), study(TWO, title="a"))
    lake.record(2, study(ONE, title="wrong"), study(THREE), mode=ExtractionMode.IMPORT)
    lake.record(3, study(ONE, title="a"), study(TWO, title="a"), study(THREE))
    lake.record(4, study(ONE, title="b"), study(TWO, title="b"))
    lake.record(1, study(TWO, title="older"), mode=ExtractionMode.IMPORT)


def test_an_import_in_the_midst_is_taken_back(lake: Chronicler) -> None:
    """What came later is recorded once more; changes that are as they were keep their numbers."""
    _mistaken(lake)
    before = lake.all_changes()
    undoer = Undoer(lake.storage)
    record, consequences = undoer.undo(2, AUTHOR)
    assert [entry.sequence for entry in lake.history.entries()] == [1, 6, 7, 8]
    assert (record.undone, record.replayed) == ([2], {3: 6, 4: 7, 5: 8})
    assert (record.user, record.reason) == ("tester", "a test")
    after = lake.all_changes()
    of_two = pl.col("nct_id") == TWO
    assert_frame_equal(
        before.filter(of_two), after.filter(of_two).sort("change_seq"), check_row_order=False
    )
    assert after.filter(pl.col("nct_id") == ONE)["kind"].to_list() == ["insert", "update"]
    newest = before["change_seq"].max()
    assert isinstance(newest, int)
    changed = after.filter((pl.col("nct_id") != TWO) & (pl.col("change_seq") > 2))
    assert changed["change_seq"].to_list() == list(range(newest + 1, newest + 1 + changed.height))
    undone = lake.history.undone_changes(record.undo_id)
    gone = set(before["change_seq"]) - set(after["change_seq"])
    assert set(undone["undone_change_seq"]) == gone
    assert consequences.withdrawn == len(gone)
    with pytest.raises(UndoError, match="entry 3 was recorded once more as entry 6"):
        undoer.undo(3, AUTHOR)
    with pytest.raises(UndoError, match="there is no entry 9"):
        undoer.undo(9, AUTHOR)


def test_a_walk_is_taken_back_with_all_after_it(lake: Chronicler) -> None:
    """Also where the index before it is long gone; the walk's extraction is given up."""
    _mistaken(lake)
    _, consequences = Undoer(lake.storage).undo(3, AUTHOR)
    assert [entry.sequence for entry in consequences.scope.undone] == [3, 4, 5]
    assert [entry.sequence for entry in lake.history.entries()] == [1, 2]
    path = lake.history.periods_path()
    assert path == lake.storage.path("history/000002/periods.parquet")
    assert lake.storage.exists("history/000002/periods.parquet")
    extractions = ExtractionStore(lake.storage)
    assert extractions.state("0003") is ExtractionState.SUPERSEDED
    assert extractions.state("0002") is ExtractionState.COMPLETE
    assert lake.record(5, study(ONE)).sequence == 6


def test_all_can_be_taken_back(lake: Chronicler) -> None:
    """Numbers go on where they were, though nothing is left."""
    entry = lake.record(1, study(ONE), study(TWO), mode=ExtractionMode.IMPORT)
    Undoer(lake.storage).undo(1, AUTHOR)
    assert lake.history.latest() is None
    assert lake.history.periods().is_empty()
    again = lake.record(1, study(ONE))
    assert again.sequence == 2
    assert again.first_change_seq == entry.next_change_seq + 2


def test_what_earlier_releases_recorded_stays(lake: Chronicler) -> None:
    """They did not keep what is needed: it is said, and nothing happens."""
    _mistaken(lake)
    lake.storage.delete_file("history/000003/seen.parquet")
    with pytest.raises(UndoError, match="entry 3 was recorded by an earlier release"):
        Undoer(lake.storage).undo(2, AUTHOR)
    Undoer(lake.storage).undo(5, AUTHOR)


@pytest.mark.slow
def test_contents_are_kept_until_pruned(lake: Chronicler) -> None:
    """Pruning removes them, and nothing that the history or its entries need."""
    _mistaken(lake)
    record, _ = Undoer(lake.storage).undo(2, AUTHOR)
    known = told(lake)
    assert lake.history.keeps_contents(2)
    assert lake.history.prune_withdrawn(record.undone_at) == []
    assert lake.history.prune_withdrawn(record.undone_at + timedelta(seconds=1)) == [2, 3, 4, 5]
    assert not lake.history.keeps_contents(2)
    assert told(lake) == known
    assert len(lake.history.with_withdrawn()) == 8
    assert lake.record(9, study(ONE)).sequence == 9


class _Breaking(Storage):
    """Storage whose disk is full after some files."""

    left = 0

    @contextlib.contextmanager
    def publish(self, relative: str, *, create: bool = False) -> Iterator[Any]:
        if self.left == 0:
            message = "the disk is full"
            raise StorageError(message)
        self.left -= 1
        with super().publish(relative, create=create) as stream:
            yield stream


@pytest.mark.slow
def test_an_undo_that_breaks_off_has_happened_or_not(tmp_path: Path) -> None:
    """At each file that it writes: before its record all is as it was, after it all is done.

    Undoing again, or recording, clears away what was left.
    """
    folder = tmp_path / "lake"
    _mistaken(Chronicler(Storage.local(folder), tmp_path))
    files = 0
    is_done = False
    while not is_done:
        copy = tmp_path / f"copy {files}"
        shutil.copytree(folder, copy)
        plain = Chronicler(Storage.local(copy), tmp_path)
        known = told(plain)
        breaking = _Breaking(Storage.local(copy).backend)
        breaking.left = files
        try:
            Undoer(breaking).undo(2, AUTHOR)
            is_done = True
        except StorageError:
            if not plain.history.undos():
                assert told(plain) == known
                Undoer(plain.storage).undo(2, AUTHOR)
        Undoer(plain.storage).finish()
        assert [entry.sequence for entry in plain.history.entries()] == [1, 6, 7, 8]
        assert len(plain.storage.names("history")) == 9
        assert len(plain.storage.names("history/undone")) == 2
        assert ExtractionStore(plain.storage).state("0002") is ExtractionState.SUPERSEDED
        shutil.rmtree(copy)
        files += 3  # each kind of file comes often enough
    assert files > 20


KILLED_UNDO = """
import sys
from pathlib import Path
from ctg_assets.history.store import HistoryStore
from ctg_assets.history.recording import UndoneExtractionError
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets.history.undo import Author, Undoer

def wait(*_):
    print("ready", flush=True)
    sys.stdin.read()

if sys.argv[2] == "before":
    HistoryStore.commit_undo = wait
else:
    Undoer.finish = wait
Undoer(Storage.local(Path(sys.argv[1]))).undo(2, Author("x", "x", "x"))
"""


@pytest.mark.process
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_killed_undo_has_happened_or_not(tmp_path: Path, place: str) -> None:
    """After kill -9 the history is as before, or as it should be; recording goes on either way."""
    folder = tmp_path / "läke"
    lake = Chronicler(Storage.local(folder), tmp_path / "scratch")
    _mistaken(lake)
    kill_at_signal(KILLED_UNDO, str(folder), place)
    counted = [entry.sequence for entry in lake.history.entries()]
    assert counted == ([1, 2, 3, 4, 5] if place == "before" else [1, 6, 7, 8])
    assert lake.record(6, study(ONE)).sequence == (6 if place == "before" else 9)
    if place == "after":
        with pytest.raises(UndoneExtractionError):
            lake.recorder.record("0002")
