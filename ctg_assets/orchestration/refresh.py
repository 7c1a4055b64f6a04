"""Bringing everything up to date from the command line, through the same assets and jobs.

Belongs here: running the stages in this process, one after the other, and telling a listener how it
goes. Does not belong here: what is next (`pipeline/next_step.py`) and how it is shown (`console.py`).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dagster as dg

from ctg_assets.lake.extractions import ExtractionPlan, ExtractionState
from ctg_assets.orchestration.pages import range_tags, register_pages
from ctg_assets.orchestration.runs import bury_dead_runs, process_tags, run_under_way
from ctg_assets.orchestration.selections import STAGE_JOBS, stage_assets
from ctg_assets.pipeline.crawl import PLANNING_PATIENCE_SECONDS
from ctg_assets.pipeline.load import wanted_state, warehouse_state
from ctg_assets.pipeline.next_step import Rest, Stage, Step, next_build_step, next_step
from ctg_assets.pipeline.services import BusyError, Lake, data_folder, open_lake, open_registry
from ctg_assets.settings import Settings

_LOGS = "logs"
_INSTANCE_FILE = "dagster.yaml"
_PROJECT_DIR = Path(__file__).resolve().parents[2]

# The registry publishes once a day and a walk takes minutes, so a walk that is overtaken is rare and
# one overtaken time and again means that something is wrong.
_MOST_SUPERSEDED_WALKS = 5


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


class StageFailedError(Exception):
    """A stage failed; `reason` is the innermost cause, `run_id` and `log` lead to the rest."""

    def __init__(self, stage: Stage, reason: str, run_id: str, log: Path) -> None:
        super().__init__(f"{stage} failed: {reason}")
        self.stage = stage
        self.reason = reason
        self.run_id = run_id
        self.log = log


class RefreshBlockedError(Exception):
    """A check forbids to go on; the message says which, and how a person lets it pass."""


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance of DAGSTER_HOME; unset, that of `dagster.yaml` here or in the project.

    Its paths are relative to that file, so the working directory changes to its folder.
    """
    if not os.environ.get("DAGSTER_HOME"):
        home = Path.cwd() if (Path.cwd() / _INSTANCE_FILE).exists() else _PROJECT_DIR
        os.chdir(home)
        os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.get()


def refresh(
    settings: Settings,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    listener: Listener,
    *,
    plan_anew: bool = False,
) -> list[Stage]:
    """Do whatever is next until nothing is left; returns the stages that were run.

    `plan_anew` walks the registry even if its data did not move. Raises StageFailedError,
    RefreshBlockedError, BusyError when another run is under way, and RegistryError when the registry
    cannot be asked.
    """
    lake = open_lake(settings)
    first = Step(Stage.PLAN, "asked for") if plan_anew else None

    def registry_timestamp() -> str:
        with open_registry(settings) as client:
            return client.version(retry_seconds=PLANNING_PATIENCE_SECONDS).data_timestamp

    def following() -> Step | Rest:
        return next_step(
            settings,
            lake,
            warehouse=lambda _: warehouse_state(settings),
            goal=wanted_state,
            registry_timestamp=registry_timestamp,
        )

    return _Runner(settings, lake, definitions, instance, listener).run_all(following, first)


def build_extraction(
    settings: Settings,
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    listener: Listener,
    extraction: ExtractionPlan,
) -> list[Stage]:
    """Take a complete extraction through to the marts; raises as `refresh` does."""
    lake = open_lake(settings)

    def following() -> Step | Rest:
        return next_build_step(
            settings,
            lake,
            extraction,
            warehouse=lambda _: warehouse_state(settings),
            goal=wanted_state,
        )

    return _Runner(settings, lake, definitions, instance, listener).run_all(following)


@dataclass(frozen=True)
class _Runner:
    """Runs stages in this process."""

    settings: Settings
    lake: Lake
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    listener: Listener

    def run_all(
        self, following: Callable[[], Step | Rest], first: Step | None = None
    ) -> list[Stage]:
        bury_dead_runs(self.instance)
        done: list[Stage] = []
        superseded = 0
        step: Step | Rest = first or following()
        while isinstance(step, Step):
            self._require_idle()
            self.listener.stage_started(step)
            try:
                self._run(step)
            except StageFailedError:
                if not self._was_superseded(step) or superseded == _MOST_SUPERSEDED_WALKS:
                    raise
                superseded += 1
            else:
                done.append(step.stage)
            self.listener.stage_finished()
            step = following()
        if step.blocked:
            raise RefreshBlockedError(step.reason)
        return done

    def _require_idle(self) -> None:
        busy = run_under_way(self.instance)
        if busy is not None:
            message = (
                f"run {busy.run_id} ({busy.job_name}) is under way; wait for it, or stop it in the UI. "
                "`ctg-assets status` shows how far it is."
            )
            raise BusyError(message)

    def _was_superseded(self, step: Step) -> bool:
        """Whether a walk failed because the registry's data moved, so that a new one is due."""
        if step.stage is not Stage.PAGES or step.extraction is None:
            return False
        state = self.lake.extractions.state(step.extraction.extraction_id)
        return state is ExtractionState.SUPERSEDED

    def _run(self, step: Step) -> None:
        job = self.definitions.resolve_job_def(STAGE_JOBS[step.stage].name)
        tags = process_tags()
        if step.stage is Stage.PAGES and step.extraction is not None:
            # An instance that lost its storage does not know the pages of an open plan.
            register_pages(self.instance, step.extraction)
            tags |= range_tags(step.extraction, step.first_page, step.last_page)
        run_id = str(uuid.uuid4())
        log = data_folder(self.settings, _LOGS) / f"{run_id}.log"
        with self._listening(run_id), log.open("w") as file, redirect_stdout(file):
            result = job.execute_in_process(
                instance=self.instance,
                run_id=run_id,
                tags=tags,
                asset_selection=stage_assets(step.stage, self.definitions.resolve_asset_graph()),
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        if not result.success:
            raise StageFailedError(step.stage, _failure_reason(result), run_id, log)

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


def _failure_reason(result: dg.ExecuteInProcessResult) -> str:
    """The innermost cause of a failed run, in words; failed blocking checks count as one."""
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.STEP_FAILURE:
            error = event.step_failure_data.error
            user_failure = event.step_failure_data.user_failure_data
            if user_failure is not None and user_failure.description:
                return user_failure.description
            while error is not None and error.cause is not None:
                error = error.cause
            if error is not None:
                return error.message.strip()
    failed = [
        f"{evaluation.check_name}: {evaluation.description}"
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
    ]
    return "; ".join(failed) or "no reason was recorded"
