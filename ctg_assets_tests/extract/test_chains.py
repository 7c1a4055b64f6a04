"""Walks in several chains: side by side, without a study twice, and as safe as one chain."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from random import Random
from urllib.parse import parse_qs

import httpx
import pytest

from ctg_assets.extract.chains import SideBySide
from ctg_assets.extract.crawl import Crawler, ExtractionSupersededError
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan, ExtractionState
from ctg_assets.extract.sizing import Pace
from ctg_assets.lake import Lake, lake_on
from ctg_assets.refresh.checks import check_shards
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.registry.errors import PermanentRegistryError, RequestStoppedError
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.request_log import RequestRecord
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.simulator.in_memory import InMemorySource, study
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.lakes import shard_contents, studies_of
from ctg_assets_tests.support.object_store import object_storage
from ctg_assets_tests.support.processes import COMPLETE, Order, crawling
from ctg_assets_tests.support.registries import LooseRegistry, client_of

STUDIES, PAGE_SIZE, CHAINS = 61, 4, 3
IN_CHAINS = Pace(CHAINS, 10_000)
_PATIENCE_SECONDS = 60.0


class Meeting(InMemorySource):
    """Studies that are first read only when so many requests want to read some, if `parties` is set."""

    parties: threading.Barrier | None = None

    def raw(self, index: int) -> bytes:
        """The study's JSON, once all parties are there."""
        parties = self.parties
        if parties is not None:
            parties.wait(_PATIENCE_SECONDS)
            self.parties = None
        return super().raw(index)


def _source(title: str = "A Study") -> Meeting:
    """Studies that were posted on many days, the last two on none."""
    newest = date(2026, 3, 2)
    records = [
        study(n, title=title, posted=(newest - timedelta(days=n * n)).isoformat())
        for n in range(1, STUDIES + 1)
    ]
    for record in records[-2:]:
        del record["protocolSection"]["statusModule"]["lastUpdatePostDateStruct"]
    return Meeting(records)


@pytest.fixture
def simulator(simulator: RunningSimulator) -> RunningSimulator:
    """The running simulator with those studies."""
    simulator.advance(_source())
    return simulator


def _all_of(simulator: RunningSimulator) -> list[bytes]:
    source = simulator.version.index.source
    return sorted(source.raw(index) for index in range(len(source)))


def _walk(crawler: Crawler, plan: ExtractionPlan, last_page: int = 1000) -> dict[int, bool]:
    """Walk; returns for each page whether it was asked for just now."""
    return {page.shard.page: page.fresh for page in crawler.walk(plan, last_page)}


def _asked(records: tuple[RequestRecord, ...]) -> list[tuple[str, str]]:
    """The pages that were asked for: their filters and tokens."""
    found = []
    for record in records:
        parameters = parse_qs(record.query)
        if record.path.endswith("/studies") and "countTotal" not in parameters:
            found.append(
                (
                    parameters.get("filter.advanced", [""])[0],
                    parameters.get("pageToken", [""])[0],
                )
            )
    return found


# --- a walk that nothing disturbs -----------------------------------------------------------------


@pytest.mark.parametrize("mode", [ExtractionMode.FULL, ExtractionMode.CENSUS])
def test_chains_are_walked_side_by_side(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator, mode: ExtractionMode
) -> None:
    """No chain gets its first page before all have asked for theirs, and together they bring everything home once."""
    plan = crawler.plan(query="", page_size=PAGE_SIZE, mode=mode, pace=IN_CHAINS)
    assert len(plan.chains) == CHAINS
    assert sum(chain.expected_studies for chain in plan.chains) == plan.expected_studies == STUDIES
    source = simulator.version.index.source
    assert isinstance(source, Meeting)
    # For a census, hardly any study is read.
    source.parties = threading.Barrier(CHAINS) if mode.is_whole else None
    before = len(simulator.requests)
    pages = _walk(crawler, plan)

    assert pages == dict.fromkeys(range(1, (plan.planned_pages or 0) + 1), True)
    asked = _asked(simulator.requests[before:])
    assert len(asked) == len(set(asked)) == plan.planned_pages
    assert Counter(within for within, _ in asked) == {
        chain.within: chain.planned_pages for chain in plan.chains
    }
    rows: Counter[str] = Counter()
    for info in lake.shards.infos(plan.extraction_id):
        assert info.request is not None
        rows[info.request["filter.advanced"]] += info.studies
    assert rows == {chain.within: chain.expected_studies for chain in plan.chains}
    if mode is ExtractionMode.FULL:
        assert studies_of(lake, plan.extraction_id) == _all_of(simulator)
    completion = lake.extractions.completion(plan.extraction_id)
    assert completion is not None
    assert completion.distinct_studies == completion.rows == STUDIES
    assert check_shards(lake, plan).passed


