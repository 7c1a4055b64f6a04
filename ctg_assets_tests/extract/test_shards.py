"""Page shards: the bytes, the facts beside them, and which pages are there."""

from __future__ import annotations

from datetime import date

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.extract.shards import SHARD_SCHEMA, ShardStore, empty_shard, first_missing_page
from ctg_assets.model.identity import identify
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets_tests.support.made_lakes import memory_storage, plan, shard_info, study

STUDIES = [
    study("NCT00000002", "2026-03-15", "Ein Titel mit Ümlauten"),
    b'{ "no id" :\n\t1e3 }',
    b"not even JSON \xff\x00",
    study("NCT00000001", None),
]


def test_a_shard_reads_back(any_storage: Storage) -> None:
    """The studies' bytes, their order and all facts are as they were given; counts are filled in."""
    shards = ShardStore(any_storage)
    info = shard_info(
        "x", 7, token="t", next_token="u", request={"pageSize": "4", "pageToken": "t"}, seconds=1.25
    )
    written = shards.write(info, STUDIES)
    assert (written.studies, written.json_bytes) == (4, sum(map(len, STUDIES)))
    assert shards.info("x", 7) == written
    assert (written.token, written.next_token, written.fetched_at) == ("t", "u", info.fetched_at)
    table = shards.read("x", 7)
    assert table.schema.equals(SHARD_SCHEMA)
    assert table["study"].to_pylist() == STUDIES
    assert table["nct_id"].to_pylist() == ["NCT00000002", None, None, "NCT00000001"]
    assert table["last_update_post_date"].to_pylist() == [date(2026, 3, 15), None, None, None]
    assert table["content_hash"].to_pylist() == [identify(raw).content_hash for raw in STUDIES]
    assert shards.read("x", 7, ["nct_id"]).column_names == ["nct_id"]
    assert shards.file_size("x", 7) > 0


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_any_bytes_come_back(studies: list[bytes]) -> None:
    """A shard keeps whatever the registry sent, JSON or not."""
    shards = ShardStore(memory_storage())
    written = shards.write(shard_info("x", 1), studies)
    assert shards.read("x", 1)["study"].to_pylist() == studies
    assert (written.studies, written.json_bytes) == (len(studies), sum(map(len, studies)))


def test_an_empty_shard(storage: Storage) -> None:
    """A planned page after the walk's end has no studies, no request and no token."""
    shards = ShardStore(storage)
    written = shards.write(empty_shard(plan("x"), 3), [])
    assert shards.info("x", 3) == written
    assert (written.studies, written.request, written.token, written.next_token) == (
        0,
        None,
        None,
        None,
    )
    assert shards.read("x", 3).num_rows == 0
    assert shards.read("x", 3).schema.equals(SHARD_SCHEMA)


def test_which_pages_are_there(any_storage: Storage) -> None:
    """Pages are listed by number, also beyond 99,999; files that are no pages are passed over."""
    shards = ShardStore(any_storage)
    assert shards.pages("x") == []
    for page in (100_000, 2, 11, 1):
        shards.write(shard_info("x", page), [])
    for name in ("00003 (copy).parquet", "._00001.parquet", "notes.txt", "7.parquet"):
        any_storage.write_bytes(f"extractions/x/pages/{name}", b"")
    assert shards.pages("x") == [1, 2, 11, 100_000]
    assert [info.page for info in shards.infos("x")] == [1, 2, 11, 100_000]
    assert shards.pages("y") == []


@given(st.sets(st.integers(1, 12)))
def test_the_first_missing_page(pages: set[int]) -> None:
    """It is the lowest number from 1 on that is not there."""
    missing = first_missing_page(sorted(pages))
    assert missing not in pages
    assert set(range(1, missing)) <= pages


def test_what_killed_writers_left_is_cleaned_away(storage: Storage) -> None:
    """Unfinished files are no pages, and cleaning removes them alone."""
    shards = ShardStore(storage)
    shards.write(shard_info("x", 1), STUDIES)
    storage.write_bytes("extractions/x/pages/.unfinished-0-00002.parquet", b"half")
    assert shards.pages("x") == [1]
    shards.clean("x")
    shards.clean("y")
    assert not storage.exists("extractions/x/pages/.unfinished-0-00002.parquet")
    assert shards.pages("x") == [1]


def test_a_shard_that_is_missing_or_damaged_is_told(storage: Storage) -> None:
    """The failure names the file, so that it can be brought back or deleted."""
    shards = ShardStore(storage)
    with pytest.raises(StorageError, match=r"x/pages/00001\.parquet is damaged: "):
        shards.info("x", 1)
    storage.write_bytes("extractions/x/pages/00001.parquet", b"PAR1 and then nothing PAR1")
    with pytest.raises(StorageError, match=r"00001\.parquet is damaged.*asks the registry"):
        shards.read("x", 1)
    with pytest.raises(StorageError, match=r"00001\.parquet is damaged.*asks the registry"):
        shards.info("x", 1)


def test_pruning_by_id_can_use_statistics(storage: Storage) -> None:
    """The footer knows the range of ids and dates, and holds none for the large columns."""
    shards = ShardStore(storage)
    shards.write(shard_info("x", 1), STUDIES)
    with storage.open_input("extractions/x/pages/00001.parquet") as file:
        group = pq.read_metadata(file).row_group(0)
    statistics = {
        group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)
    }
    assert statistics["nct_id"].min == "NCT00000001"
    assert statistics["last_update_post_date"].max == date(2026, 3, 15)
    assert statistics["study"] is None
