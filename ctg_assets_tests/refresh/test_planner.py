"""What is next, in every state that lake, database and registry can be in."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan
from ctg_assets.lake import Lake
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.refresh.planner import Idle, Stage, Step, next_step
from ctg_assets.refresh.retention import prune
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.simulator.in_memory import study
from ctg_assets_tests.support.lakes import (
    FIRST_DATA,
    NEXT_DATA,
    add_page,
    completed,
    json_of,
    planned,
)

TABLES = ("studies", "conditions", "keywords")
MARTS = ("dim_study", "fct_study_site")


class World:
    """A lake, and what database and registry would answer; counts how often they are asked."""

    def __init__(self, lake: Lake, settings: Settings) -> None:
        self.lake = lake
        self.settings = settings
        self.registry = FIRST_DATA
        self.database = WarehouseState()
        self.ctgov: str | None = None
        self.asked: list[str] = []

    def next(self) -> Step | Idle:
        """What is next."""

        def actual(wanted: WarehouseState) -> WarehouseState:
            assert wanted.tables
            self.asked.append("warehouse")
            return self.database

        def registry_timestamp() -> str:
            self.asked.append("registry")
            return self.registry

        return next_step(
            self.settings,
            self.lake,
            actual=actual,
            desired=lambda manifest: msgspec.structs.replace(
                _desired(manifest), ctgov_fingerprint=self.ctgov
            ),
            registry_timestamp=registry_timestamp,
        )

    def step(self) -> tuple[Stage, ExtractionPlan | None]:
        """The next stage and the extraction concerned; fails when there is nothing to do."""
        step = self.next()
        assert isinstance(step, Step), step
        return step.stage, step.extraction

    def extracted(
        self,
        *numbers: int,
        data_timestamp: str = FIRST_DATA,
        expected: int | None = None,
        query: str = "",
        mode: ExtractionMode = ExtractionMode.FULL,
        title: str = "A Study",
    ) -> ExtractionPlan:
        """A complete extraction of studies with these numbers."""
        plan = planned(
            self.lake,
            self.settings,
            studies=len(numbers) if expected is None else expected,
            data_timestamp=data_timestamp,
            query=query,
            mode=mode,
        )
        return completed(self.lake, plan, json_of(*numbers, title=title))

    def compacted(self, plan: ExtractionPlan) -> SnapshotManifest:
        """The snapshot of a complete extraction."""
        return Compactor(self.lake.storage, self.lake.scratch).compact(plan.extraction_id)

    def built(self, plan: ExtractionPlan) -> None:
        """Compact an extraction and take it all the way into the database."""
        self.database = _desired(self.compacted(plan))


def _desired(manifest: SnapshotManifest) -> WarehouseState:
    return WarehouseState(
        tables=dict.fromkeys(TABLES, manifest.content_fingerprint),
        data_timestamp=manifest.data_timestamp,
        marts=dict.fromkeys(MARTS, f"marts of {manifest.content_fingerprint}"),
    )


@pytest.fixture
def world(lake: Lake, settings: Settings) -> World:
    """An empty lake and database, and a registry at its first data version."""
    return World(lake, settings)


# --- the way from nothing to everything -----------------------------------------------------------


def test_with_nothing_there_a_walk_is_planned(world: World) -> None:
    """An empty lake needs a plan; the database is not even asked."""
    assert world.step() == (Stage.PLAN, None)
    assert world.asked == ["registry"]


def test_an_open_extraction_is_walked_without_asking_anybody(world: World) -> None:
    """The pages of an open plan are next, whatever else is there."""
    world.built(world.extracted(1, 2))
    world.asked.clear()
    plan = planned(world.lake, world.settings, data_timestamp=NEXT_DATA)
    assert world.step() == (Stage.PAGES, plan)
    assert world.asked == []


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ([], (1, 2)),
        ([1], (2, 3)),
        ([1, 2, 3], (4, 5)),
        ([1, 2, 3, 4], (5, 5)),
        ([1, 3], (2, 3)),
        # Only the mark of completion is missing: the last page is asked for again, which is free.
        ([1, 2, 3, 4, 5], (5, 5)),
    ],
)
def test_a_run_asks_for_the_next_range(
    world: World, there: list[int], wanted: tuple[int, int]
) -> None:
    """The range begins with the first page missing and has the configured length at most."""
    world.settings = world.settings.model_copy(update={"pages_per_run": 2})
    plan = planned(world.lake, world.settings, studies=45)
    for page in there:
        add_page(world.lake, plan, page, json_of(page))
    step = world.next()
    assert isinstance(step, Step)
    assert (step.stage, step.first_page, step.last_page) == (Stage.PAGES, *wanted)


def test_a_complete_extraction_is_compacted(world: World) -> None:
    """Neither database nor registry matter before there is a snapshot."""
    plan = world.extracted(1, 2, 3)
    assert world.step() == (Stage.SNAPSHOT, plan)
    assert world.asked == []


def test_a_snapshot_of_another_schema_is_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the model of a study changed, the shards are compacted again."""
    plan = world.extracted(1, 2, 3)
    world.built(plan)
    monkeypatch.setattr("ctg_assets.refresh.planner.model_fingerprint", lambda: "changed")
    assert world.step() == (Stage.SNAPSHOT, plan)


