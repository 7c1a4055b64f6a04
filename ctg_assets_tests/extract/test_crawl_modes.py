"""Walks that take only a part: what was posted since a day, ids and dates of all, studies by their ids."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import msgspec
import pytest

from ctg_assets.extract.crawl import Crawler, ExtractionSupersededError
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan, ExtractionState
from ctg_assets.extract.sizing import IDS_PER_REQUEST
from ctg_assets.lake import Lake
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource, StudySource
from ctg_assets_tests.simulator.in_memory import InMemorySource, nct_id, study
from ctg_assets_tests.support.lakes import shard_contents, studies_of
from ctg_assets_tests.support.processes import COMPLETE, Order, crawling
from ctg_assets_tests.support.registries import client_of

PAGE_SIZE = 10
OLD, NEW = "2026-11-10", "2026-11-20"
SINCE = date(2026, 11, 17)


def _source() -> InMemorySource:
    """40 studies; every fourth was posted lately, every second is about asthma, 7 has absorbed 1007."""
    return InMemorySource(
        study(
            number,
            posted=NEW if number % 4 == 0 else OLD,
            conditions=["Asthma"] if number % 2 == 0 else [],
            aliases=[nct_id(1007)] if number == 7 else [],
        )
        for number in range(1, 41)
    )


@pytest.fixture
def simulator(simulator: RunningSimulator) -> RunningSimulator:
    """The running simulator with those studies."""
    simulator.advance(_source())
    return simulator


def _walk(crawler: Crawler, plan: ExtractionPlan, last_page: int = 1000) -> list[bool]:
    """Walk; returns for each page whether it was asked for just now."""
    return [page.fresh for page in crawler.walk(plan, last_page)]


def _raw(source: StudySource, numbers: Sequence[int]) -> list[bytes]:
    places = [source.index_of(nct_id(number)) for number in numbers]
    return sorted(source.raw(place) for place in places if place is not None)


def _picked(crawler: Crawler, ids: Sequence[str], page_size: int = PAGE_SIZE) -> ExtractionPlan:
    return crawler.plan(query="", page_size=page_size, mode=ExtractionMode.PICKED, ids=ids)


# --- incremental ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "numbers"),
    [("", range(4, 41, 4)), ("Asthma OR cough", range(4, 41, 4)), (nct_id(8), [8])],
)
def test_an_incremental_walk_takes_what_was_posted_since(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator, query: str, numbers: Sequence[int]
) -> None:
    """It counts and takes the studies of the scope that were posted on that day or later."""
    plan = crawler.plan(
        query=query,
        page_size=PAGE_SIZE,
        mode=ExtractionMode.INCREMENTAL,
        since=SINCE,
        reason="the data moved",
    )
    assert (plan.mode, plan.query, plan.since) == (ExtractionMode.INCREMENTAL, query, SINCE)
    assert plan.reason == "the data moved"
    assert plan.expected_studies == len(numbers)
    assert lake.extractions.plan(plan.extraction_id) == plan
    _walk(crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    assert studies_of(lake, plan.extraction_id) == _raw(simulator.version.index.source, numbers)


def test_an_incremental_walk_of_nothing_is_complete(crawler: Crawler, lake: Lake) -> None:
    """When nothing was posted since, one page without studies says so."""
    plan = crawler.plan(
        query="", page_size=PAGE_SIZE, mode=ExtractionMode.INCREMENTAL, since=date(2026, 11, 21)
    )
    _walk(crawler, plan)
    completion = lake.extractions.completion(plan.extraction_id)
    assert completion is not None
    assert (completion.pages, completion.rows) == (1, 0)


# --- census ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "step"), [("", 1), ("Asthma", 2)])
def test_a_census_takes_ids_and_dates_of_all(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator, query: str, step: int
) -> None:
    """Its shards tell id and date of each study of the scope, and hold nothing else of it."""
    plan = crawler.plan(query=query, page_size=PAGE_SIZE, mode=ExtractionMode.CENSUS)
    _walk(crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    rows = [
        row
        for page in lake.shards.pages(plan.extraction_id)
        for row in lake.shards.read(plan.extraction_id, page).to_pylist()
    ]
    expected = {
        nct_id(number): date.fromisoformat(NEW if number % 4 == 0 else OLD)
        for number in range(step, 41, step)
    }
    assert plan.expected_studies == len(expected) == len(rows)
    assert {row["nct_id"]: row["last_update_post_date"] for row in rows} == expected
    for row in rows:
        assert msgspec.json.decode(row["study"]) == {
            "protocolSection": {
                "identificationModule": {"nctId": row["nct_id"]},
                "statusModule": {
                    "lastUpdatePostDateStruct": {"date": str(row["last_update_post_date"])}
                },
            }
        }


# --- picked ---------------------------------------------------------------------------------------


def test_picked_studies_come_as_a_walk_brings_them(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """Asked for by id, page by page, with no word on how many there will be."""
    numbers = [*range(30, 0, -3), 33, 36]
    ids = [nct_id(number) for number in numbers]
    plan = _picked(crawler, ids)
    assert (plan.expected_studies, plan.planned_pages) == (None, 2)
    _walk(crawler, plan)
    assert [info.studies for info in lake.shards.infos(plan.extraction_id)] == [10, 2]
    assert studies_of(lake, plan.extraction_id) == _raw(simulator.version.index.source, numbers)
    infos = list(lake.shards.infos(plan.extraction_id))
    assert [info.token for info in infos] == [None, None]
    requests = [info.request for info in infos]
    assert [request and request["filter.ids"] for request in requests] == [
        "|".join(ids[:10]),
        "|".join(ids[10:]),
    ]


def test_ids_that_are_gone_or_merged(crawler: Crawler, lake: Lake) -> None:
    """A study that is gone brings nothing, a merged one its survivor, what is no id no refusal."""
    plan = _picked(crawler, [nct_id(555), nct_id(1007), "?0123abcd", nct_id(4)])
    _walk(crawler, plan)
    found = [
        row
        for page in lake.shards.pages(plan.extraction_id)
        for row in lake.shards.read(plan.extraction_id, page, ["nct_id"])["nct_id"].to_pylist()
    ]
    assert sorted(found) == [nct_id(4), nct_id(7)]


def test_a_page_of_nothing_but_unaskable_ids_is_empty(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """The registry would refuse such ids, so it is not asked."""
    plan = _picked(crawler, ["?0123abcd"])
    asked = len(simulator.requests)
    assert _walk(crawler, plan) == [True]
    paths = [record.path for record in simulator.requests[asked:]]
    assert not any(path.endswith("/studies") for path in paths)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE


def test_no_request_is_longer_than_servers_take(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """With the largest page size, the line of a request stays below half of the usual 8 kB."""
    plan = _picked(crawler, [nct_id(number) for number in range(1, 1001)], page_size=1000)
    assert (plan.page_size, plan.planned_pages) == (IDS_PER_REQUEST, 4)
    asked = len(simulator.requests)
    _walk(crawler, plan)
    lines = [f"GET {record.path}?{record.query}" for record in simulator.requests[asked:]]
    assert max(map(len, lines)) < 4096


def test_picked_studies_are_of_one_data_version(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """When the data move in the middle, what was taken is set aside."""
    plan = _picked(crawler, [nct_id(number) for number in range(1, 21)])
    _walk(crawler, plan, last_page=1)
    simulator.advance(_source())
    with pytest.raises(ExtractionSupersededError, match="data moved"):
        _walk(crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.SUPERSEDED


def test_an_answer_cut_in_two_is_not_taken_for_whole(lake: Lake) -> None:
    """A registry that has more studies for some ids than it returns at a time is not believed."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/version"):
            version = {"apiVersion": "2.0.5", "dataTimestamp": "2026-11-20T09:00:05"}
            return httpx.Response(200, json=version)
        return httpx.Response(200, json={"studies": [], "nextPageToken": "more"})

    with client_of("http://registry.test/api/v2", httpx.MockTransport(answer)) as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        plan = _picked(crawler, [nct_id(1)])
        with pytest.raises(ExtractionSupersededError, match="for 1 ids"):
            _walk(crawler, plan)


