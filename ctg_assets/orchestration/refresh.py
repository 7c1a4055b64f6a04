"""Running stages from the command line, through the same assets and jobs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dagster as dg
from dagster._core.events import RunFailureReason

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.lake import open_lake
from ctg_assets.orchestration.jobs import STAGE_JOBS, step_assets
from ctg_assets.orchestration.pages import range_tags, register_pages
from ctg_assets.orchestration.runs import (
    cause_of,
    fail_orphaned_runs,
    process_tags,
    runs_under_way,
)
from ctg_assets.refresh.planner import Idle, Stage, Step
from ctg_assets.settings import Settings
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.data_folder import data_folder
from ctg_assets.storage.locks import BusyError

_LOGS = "logs"

# The registry publishes once a day and a walk takes minutes, so a walk that is overtaken is rare and
# one overtaken time and again means that something is wrong.
_MOST_SUPERSEDED_WALKS = 5

# At one data version at most four walks are due one after the other. A registry that says something new
# of its data after each of them is none that can be followed.
_MOST_WALKS_PLANNED = 20


class Listener(Protocol):
    """Whoever wants to know how a refresh goes."""

    def stage_started(self, step: Step) -> None:
        """A stage begins."""

    def asset_materialized(self, asset: str, rows: int | None) -> None:
        """An asset of the stage is done."""

    def check_failed(self, check: str, description: str, *, warning: bool) -> None:
        """A check did not pass; unless it is a warning, what depends on its asset will not run."""

    def stage_finished(self) -> None:
        """The stage ended."""


class StageFailedError(CtgAssetsError):
    """A stage failed; `reason` is the cause, `run_id` and `log` lead to the rest.

    `by_check` says that a blocking check failed it, `by_damage` that a file of the lake is damaged.
    """

    def __init__(
        self,
        stage: Stage,
        reason: str,
        run_id: str,
        log: Path,
        *,
        by_check: bool = False,
        by_damage: bool = False,
    ) -> None:
        super().__init__(f"{stage} failed: {reason}")
        self.stage = stage
        self.reason = reason
        self.run_id = run_id
        self.log = log
        self.by_check = by_check
        self.by_damage = by_damage


def run_stages(
    settings: Settings,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    listener: Listener,
    first: Step,
    following: Callable[[], Step | Idle],
    mend: Callable[[], bool] = lambda: False,
) -> Idle:
    """Run `first`, then whatever `following` says is next, until it says that nothing is.

    When a stage meets a damaged file, `mend` is called; if it says that something was mended, it goes on.

    Returns what it said then, also after a stage that a blocking check failed. Raises StageFailedError, BusyError when another run is under way, and
    KeyboardInterrupt when a run was interrupted.
    """
    fail_orphaned_runs(instance)
    runner = _Runner(settings, definitions, instance, listener)
    superseded = planned = 0
    done: set[Step] = set()
    step = first
    while True:
        runner.require_idle()
        listener.stage_started(step)
        try:
            run_id, log = runner.run(step)
        except StageFailedError as error:
            if error.by_check and isinstance(rest := following(), Idle) and rest.blocked:
                return rest
            if error.by_damage and mend():
                done.clear()  # what was done may have to be done again
            elif superseded < _MOST_SUPERSEDED_WALKS and _was_superseded(settings, step):
                superseded += 1
            else:
                raise
        else:
            done.add(step)
        listener.stage_finished()
        upcoming = following()
        if isinstance(upcoming, Idle):
            return upcoming
        # A walk that was given up is planned once more, for the same reason.
        planned += upcoming.stage is Stage.PLAN
        if _leads_nowhere(upcoming, step, done):
            raise StageFailedError(
                step.stage,
                f"it succeeded, and still {upcoming.reason}; nothing is gained by going on",
                run_id,
                log,
            )
        if planned > _MOST_WALKS_PLANNED:
            raise StageFailedError(
                step.stage,
                f"{planned} walks were planned one after the other, and the registry's data have moved "
                f"on again ({upcoming.reason}); what is recorded stays, try again later",
                run_id,
                log,
            )
        step = upcoming


def _leads_nowhere(upcoming: Step, step: Step, done: set[Step]) -> bool:
    """Whether what is next was done before, so that nothing is gained by doing it again."""
    return upcoming in done and (upcoming == step or upcoming.stage is not Stage.PLAN)


def _was_superseded(settings: Settings, step: Step) -> bool:
    """Whether a walk failed because the registry's data moved, so that a new one is due."""
    if step.stage is not Stage.PAGES or step.extraction is None:
        return False
    state = open_lake(settings).extractions.state(step.extraction.extraction_id)
    return state is ExtractionState.SUPERSEDED


