"""Entries taken back: the history is as if they had never been, whatever came before and after."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ctg_assets.lake.extractions import ExtractionMode, ExtractionState, ExtractionStore
from ctg_assets.lake.history import HistoryStore
from ctg_assets.lake.storage import Storage
from ctg_assets.lake.undoing import Undoer, UndoError
from ctg_assets_tests.lake.helpers import memory_storage, study
from ctg_assets_tests.lake.histories import Chronicler
from ctg_assets_tests.lake.undone import AUTHOR, History, Step, Undo, steps, told

ONE, TWO, THREE = (f"NCT0000000{digit}" for digit in range(1, 4))


class Follower:
    """Somebody who is told of every change in the order of its number, once, and keeps what is there."""

    def __init__(self, history: HistoryStore) -> None:
        self.history = history
        self.position = 0
        self.there: dict[str, str] = {}

    def follow(self) -> None:
        """Take what is new."""
        for number, nct_id, content_hash in self._news():
            assert number > self.position
            self.position = number
            if content_hash is None:
                self.there.pop(nct_id, None)
            else:
                self.there[nct_id] = content_hash

    def _news(self) -> list[tuple[int, str, str | None]]:
        news = [
            self.history.changes(entry.sequence).filter(~pl.col("is_backfill"))
            for entry in self.history.entries()
        ]
        news += [self.history.undone_changes(undo.undo_id) for undo in self.history.undos()]
        columns = ["change_seq", "nct_id", "new_content_hash"]
        rows = [row for frame in news for row in frame.select(columns).rows()]
        return sorted(row for row in rows if row[0] > self.position)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_any_sequence_is_as_without_what_was_undone(drawn: list[Step | Undo]) -> None:
    """Periods, changes, their fields and events, contents: all as if it had never been.

    Drawn: up to eleven steps over nine days and five studies, one of them without an id: imports, dated
    by themselves or not, of any time; whole walks and censuses, of another scope now and then, counted
    right or not, with every fate of what they miss; incremental walks and picked studies; and undos of
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
                heads = made.lake.current()
                made.undo(entry.sequence)
                now = made.lake.current()
                assert preview.studies == len(now)
                assert preview.added == len(now.keys() - heads.keys())
                assert preview.removed == len(heads.keys() - now.keys())
                assert preview.changed == sum(
                    now[nct_id] != heads[nct_id] for nct_id in now.keys() & heads.keys()
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
        for number, *rest in store.changes(entry.sequence).select(facts).rows():
            assert number not in found
            assert any(first <= number < after for first, after in entry.numbers)
            found[number] = tuple(rest)
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