def test_a_lake_without_history_gets_one(world: World) -> None:
    """Extractions and snapshots of a release that kept none are recorded, and compacted again."""
    plan = world.extracted(1, 2, 3)
    path = f"snapshots/{plan.extraction_id}/manifest.json"
    world.lake.storage.write_bytes(path, b'{"snapshot_id": "s", "studies": 3}')
    assert world.step() == (Stage.SNAPSHOT, plan)
    assert world.compacted(plan).studies == 3
    assert world.step() == (Stage.STAGING, plan)


def test_a_snapshot_is_loaded(world: World) -> None:
    """The tables are next when they hold something else."""
    plan = world.extracted(1, 2, 3)
    world.compacted(plan)
    assert world.step() == (Stage.STAGING, plan)
    assert world.asked == ["warehouse"]


def test_only_tables_that_are_out_of_date_are_loaded(world: World) -> None:
    """The step names those that are made from something else, or missing, in the model's order."""
    plan = world.extracted(1, 2, 3)
    world.built(plan)
    held = {"keywords": world.database.tables["keywords"], "studies": "by another declaration"}
    world.database = msgspec.structs.replace(world.database, tables=held)
    step = world.next()
    assert isinstance(step, Step)
    assert (step.stage, step.tables) == (Stage.STAGING, ("studies", "conditions"))
    assert step.reason == "to be loaded: studies, conditions"


def test_a_table_that_left_the_model_has_to_go(world: World) -> None:
    """Then nothing is loaded, but the stage of loading drops it."""
    world.built(world.extracted(1, 2, 3))
    held = {**world.database.tables, "links": "an older declaration"}
    world.database = msgspec.structs.replace(world.database, tables=held)
    step = world.next()
    assert isinstance(step, Step)
    assert (step.stage, step.tables) == (Stage.STAGING, ())
    assert step.reason == "no longer in the data model: links"


def test_unchanged_studies_of_a_newer_data_version_are_not_loaded(world: World) -> None:
    """Then only the data version is noted."""
    world.built(world.extracted(1, 2, 3))
    plan = world.extracted(1, 2, 3, data_timestamp=NEXT_DATA)
    world.compacted(plan)
    assert world.step() == (Stage.LOAD_INFO, plan)


def test_marts_follow_the_tables(world: World) -> None:
    """Tables that are up to date under marts that are not: the marts are next."""
    plan = world.extracted(1, 2, 3)
    state = _desired(world.compacted(plan))
    world.database = WarehouseState(
        state.tables, state.data_timestamp, dict.fromkeys(MARTS, "older")
    )
    assert world.step() == (Stage.MARTS, plan)


def test_only_marts_that_are_newly_wanted_are_built(world: World) -> None:
    """Where some of the marts are as they should be, the others are named."""
    plan = world.extracted(1, 2, 3)
    state = _desired(world.compacted(plan))
    first, second = MARTS
    world.database = msgspec.structs.replace(state, marts={first: state.marts[first]})
    step = world.next()
    assert isinstance(step, Step)
    assert (step.stage, step.marts) == (Stage.MARTS, (second,))
    assert second in step.reason


