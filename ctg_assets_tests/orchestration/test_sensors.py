"""The sensor `registry_refresh`: what it asks for, when it waits, and what it says then."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import dagster as dg
import msgspec
import psutil
import pytest

from ctg_assets.extract.crawl import Crawler, open_crawler
from ctg_assets.extract.extractions import Completion, ExtractionMode, ExtractionPlan
from ctg_assets.history.recording import Recorder
from ctg_assets.history.undo import Author
from ctg_assets.lake import Lake, open_lake
from ctg_assets.orchestration.pages import RANGE_END_TAG, RANGE_START_TAG, registered_pages
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.runs import process_tags, unfinished_runs
from ctg_assets.orchestration.sensors import ATTEMPT_TAG, REASON_TAG, Cursor, parse_cursor
from ctg_assets.refresh.backoff import Attempts
from ctg_assets.refresh.desired_state import WarehouseState, desired_state
from ctg_assets.refresh.undo import undoer
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.storage import object_client
from ctg_assets_tests.orchestration.graph import definitions_without_dbt
from ctg_assets_tests.support.lakes import completed, json_of, planned

# Each test has a Dagster instance of its own.
pytestmark = pytest.mark.slow

STUDIES, PAGE_SIZE, PAGES = 45, 10, 5


@cache
def _repository() -> dg.RepositoryDefinition:
    return definitions_without_dbt().get_repository_def()


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[RunningSimulator]:
    """One registry for all tests of this module."""
    with running_simulator(GeneratedSource(STUDIES, 1)) as running:
        yield running


@dataclass
class Sensor:
    """The sensor with an instance and a lake of its own, and the cursor from tick to tick."""

    settings: Settings
    instance: dg.DagsterInstance
    cursor: str | None = None

    @property
    def lake(self) -> Lake:
        """Its lake."""
        return open_lake(self.settings)

    def tick(self) -> dg.RunRequest | str:
        """One evaluation: the run asked for, or the reason why there is none."""
        overrides = self.settings.model_dump(mode="json", exclude_none=True) | {
            "data_dir": str(self.settings.data_dir)
        }
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=_repository(),
            resources={"settings": SettingsResource(overrides=overrides)},
        ) as context:
            outcome = _repository().get_sensor_def("registry_refresh").evaluate_tick(context)
        self.cursor = outcome.cursor
        if not outcome.run_requests:
            return outcome.skip_message or ""
        (request,) = outcome.run_requests
        return request

    def request(self) -> dg.RunRequest:
        """One evaluation that has to ask for a run."""
        outcome = self.tick()
        assert isinstance(outcome, dg.RunRequest), outcome
        return outcome

    def remembered(self) -> Cursor:
        """What it remembers."""
        return parse_cursor(self.cursor)

    def remember(self, cursor: Cursor) -> None:
        """Make it remember something else."""
        self.cursor = msgspec.json.encode(cursor).decode()

    def forget_pause(self) -> None:
        """As if the last attempt was long ago."""
        cursor = self.remembered()
        attempts = msgspec.structs.replace(cursor.attempts, last_at=0.0)
        self.remember(msgspec.structs.replace(cursor, attempts=attempts))

    def run(
        self, job_name: str, status: dg.DagsterRunStatus, tags: dict[str, str]
    ) -> dg.DagsterRun:
        """A run as another process has left it so far."""
        job = _repository().get_job(job_name)
        return self.instance.create_run_for_job(job, status=status, tags=tags)

    @contextmanager
    def crawler(self) -> Iterator[Crawler]:
        """What plans and walks in its lake."""
        with open_crawler(self.settings, self.lake.extractions, self.lake.shards) as crawler:
            yield crawler

    def plan(self) -> ExtractionPlan:
        """Plan a walk."""
        with self.crawler() as crawler:
            return crawler.plan(query="", page_size=PAGE_SIZE)

    def walk(self, plan: ExtractionPlan, last_page: int = PAGES) -> None:
        """Walk up to a page."""
        with self.crawler() as crawler:
            list(crawler.walk(plan, last_page))


@pytest.fixture
def sensor(shared_simulator: RunningSimulator, tmp_path: Path) -> Iterator[Sensor]:
    """A sensor that has nothing yet."""
    settings = load_settings(
        api_url=shared_simulator.api_url,
        data_dir=tmp_path,
        page_size=PAGE_SIZE,
        pages_per_run=3,
        requests_per_minute=10_000,
        retry_seconds=0,
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Sensor(settings, instance)


def asked_versions(simulator: RunningSimulator) -> int:
    """How often the registry was asked for its data version."""
    return sum(request.path.endswith("/version") for request in simulator.requests)


def test_begins_with_a_plan(sensor: Sensor) -> None:
    """With nothing there, a plan is asked for, as the first attempt."""
    request = sensor.request()
    assert request.job_name == "plan_extraction"
    assert request.asset_selection == [dg.AssetKey("extraction_plan")]
    assert request.tags[ATTEMPT_TAG] == "1"


def test_asks_for_a_range_of_pages(sensor: Sensor) -> None:
    """A run gets the next pages, as many as settings say; an instance that knows none learns them."""
    plan = sensor.plan()
    request = sensor.request()
    assert request.job_name == "extract_pages"
    assert request.tags[RANGE_START_TAG] == plan.page_key(1)
    assert request.tags[RANGE_END_TAG] == plan.page_key(3)
    assert registered_pages(sensor.instance) == plan.page_keys()

    sensor.walk(plan, last_page=3)
    request = sensor.request()
    assert request.tags[RANGE_START_TAG] == plan.page_key(4)
    assert request.tags[RANGE_END_TAG] == plan.page_key(5)
    assert request.tags[ATTEMPT_TAG] == "1"


def test_asks_for_the_snapshot_when_all_pages_are_there(sensor: Sensor) -> None:
    """A complete walk is compacted next."""
    sensor.walk(sensor.plan())
    request = sensor.request()
    assert request.job_name == "build_warehouse"
    names = ("studies", "study_changes", "study_versions")
    assert request.asset_selection == [dg.AssetKey(name) for name in names]


def test_asks_for_tables_and_marts_then_rests(
    sensor: Sensor, shared_simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that the database does not hold is loaded, with the marts; then there is rest.

    Resting, it asks neither the database, nor the registry before the poll interval is over.
    """
    plan = sensor.plan()
    sensor.walk(plan)
    manifest = Compactor(sensor.lake.storage, sensor.lake.scratch).compact(plan.extraction_id)
    looked: list[Settings] = []
    holds = WarehouseState()

    def state(settings: Settings) -> WarehouseState:
        looked.append(settings)
        return holds

    monkeypatch.setattr("ctg_assets.orchestration.sensors.actual_state", state)
    request = sensor.request()
    assert request.job_name == "build_warehouse"
    assert request.asset_selection is not None
    assert dg.AssetKey(["staging", "conditions"]) in request.asset_selection
    assert dg.AssetKey(["marts", "dim_study"]) in request.asset_selection
    assert dg.AssetKey("studies") not in request.asset_selection

    holds = desired_state(sensor.settings, manifest)
    sensor.forget_pause()
    resting = sensor.tick()
    assert resting == sensor.tick()
    assert isinstance(resting, str)
    assert resting.startswith("everything is as of the registry's data version")
    assert len(looked) == 2

    asked = asked_versions(shared_simulator)
    assert sensor.tick() == resting
    assert asked_versions(shared_simulator) == asked
    cursor = sensor.remembered()
    long_ago = cursor.asked_registry_at - sensor.settings.poll_seconds
    sensor.remember(msgspec.structs.replace(cursor, asked_registry_at=long_ago))
    sensor.tick()
    assert asked_versions(shared_simulator) == asked + 1


