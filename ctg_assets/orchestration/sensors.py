"""The sensor that keeps everything up to date with nobody touching it.

The cursor holds only what saves work or paces it (attempts, when the registry was last asked, what
the database was last seen to hold). Losing it loses nothing: the lake and the database are the truth.
"""

import time
from datetime import UTC, datetime

import dagster as dg
import msgspec

from ctg_assets.errors import PermanentError, TransientError
from ctg_assets.extract.data_version import ask_data_version
from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.lake import Lake, open_lake
from ctg_assets.orchestration.jobs import (
    STAGE_JOBS,
    build_warehouse,
    extract_pages,
    plan_extraction,
    step_assets,
)
from ctg_assets.orchestration.pages import range_tags, register_pages
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.runs import fail_orphaned_runs, runs_under_way
from ctg_assets.orchestration.unwanted_marts import drop_marts
from ctg_assets.refresh.backoff import Attempts
from ctg_assets.refresh.desired_state import WarehouseState, actual_state
from ctg_assets.refresh.planner import Idle, Stage, Step, next_step
from ctg_assets.settings import Settings
from ctg_assets.who.refreshing import loaded_mark

ATTEMPT_TAG = "ctg/attempt"
REASON_TAG = "ctg/why"

# A tick with nothing to do reads a few small files.
INTERVAL_SECONDS = 30


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """What the sensor remembers from tick to tick; every field may be lost without harm."""

    attempts: Attempts = Attempts()
    asked_registry_at: float = 0.0
    asked_registry_after: str = ""
    registry_timestamp: str = ""
    warehouse: str = ""


def parse_cursor(text: str | None) -> Cursor:
    """The cursor in its stored form; one that cannot be read counts as none."""
    try:
        return msgspec.json.decode(text or "{}", type=Cursor)
    except msgspec.DecodeError:
        return Cursor()


def build_registry_refresh(interval_seconds: int) -> dg.SensorDefinition:
    """The sensor, with this many seconds between its ticks at least."""

    @dg.sensor(
        jobs=[plan_extraction, extract_pages, build_warehouse, drop_marts],
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def registry_refresh(
        context: dg.SensorEvaluationContext, settings: SettingsResource
    ) -> dg.SensorResult | dg.SkipReason:
        """Ask for whatever is next: a plan, a range of pages, the snapshot, the tables, the marts.

        The tick's log and the run's tag `ctg/why` say why, and for a plan what the registry is asked for.
        Does nothing while one of its runs is under way. After a failure the same work is requested
        again with an attempt number, after a pause that doubles each time up to half an hour.
        """
        return _evaluate(context, settings.load())

    return registry_refresh


def _evaluate(
    context: dg.SensorEvaluationContext, settings: Settings
) -> dg.SensorResult | dg.SkipReason:
    for run_id in fail_orphaned_runs(context.instance):
        context.log.warning(f"run {run_id} was reported failed: its process is gone")
    under_way = runs_under_way(context.instance)
    if under_way:
        run = under_way[0]
        return dg.SkipReason(f"run {run.run_id} ({run.job_name}) is under way")

    memory = _Memory(parse_cursor(context.cursor), settings, open_lake(settings), time.time())
    outcome = _decide(memory)
    context.update_cursor(msgspec.json.encode(memory.cursor).decode())
    if isinstance(outcome, dg.SkipReason):
        return outcome
    return dg.SensorResult(run_requests=[_request(context, outcome, memory.cursor.attempts.count)])


class _Memory:
    """The cursor while a tick changes it, and the questions whose answers it keeps."""

    def __init__(self, cursor: Cursor, settings: Settings, lake: Lake, now: float) -> None:
        self.cursor = cursor
        self.settings = settings
        self.lake = lake
        self.now = now

    def registry_timestamp(self) -> str:
        """The registry's data timestamp; asked anew once the poll interval is over or a walk ended."""
        newest = self.lake.extractions.latest(ExtractionState.COMPLETE)
        newest_id = newest.extraction_id if newest is not None else ""
        cursor = self.cursor
        # Below zero once the clock was set back.
        fresh = 0 <= self.now - cursor.asked_registry_at < self.settings.poll_seconds
        is_walked = cursor.asked_registry_after == newest_id
        if not cursor.registry_timestamp or not fresh or not is_walked:
            answer = ask_data_version(self.settings, retry_seconds=0).data_timestamp
            self.cursor = msgspec.structs.replace(
                cursor,
                registry_timestamp=answer,
                asked_registry_at=self.now,
                asked_registry_after=newest_id,
            )
        return self.cursor.registry_timestamp

    def actual(self, wanted: WarehouseState) -> WarehouseState:
        """What the database holds; it is looked at only if it was not last seen holding the wanted."""
        # An undo empties tables, or loads them with what they held before; marts that read WHO's numbers change with these.
        others = f"{len(self.lake.history.undos())}/{loaded_mark(self.settings)}"
        if self.cursor.warehouse == f"{wanted.digest}/{others}":
            return wanted
        seen = actual_state(self.settings)
        self.cursor = msgspec.structs.replace(self.cursor, warehouse=f"{seen.digest}/{others}")
        return seen


def _decide(memory: _Memory) -> Step | dg.SkipReason:
    """The step to request now, or why there is none; counts the attempt."""
    try:
        step = next_step(
            memory.settings,
            memory.lake,
            registry_timestamp=memory.registry_timestamp,
            actual=memory.actual,
        )
    except TransientError as error:
        return dg.SkipReason(f"trying again later: {error}")
    except PermanentError as error:
        # A failed tick would lose the cursor and show a traceback where a sentence is wanted.
        return dg.SkipReason(f"somebody has to look: {error}")
    if isinstance(step, Idle):
        asked = datetime.fromtimestamp(memory.cursor.asked_registry_at, UTC)
        return dg.SkipReason(f"{step.reason} (asked {asked:%H:%M:%S} UTC)")
    attempts = memory.cursor.attempts
    pause = attempts.pause_left(step.name, memory.now)
    if pause > 0:
        times = "1 time" if attempts.count == 1 else f"{attempts.count} times"
        tried = f"tried {times} without success"
        return dg.SkipReason(f"{step.reason}; {tried}, next attempt in {pause:.0f} s")
    memory.cursor = msgspec.structs.replace(
        memory.cursor, attempts=attempts.next(step.name, memory.now)
    )
    return step


def _request(context: dg.SensorEvaluationContext, step: Step, attempt: int) -> dg.RunRequest:
    # What was chosen and why is told in the tick's log and on the run.
    context.log.info(f"{step.stage}: {step.reason}")
    tags = {ATTEMPT_TAG: str(attempt), REASON_TAG: step.reason}
    if step.stage is Stage.PAGES and step.extraction is not None:
        # An instance that lost its storage, or a plan made elsewhere, does not know the pages.
        register_pages(context.instance, step.extraction)
        tags |= range_tags(step.extraction, step.first_page, step.last_page)
    if context.repository_def is None:
        message = "the sensor was evaluated without its repository, so its assets are not known"
        raise dg.DagsterInvariantViolationError(message)
    return dg.RunRequest(
        job_name=STAGE_JOBS[step.stage].name,
        asset_selection=step_assets(step, context.repository_def.asset_graph),
        tags=tags,
    )
