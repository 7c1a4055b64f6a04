"""The history's files: entries in order, contents found again, indexes that are overtaken."""

from __future__ import annotations

import tempfile
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from ctg_assets.history import store as history
from ctg_assets.history.schemas import (
    CHANGES_FILE,
    FIELD_CHANGES_FILE,
    FIELD_CHANGES_SCHEMA,
    PERIODS_SCHEMA,
    TYPED_EVENTS_FILE,
    TYPED_EVENTS_SCHEMA,
)
from ctg_assets.history.store import HistoryStore, IndexLostError
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets.storage.object_client import ObjectClient, StoredObject
from ctg_assets_tests.history.histories import Chronicler, hash_of
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.made_lakes import memory_storage, study
from ctg_assets_tests.support.object_store import object_storage

_KEYS = ("nct_id", "content_hash", "contents_entry")


def test_an_empty_history(any_storage: Storage) -> None:
    """Nothing is there, and asking for it fails nowhere."""
    store = HistoryStore(any_storage)
    assert store.entries() == store.since(0) == []
    assert store.latest() is None
    assert store.entry_of("x") is None
    assert store.periods_path() is None
    assert store.periods().is_empty()
    assert store.periods().columns == PERIODS_SCHEMA.names


def test_entries_are_found(any_storage: Storage, tmp_path: Path) -> None:
    """By order, by number and by the extraction that they record."""
    lake = Chronicler(any_storage, tmp_path)
    entries = [lake.record(day, study("NCT00000001", title=str(day))) for day in range(1, 4)]
    store = HistoryStore(any_storage)
    assert store.entries() == store.since(0) == entries
    assert store.since(1) == entries[1:]
    assert store.since(3) == []
    assert store.latest() == store.entry_of("0003") == entries[2]
    assert store.entry_of("0001") == entries[0]
    assert store.entry_of("0004") is None


class _Counting(ObjectClient):
    """Requests to an object store, counted."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), f"memory://{uuid.uuid4().hex}")
        self.asked: Counter[str] = Counter()

    def get(self, key: str) -> tuple[bytes, StoredObject]:
        """Get, and count."""
        self.asked["get"] += 1
        return super().get(key)

    def names(self, folder: str) -> list[str]:
        """List, and count."""
        self.asked["list"] += 1
        return super().names(folder)


def test_entries_are_asked_for_once_where_each_is_a_request(tmp_path: Path) -> None:
    """In an object store a process reads each entry once, however often it asks, and sees new ones."""
    client = _Counting()
    lake = Chronicler(object_storage(tmp_path, client), tmp_path)
    entries = [lake.record(day, study("NCT00000001", title=str(day))) for day in range(1, 6)]
    client.asked.clear()
    store = HistoryStore(object_storage(tmp_path, client))
    for _ in range(3):
        assert store.entries() == entries
        assert store.entry_of("nowhere") is None
    assert client.asked == {"list": 12}
    entries.append(lake.record(6, study("NCT00000001", title="6")))
    assert store.entries() == entries


def test_entries_are_in_the_order_of_their_numbers(storage: Storage, tmp_path: Path) -> None:
    """The tenth comes after the ninth, however they are spelled."""
    lake = Chronicler(storage, tmp_path)
    for day in range(1, 13):
        lake.record(day, study("NCT00000001"))
    assert [entry.sequence for entry in lake.history.entries()] == list(range(1, 13))
    assert [entry.sequence for entry in lake.history.since(9)] == [10, 11, 12]


def test_an_index_that_is_overtaken_goes(storage: Storage, tmp_path: Path) -> None:
    """The newest one stays, and the one before it for whoever reads it; contents all stay."""
    lake = Chronicler(storage, tmp_path)
    for day in range(1, 6):
        lake.record(day, study("NCT00000001", title=str(day)))
    names = {n: storage.names(f"history/{n:06d}") for n in range(1, 6)}
    assert [n for n, files in names.items() if "periods.parquet" in files] == [4, 5]
    assert all("contents.parquet" in files for files in names.values())
    path = lake.history.periods_path()
    assert path == storage.path("history/000005/periods.parquet")
    assert lake.history.periods().height == 5


def test_an_index_is_derived_where_it_is_missing(storage: Storage, tmp_path: Path) -> None:
    """From the nearest older one that can be read, or from the beginning."""
    lake = Chronicler(storage, tmp_path)
    for day in range(1, 6):
        lake.record(day, study("NCT00000001", title=str(day)), study("NCT00000002"))
    index = lake.history.periods()
    storage.delete_file("history/000005/periods.parquet")
    assert lake.history.periods().equals(index)
    assert lake.history.periods(["nct_id", "valid_to"]).equals(index.select("nct_id", "valid_to"))
    storage.write_bytes("history/000004/periods.parquet", b"PAR1 garbled PAR1")
    assert lake.history.periods().equals(index)
    assert lake.history.derived_periods(2).height == 3


def test_an_index_that_cannot_be_derived_stays(storage: Storage, tmp_path: Path) -> None:
    """Entries of earlier releases did not say what they did: the last one's index is the beginning."""
    lake = Chronicler(storage, tmp_path)
    for day in range(1, 4):
        lake.record(day, study("NCT00000001", title=str(day)))
    for sequence in (1, 2, 3):
        storage.delete_file(f"history/{sequence:06d}/seen.parquet")
    for day in range(4, 8):
        lake.record(day, study("NCT00000001", title=str(day)))
    kept = [n for n in range(1, 8) if storage.exists(f"history/{n:06d}/periods.parquet")]
    assert kept == [3, 6, 7]
    index = lake.history.periods()
    storage.delete_file("history/000007/periods.parquet")
    storage.delete_file("history/000006/periods.parquet")
    assert lake.history.periods().equals(index)
    storage.delete_file("history/000003/periods.parquet")
    with pytest.raises(IndexLostError, match="entry 3 was recorded by an earlier release"):
        lake.history.periods()


