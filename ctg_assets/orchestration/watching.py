"""What Dagster knows of runs, checks, daemons and stages, for who watches from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg
from dagster._core.execution.stats import StepEventStatus

from ctg_assets.orchestration.instance import has_state, open_instance
from ctg_assets.orchestration.runs import OUR_JOBS, failed_checks, unfinished_runs
from ctg_assets.settings import Settings

# Several refreshes; each makes up to ten runs.
_RUNS_LOOKED_AT = 30


@dataclass(frozen=True)
class WatchedDagster:
    """Runs by status and those that died, and what else one wants to know.

    `heartbeats` are the last signs of life of each daemon, in seconds since 1970. `failed_checks` are by severity
    (error, warning), `stage_seconds` by step: how long it took in the last run in which it succeeded.
    """

    runs: Mapping[str, int]
    dead_runs: int
    heartbeats: Mapping[str, float]
    failed_checks: Mapping[str, int]
    stage_seconds: Mapping[str, float]


class DagsterWatch:
    """Looks at an instance again and again. For one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        """Look at the instance of a data folder; it is opened when there is one."""
        self._settings = settings
        # Kept open: opening reads settings and files that do not change.
        self._instance: dg.DagsterInstance | None = None

    def read(self) -> WatchedDagster | None:
        """What Dagster's storage says now; None where nothing was ever run and no instance is set up."""
        if self._instance is None:
            if not has_state(self._settings):
                return None
            self._instance = open_instance()
        try:
            return _state_of(self._instance)
        except BaseException:
            # Its storage may have been made anew.
            self._instance = None
            raise


def _state_of(instance: dg.DagsterInstance) -> WatchedDagster:
    return WatchedDagster(
        runs=_runs(instance),
        dead_runs=sum(run.gone for run in unfinished_runs(instance)),
        heartbeats={
            daemon: heartbeat.timestamp
            for daemon, heartbeat in instance.get_daemon_heartbeats().items()
        },
        failed_checks=Counter(
            "warning" if check.is_warning else "error" for check in failed_checks(instance)
        ),
        stage_seconds=_stage_seconds(instance),
    )


def _runs(instance: dg.DagsterInstance) -> dict[str, int]:
    return {
        str(status.value).lower(): instance.get_runs_count(dg.RunsFilter(statuses=[status]))
        for status in dg.DagsterRunStatus
        if status is not dg.DagsterRunStatus.MANAGED
    }


def _stage_seconds(instance: dg.DagsterInstance) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for run in instance.get_runs(limit=_RUNS_LOOKED_AT):
        if run.job_name not in OUR_JOBS:
            continue
        for step in instance.get_run_step_stats(run.run_id):
            ended = step.status is StepEventStatus.SUCCESS
            if ended and step.start_time is not None and step.end_time is not None:
                seconds.setdefault(step.step_key, step.end_time - step.start_time)
    return seconds
