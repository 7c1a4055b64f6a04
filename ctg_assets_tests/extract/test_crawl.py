"""Planning and walking: what is decided when the registry's data, tokens or counts change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs

import dagster as dg
import msgspec
import pytest

from ctg_assets.extract.crawl import Crawler, ExtractionSupersededError, NotCrawlableError
from ctg_assets.extract.extractions import (
    ExtractionMode,
    ExtractionPlan,
    ExtractionState,
    new_extraction_id,
)
from ctg_assets.extract.sizing import MOST_PAGES, TooManyPagesError
from ctg_assets.lake import Lake
from ctg_assets.orchestration.pages import register_pages, registered_pages
from ctg_assets.registry.errors import PermanentRegistryError
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets.simulator.source import StudySource
from ctg_assets_tests.simulator.in_memory import InMemorySource, numbered_studies, study
from ctg_assets_tests.support.lakes import studies_of
from ctg_assets_tests.support.registries import LooseRegistry


@pytest.fixture
def loose() -> LooseRegistry:
    """A registry of 120 studies on as many pages; a walk plans 121."""
    return LooseRegistry(count=120, pages=121)


@pytest.fixture
def loose_crawler(loose: LooseRegistry, lake: Lake) -> Iterator[Crawler]:
    """A crawler of the loose registry into the lake."""
    with loose.client() as client:
        yield Crawler(client, lake.extractions, lake.shards)


def _walk(
    crawler: Crawler, plan: ExtractionPlan, last_page: int = 10_000
) -> list[tuple[int, bool]]:
    """Walk; returns number and freshness of the pages yielded."""
    return [(page.shard.page, page.fresh) for page in crawler.walk(plan, last_page)]


def _all_of(source: StudySource) -> list[bytes]:
    return sorted(source.raw(index) for index in range(len(source)))


def _page_requests(simulator: RunningSimulator, since: int) -> int:
    """How many pages were asked for since so many requests."""
    return sum(
        record.path.endswith("/studies") and "countTotal" not in parse_qs(record.query)
        for record in simulator.requests[since:]
    )


# --- a walk that nothing disturbs -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("studies", "pages", "rows"),
    [
        (0, 1, [0]),
        (1, 1, [1]),
        (9, 1, [9]),
        (10, 2, [10, 0]),
        (11, 2, [10, 1]),
        (30, 4, [10, 10, 10, 0]),
    ],
)
def test_a_walk_takes_the_planned_pages(
    crawler: Crawler,
    lake: Lake,
    simulator: RunningSimulator,
    studies: int,
    pages: int,
    rows: list[int],
) -> None:
    """Any number of studies is walked on as many pages as were planned, multiples of the page size too."""
    source = numbered_studies(studies)
    simulator.advance(source)
    asked = len(simulator.requests)
    plan = crawler.plan(query="", page_size=10)
    assert (plan.planned_pages, plan.expected_studies) == (pages, studies)
    assert _walk(crawler, plan) == [(page, True) for page in range(1, pages + 1)]

    assert [info.studies for info in lake.shards.infos(plan.extraction_id)] == rows
    assert studies_of(lake, plan.extraction_id) == _all_of(source)
    assert _page_requests(simulator, asked) == pages
    completion = lake.extractions.completion(plan.extraction_id)
    assert completion is not None
    assert (completion.pages, completion.rows, completion.distinct_studies) == (
        pages,
        studies,
        studies,
    )
    assert completion.json_bytes == sum(map(len, _all_of(source)))


def test_a_plan_says_what_it_was_made_of(crawler: Crawler, simulator: RunningSimulator) -> None:
    """A plan records registry, query, data version and mode."""
    plan = crawler.plan(query="AREA[NCTId]NCT00000003", page_size=10)
    assert plan.mode is ExtractionMode.SCOPED
    assert plan.source == simulator.api_url
    assert plan.data_timestamp == simulator.version.data_timestamp
    assert plan.expected_studies == 1
    assert crawler.plan(query="", page_size=10).mode is ExtractionMode.FULL


def test_a_complete_extraction_is_not_walked_again(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """Walking a complete extraction yields its pages and asks the registry nothing."""
    plan = crawler.plan(query="", page_size=10)
    _walk(crawler, plan)
    completed = lake.extractions.completion(plan.extraction_id)
    asked = len(simulator.requests)
    assert _walk(crawler, plan) == [(1, False), (2, False), (3, False)]
    assert len(simulator.requests) == asked
    assert lake.extractions.completion(plan.extraction_id) == completed


# --- ranges, and going on -------------------------------------------------------------------------


def test_a_walk_ends_with_the_last_page_asked_for(crawler: Crawler, lake: Lake) -> None:
    """A range of pages leaves the extraction open until all are there."""
    plan = crawler.plan(query="", page_size=10)
    assert _walk(crawler, plan, last_page=2) == [(1, True), (2, True)]
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.OPEN
    assert _walk(crawler, plan, last_page=3) == [(1, False), (2, False), (3, True)]
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE


def test_pages_before_the_range_are_walked_too(crawler: Crawler, lake: Lake) -> None:
    """Only the walk leads to a page, so asking for page 3 first takes pages 1 and 2 as well."""
    plan = crawler.plan(query="", page_size=10)
    assert _walk(crawler, plan, last_page=3) == [(1, True), (2, True), (3, True)]
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE


def test_a_lost_page_is_walked_again(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """A lost page is asked for anew; those after it stay, since they were asked with its token."""
    plan = crawler.plan(query="", page_size=10)
    _walk(crawler, plan, last_page=2)
    lake.storage.delete_file(f"extractions/{plan.extraction_id}/pages/00001.parquet")
    asked = len(simulator.requests)
    assert _walk(crawler, plan) == [(1, True), (2, False), (3, True)]
    assert _page_requests(simulator, asked) == 2
    assert studies_of(lake, plan.extraction_id) == _all_of(simulator.version.index.source)


def test_a_page_that_does_not_follow_a_lost_one_is_walked_again(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """A page asked with another token than the page before it leads to is asked for anew."""
    plan = crawler.plan(query="", page_size=10)
    _walk(crawler, plan, last_page=2)
    other = msgspec.structs.replace(lake.shards.info(plan.extraction_id, 2), token="other")
    lake.shards.write(other, [])
    lake.storage.delete_file(f"extractions/{plan.extraction_id}/pages/00001.parquet")
    assert _walk(crawler, plan) == [(1, True), (2, True), (3, True)]
    assert studies_of(lake, plan.extraction_id) == _all_of(simulator.version.index.source)


def test_what_a_killed_writer_left_is_removed(crawler: Crawler, lake: Lake) -> None:
    """An unfinished file is no page, and the next walk removes it."""
    plan = crawler.plan(query="", page_size=10)
    folder = f"extractions/{plan.extraction_id}/pages"
    lake.storage.write_bytes(f"{folder}/.unfinished-1-00001.parquet", b"half a shard")
    _walk(crawler, plan)
    names = {path.name for path in Path(lake.storage.path(folder)).iterdir()}
    assert names == {"00001.parquet", "00002.parquet", "00003.parquet"}


def test_a_walk_killed_after_its_last_page_is_completed_by_the_next(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """When only the mark of completion is missing, no page is asked for."""
    plan = crawler.plan(query="", page_size=10)
    for page in crawler.walk(plan, 3):
        if page.shard.page == 3:
            break
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.OPEN
    asked = len(simulator.requests)
    _walk(crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    assert _page_requests(simulator, asked) == 0


# --- planning beside an open extraction -----------------------------------------------------------


def test_an_open_extraction_is_continued(crawler: Crawler, lake: Lake) -> None:
    """Planning again at the same data version gives the open plan, and its pages stay."""
    plan = crawler.plan(query="", page_size=10)
    _walk(crawler, plan, last_page=1)
    assert crawler.plan(query="", page_size=10) == plan
    assert _walk(crawler, plan) == [(1, False), (2, True), (3, True)]
    assert len(lake.extractions.plans()) == 1


def test_a_complete_extraction_is_not_continued(crawler: Crawler, lake: Lake) -> None:
    """Planning after completion begins another extraction and leaves the complete one alone."""
    plan = crawler.plan(query="", page_size=10)
    _walk(crawler, plan)
    other = crawler.plan(query="", page_size=10)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    assert lake.extractions.plans() == [plan, other]


@pytest.mark.parametrize("change", ["query", "page size", "data version", "registry"])
def test_an_open_extraction_of_something_else_is_superseded(
    crawler: Crawler,
    lake: Lake,
    simulator: RunningSimulator,
    loose_crawler: Crawler,
    change: str,
) -> None:
    """Another query, page size, data version or registry needs another walk, and the reason is kept."""
    former = crawler.plan(query="", page_size=10)
    _walk(crawler, former, last_page=1)
    if change == "data version":
        simulator.advance()
    plan = (loose_crawler if change == "registry" else crawler).plan(
        query="Asthma" if change == "query" else "",
        page_size=5 if change == "page size" else 10,
    )
    assert plan.extraction_id != former.extraction_id
    supersession = lake.extractions.supersession(former.extraction_id)
    assert supersession is not None
    assert plan.extraction_id in supersession.reason
    assert [open_plan.extraction_id for open_plan in lake.extractions.open_crawls()] == [
        plan.extraction_id
    ]


def test_an_open_extraction_stays_when_the_next_cannot_be_planned(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """A query that the registry refuses does not cost the walk that is under way."""
    plan = crawler.plan(query="", page_size=10)
    simulator.set_faults("request=1@studies:400")
    with pytest.raises(PermanentRegistryError, match="400"):
        crawler.plan(query="AREA[", page_size=10)
    assert lake.extractions.open_crawls() == [plan]


def test_only_the_newest_of_several_open_extractions_is_continued(
    crawler: Crawler, lake: Lake
) -> None:
    """Two open plans of one data version, as a kill between two steps may leave them, become one."""
    plan = crawler.plan(query="", page_size=10)
    twin = _twin(lake, plan)
    assert crawler.plan(query="", page_size=10) == twin
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.SUPERSEDED


# --- the registry moves on, or contradicts itself -------------------------------------------------


def test_data_that_move_during_a_walk_supersede_it(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """The walk stops and says why; the next plan brings home the new data whole, and nothing twice."""
    plan = crawler.plan(query="", page_size=10)
    walk = crawler.walk(plan, 3)
    next(walk)
    changed = InMemorySource(study(n, title="Changed") for n in range(5, 40))
    simulator.advance(changed)
    with pytest.raises(ExtractionSupersededError, match="cannot be finished"):
        list(walk)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.SUPERSEDED
    with pytest.raises(NotCrawlableError, match="was given up"):
        next(crawler.walk(plan, 3))

    fresh = crawler.plan(query="", page_size=10)
    _walk(crawler, fresh)
    assert lake.extractions.latest(ExtractionState.COMPLETE) == fresh
    assert studies_of(lake, fresh.extraction_id) == _all_of(changed)
    assert lake.shards.pages(plan.extraction_id) == [1]


def test_a_resumed_walk_notices_that_the_data_moved_before_it_asks_for_a_page(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """Whoever resumes compares data versions first, so the reason kept is the real one."""
    plan = crawler.plan(query="", page_size=10)
    _walk(crawler, plan, last_page=1)
    simulator.advance()
    asked = len(simulator.requests)
    with pytest.raises(ExtractionSupersededError, match="the registry's data moved from"):
        _walk(crawler, plan)
    assert _page_requests(simulator, asked) == 0


def test_a_refused_token_supersedes_the_walk(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """Tokens that expire while the data stay lead to another plan at the same data version."""
    plan = crawler.plan(query="", page_size=10)
    _walk(crawler, plan, last_page=2)
    simulator.expire_tokens()
    with pytest.raises(ExtractionSupersededError, match="no longer accepts page token"):
        _walk(crawler, plan)
    supersession = lake.extractions.supersession(plan.extraction_id)
    assert supersession is not None
    assert "no longer accepts page token" in supersession.reason

    fresh = crawler.plan(query="", page_size=10)
    assert fresh.data_timestamp == plan.data_timestamp
    _walk(crawler, fresh)
    assert studies_of(lake, fresh.extraction_id) == _all_of(simulator.version.index.source)


def test_new_data_are_noticed_in_mid_walk_where_old_tokens_hold(
    loose: LooseRegistry, loose_crawler: Crawler
) -> None:
    """The data version is asked for every fifty pages, so that no walk goes on for long in vain."""

    def move(page: int) -> None:
        if page == 3:
            loose.data_timestamp = "2026-11-21T09:00:05"

    loose.before_page = move
    plan = loose_crawler.plan(query="", page_size=1)
    with pytest.raises(ExtractionSupersededError, match="data moved"):
        _walk(loose_crawler, plan)
    assert loose.asked["page"] == 50


def test_new_data_are_noticed_after_the_last_page(
    loose: LooseRegistry, loose_crawler: Crawler, lake: Lake
) -> None:
    """An extraction is complete only if the data version is still the planned one at its end."""

    def move(page: int) -> None:
        if page == 121:
            loose.data_timestamp = "2026-11-21T09:00:05"

    loose.before_page = move
    plan = loose_crawler.plan(query="", page_size=1)
    with pytest.raises(ExtractionSupersededError, match="data moved"):
        _walk(loose_crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.SUPERSEDED
    assert lake.extractions.completion(plan.extraction_id) is None


@pytest.mark.slow
def test_an_undisturbed_walk_asks_for_the_version_once_in_fifty_pages(
    loose: LooseRegistry, loose_crawler: Crawler
) -> None:
    """121 pages cost one question to plan, one to begin, two on the way and one to end."""
    _walk(loose_crawler, loose_crawler.plan(query="", page_size=1))
    assert loose.asked == {"version": 5, "count": 1, "page": 121}


def test_more_pages_than_counted_supersede_the_walk(
    loose: LooseRegistry, loose_crawler: Crawler, lake: Lake
) -> None:
    """A walk that goes on after its planned end cannot be called complete."""
    loose.count, loose.pages = 3, 6
    plan = loose_crawler.plan(query="", page_size=1)
    with pytest.raises(ExtractionSupersededError, match="more pages than the 4"):
        _walk(loose_crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.SUPERSEDED


def test_fewer_pages_than_counted_end_in_empty_shards(
    loose: LooseRegistry, loose_crawler: Crawler, lake: Lake
) -> None:
    """Planned pages after the walk's end are there and empty; the count is then for a check to judge."""
    loose.count, loose.pages = 5, 3
    plan = loose_crawler.plan(query="", page_size=1)
    assert _walk(loose_crawler, plan) == [(page, True) for page in range(1, 7)]
    assert loose.asked["page"] == 3
    infos = list(lake.shards.infos(plan.extraction_id))
    assert [info.studies for info in infos] == [1, 1, 1, 0, 0, 0]
    assert [info.request is None for info in infos] == [False] * 3 + [True] * 3
    completion = lake.extractions.completion(plan.extraction_id)
    assert completion is not None
    assert (completion.pages, completion.distinct_studies) == (6, 3)


