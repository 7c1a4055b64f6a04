"""What is sorted and typed while a crawl goes on makes no difference but in time."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.extract import external_sort
from ctg_assets.extract.extractions import ExtractionStore
from ctg_assets.extract.portions import DamagedPortionError, PortionStore
from ctg_assets.extract.shards import ShardStore
from ctg_assets.history.recording import Recorder
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot import compaction, typing_ahead
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotStore
from ctg_assets.snapshot.typed_contents import TypedContents, type_contents
from ctg_assets.storage.files import Storage
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.made_lakes import (
    extraction,
    in_pages,
    kill_at_signal,
    memory_storage,
    small_studies,
    study,
)

ID = "20261120T090000Z-full-aaaaaa"


def _type_ahead(storage: Storage, scratch: Path, pages: Iterable[int]) -> None:
    """Tell of some pages of the extraction, as a crawl does."""
    shards = ShardStore(storage)
    with typing_ahead.typing_ahead(storage, scratch, ID) as ahead:
        assert ahead is not None
        for page in pages:
            ahead.add(shards.info(ID, page))


def _outcome(storage: Storage, scratch: Path) -> list[object]:
    """The history's contents and the snapshot that a compaction makes, with all that is told of it."""
    manifest = Compactor(storage, scratch).compact(ID)
    store = SnapshotStore(storage)
    facts = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    del facts["created_at"], facts["file_bytes"]
    history = Recorder(storage, scratch)._history
    contents = [row for rows in history.tables(1, "contents.parquet") for row in rows.to_pylist()]
    assert list(scratch.iterdir()) == []
    return [
        facts,
        contents,
        [row for batch in store.batches(ID) for row in batch.to_pylist()],
        [row for part in store.extras(ID) for row in part.to_pylist()],
        store.quarantine(ID, with_studies=True).to_pylist(),
    ]


@settings(max_examples=times(30, 300), deadline=None)
@given(
    st.lists(small_studies, min_size=1, max_size=12),
    st.integers(1, 5),
    st.sets(st.integers(1, 12)),
    st.integers(1, 3),
    st.sampled_from([1, 400]),
)
def test_it_makes_no_difference(
    studies: list[bytes], page_size: int, pages: set[int], group_rows: int, portion_bytes: int
) -> None:
    """Whichever pages were typed ahead: odd studies, unknown fields and studies sent twice included."""
    dealt = in_pages(studies, page_size)
    found = []
    for known in ([], [page for page in sorted(pages) if page <= len(dealt)]):
        storage = memory_storage()
        extraction(storage, dealt)
        with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
            patch.setattr(typing_ahead, "_PORTION_JSON_BYTES", portion_bytes)
            patch.setattr(external_sort, "_PORTION_JSON_BYTES", 1)
            patch.setattr(compaction, "ROW_GROUP_ROWS", group_rows)
            if known:
                _type_ahead(storage, Path(scratch), known)
            found.append(_outcome(storage, Path(scratch)))
    assert found[0] == found[1]


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page is a portion; blocks and groups are small as well."""
    monkeypatch.setattr(typing_ahead, "_PORTION_JSON_BYTES", 1)
    monkeypatch.setattr(typing_ahead, "_BLOCK_JSON_BYTES", 50_000)
    monkeypatch.setattr(external_sort, "_PORTION_JSON_BYTES", 1)
    monkeypatch.setattr(external_sort, "_BLOCK_JSON_BYTES", 5_000)


def _generated_pages(count: int = 60) -> list[Sequence[bytes]]:
    source = GeneratedSource(count, seed=7)
    # In another order than that of their ids, as a registry sends them.
    return in_pages([source.raw(index * 7 % count) for index in range(count)], 13)


@pytest.mark.usefixtures("small_portions")
def test_all_fields_are_typed_ahead_as_they_are_typed(tmp_path: Path) -> None:
    """Generated studies, which have every field of the model, come out the same."""
    pages = _generated_pages()
    found = []
    for known in (range(0), range(1, len(pages) + 1)):
        storage = memory_storage()
        extraction(storage, pages)
        if known:
            _type_ahead(storage, tmp_path, known)
            assert len(PortionStore(tmp_path).records(ID, ShardStore(storage))) == len(pages)
        found.append(_outcome(storage, tmp_path))
    assert found[0] == found[1]


@pytest.mark.usefixtures("small_portions")
def test_what_was_typed_ahead_is_not_typed_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for what is set aside; pages that no portion has are typed first."""
    pages = [
        [study("NCT00000003", novel=1)],
        [study("NCT00000001", hasResults="no")],
        [study("NCT00000002")],
    ]
    extraction(storage, pages)
    _type_ahead(storage, tmp_path, [1, 2])
    typed: list[list[str]] = []

    def noted(rows: pa.Table) -> TypedContents:
        typed.append(rows["nct_id"].to_pylist())
        return type_contents(rows)

    monkeypatch.setattr(typing_ahead, "type_contents", noted)
    monkeypatch.setattr(compaction, "type_contents", noted)
    Compactor(storage, tmp_path).compact(ID)
    assert typed == [["NCT00000002"], ["NCT00000001"]]


