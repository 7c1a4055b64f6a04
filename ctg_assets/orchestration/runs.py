"""Runs that died without a word.

Dagster's default launcher has no health check: a run whose process was killed together with the code
server, or that was executed in process by the command line, stays STARTED for ever and keeps its
pool slot (dagster#32560). Each of our runs therefore notes host and process in its tags, and whoever
wants to run next buries the dead of its own host first.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import psutil
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.base import Executor
from dagster._core.executor.in_process import InProcessExecutor
from dagster_shared.error import SerializableErrorInfo

from ctg_assets.results import FailedCheck

_PROCESS_TAG = "ctg/process"

# The UI materializes single assets through Dagster's own implicit job.
OUR_JOBS = {"plan_extraction", "extract_pages", "build_warehouse", "drop_marts", "__ASSET_JOB"}

# Not NOT_STARTED: a run is that for a moment only, unless whoever created it died before it began.
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def process_tags() -> dict[str, str]:
    """The tags by which a run of this process can be told dead or alive."""
    return {_PROCESS_TAG: f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"}


def mark_run(plan_context: PlanOrchestrationContext) -> None:
    """Say that a run is executed by this process, and bury the dead of this host.

    Whoever starts a run (UI, sensor, Dagster's commands) cannot know the process.
    """
    instance = plan_context.instance
    instance.add_run_tags(plan_context.run_id, process_tags())
    for run_id in fail_orphaned_runs(instance):
        plan_context.log.warning(f"run {run_id} was reported failed: its process is gone")


class _MarkingExecutor(InProcessExecutor):
    """Dagster's in-process executor, which first says where it runs, and buries the dead of this host."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        mark_run(plan_context)
        yield from super().execute(plan_context, execution_plan)


@dg.executor(name="in_process")
def marked_in_process_executor(init_context: dg.InitExecutorContext) -> Executor:
    """Steps are few and long, and what is parallel in them is parallel inside: one process for a run."""
    del init_context
    return _MarkingExecutor(retries=RetryMode.DISABLED)


def fail_orphaned_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report runs whose process is gone as failed and free their pool slots; returns their ids."""
    unfinished = instance.get_runs(
        dg.RunsFilter(statuses=[*_UNFINISHED, dg.DagsterRunStatus.NOT_STARTED])
    )
    dead = [run for run in unfinished if is_gone(run)]
    for run in dead:
        instance.report_run_failed(run, "The process that executed this run is gone.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def runs_under_way(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs of our jobs, or of single assets started from the UI, that have not ended, newest first."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
    return [run for run in unfinished if run.job_name in OUR_JOBS]


# Several refreshes; each makes up to ten runs.
_RUNS_LOOKED_AT = 30


@dataclass(frozen=True)
class RunState:
    """A run that has not ended, and whether its process is gone, so that it never will."""

    run_id: str
    job: str
    status: str
    gone: bool
    where: str

    def __str__(self) -> str:
        said = f"{self.job}, {self.status}, Dagster run {self.run_id}"
        if not self.gone:
            return f"running: {said}"
        return (
            f"died: {said}: its process ({self.where}) is gone; the next refresh or run reports it as "
            "failed and goes on from there"
        )


def unfinished_runs(instance: dg.DagsterInstance) -> list[RunState]:
    """Runs of ours that have not ended, newest first, the dead among them marked."""
    return [
        RunState(
            run_id=run.run_id,
            job=run.job_name,
            status=str(run.status.value).lower(),
            gone=is_gone(run),
            where=_process_in_words(run),
        )
        for run in runs_under_way(instance)
    ]


def failed_checks(instance: dg.DagsterInstance) -> list[FailedCheck]:
    """The checks that did not pass in the last of our runs that made them, by asset and name.

    Looks at the last runs only: a build makes every check again that did not pass before.
    """
    newest: dict[tuple[str, str], dg.AssetCheckEvaluation] = {}
    for run in instance.get_runs(limit=_RUNS_LOOKED_AT):
        if run.job_name not in OUR_JOBS:
            continue
        events = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        for entry in reversed(events):
            if entry.dagster_event is not None:
                made = entry.dagster_event.asset_check_evaluation_data
                newest.setdefault((made.asset_key.to_user_string(), made.check_name), made)
    return [
        FailedCheck(
            asset, name, made.description or "", made.severity is dg.AssetCheckSeverity.WARN
        )
        for (asset, name), made in sorted(newest.items())
        if not made.passed
    ]


def cause_of(failure: DagsterEvent) -> SerializableErrorInfo | None:
    """Why a step failed: the error of our code, not Dagster's around it."""
    error = failure.step_failure_data.error
    while error is not None and error.cause is not None and _is_wrapping(error):
        error = error.cause
    return error


def _is_wrapping(error: SerializableErrorInfo) -> bool:
    return (error.cls_name or "").startswith("Dagster") or error.cls_name == dg.Failure.__name__


def is_gone(run: dg.DagsterRun) -> bool:
    """Whether the process that executed a run is gone, as far as that can be told from this host."""
    process = run.tags.get(_PROCESS_TAG)
    if process is None:
        return False
    host, pid, started = process.split("/")
    if host != socket.gethostname():
        return False
    try:
        return _started(int(pid)) != started
    except psutil.NoSuchProcess:
        return True


def _process_in_words(run: dg.DagsterRun) -> str:
    process = run.tags.get(_PROCESS_TAG)
    if process is None:
        return "unknown"
    host, pid, _ = process.split("/")
    return f"{pid} on {host}"


def _started(pid: int) -> str:
    """When a process began, in a form that is the same whenever it is asked for.

    Seconds since the machine was started: its time of day would move with a clock that is set while
    the process lives. Raises psutil.NoSuchProcess.
    """
    return f"{psutil.Process(pid).create_time() - psutil.boot_time():.2f}"