def test_marts_that_are_not_wanted_go_before_others_are_built(world: World) -> None:
    """One that the settings leave out, or that a newer release has no more, is named and dropped."""
    plan = world.extracted(1, 2, 3)
    state = _desired(world.compacted(plan))
    world.database = msgspec.structs.replace(state, marts={"dim_of_old": "older"})
    step = world.next()
    assert isinstance(step, Step)
    assert (step.stage, step.marts) == (Stage.DROP_MARTS, ())
    assert "dim_of_old" in step.reason
    world.database = state
    assert isinstance(world.next(), Idle)


def test_tables_of_aact_keep_nothing_waiting(world: World) -> None:
    """Where they are wanted and not made from the tables as they are, they are next, after the marts."""
    plan = world.extracted(1, 2, 3)
    state = _desired(world.compacted(plan))
    world.ctgov = "of these tables"
    world.database = msgspec.structs.replace(state, marts=dict.fromkeys(MARTS, "older"))
    assert world.step() == (Stage.MARTS, plan)
    world.database = state
    assert world.step() == (Stage.CTGOV, plan)
    world.database = msgspec.structs.replace(state, ctgov_fingerprint=world.ctgov)
    assert isinstance(world.next(), Idle)


def test_there_is_rest_when_everything_is_there(world: World) -> None:
    """Nothing is next when the database holds the registry's present data."""
    world.built(world.extracted(1, 2, 3))
    rest = world.next()
    assert isinstance(rest, Idle)
    assert not rest.blocked
    assert FIRST_DATA in rest.reason
    assert world.asked == ["warehouse", "registry"]


def test_a_walk_is_planned_when_the_data_moved(world: World) -> None:
    """A new data version of the registry begins everything anew."""
    world.built(world.extracted(1, 2, 3))
    world.registry = NEXT_DATA
    assert world.step() == (Stage.PLAN, None)


def test_what_was_extracted_is_built_before_the_registry_is_asked(world: World) -> None:
    """An older data version is taken to the marts before a newer one is walked."""
    plan = world.extracted(1, 2, 3)
    world.registry = NEXT_DATA
    assert world.step() == (Stage.SNAPSHOT, plan)
    world.built(plan)
    assert world.step() == (Stage.PLAN, None)


# --- modes ----------------------------------------------------------------------------------------


def _planned_because(world: World) -> str:
    """What is to be planned and why; fails when something else is next."""
    step = world.next()
    assert isinstance(step, Step), step
    assert step.stage is Stage.PLAN
    return step.reason


def test_modes_take_turns_at_a_data_version(world: World) -> None:
    """When the data move, what was posted is asked for, then a census, and everything after a week."""
    world.built(world.extracted(1, 2, 3))
    world.registry = NEXT_DATA
    assert _planned_because(world).startswith("incremental: the registry's data moved")
    incremental = world.extracted(
        2, data_timestamp=NEXT_DATA, mode=ExtractionMode.INCREMENTAL, title="Changed"
    )
    assert world.step() == (Stage.SNAPSHOT, incremental)
    world.built(incremental)
    assert _planned_because(world).startswith("census: removals and missed updates")
    world.built(world.extracted(1, 2, 3, data_timestamp=NEXT_DATA, mode=ExtractionMode.CENSUS))
    assert isinstance(world.next(), Idle)
    world.registry = "2026-11-27T08:59:59"
    assert _planned_because(world).startswith("full: the last whole walk")


def test_what_a_census_finds_missing_is_fetched(world: World) -> None:
    """Studies that it saw and we have not are asked for by their ids, and then there is rest."""
    world.built(world.extracted(1, 2, 3))
    world.registry = NEXT_DATA
    world.built(world.extracted(2, data_timestamp=NEXT_DATA, mode=ExtractionMode.INCREMENTAL))
    world.built(world.extracted(1, 2, 3, 4, data_timestamp=NEXT_DATA, mode=ExtractionMode.CENSUS))
    assert _planned_because(world).startswith("picked: the census of 2026-11-21T09:00:05 found 1 ")
    world.built(world.extracted(4, data_timestamp=NEXT_DATA, mode=ExtractionMode.PICKED))
    assert isinstance(world.next(), Idle)


def test_complete_extractions_are_recorded_oldest_first(world: World) -> None:
    """What several of them saw is recorded in the order of time; the snapshot is of the last one."""
    first = world.extracted(1, 2)
    second = world.extracted(1, 2, 3, data_timestamp=NEXT_DATA)
    assert world.step() == (Stage.SNAPSHOT, first)
    world.compacted(first)
    assert world.step() == (Stage.SNAPSHOT, second)
    world.compacted(second)
    assert world.step() == (Stage.STAGING, second)