def test_looks_at_the_database_again_after_an_undo(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tables were last seen to hold says nothing once something was loaded and taken back."""
    plan = sensor.plan()
    sensor.walk(plan)
    holds = desired_state(
        sensor.settings,
        Compactor(sensor.lake.storage, sensor.lake.scratch).compact(plan.extraction_id),
    )
    monkeypatch.setattr("ctg_assets.orchestration.sensors.actual_state", lambda _: holds)
    assert isinstance(sensor.tick(), str)
    holds = WarehouseState()
    assert isinstance(sensor.tick(), str)
    wrong = planned(sensor.lake, sensor.settings, studies=1, mode=ExtractionMode.IMPORT)
    completed(sensor.lake, wrong, json_of(9))
    Recorder(sensor.lake.storage, sensor.lake.scratch).record(wrong.extraction_id)
    undoer(sensor.lake).undo(2, Author(command="", user="", host=""))
    request = sensor.request()
    assert request.job_name == "build_warehouse"
    assert request.asset_selection is not None
    assert dg.AssetKey(["staging", "conditions"]) in request.asset_selection


def test_plans_anew_when_the_data_moved(
    sensor: Sensor, shared_simulator: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new data version of the registry leads to a new plan; the run's tags say which and why."""
    plan = sensor.plan()
    sensor.walk(plan)
    holds = desired_state(
        sensor.settings,
        Compactor(sensor.lake.storage, sensor.lake.scratch).compact(plan.extraction_id),
    )
    monkeypatch.setattr("ctg_assets.orchestration.sensors.actual_state", lambda _: holds)
    assert isinstance(sensor.tick(), str)
    shared_simulator.advance()
    sensor.remember(Cursor())
    request = sensor.request()
    assert request.job_name == "plan_extraction"
    assert request.tags[REASON_TAG].startswith("incremental: the registry's data moved from")


@pytest.mark.parametrize("seconds", [3600, -3600, -86_400 * 3000])
def test_a_clock_that_was_set_does_not_silence_it(
    sensor: Sensor,
    shared_simulator: RunningSimulator,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
) -> None:
    """Set back or forth between two ticks, the sensor asks the registry once more and goes on."""
    plan = sensor.plan()
    sensor.walk(plan)
    holds = desired_state(
        sensor.settings,
        Compactor(sensor.lake.storage, sensor.lake.scratch).compact(plan.extraction_id),
    )
    monkeypatch.setattr("ctg_assets.orchestration.sensors.actual_state", lambda _: holds)
    assert isinstance(sensor.tick(), str)
    now = time.time()
    monkeypatch.setattr("ctg_assets.orchestration.sensors.time.time", lambda: now + seconds)
    asked = asked_versions(shared_simulator)
    assert isinstance(sensor.tick(), str)
    assert isinstance(sensor.tick(), str)
    assert asked_versions(shared_simulator) == asked + 1
    shared_simulator.advance()
    monkeypatch.setattr("ctg_assets.orchestration.sensors.time.time", lambda: now - 2 * seconds)
    assert sensor.request().job_name == "plan_extraction"


def test_a_living_run_stays_alive_when_the_clock_is_set(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is known by when it began after the machine did, not by a time of day that moves."""
    sensor.run("__ASSET_JOB", dg.DagsterRunStatus.STARTED, process_tags())
    booted = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: booted + 86_400)
    assert psutil.boot_time() == booted + 86_400
    assert str(sensor.tick()).endswith("is under way")


@pytest.mark.parametrize("job_name", ["build_warehouse", "__ASSET_JOB"])
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_waits_while_a_run_is_under_way(
    sensor: Sensor, job_name: str, status: dg.DagsterRunStatus
) -> None:
    """Nothing is asked for while a run of ours, or one from the UI, is not at its end."""
    run = sensor.run(job_name, status, process_tags())
    assert sensor.tick() == f"run {run.run_id} ({job_name}) is under way"


def _no_such_process() -> str:
    return f"{socket.gethostname()}/{2**22 + 1}/1.00"


def _process_id_reused() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/1.00"


@pytest.mark.parametrize("process", [_no_such_process, _process_id_reused])
@pytest.mark.parametrize(
    "status",
    [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.NOT_STARTED],
)
def test_buries_runs_whose_process_is_gone(
    sensor: Sensor, process: Callable[[], str], status: dg.DagsterRunStatus
) -> None:
    """A run whose process died without a word is reported failed, and work goes on in the same tick."""
    run = sensor.run("__ASSET_JOB", status, {"ctg/process": process()})
    assert sensor.request().job_name == "plan_extraction"
    buried = sensor.instance.get_run_by_id(run.run_id)
    assert buried is not None
    assert buried.status is dg.DagsterRunStatus.FAILURE


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
@pytest.mark.parametrize("process", [_no_such_process, _process_id_reused])
def test_status_tells_dead_runs_from_living_ones(
    sensor: Sensor, process: Callable[[], str], status: dg.DagsterRunStatus
) -> None:
    """A run whose process is gone is said to have died, and what becomes of it; one at work is running.

    Every state that a run can stay in, and both ways in which its process can be gone.
    """
    died = sensor.run("extract_pages", status, {"ctg/process": process()})
    running = sensor.run("__ASSET_JOB", dg.DagsterRunStatus.STARTED, process_tags())
    host, pid, _ = process().split("/")
    said_running, said_died = map(str, unfinished_runs(sensor.instance))
    assert said_running == f"running: __ASSET_JOB, started, Dagster run {running.run_id}"
    assert said_died == (
        f"died: extract_pages, {status.value.lower()}, Dagster run {died.run_id}: its process ({pid} on "
        f"{host}) is gone; the next refresh or run reports it as failed and goes on from there"
    )


def test_leaves_runs_of_other_hosts_alone(sensor: Sensor) -> None:
    """Of a process on another host nothing can be told here, so its run counts as under way."""
    started = f"{psutil.Process().create_time():.2f}"
    process = f"not-{socket.gethostname()}/{os.getpid()}/{started}"
    sensor.run("__ASSET_JOB", dg.DagsterRunStatus.STARTED, {"ctg/process": process})
    assert str(sensor.tick()).endswith("is under way")


def test_pauses_between_attempts_at_the_same_work(sensor: Sensor) -> None:
    """What failed is asked for again with the next attempt number, after a pause that it tells."""
    assert sensor.request().tags[ATTEMPT_TAG] == "1"
    reason = sensor.tick()
    assert isinstance(reason, str)
    assert "tried 1 time without success, next attempt in" in reason
    sensor.forget_pause()
    assert sensor.request().tags[ATTEMPT_TAG] == "2"
    assert "tried 2 times without success" in str(sensor.tick())
    plan = sensor.plan()
    assert sensor.request().tags[RANGE_START_TAG] == plan.page_key(1)
    assert sensor.remembered().attempts == Attempts(
        f"pages/{plan.extraction_id}/1", 1, sensor.remembered().attempts.last_at
    )


@pytest.mark.parametrize("garbage", ["", "nonsense", "[]", '{"attempts": 7}', '{"unknown": 1}'])
def test_does_without_its_cursor(sensor: Sensor, garbage: str) -> None:
    """A cursor that is lost, broken or of another release costs nothing but a question."""
    plan = sensor.plan()
    sensor.walk(plan, last_page=2)
    sensor.cursor = garbage
    request = sensor.request()
    assert request.tags[RANGE_START_TAG] == plan.page_key(3)


def test_tries_later_when_the_registry_is_down(sensor: Sensor) -> None:
    """With the registry out of reach the tick is skipped with the reason, and counts no attempt."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    down = Sensor(
        sensor.settings.model_copy(update={"api_url": f"http://127.0.0.1:{port}/api/v2"}),
        sensor.instance,
    )
    reason = down.tick()
    assert isinstance(reason, str)
    assert reason.startswith("trying again later: no usable answer from")
    assert down.remembered().attempts.count == 0


def test_tries_later_when_the_object_store_is_down(
    sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the lake out of reach the tick is skipped with the reason."""
    monkeypatch.setattr(object_client, "_RETRIES", 0)
    for name, value in {
        "ENDPOINT_URL": "http://127.0.0.1:1",
        "ACCESS_KEY_ID": "x",
        "SECRET_ACCESS_KEY": "y",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    settings = sensor.settings.model_copy(update={"data_url": "s3://bucket/lake"})
    reason = Sensor(settings, sensor.instance).tick()
    assert isinstance(reason, str)
    assert reason.startswith("trying again later: cannot list s3://bucket/lake/")


def test_says_what_is_wrong_for_good(sensor: Sensor, shared_simulator: RunningSimulator) -> None:
    """A registry that refuses us is a reason to skip that names the remedy, not a failed tick."""
    shared_simulator.set_faults("request=1@version:403x*")
    try:
        reason = sensor.tick()
    finally:
        shared_simulator.set_faults()
    assert isinstance(reason, str)
    assert "CTG_USER_AGENT" in reason


def test_is_held_back_by_a_check(sensor: Sensor) -> None:
    """An extraction with far fewer studies than counted is not recorded; the reason says so."""
    plan = sensor.plan()
    whole = msgspec.structs.replace(plan, expected_studies=2 * STUDIES)
    sensor.lake.extractions.restore(whole)
    with sensor.crawler() as crawler:
        list(crawler.walk(whole, PAGES))
    assert isinstance(sensor.lake.extractions.completion(plan.extraction_id), Completion)
    reason = sensor.tick()
    assert isinstance(reason, str)
    assert reason.startswith("not recorded, check pages_are_complete_and_consistent failed")
    assert f"the registry counted {2 * STUDIES} studies" in reason
