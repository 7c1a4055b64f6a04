"""Extractions: states, order, keys, and deletion that survives crashes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionState,
    ExtractionStore,
    new_extraction_id,
    page_key,
    parse_page_key,
    planned_pages,
)
from ctg_assets.extract.shards import ShardStore
from ctg_assets.storage.files import Storage
from ctg_assets_tests.support.made_lakes import EPOCH, extraction, memory_storage, plan, study

COMPLETION = Completion(pages=1, rows=1, distinct_studies=1, json_bytes=9, completed_at=EPOCH)


def test_an_extraction_goes_through_its_states(any_storage: Storage) -> None:
    """Open from its plan on, then complete or superseded; each record reads back as it was written."""
    store = ExtractionStore(any_storage)
    for extraction_id in ("a", "b"):
        store.create(plan(extraction_id))
        assert store.state(extraction_id) is ExtractionState.OPEN
        assert store.completion(extraction_id) is None
        assert store.supersession(extraction_id) is None
    store.complete("a", COMPLETION)
    assert store.state("a") is ExtractionState.COMPLETE
    assert store.completion("a") == COMPLETION
    before = datetime.now(UTC)
    store.supersede("b", "the data moved")
    assert store.state("b") is ExtractionState.SUPERSEDED
    supersession = store.supersession("b")
    assert supersession is not None
    assert supersession.reason == "the data moved"
    assert before <= supersession.superseded_at <= datetime.now(UTC)
    assert store.plan("a") == plan("a", number=1)


def test_being_superseded_wins() -> None:
    """An extraction given up is not used, whatever else its folder says."""
    store = ExtractionStore(memory_storage())
    store.create(plan("a"))
    store.complete("a", COMPLETION)
    store.supersede("a", "wrong after all")
    assert store.state("a") is ExtractionState.SUPERSEDED


def test_an_unknown_extraction(storage: Storage) -> None:
    """Asking for one that is not there names it and where it was looked for."""
    with pytest.raises(KeyError, match=r"no extraction nowhere in .*extractions"):
        ExtractionStore(storage).plan("nowhere")


def test_lists_and_latest(any_storage: Storage) -> None:
    """Extractions are listed in the order in which they were planned, whatever their ids."""
    store = ExtractionStore(any_storage)
    assert store.plans() == []
    assert store.latest(ExtractionState.OPEN) is None
    for microseconds, extraction_id in enumerate(["z", "c", "k"]):
        store.create(plan(extraction_id, planned_at=EPOCH + timedelta(microseconds=microseconds)))
    store.create(plan("i", planned_at=EPOCH + timedelta(days=1), mode=ExtractionMode.IMPORT))
    assert [found.extraction_id for found in store.plans()] == ["z", "c", "k", "i"]
    assert [found.extraction_id for found in store.open_crawls()] == ["z", "c", "k"]
    for extraction_id in "zc":
        store.complete(extraction_id, COMPLETION)
    latest = store.latest(ExtractionState.COMPLETE)
    assert latest is not None
    assert latest.extraction_id == "c"
    assert store.latest(ExtractionState.SUPERSEDED) is None
    assert [found.extraction_id for found in store.open_crawls()] == ["k"]


@given(
    old=st.lists(st.integers(-(10**9), 10**9), max_size=3, unique=True),
    new=st.lists(st.integers(-(10**9), 10**9), max_size=5),
)
def test_the_order_is_the_lakes_own(old: list[int], new: list[int]) -> None:
    """Set back and forth by up to thirty years, our clock moves no plan; only plans without a number go by it."""
    storage = memory_storage()
    store = ExtractionStore(storage)
    for number, seconds in enumerate(old):
        made = plan(f"old {number}", planned_at=EPOCH + timedelta(seconds=seconds))
        # As a release without numbers wrote it.
        facts = {k: v for k, v in msgspec.to_builtins(made).items() if k != "number"}
        storage.write_bytes(f"extractions/old {number}/plan.json", msgspec.json.encode(facts))
    for number, seconds in enumerate(new):
        made = store.create(plan(f"new {number}", planned_at=EPOCH + timedelta(seconds=seconds)))
        assert made == store.plan(made.extraction_id)
    by_time = sorted(range(len(old)), key=lambda number: old[number])
    assert [found.extraction_id for found in store.plans()] == [
        *(f"old {number}" for number in by_time),
        *(f"new {number}" for number in range(len(new))),
    ]


@given(
    st.lists(st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1)), min_size=2, max_size=5),  # noqa: DTZ001 - the strategy wants naive bounds
    st.sampled_from([UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=14))]),
)
def test_ids_sort_by_time(moments: list[datetime], zone: timezone) -> None:
    """Ids of different seconds sort by time, in whatever zone it was told."""
    moments = sorted({moment.replace(microsecond=0, tzinfo=UTC) for moment in moments})
    ids = [new_extraction_id(ExtractionMode.FULL, moment.astimezone(zone)) for moment in moments]
    assert ids == sorted(ids)


def test_ids_differ() -> None:
    """Two extractions of one second do not share an id."""
    assert len({new_extraction_id(ExtractionMode.SCOPED, EPOCH) for _ in range(50)}) == 50
    assert new_extraction_id(ExtractionMode.SCOPED, EPOCH).startswith("20261120T090000Z-scoped-")


@given(st.text(min_size=1), st.integers(1, 10**7))
def test_page_keys_round_trip(extraction_id: str, page: int) -> None:
    """A key gives back its extraction and page, also beyond 99,999 pages and for odd ids."""
    assert parse_page_key(page_key(extraction_id, page)) == (extraction_id, page)


@pytest.mark.parametrize(
    "key", ["", "-00001", "x", "x-", "x-1", "x-0001", "x-abcde", "x-00001 ", "x-0000\u0661", "x--1"]
)
def test_other_texts_are_no_page_keys(key: str) -> None:
    """What no key was made of is refused by name."""
    with pytest.raises(ValueError, match="not a page key"):
        parse_page_key(key)


def test_a_plan_knows_its_keys() -> None:
    """The keys of the planned pages, in order; an import plans none."""
    assert plan("x", planned_pages=3).page_keys() == ["x-00001", "x-00002", "x-00003"]
    assert plan("x", planned_pages=None).page_keys() == []


def walk(studies: int, page_size: int) -> Iterator[int]:
    """The sizes of the pages that the registry answers with: a full page always has one after it."""
    while True:
        page = min(studies, page_size)
        yield page
        if page < page_size:
            return
        studies -= page


@given(st.integers(0, 5000), st.integers(1, 1000))
def test_a_walk_takes_the_planned_pages(studies: int, page_size: int) -> None:
    """The plan is exact, for a multiple of the page size too."""
    pages = list(walk(studies, page_size))
    assert sum(pages) == studies
    assert planned_pages(studies, page_size) == len(pages)


def test_ids_are_there_before_the_plan(any_storage: Storage) -> None:
    """A picked extraction that can be found has its ids, in their order; others have none."""
    store = ExtractionStore(any_storage)
    ids = ["NCT00000003", "NCT00000001"]
    with pytest.raises(CrashError):
        ExtractionStore(CrashingStorage(any_storage, 1)).create(plan("a"), ids)
    assert (store.plans(), store.ids("a")) == ([], ids)
    store.create(plan("a"), ids)
    store.create(plan("b"))
    assert (store.ids("a"), store.ids("b")) == (ids, [])
    store.delete("a")
    assert store.ids("a") == []


@pytest.mark.parametrize(
    ("mode", "is_whole", "covers_scope"),
    [
        (ExtractionMode.FULL, True, True),
        (ExtractionMode.SCOPED, True, True),
        (ExtractionMode.CENSUS, False, True),
        (ExtractionMode.INCREMENTAL, False, False),
        (ExtractionMode.PICKED, False, False),
        (ExtractionMode.IMPORT, False, False),
    ],
)
def test_what_a_mode_sees(mode: ExtractionMode, *, is_whole: bool, covers_scope: bool) -> None:
    """Which modes can tell what is gone, and which of them bring home every content."""
    assert (mode.is_whole, mode.covers_scope) == (is_whole, covers_scope)


class CrashError(Exception):
    """The moment at which a process would have died."""


class CrashingStorage(Storage):
    """Storage that crashes at the n-th change of a file."""

    def __init__(self, storage: Storage, changes: int) -> None:
        super().__init__(storage.backend)
        self.changes = changes

    def _change(self) -> None:
        if self.changes == 0:
            raise CrashError
        self.changes -= 1

    def write_bytes(self, relative: str, content: bytes, *, create: bool = False) -> None:
        """Write, unless it is time to crash."""
        self._change()
        super().write_bytes(relative, content, create=create)

    def delete_file(self, relative: str) -> None:
        """Delete, unless it is time to crash."""
        self._change()
        super().delete_file(relative)

    def delete_folder(self, folder: str) -> None:
        """Delete file by file, crashing in the middle when it is time to."""
        for name in self.names(folder):
            self._change()
            self.backend.delete_file(f"{folder}/{name}")
        self._change()
        super().delete_folder(folder)


@pytest.mark.parametrize("completed", [True, False])
def test_a_crash_while_deleting_leaves_nothing_that_counts(
    storage: Storage, *, completed: bool
) -> None:
    """At whatever step it happens, the extraction is untouched, given up or gone; never half there."""
    crashes = 0
    while True:
        made = extraction(storage, [[study("NCT00000001")], []], complete=completed)
        before = ExtractionStore(storage).state(made.extraction_id)
        try:
            ExtractionStore(CrashingStorage(storage, crashes)).delete(made.extraction_id)
        except CrashError:
            store = ExtractionStore(storage)
            left = [found.extraction_id for found in store.plans()]
            if left and store.state(made.extraction_id) is before:
                assert ShardStore(storage).pages(made.extraction_id) == [1, 2]
            elif left:
                assert store.state(made.extraction_id) is ExtractionState.SUPERSEDED
            store.delete(made.extraction_id)
            assert storage.names("extractions") == []
            crashes += 1
        else:
            break
    assert crashes >= 5
    assert storage.names("extractions") == []