def test_an_extraction_overtaken_by_a_recorded_one_is_not_recorded(world: World) -> None:
    """One that was held back, and made good by a later one, would only bring back what is past."""
    world.extracted(1, 2, 3, expected=9)
    later = world.extracted(1, 2, 3, data_timestamp=NEXT_DATA)
    assert world.step() == (Stage.SNAPSHOT, later)
    world.built(later)
    world.registry = NEXT_DATA
    assert world.next() == Idle(f"everything is as of the registry's data version {NEXT_DATA}")


def test_a_census_held_back_is_not_taken_again_at_its_data_version(world: World) -> None:
    """A registry that contradicts itself is asked again when its data move."""
    world.built(world.extracted(1, 2, 3))
    world.registry = NEXT_DATA
    world.built(world.extracted(2, data_timestamp=NEXT_DATA, mode=ExtractionMode.INCREMENTAL))
    world.extracted(1, 2, data_timestamp=NEXT_DATA, mode=ExtractionMode.CENSUS, expected=3)
    rest = world.next()
    assert isinstance(rest, Idle)
    assert rest.blocked
    world.registry = "2026-11-22T09:00:05"
    assert _planned_because(world).startswith("incremental")


@pytest.mark.parametrize(
    "mode", [ExtractionMode.INCREMENTAL, ExtractionMode.CENSUS, ExtractionMode.PICKED]
)
def test_an_open_extraction_of_any_mode_is_walked(world: World, mode: ExtractionMode) -> None:
    """Whatever it asks for, it is walked to its end before anything else is planned."""
    world.built(world.extracted(1, 2))
    plan = planned(world.lake, world.settings, data_timestamp=NEXT_DATA, mode=mode)
    assert world.step() == (Stage.PAGES, plan)


# --- extractions that are not of the present settings ---------------------------------------------


@pytest.mark.parametrize("changed", [{"query": "Asthma"}, {"api_url": "http://other.test/api/v2"}])
def test_changed_settings_need_another_walk(world: World, changed: dict[str, str]) -> None:
    """Another query or registry is planned at once; what is there of the former is left alone."""
    world.extracted(1, 2, 3)
    planned(world.lake, world.settings)
    world.settings = world.settings.model_copy(update=changed)
    assert world.step() == (Stage.PLAN, None)
    assert world.asked == ["registry"]


def test_an_import_is_built_and_then_overtaken_by_a_walk(world: World) -> None:
    """What somebody brought in goes to the marts; then the registry's present data are due."""
    world.built(world.extracted(1, 2, 3))
    imported = world.extracted(1, 2, mode=ExtractionMode.IMPORT)
    assert world.step() == (Stage.SNAPSHOT, imported)
    world.built(imported)
    assert world.step() == (Stage.PLAN, None)


def test_an_import_without_an_end_is_no_work(world: World) -> None:
    """What a killed import left is neither walked nor built."""
    world.built(world.extracted(1, 2, 3))
    broken = planned(world.lake, world.settings, mode=ExtractionMode.IMPORT)
    add_page(world.lake, broken, 1, json_of(1))
    assert isinstance(world.next(), Idle)


def test_an_extraction_given_up_is_no_work(world: World) -> None:
    """Its pages are not used; another walk is planned."""
    plan = planned(world.lake, world.settings)
    world.lake.extractions.supersede(plan.extraction_id, "its token expired")
    assert world.step() == (Stage.PLAN, None)


def _given_up(
    world: World, times: int, *, data_timestamp: str = FIRST_DATA, query: str = ""
) -> None:
    for _ in range(times):
        plan = planned(world.lake, world.settings, data_timestamp=data_timestamp, query=query)
        world.lake.extractions.supersede(plan.extraction_id, "there were more pages than counted")


def test_walks_that_are_given_up_time_after_time_end(world: World) -> None:
    """Five walks given up at one data version wait for the next one, and say why."""
    _given_up(world, 4)
    assert world.step() == (Stage.PLAN, None)
    _given_up(world, 1)
    rest = world.next()
    assert isinstance(rest, Idle)
    assert rest.blocked
    assert "more pages than counted" in rest.reason
    world.registry = NEXT_DATA
    assert world.step() == (Stage.PLAN, None)


