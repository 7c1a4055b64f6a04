"""The sensor that tells people of failed runs and checks.

Its cursor is the memory of `refresh/failures.py`: it survives restarts with Dagster's state. Losing it loses
failures of before, which are then not told.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Literal

import dagster as dg
import msgspec
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.events import DagsterEvent

from ctg_assets.extract.crawl import ExtractionSupersededError
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.runs import OUR_JOBS, cause_of
from ctg_assets.printable import printable
from ctg_assets.refresh.failures import Memory, Seen, remember, tell_everybody
from ctg_assets.settings import Settings
from ctg_assets.storage.locks import BusyError

INTERVAL_SECONDS = 60

# A tick has a minute; what is left is for the next.
_MOST_RUNS = 30

_WATCHED_JOBS = OUR_JOBS | {"export_aact", "write_report"}

# Not for people: the registry moved on, or another process is at work, and what comes next does the same work;
# or a check forbade to go on, which is told as such.
_NOT_TOLD = {
    ExtractionSupersededError.__name__,
    BusyError.__name__,
    DagsterAssetCheckFailedError.__name__,
}

_ENDS: tuple[Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS], ...] = (
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_SUCCESS,
)
_TELLING = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


def build_notifications(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensor, if the settings name anybody who could be told."""
    if settings.smtp_host is None and settings.feed_file is None:
        return []
    return [_build()]


def _build() -> dg.SensorDefinition:
    @dg.sensor(
        minimum_interval_seconds=INTERVAL_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING
    )
    def failure_notifications(
        context: dg.SensorEvaluationContext, settings: SettingsResource
    ) -> dg.SkipReason:
        """Tell people of runs and checks that failed since the last tick, by mail and by the file of sinks.

        The first tick only notes where to begin. Starts nothing, and stops nothing when nobody can be told.
        """
        return _evaluate(context, settings.load(), time.time())

    return failure_notifications


def _evaluate(context: dg.SensorEvaluationContext, settings: Settings, now: float) -> dg.SkipReason:
    memory = _parse(context.cursor)
    if memory is None:
        memory = Memory(after=_newest(context.instance))
        context.update_cursor(msgspec.json.encode(memory).decode())
        return dg.SkipReason("failures from now on are told")
    after, seen = _look(context.instance, memory.after, with_warnings=settings.notify_warnings)
    memory = remember(memory, seen, after)
    memory, lines = tell_everybody(memory, settings, os.environ, now)
    context.update_cursor(msgspec.json.encode(memory).decode())
    for line in lines:
        context.log.info(line)
    return dg.SkipReason("; ".join(lines) or "nothing to tell")


def _parse(cursor: str | None) -> Memory | None:
    try:
        return None if cursor is None else msgspec.json.decode(cursor, type=Memory)
    except msgspec.MsgspecError:
        return None


def _newest(instance: dg.DagsterInstance) -> int:
    """The number of the last end of a run that there is, -1 if none."""
    found = [
        record.storage_id
        for kind in _ENDS
        for record in instance.fetch_run_status_changes(kind, limit=1).records
    ]
    return max(found, default=-1)


def _look(
    instance: dg.DagsterInstance, after: int, *, with_warnings: bool
) -> tuple[int, list[Seen]]:
    """What runs that ended since showed, and the number of the last end that was looked at."""
    ends = sorted(
        (
            record
            for kind in _ENDS
            for record in instance.fetch_run_status_changes(
                dg.RunStatusChangeRecordsFilter(event_type=kind, after_storage_id=after),
                limit=_MOST_RUNS,
                ascending=True,
            ).records
        ),
        key=lambda record: record.storage_id,
    )[:_MOST_RUNS]
    seen: list[Seen] = []
    for record in ends:
        entry = record.event_log_entry
        run = instance.get_run_by_id(entry.run_id)
        if run is None or run.job_name not in _WATCHED_JOBS or entry.dagster_event is None:
            continue
        shown = list(_shown(instance, run, entry.dagster_event, entry.timestamp))
        seen += [one for one in shown if with_warnings or not one.is_warning]
    return (ends[-1].storage_id if ends else after), seen


def _shown(
    instance: dg.DagsterInstance, run: dg.DagsterRun, end: DagsterEvent, at: float
) -> Iterator[Seen]:
    """What one run showed: of its checks, of its steps, and of itself where no step says why it failed."""
    has_failed_steps = False
    events = instance.all_logs(run.run_id, of_type=_TELLING)
    for entry in events:
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            made = event.asset_check_evaluation_data
            is_warning = made.severity is dg.AssetCheckSeverity.WARN
            name = f"{made.asset_key.to_user_string()}: {made.check_name}"
            reason = None if made.passed else made.description or "no reason was given"
            yield Seen(f"check {name}", f"check {name}", at, run.run_id, reason, is_warning)
        elif event.event_type is dg.DagsterEventType.STEP_SUCCESS:
            yield Seen(f"step {event.step_key}", str(event.step_key), at, run.run_id)
    for entry in events:
        event = entry.dagster_event
        if event is None or event.event_type is not dg.DagsterEventType.STEP_FAILURE:
            continue
        has_failed_steps = True
        error = cause_of(event)
        if error is not None and error.cls_name in _NOT_TOLD:
            continue
        reason = "no reason was recorded" if error is None else _sentence(error.message)
        yield Seen(
            f"step {event.step_key}", f"{event.step_key} ({run.job_name})", at, run.run_id, reason
        )
    if end.event_type is dg.DagsterEventType.RUN_SUCCESS:
        yield Seen(f"run {run.job_name}", f"run of {run.job_name}", at, run.run_id)
    elif not has_failed_steps:
        reason = printable(end.message or "no reason was recorded")
        yield Seen(f"run {run.job_name}", f"run of {run.job_name}", at, run.run_id, reason)


def _sentence(message: str) -> str:
    """An error's text, which begins with its class, which says nothing to people."""
    return re.sub(r"^[\w.]+: ", "", message.strip())