# --- going on, and giving up ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"mode": ExtractionMode.INCREMENTAL, "since": date(2026, 11, 1)},
        {"mode": ExtractionMode.CENSUS},
        {"mode": ExtractionMode.PICKED, "ids": [nct_id(number) for number in range(1, 31)]},
    ],
)
def test_an_open_extraction_of_each_mode_is_continued(
    crawler: Crawler, options: dict[str, object]
) -> None:
    """Planning the same again gives the open plan, whatever the reason this time; no page is lost."""

    def plan(reason: str) -> ExtractionPlan:
        return crawler.plan(query="", page_size=PAGE_SIZE, reason=reason, **options)  # type: ignore[arg-type]

    first = plan("because")
    _walk(crawler, first, last_page=2)
    assert plan("because of something else") == first
    assert _walk(crawler, first)[:3] == [False, False, True]


@pytest.mark.parametrize(
    "options",
    [
        {"mode": ExtractionMode.INCREMENTAL, "since": date(2026, 11, 1)},
        {"mode": ExtractionMode.CENSUS},
        {"mode": ExtractionMode.PICKED, "ids": [nct_id(1), nct_id(3)]},
        {},
    ],
)
def test_an_open_extraction_of_another_mode_or_part_is_superseded(
    crawler: Crawler, lake: Lake, options: dict[str, object]
) -> None:
    """Only one extraction is open at a time, and what it asks for is what was planned last."""
    others = [
        crawler.plan(query="", page_size=PAGE_SIZE, mode=ExtractionMode.INCREMENTAL, since=SINCE),
        _picked(crawler, [nct_id(1)]),
    ]
    plan = crawler.plan(query="", page_size=PAGE_SIZE, **options)  # type: ignore[arg-type]
    assert lake.extractions.open_crawls() == [plan]
    for other in others:
        assert lake.extractions.state(other.extraction_id) is ExtractionState.SUPERSEDED


def test_a_killed_crawl_of_picked_studies_goes_on_where_it_was(tmp_path: Path) -> None:
    """After `kill -9` the pages that are there are not asked for again, and the ids are the same."""
    source = GeneratedSource(60, seed=5)
    ids = tuple(source.nct_id(index) for index in range(0, 60, 2))
    with running_simulator(source) as simulator:
        order = Order(simulator.api_url, tmp_path / "killed", page_size=4, picked=ids, halt_at=3)
        with crawling(order) as killed:
            assert killed.message() == "halted"
            killed.kill()
        assert killed.exit_code == -signal.SIGKILL
        [plan] = order.open_lake().extractions.open_crawls()
        with crawling(Order(simulator.api_url, tmp_path / "killed", 4, picked=ids)) as resumed:
            assert resumed.message() == COMPLETE
        asked = [
            parse_qs(record.query)["filter.ids"][0].split("|")
            for record in simulator.requests
            if "filter.ids" in record.query
        ]
    lake = order.open_lake()
    assert [found.extraction_id for found in lake.extractions.plans()] == [plan.extraction_id]
    assert [item for page in asked for item in page] == list(ids)
    contents = shard_contents(lake, plan.extraction_id)
    taken = [row["nct_id"] for _, rows in contents.values() for row in rows]
    assert sorted(taken) == sorted(ids)