def test_only_walks_over_the_same_data_count_as_given_up_in_vain(world: World) -> None:
    """Walks of other data versions and other queries say nothing about the next one."""
    _given_up(world, 5, data_timestamp=NEXT_DATA)
    _given_up(world, 5, query="Asthma")
    assert world.step() == (Stage.PLAN, None)


# --- held back by checks --------------------------------------------------------------------------


def _too_few(world: World) -> ExtractionPlan:
    return world.extracted(1, 2, 3, expected=9)


def _vanished(world: World) -> ExtractionPlan:
    world.built(world.extracted(1, 2, 3, 4))
    return world.extracted(1)


def _mistyped(world: World) -> ExtractionPlan:
    plan = planned(world.lake, world.settings, studies=3)
    mistyped = [msgspec.json.encode({**study(number), "hasResults": []}) for number in (2, 3)]
    completed(world.lake, plan, [*json_of(1), *mistyped])
    world.compacted(plan)
    return plan


@pytest.mark.parametrize(
    ("held_back", "reason"),
    [
        (_too_few, "not recorded, check pages_are_complete_and_consistent failed"),
        (_vanished, "not recorded, check no_mass_disappearance failed"),
        (_mistyped, "not loaded, check few_studies_in_quarantine failed"),
    ],
)
def test_a_fatal_check_holds_back_until_the_registry_moves(
    world: World, held_back: Callable[[World], ExtractionPlan], reason: str
) -> None:
    """Bad shards are not recorded and a bad snapshot is not loaded; new data are tried all the same."""
    held_back(world)
    rest = world.next()
    assert isinstance(rest, Idle)
    assert rest.blocked
    assert reason in rest.reason
    world.registry = NEXT_DATA
    assert world.step() == (Stage.PLAN, None)


def test_what_is_held_back_is_no_measure_for_the_next_one(world: World) -> None:
    """A registry that shows half its studies two days in a row is not let in on the second."""
    world.built(world.extracted(1, 2, 3, 4))
    for data_timestamp in (NEXT_DATA, "2026-11-22T09:00:05"):
        world.extracted(1, 2, data_timestamp=data_timestamp)
        world.registry = data_timestamp
        rest = world.next()
        assert isinstance(rest, Idle)
        assert "2 of 4 studies are gone" in rest.reason
        prune(world.lake, keep_extractions=1)
    plan = world.extracted(1, 2, 3, 4, 5, data_timestamp="2026-11-23T09:00:05")
    assert world.step() == (Stage.SNAPSHOT, plan)


def test_a_disappearance_that_is_real_can_be_let_pass(world: World) -> None:
    """What a person found to be so is recorded once the bound is raised, and is the measure then."""
    plan = _vanished(world)
    bound = world.settings.max_shrink_fraction
    world.settings = world.settings.model_copy(update={"max_shrink_fraction": 1.0})
    assert world.step() == (Stage.SNAPSHOT, plan)
    world.compacted(plan)
    world.settings = world.settings.model_copy(update={"max_shrink_fraction": bound})
    assert world.step() == (Stage.STAGING, plan)


def test_a_snapshot_that_is_loaded_is_not_judged_again(world: World) -> None:
    """What a person let pass goes on to the marts when the bound is back to normal."""
    plan = _mistyped(world)
    world.settings = world.settings.model_copy(update={"max_quarantine_fraction": 1.0})
    assert world.step() == (Stage.STAGING, plan)
    world.settings = world.settings.model_copy(update={"max_quarantine_fraction": 0.01})
    manifest = world.lake.snapshots.manifest(plan.extraction_id)
    assert manifest is not None
    world.database = WarehouseState(
        _desired(manifest).tables, FIRST_DATA, dict.fromkeys(MARTS, "older")
    )
    assert world.step() == (Stage.MARTS, plan)


def test_the_name_of_a_step_changes_with_progress(world: World) -> None:
    """Attempts are counted by name: the same pages again have the same one, later pages another."""
    plan = planned(world.lake, world.settings)

    def name() -> str:
        step = world.next()
        assert isinstance(step, Step)
        return step.name

    first = name()
    assert name() == first
    add_page(world.lake, plan, 1, json_of(1))
    assert name() != first