def test_without_its_last_file_there_is_no_entry(storage: Storage, tmp_path: Path) -> None:
    """A folder that a killed writer left is passed over, and cleared away before it is written again."""
    lake = Chronicler(storage, tmp_path)
    first = lake.record(1, study("NCT00000001"))
    lake.record(2, study("NCT00000001", title="B"))
    storage.delete_file("history/000002/entry.json")
    assert lake.history.entries() == [first]
    assert lake.history.latest() == first
    assert lake.history.periods().height == 1
    lake.history.clean()
    assert storage.names("history") == ["000001"]


def test_columns_of_the_index_can_be_chosen(storage: Storage, tmp_path: Path) -> None:
    """Only those asked for are read."""
    lake = Chronicler(storage, tmp_path)
    lake.record(1, study("NCT00000001"))
    assert lake.history.periods(["nct_id", "valid_to"]).rows() == [("NCT00000001", None)]


def test_files_are_read_in_pieces(storage: Storage, tmp_path: Path) -> None:
    """An entry's tables come with their schemas, whether there is anything in them or not."""
    lake = Chronicler(storage, tmp_path)
    lake.record(1, study("NCT00000001"))
    lake.record(2, study("NCT00000001", title="B"))
    for name, schema, expected in (
        (FIELD_CHANGES_FILE, FIELD_CHANGES_SCHEMA, [0, 1]),
        (TYPED_EVENTS_FILE, TYPED_EVENTS_SCHEMA, [0, 0]),
    ):
        for sequence, rows in enumerate(expected, start=1):
            tables = list(lake.history.tables(sequence, name))
            assert sum(table.num_rows for table in tables) == rows
            assert all(table.schema.equals(schema) for table in tables)
    [changes] = lake.history.tables(1, CHANGES_FILE)
    assert changes["kind"].to_pylist() == ["insert"]


# --- contents -------------------------------------------------------------------------------------

_numbers = st.integers(0, 30)
_entries = st.lists(
    st.dictionaries(_numbers, st.sampled_from("abc"), min_size=1, max_size=25),
    min_size=1,
    max_size=4,
)


def _study(number: int, title: str) -> bytes:
    nct_id = f"NCT{number:08d}" if number % 5 else None
    return study(nct_id, title=f"{title} {number}")


@pytest.mark.soak
@settings(max_examples=times(12, 40), deadline=None)
@given(_entries, st.integers(1, 5), st.integers(1, 40), st.data())
def test_contents_are_found_wherever_they_lie(
    entries: list[dict[int, str]], group_rows: int, rows_at_a_time: int, data: Any
) -> None:
    """Any choice of contents comes in its order with what else it says, from many entries and row groups."""
    by_hash: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "_CONTENTS_ROW_GROUP_ROWS", group_rows)
        lake = Chronicler(memory_storage(), Path(scratch))
        for day, contents in enumerate(entries, start=1):
            studies = [_study(number, title) for number, title in contents.items()]
            by_hash |= {hash_of(raw): raw for raw in studies}
            lake.record(day, *studies)
        known = lake.history.periods().select(_KEYS).unique().sort("nct_id", "content_hash")
        assert set(known["content_hash"]) == set(by_hash)
        places = data.draw(st.lists(st.integers(0, known.height - 1), unique=True).map(sorted))
        wanted = known[places].with_columns(mark=pl.int_range(pl.len()))
        found = list(lake.history.contents(wanted, rows_at_a_time))
    assert [rows.num_rows for rows in found[:-1]] == [rows_at_a_time] * (len(found) - 1)
    rows = [row for table in found for row in table.to_pylist()]
    assert [row["mark"] for row in rows] == list(range(wanted.height))
    assert [row["content_hash"] for row in rows] == wanted["content_hash"].to_list()
    assert [row["study"] for row in rows] == [by_hash[row["content_hash"]] for row in rows]


def test_contents_that_are_lost_are_missed(storage: Storage, tmp_path: Path) -> None:
    """What the index names and the files do not hold is an error, not a study less."""
    lake = Chronicler(storage, tmp_path)
    lake.record(1, study("NCT00000001"))
    lake.record(2, study("NCT00000001", title="B"))
    wanted = lake.history.periods().select(_KEYS).with_columns(contents_entry=1)
    with pytest.raises(
        StorageError, match=r"1 contents of the history are not in its files.*backup"
    ):
        list(lake.history.contents(wanted.cast({"contents_entry": pl.Int32}), 10))