@pytest.mark.usefixtures("small_portions")
def test_an_interrupted_crawl_goes_on_typing(storage: Storage, tmp_path: Path) -> None:
    """Pages that are there already are told again, and those typed before are not typed twice."""
    extraction(storage, [[study("NCT00000001")], [study("NCT00000002")]])

    def interrupted() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _type_ahead(storage, tmp_path, interrupted())
    _type_ahead(storage, tmp_path, [1, 2])
    _type_ahead(storage, tmp_path, [1, 2])
    records = PortionStore(tmp_path).records(ID, ShardStore(storage))
    assert sorted(info.page for record in records for info in record.pages) == [1, 2]
    assert len(list(tmp_path.glob("*/*.json"))) == 2


@pytest.mark.usefixtures("small_portions")
def test_a_failure_does_not_stop_the_crawl(
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told once, with its reason; the compaction does all of it."""
    extraction(storage, [[study("NCT00000001")], [study("NCT00000002")]])

    def full(*_: object) -> None:
        message = "No space left on device"
        raise OSError(message)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(PortionStore, "new", full)
        _type_ahead(storage, tmp_path, [1, 2])
    [record] = caplog.records
    assert "OSError: No space left on device" in record.getMessage()
    assert Compactor(storage, tmp_path).compact(ID).studies == 2


@pytest.mark.parametrize("broken", ["unreadable", "not to be cleared"])
def test_a_crawl_begins_whatever_is_in_the_scratch_folder(
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    """Typing ahead is left, which is told; the pages are there for the compaction."""
    extraction(storage, [[study("NCT00000001")]])

    def denied(*_: object) -> None:
        message = "Permission denied"
        raise PermissionError(message)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        if broken == "unreadable":
            patch.setattr(PortionStore, "records", denied)
        else:
            (tmp_path / "portions-of-an-extraction-that-is-gone").mkdir()
            patch.setattr(PortionStore, "remove", denied)
        with typing_ahead.typing_ahead(storage, tmp_path, ID) as ahead:
            assert ahead is None
    [record] = caplog.records
    assert "PermissionError: Permission denied" in record.getMessage()


@pytest.mark.usefixtures("small_portions")
def test_nothing_is_typed_ahead_once_there_is_a_history(storage: Storage, tmp_path: Path) -> None:
    """Then only what changed is sorted and typed, which is little."""
    extraction(storage, [[study("NCT00000001")]])
    Compactor(storage, tmp_path).compact(ID)
    later = extraction(
        storage, [[study("NCT00000001")]], extraction_id="20261121T090000Z-full-bbbbbb"
    )
    with typing_ahead.typing_ahead(storage, tmp_path, later.extraction_id) as ahead:
        assert ahead is None


@pytest.mark.usefixtures("small_portions")
@pytest.mark.parametrize("fate", ["given up", "gone", "overtaken"])
def test_needless_portions_are_removed(storage: Storage, tmp_path: Path, fate: str) -> None:
    """Of an extraction that was given up, deleted, or recorded with another after it."""
    extraction(storage, [[study("NCT00000001")]])
    _type_ahead(storage, tmp_path, [1])
    other = "20261121T090000Z-full-bbbbbb"
    if fate == "given up":
        ExtractionStore(storage).supersede(ID, "the data moved")
    elif fate == "gone":
        ExtractionStore(storage).delete(ID)
    else:
        Recorder(storage, tmp_path).record(ID)
        extraction(storage, [[study("NCT00000002")]], extraction_id=other)
        Recorder(storage, tmp_path).record(other)
    assert PortionStore(tmp_path).extractions() == [ID]
    typing_ahead.remove_needless_portions(storage, tmp_path)
    assert PortionStore(tmp_path).extractions() == []


@pytest.mark.usefixtures("small_portions")
def test_needed_portions_stay(storage: Storage, tmp_path: Path) -> None:
    """Before the recording and between recording and snapshot, whatever other extraction begins."""
    extraction(storage, [[study("NCT00000001")]])
    _type_ahead(storage, tmp_path, [1])
    typing_ahead.remove_needless_portions(storage, tmp_path)
    Recorder(storage, tmp_path).record(ID)
    typing_ahead.remove_needless_portions(storage, tmp_path)
    assert PortionStore(tmp_path).extractions() == [ID]


@pytest.mark.usefixtures("small_portions")
def test_what_another_model_typed_is_typed_again(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade in the midst of a crawl costs time, and nothing else."""
    extraction(storage, [[study("NCT00000001")], [study("NCT00000002")]])
    with monkeypatch.context() as patch:
        patch.setattr(typing_ahead, "model_fingerprint", lambda: "another")
        _type_ahead(storage, tmp_path, [1, 2])
    assert typing_ahead.finished_portions(storage, tmp_path, ID) == []
    assert Compactor(storage, tmp_path).compact(ID).studies == 2


@pytest.mark.usefixtures("small_portions")
@pytest.mark.parametrize("kind", ["studies", "typed", "extras"])
def test_after_damage_the_next_try_succeeds(storage: Storage, tmp_path: Path, kind: str) -> None:
    """A flipped bit in a scratch file reaches neither history nor snapshot."""
    scratch = tmp_path / "scratch"
    extraction(storage, pages := _generated_pages())
    _type_ahead(storage, scratch, range(1, len(pages) + 1))
    [file, *_] = sorted(scratch.glob(f"*/*-{kind}.arrow"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedPortionError, match=file.name):
        Compactor(storage, scratch).compact(ID)
    assert SnapshotStore(storage).manifests() == []
    found = _outcome(storage, scratch)
    untouched = memory_storage()
    extraction(untouched, pages)
    assert found[1:] == _outcome(untouched, scratch)[1:]


KILLED_TYPING = """
import sys
from pathlib import Path
from ctg_assets.extract.portions import NewPortions
from ctg_assets.extract.shards import ShardStore
from ctg_assets.snapshot import typing_ahead
from ctg_assets.storage.files import Storage

typing_ahead._PORTION_JSON_BYTES = 1
publish = NewPortions.publish

def published(self, record):
    if record.pages[0].page == 2:
        print("ready", flush=True)
        sys.stdin.read()
    publish(self, record)

NewPortions.publish = published
storage, scratch = Storage.local(Path(sys.argv[1])), Path(sys.argv[2])
with typing_ahead.typing_ahead(storage, scratch, sys.argv[3]) as ahead:
    for info in ShardStore(storage).infos(sys.argv[3]):
        ahead.add(info)
"""


@pytest.mark.process
def test_a_killed_typing_leaves_nothing_that_counts(tmp_path: Path) -> None:
    """After kill -9 the portion being made is made anew; the compaction clears away what is left."""
    lake, scratch = tmp_path / "lake", tmp_path / "scratch"
    storage = Storage.local(lake)
    extraction(storage, in_pages([study(f"NCT0000002{digit}") for digit in range(8)], 3))
    kill_at_signal(KILLED_TYPING, str(lake), str(scratch), ID)
    [record] = PortionStore(scratch).records(ID, ShardStore(storage))
    assert [info.page for info in record.pages] == [1]
    assert len(list(scratch.glob("*/*.arrow"))) == 6
    assert Compactor(storage, scratch).compact(ID).studies == 8
    assert list(scratch.iterdir()) == []