def test_a_range_has_pages_of_all_chains(crawler: Crawler, lake: Lake) -> None:
    """A run of some pages takes just these, a first page of each chain among them, and the next goes on."""
    plan = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    assert _walk(crawler, plan, last_page=5) == dict.fromkeys(range(1, 6), True)
    filters = [info.request for info in lake.shards.infos(plan.extraction_id)]
    assert len({request["filter.advanced"] for request in filters[:CHAINS] if request}) == CHAINS
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.OPEN
    pages = _walk(crawler, plan)
    assert [page for page, fresh in pages.items() if not fresh] == [1, 2, 3, 4, 5]
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE


def test_chains_lead_into_an_object_store(
    client: RegistryClient, simulator: RunningSimulator, tmp_path: Path
) -> None:
    """Pages are put there as they come, a lost one again, and the end is told under the lock that holds on all machines."""
    lake = lake_on(object_storage(tmp_path / "scratch"), tmp_path / "scratch")
    crawler = Crawler(client, lake.extractions, lake.shards)
    plan = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    _walk(crawler, plan, last_page=7)
    lake.storage.delete_file(f"extractions/{plan.extraction_id}/pages/00003.parquet")
    pages = _walk(crawler, plan)
    assert {page for page, fresh in pages.items() if not fresh} == {1, 2, 4, 5, 6, 7}
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    assert studies_of(lake, plan.extraction_id) == _all_of(simulator)


