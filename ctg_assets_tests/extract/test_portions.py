"""Rows sorted in portions come out of them in order, and as they were."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.extract.portions import (
    DamagedPortionError,
    Portion,
    PortionRecord,
    PortionStore,
    merging,
    write_portion,
)
from ctg_assets.extract.shards import ShardStore
from ctg_assets.storage.files import Storage
from ctg_assets_tests.support.made_lakes import extraction, shard_info, study

ID = "20261120T090000Z-full-aaaaaa"
SCHEMA = pa.schema([("nct_id", pa.string()), ("value", pa.large_binary())])

Row = tuple[str, bytes]


def _written(file: Path, rows: Sequence[Row], block_rows: int = 2) -> Portion:
    with write_portion(file, SCHEMA) as writer:
        for start in range(0, len(rows), block_rows):
            some = rows[start : start + block_rows]
            columns = [[nct_id for nct_id, _ in some], [value for _, value in some]]
            writer.write(pa.record_batch(columns, schema=SCHEMA))
    return writer.portion


ids = st.integers(0, 30).map(lambda number: f"NCT{number:08d}")
rows_of_portion = st.lists(st.tuples(ids, st.binary(max_size=3)), max_size=8)


@given(
    st.lists(rows_of_portion, max_size=4),
    st.integers(1, 3),
    st.lists(ids, max_size=5).map(sorted),
)
def test_merging_gives_each_row_once(
    dealt: list[list[Row]], block_rows: int, steps: list[str]
) -> None:
    """Each step gives what all portions have up to its id and have not given; the last gives the rest."""
    with tempfile.TemporaryDirectory() as folder:
        portions = [
            _written(Path(folder, f"{number}.arrow"), sorted(rows), block_rows)
            for number, rows in enumerate(dealt)
        ]
        left = sorted(row for rows in dealt for row in rows)
        with merging(portions, SCHEMA) as merged:
            for last_id in [*steps, "NCT99999999"]:
                batches = merged.until(last_id)
                for batch in batches:
                    assert batch["nct_id"].to_pylist() == sorted(batch["nct_id"].to_pylist())
                given_rows = sorted(tuple(row.values()) for b in batches for row in b.to_pylist())
                assert given_rows == [row for row in left if row[0] <= last_id]
                left = [row for row in left if row[0] > last_id]


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: -len(file.read_bytes()) // 2])


@pytest.mark.parametrize("damage", [_flip, _cut, Path.unlink])
def test_a_damaged_portion_is_refused(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """None of its damaged rows is given; it is removed, so that the next try does without it."""
    rows = [(f"NCT{number:08d}", bytes([number]) * 50) for number in range(40)]
    portion = _written(tmp_path / "portion.arrow", rows)
    damage(Path(portion.file))
    given_rows: list[Row] = []
    with (  # noqa: PT012 - rows before the damage may be given
        pytest.raises(DamagedPortionError, match=r"portion\.arrow"),
        merging([portion], SCHEMA) as merged,
    ):
        for nct_id, _ in rows:
            given_rows += [
                tuple(row.values()) for batch in merged.until(nct_id) for row in batch.to_pylist()
            ]
    assert given_rows == rows[: len(given_rows)]
    assert not Path(portion.file).exists()


def _published(scratch: Path, storage: Storage) -> PortionRecord:
    """A record of portions of two pages of an extraction."""
    made = extraction(storage, [[study("NCT00000001")], [study("NCT00000002")]])
    store = PortionStore(scratch)
    with store.new(made.extraction_id) as new:
        written = {}
        for kind in ("studies", "typed", "extras"):
            with new.write(kind, SCHEMA) as writer:
                writer.write(pa.record_batch([["NCT00000001"], [b""]], schema=SCHEMA))
            written[kind] = writer.portion
        record = PortionRecord(
            pages=list(ShardStore(storage).infos(ID)), typed_by="model", **written
        )
        new.publish(record)
    return record


def _another_page(record: PortionRecord, scratch: Path, storage: Storage) -> None:
    ShardStore(storage).write(shard_info(ID, 2, seconds=2.0), [study("NCT00000002", title="new")])


def _no_page(record: PortionRecord, scratch: Path, storage: Storage) -> None:
    storage.delete_file(f"extractions/{ID}/pages/00002.parquet")


def _no_file(record: PortionRecord, scratch: Path, storage: Storage) -> None:
    Path(record.typed.file).unlink()


def _other_record(record: PortionRecord, scratch: Path, storage: Storage) -> None:
    [file] = scratch.glob("*/*.json")
    _flip(file)


def test_portions_are_found_again(tmp_path: Path, storage: Storage) -> None:
    """Until they are removed."""
    record = _published(tmp_path, storage)
    store = PortionStore(tmp_path)
    assert store.extractions() == [ID]
    assert store.records(ID, ShardStore(storage)) == [record]
    store.remove(ID)
    assert store.extractions() == []
    assert store.records(ID, ShardStore(storage)) == []
    store.remove(ID)


def test_no_page_is_in_two_portions(tmp_path: Path, storage: Storage) -> None:
    """Of portions that two processes made of the same pages, one counts."""
    record = _published(tmp_path, storage)
    store = PortionStore(tmp_path)
    with store.new(ID) as new:
        new.publish(record)
    assert store.records(ID, ShardStore(storage)) == [record]


def test_portions_that_fail_leave_no_files(tmp_path: Path) -> None:
    """What was written until then is removed."""
    with pytest.raises(RuntimeError), PortionStore(tmp_path).new(ID) as new:  # noqa: PT012
        with new.write("typed", SCHEMA):
            pass
        raise RuntimeError
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.parametrize("change", [_another_page, _no_page, _no_file, _other_record])
def test_portions_count_only_for_the_pages_they_were_made_of(
    tmp_path: Path, storage: Storage, change: Callable[[PortionRecord, Path, Storage], None]
) -> None:
    """Neither when a page was fetched again or is gone, nor when a file is gone or the record damaged."""
    change(_published(tmp_path, storage), tmp_path, storage)
    assert PortionStore(tmp_path).records(ID, ShardStore(storage)) == []