@dataclass(frozen=True)
class _Runner:
    """Runs stages in this process."""

    settings: Settings
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    listener: Listener

    def require_idle(self) -> None:
        """Raise BusyError when a run of ours is under way, in whatever process."""
        for run in runs_under_way(self.instance):
            message = (
                f"run {run.run_id} ({run.job_name}) is under way; wait for it, or stop it in the UI "
                "(`ctg-assets dev`). `ctg-assets status` shows how far it is."
            )
            raise BusyError(message)

    def run(self, step: Step) -> tuple[str, Path]:
        """Run a stage to its end; returns its run id and the file with what was printed."""
        job = self.definitions.resolve_job_def(STAGE_JOBS[step.stage].name)
        tags = process_tags()
        if step.stage is Stage.PAGES and step.extraction is not None:
            # An instance that lost its storage does not know the pages of an open plan.
            register_pages(self.instance, step.extraction)
            tags |= range_tags(step.extraction, step.first_page, step.last_page)
        run_id = str(uuid.uuid4())
        log = data_folder(self.settings, _LOGS) / f"{run_id}.log"
        with (
            self._listening(run_id),
            log.open("w") as file,
            redirect_stdout(file),
            redirect_stderr(file),
        ):
            result = job.execute_in_process(
                instance=self.instance,
                run_id=run_id,
                tags=tags,
                asset_selection=step_assets(step, self.definitions.resolve_asset_graph()),
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        if not result.success:
            raise _failure(step.stage, result, log)
        return run_id, log

    def _tell_of_check(self, evaluation: dg.AssetCheckEvaluation) -> None:
        if not evaluation.passed:
            self.listener.check_failed(
                f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}",
                evaluation.description or "",
                warning=evaluation.severity is dg.AssetCheckSeverity.WARN,
            )

    @contextmanager
    def _listening(self, run_id: str) -> Iterator[None]:
        def on_event(entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is None:
                return
            if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
                materialization = event.step_materialization_data.materialization
                rows = materialization.metadata.get("dagster/row_count")
                self.listener.asset_materialized(
                    materialization.asset_key.to_user_string(),
                    rows.value if isinstance(rows, dg.IntMetadataValue) else None,
                )
            elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                self._tell_of_check(event.asset_check_evaluation_data)

        self.instance.add_event_listener(run_id, on_event)
        yield


def _failure(
    stage: Stage, result: dg.ExecuteInProcessResult, log: Path
) -> Exception | KeyboardInterrupt:
    """What to raise for a failed run: its cause in words, failed blocking checks included."""
    reason = ""
    by_damage = False
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.RUN_FAILURE:
            if event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION:
                return KeyboardInterrupt()
        elif event.event_type is dg.DagsterEventType.STEP_FAILURE and not reason:
            error = cause_of(event)
            if error is not None:
                # The text begins with the class, which says nothing to people.
                reason = re.sub(r"^[\w.]+: ", "", error.message.strip())
                by_damage = error.cls_name == DamagedFileError.__name__
                if error.cls_name == BusyError.__name__:
                    return BusyError(reason)
    failed = [
        f"{evaluation.check_name}: {evaluation.description}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
    ]
    reason = "; ".join(failed) or reason or "no reason was recorded"
    return StageFailedError(
        stage, reason, result.run_id, log, by_check=bool(failed), by_damage=by_damage
    )
