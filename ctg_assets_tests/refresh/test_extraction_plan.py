"""Planning what is due against a registry that moves, and what can be told without asking it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan
from ctg_assets.lake import Lake
from ctg_assets.refresh import planner
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.refresh.extraction_plan import plan_extraction
from ctg_assets.refresh.planner import Idle, Stage, Step, next_known_step
from ctg_assets.registry.client import RegistryClient
from ctg_assets.setting_values import RefreshMode
from ctg_assets.settings import Settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.times import parse_data_timestamp
from ctg_assets_tests.simulator.in_memory import InMemorySource, nct_id, study

LONG_AGO = "2020-01-01"


class Follower:
    """A lake that follows the simulator, one extraction at a time."""

    def __init__(self, settings: Settings, lake: Lake, client: RegistryClient) -> None:
        self.settings = settings
        self.lake = lake
        self._crawler = Crawler(client, lake.extractions, lake.shards)

    def plan(self, mode: RefreshMode = RefreshMode.AUTO) -> ExtractionPlan:
        """Plan what is due, or what is set."""
        settings = self.settings.model_copy(update={"refresh_mode": mode})
        return plan_extraction(settings, self.lake, self._crawler)

    def extract(self, mode: RefreshMode = RefreshMode.AUTO) -> ExtractionPlan:
        """Take what is due to its snapshot."""
        plan = self.plan(mode)
        list(self._crawler.walk(plan, plan.planned_pages or 0))
        Compactor(self.lake.storage, self.lake.scratch).compact(plan.extraction_id)
        return plan


@pytest.fixture
def follower(
    settings: Settings, lake: Lake, client: RegistryClient, simulator: RunningSimulator
) -> Follower:
    """A lake of the simulator's 25 studies, extracted once."""
    chosen = settings.model_copy(update={"api_url": simulator.api_url, "page_size": 10})
    follower = Follower(chosen, lake, client)
    plan = follower.extract()
    assert (plan.mode, plan.expected_studies) == (ExtractionMode.FULL, 25)
    assert "no walk over every study" in (plan.reason or "")
    return follower


def _moved(simulator: RunningSimulator) -> str:
    """Publish data in which 3 was edited without a word, 4 on a date of old, 5 today; 6 is new, 25 gone."""
    before = parse_data_timestamp(simulator.version.data_timestamp)
    today = (before + timedelta(days=1)).date().isoformat()
    changed = {
        3: study(3, title="Silent"),
        4: study(4, title="Late", posted=LONG_AGO),
        5: study(5, title="New", posted=today),
    }
    studies = [changed.get(number, study(number)) for number in range(1, 25)]
    simulator.advance(InMemorySource([*studies, study(26, posted=LONG_AGO)]))
    return today


@pytest.mark.slow
def test_each_mode_is_planned_with_what_it_needs(
    follower: Follower, simulator: RunningSimulator
) -> None:
    """The incremental walk knows its first day, the census none, picked studies their ids."""
    known = parse_data_timestamp(simulator.version.data_timestamp).date()
    _moved(simulator)
    incremental = follower.extract()
    assert incremental.mode is ExtractionMode.INCREMENTAL
    assert incremental.since == known - timedelta(days=3)
    assert incremental.expected_studies == 1
    assert "data moved" in (incremental.reason or "")

    census = follower.extract()
    assert (census.mode, census.since, census.expected_studies) == (
        ExtractionMode.CENSUS,
        None,
        25,
    )
    picked = follower.extract()
    assert picked.mode is ExtractionMode.PICKED
    assert follower.lake.extractions.ids(picked.extraction_id) == [nct_id(4), nct_id(26)]

    periods = follower.lake.history.periods(["nct_id", "version_number", "ended_by"])
    assert periods.filter(periods["version_number"] > 1)["nct_id"].to_list() == [
        nct_id(4),
        nct_id(5),
    ]
    ended = dict(periods.select("nct_id", "ended_by").drop_nulls().iter_rows())
    assert ended == {nct_id(4): "update", nct_id(5): "update", nct_id(25): "delete"}


@pytest.mark.slow
def test_only_a_whole_walk_sees_a_silent_edit(
    follower: Follower, simulator: RunningSimulator
) -> None:
    """A content that changed under an unmoved date is found by the next walk of everything."""
    _moved(simulator)
    follower.extract(RefreshMode.CENSUS)
    follower.extract()
    assert _versions(follower, 3) == 1
    follower.extract(RefreshMode.FULL)
    assert _versions(follower, 3) == 2


def _versions(follower: Follower, number: int) -> int:
    periods = follower.lake.history.periods(["nct_id"])
    return periods.filter(periods["nct_id"] == nct_id(number)).height


def test_something_is_planned_though_nothing_is_due(follower: Follower) -> None:
    """Whoever materializes the plan gets one: of everything, or of what the settings say."""
    assert follower.plan().mode is ExtractionMode.FULL
    assert follower.plan(RefreshMode.CENSUS).mode is ExtractionMode.CENSUS
    again = follower.plan(RefreshMode.INCREMENTAL)
    assert (again.mode, again.reason) == (
        ExtractionMode.INCREMENTAL,
        "asked for, though nothing is due",
    )


def test_what_is_known_is_told_without_asking_the_registry(
    follower: Follower,
    simulator: RunningSimulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether anything is unfinished follows from the lake and the database."""
    built = WarehouseState({"studies": "made"}, "2026-11-20T09:00:05", {"dim_study": "made"})
    monkeypatch.setattr(planner, "desired_state", lambda *_: built)
    monkeypatch.setattr(planner, "actual_state", lambda _: built)
    _moved(simulator)
    asked = len(simulator.requests)
    assert isinstance(next_known_step(follower.settings, follower.lake), Idle)
    assert len(simulator.requests) == asked

    plan = follower.extract()
    assert plan.mode is ExtractionMode.INCREMENTAL
    step = next_known_step(follower.settings, follower.lake)
    assert isinstance(step, Step)
    assert (step.stage, step.reason.split(":")[0]) == (Stage.PLAN, "census")


def test_an_empty_lake_needs_everything(lake: Lake, settings: Settings) -> None:
    """Before anything was extracted, a walk over everything is what is to be done."""
    step = next_known_step(settings, lake)
    assert isinstance(step, Step)
    assert step.reason.startswith("full: the history has no walk")