def test_the_scope_is_divided_too(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """A query keeps its meaning beside the filter of a slice."""
    simulator.advance(
        InMemorySource(
            study(n, posted=f"20{n % 26:02}-03-01", conditions=["Asthma"] if n % 2 else ["Gout"])
            for n in range(1, 41)
        )
    )
    plan = crawler.plan(query="Asthma OR Nothing", page_size=PAGE_SIZE, pace=IN_CHAINS)
    assert len(plan.chains) == CHAINS
    _walk(crawler, plan)
    found = studies_of(lake, plan.extraction_id)
    assert found == [raw for raw in _all_of(simulator) if b"Asthma" in raw]
    assert len(found) == 20


# --- what is one chain ----------------------------------------------------------------------------


def test_a_list_of_ids_stays_one_chain(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """For such a query the registry ignores filters: every slice would be everything."""
    ids = " ".join(f"NCT{n:08d}" for n in range(1, 20))
    plan = crawler.plan(query=ids, page_size=PAGE_SIZE, pace=IN_CHAINS)
    assert plan.chains == ()
    _walk(crawler, plan)
    assert len(studies_of(lake, plan.extraction_id)) == 19


def test_slices_that_do_not_add_up_are_one_chain(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the slices' counts are not the whole count, something would be missed, and people are told."""
    loose = LooseRegistry(count=30, pages=30)
    with loose.client() as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        plan = crawler.plan(query="", page_size=1, pace=IN_CHAINS)
        assert (plan.chains, plan.planned_pages) == ((), 31)
        assert len(_walk(crawler, plan)) == 31
    assert "counted 30 studies, and 90 in 3 slices" in caplog.text


def test_a_registry_that_refuses_slices_is_walked_in_one_chain(
    crawler: Crawler, simulator: RunningSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    """A filter that the registry does not understand costs the pace, not the walk."""
    simulator.set_faults("request=2@studies:400")
    plan = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    assert (plan.chains, plan.planned_pages) == ((), STUDIES // PAGE_SIZE + 1)
    assert "slices are refused" in caplog.text


@pytest.mark.parametrize("mode", [ExtractionMode.INCREMENTAL, ExtractionMode.PICKED])
def test_a_part_of_the_registry_is_one_chain(crawler: Crawler, mode: ExtractionMode) -> None:
    """What was posted lately, and single studies, are a few pages."""
    plan = crawler.plan(
        query="",
        page_size=PAGE_SIZE,
        mode=mode,
        since=date(2025, 1, 1) if mode is ExtractionMode.INCREMENTAL else None,
        ids=[f"NCT{n:08d}" for n in range(1, 30)] if mode is ExtractionMode.PICKED else (),
        pace=IN_CHAINS,
    )
    assert plan.chains == ()


def test_an_open_extraction_keeps_its_chains(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """One that was begun in one chain goes on so, and one in three too, whatever is set by then."""
    plan = crawler.plan(query="", page_size=PAGE_SIZE)
    _walk(crawler, plan, last_page=2)
    assert crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS) == plan
    _walk(crawler, plan)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE

    divided = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    _walk(crawler, divided, last_page=2)
    assert crawler.plan(query="", page_size=PAGE_SIZE, pace=Pace(1, 10_000)) == divided
    _walk(crawler, divided)
    assert studies_of(lake, divided.extraction_id) == _all_of(simulator)


def test_how_many_chains_is_measured(lake: Lake) -> None:
    """Of answers that take 50 ms one after the other are too slow for 10,000 a minute, and fast enough for 60."""
    options = SimulatorOptions(latency_seconds=0.05)
    with running_simulator(_source(), options) as slow, client_of(slow.api_url) as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        fast = crawler.plan(query="", page_size=PAGE_SIZE, pace=Pace(None, 10_000))
        assert len(fast.chains) == (STUDIES // PAGE_SIZE + 1) // 4
        lake.extractions.supersede(fast.extraction_id, "for the test")
        assert crawler.plan(query="", page_size=PAGE_SIZE, pace=Pace(None, 60)).chains == ()


# --- disturbed walks ------------------------------------------------------------------------------


def test_a_lost_page_is_asked_for_again(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """Only that page is: those after it in its chain, and other chains, stay."""
    plan = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    _walk(crawler, plan, last_page=8)
    lake.storage.delete_file(f"extractions/{plan.extraction_id}/pages/00002.parquet")
    pages = _walk(crawler, plan)
    assert [page for page, fresh in pages.items() if not fresh and page <= 8] == [
        1,
        3,
        4,
        6,
        7,
        5,
        8,
    ]
    assert pages[2]
    assert studies_of(lake, plan.extraction_id) == _all_of(simulator)


def test_data_that_move_supersede_all_chains(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """Nothing of the walk counts, and the next plan brings home the new data whole."""
    plan = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    walk = crawler.walk(plan, 1000)
    next(walk)
    simulator.advance(_source("Changed"))
    with pytest.raises(ExtractionSupersededError):
        list(walk)
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.SUPERSEDED
    assert lake.extractions.completion(plan.extraction_id) is None
    again = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    _walk(crawler, again)
    assert studies_of(lake, again.extraction_id) == _all_of(simulator)


def test_a_slice_with_more_pages_than_counted_supersedes_the_walk(
    crawler: Crawler, lake: Lake
) -> None:
    """One chain that goes on after its planned end is enough."""
    plan = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    short, *rest = plan.chains
    short = type(short)(
        within=short.within,
        expected_studies=short.expected_studies,
        planned_pages=short.planned_pages - 1,
    )
    fewer = (plan.planned_pages or 0) - 1
    wrong = ExtractionPlan(
        **{name: getattr(plan, name) for name in plan.__struct_fields__}
        | {"chains": (short, *rest), "planned_pages": fewer}
    )
    with pytest.raises(ExtractionSupersededError, match="more pages than"):
        _walk(crawler, wrong)
    assert lake.extractions.completion(plan.extraction_id) is None


def test_a_failed_chain_ends_the_walk_and_all_pages_stay(
    crawler: Crawler, lake: Lake, simulator: RunningSimulator
) -> None:
    """What other chains have brought is there, and the next walk goes on from it."""
    plan = crawler.plan(query="", page_size=PAGE_SIZE, pace=IN_CHAINS)
    simulator.set_faults("page=3@studies:403")
    with pytest.raises(PermanentRegistryError, match="403"):
        _walk(crawler, plan)
    there = lake.shards.pages(plan.extraction_id)
    assert len(there) >= 2
    assert lake.extractions.state(plan.extraction_id) is ExtractionState.OPEN
    simulator.set_faults()
    pages = _walk(crawler, plan)
    assert {page for page, fresh in pages.items() if not fresh} == set(there)
    assert studies_of(lake, plan.extraction_id) == _all_of(simulator)


def test_what_nobody_waits_for_is_not_asked_for() -> None:
    """Whoever leaves does not wait for what is under way, which is told and sends nothing more."""
    sent: list[httpx.Request] = []
    ended: list[BaseException] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"studies": []})

    with client_of("http://registry.test/api/v2", httpx.MockTransport(answer)) as client:

        def late(stopped: threading.Event) -> None:
            stopped.wait(_PATIENCE_SECONDS)
            try:
                client.page(PageRequest("", 1), stopped=stopped)
            except RequestStoppedError as error:
                ended.append(error)

        with SideBySide[str, None]() as calls:
            calls.start("late", late)
        wait_until("the late call has ended", lambda: bool(ended), _PATIENCE_SECONDS, pause=0.005)
    assert sent == []


def _most_requests(records: tuple[RequestRecord, ...], seconds: float) -> int:
    arrivals = [record.arrived_ns for record in records]
    return max(
        sum(start <= arrival < start + seconds * 1e9 for arrival in arrivals) for start in arrivals
    )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[RunningSimulator, Order]]:
    """A registry whose answers take a moment, and an order to crawl it in chains, 30 requests in half a second."""
    with running_simulator(_source(), SimulatorOptions(latency_seconds=0.01)) as simulator:
        yield (
            simulator,
            Order(
                simulator.api_url,
                tmp_path / "killed",
                2,
                requests=30,
                window_seconds=0.5,
                chains=CHAINS,
            ),
        )


@pytest.mark.soak
@pytest.mark.process
def test_kills_cost_nothing_but_the_pages_in_flight(
    scene: tuple[RunningSimulator, Order], tmp_path: Path
) -> None:
    """Killed again and again, a crawl in chains ends as one that was left alone does, within the limit.

    No page is asked for more often than once and once for each kill that may have left it in flight.
    """
    simulator, order = scene
    dice = Random(20261126)
    pages = (STUDIES // 2 + 1) + CHAINS
    kills = 0
    for at in sorted(dice.sample(range(1, pages - 2), times(4, 20))):
        with crawling(replace(order, halt_after=at)) as crawl:
            assert crawl.message() == "halted"
            crawl.kill()
        kills += 1
    with crawling(order) as crawl:
        assert crawl.message() == COMPLETE
    requests = simulator.requests
    undisturbed = replace(order, data_dir=tmp_path / "undisturbed", requests=10_000)
    with crawling(undisturbed) as crawl:
        assert crawl.message() == COMPLETE

    lake, other = order.open_lake(), undisturbed.open_lake()
    [plan], [other_plan] = lake.extractions.plans(), other.extractions.plans()
    assert plan.chains == other_plan.chains
    assert shard_contents(lake, plan.extraction_id) == shard_contents(
        other, other_plan.extraction_id
    )
    asked = Counter(_asked(requests))
    assert len(asked) == plan.planned_pages
    assert max(asked.values()) <= 1 + kills
    assert asked.total() <= (plan.planned_pages or 0) + kills * CHAINS
    assert _most_requests(requests, order.window_seconds) <= order.requests
    by_chain = defaultdict(set)
    for within, token in asked:
        by_chain[within].add(token)
    assert sorted(map(len, by_chain.values())) == sorted(c.planned_pages for c in plan.chains)