def test_a_walk_resumed_after_its_early_end_asks_for_nothing(
    loose: LooseRegistry, loose_crawler: Crawler
) -> None:
    """An empty shard has no next token either, so whoever resumes there knows that the walk ended."""
    loose.count, loose.pages = 5, 3
    plan = loose_crawler.plan(query="", page_size=1)
    _walk(loose_crawler, plan, last_page=4)
    assert _walk(loose_crawler, plan)[4:] == [(5, True), (6, True)]
    assert loose.asked["page"] == 3


def test_an_import_cannot_be_crawled(crawler: Crawler, lake: Lake) -> None:
    """An extraction out of a file has no pages that the registry could be asked for."""
    plan = crawler.plan(query="", page_size=10)
    imported = _twin(lake, plan, mode=ExtractionMode.IMPORT, planned_pages=None)
    with pytest.raises(NotCrawlableError, match="was imported"):
        next(crawler.walk(imported, 1))


def test_a_registry_that_is_down_leaves_the_pages_there(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """After a failure that is not the walk's own the extraction stays open, with the pages it has."""
    plan = crawler.plan(query="", page_size=10)
    simulator.set_faults("page=2:403")
    with pytest.raises(PermanentRegistryError, match="403"):
        _walk(crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.OPEN
    assert _walk(crawler, plan) == [(1, False), (2, True), (3, True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "mode", [ExtractionMode.FULL, ExtractionMode.CENSUS, ExtractionMode.PICKED]
)
def test_too_many_pages_are_refused(lake: Lake, mode: ExtractionMode) -> None:
    """40,001 pages are refused before anything is recorded; the message says the page size that works, and it does."""
    registry = LooseRegistry(count=600_000, pages=1)
    ids = (
        [f"NCT{number:08d}" for number in range(1, 600_001)]
        if mode is ExtractionMode.PICKED
        else []
    )
    with registry.client() as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        with pytest.raises(TooManyPagesError, match="set CTG_PAGE_SIZE to 61 or more") as refused:
            crawler.plan(query="", page_size=15, mode=mode, ids=ids)
        assert "600,000 studies in pages of 15" in str(refused.value)
        assert lake.extractions.plans() == []
        with pytest.raises(TooManyPagesError):
            crawler.plan(query="", page_size=59, mode=mode, ids=ids)
        plan = crawler.plan(query="", page_size=61, mode=mode, ids=ids)
    assert plan.planned_pages is not None
    assert 9_000 < plan.planned_pages <= MOST_PAGES
    with dg.DagsterInstance.ephemeral() as instance:
        register_pages(instance, plan)
        assert len(registered_pages(instance)) == plan.planned_pages


def _twin(lake: Lake, plan: ExtractionPlan, **changes: object) -> ExtractionPlan:
    """Another open extraction, planned a moment after this one and otherwise like it."""
    later = plan.planned_at + timedelta(seconds=1)
    twin = msgspec.structs.replace(
        plan,
        extraction_id=new_extraction_id(plan.mode, later),
        planned_at=later,
        **changes,
    )
    return lake.extractions.create(twin)
