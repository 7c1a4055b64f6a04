"""Runs whose steps are done by Celery's workers, on whatever machine (docs/several_machines.md).

The process of a run hands out steps and follows them in Dagster's event log. It says where it runs, as that of any run does, so
that its death is noticed; a step that a worker has begun then ends by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)

from ctg_assets.orchestration.celery_steps import celery_app, has_ended, ring, step_name
from ctg_assets.orchestration.runs import mark_run
from ctg_assets.postgres.server import open_postgres
from ctg_assets.postgres.step_locks import is_step_locked
from ctg_assets.settings import Settings

_SECONDS_BETWEEN_LOOKS = 5

# An idle worker begins within a second or two.
_SECONDS_BETWEEN_RINGS = 5

_SECONDS_UNTIL_WARNING = 60

# A step that kills whoever does it (it needs more memory than there is) would otherwise kill all workers in turn.
_MOST_BEGINNINGS = 5


class _MarkingExecutor(StepDelegatingExecutor):
    """Dagster's, which first says where it runs, and buries the dead of this host."""

    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[DagsterEvent]:
        mark_run(plan_context)
        yield from super().execute(plan_context, execution_plan)


def build_celery_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor; raises SettingsError where something for it is missing."""
    celery_app(settings)

    @dg.executor(name="celery", requirements=dg.multiple_process_executor_requirements())
    def celery_executor(_: dg.InitExecutorContext) -> dg.Executor:
        """Each step is done by one of the workers that are connected to the broker."""
        return _MarkingExecutor(
            _Workers(settings),
            retries=RetryMode.DISABLED,
            check_step_health_interval_seconds=_SECONDS_BETWEEN_LOOKS,
        )

    return celery_executor


class _Waiting:
    """A step that was asked for: since when, when last, and whether somebody was told of trouble."""

    def __init__(self) -> None:
        self.since = self.rung_at = time.monotonic()
        self.is_told = False


class _Workers(StepHandler):
    """Rings for a step until somebody does it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._app = celery_app(settings)
        self._waiting: dict[str, _Waiting] = {}

    @property
    def name(self) -> str:
        """As events show it."""
        return "Celery"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Ring for the first time."""
        step = _step(step_handler_context)
        self._waiting[step] = _Waiting()
        self._ring(step_handler_context, step)
        yield from ()

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Ring again when nobody does it: the message got lost, its worker died, or all are busy."""
        step = _step(step_handler_context)
        run_id = step_handler_context.execute_step_args.run_id
        waiting = self._waiting.setdefault(step, _Waiting())
        instance = step_handler_context.instance
        if time.monotonic() - waiting.rung_at < _SECONDS_BETWEEN_RINGS:
            return CheckStepHealthResult.healthy()
        with open_postgres(self._settings) as address:
            is_done = is_step_locked(address, step_name(run_id, step))
        # In this order: who ends a step says so before the lock is free.
        if is_done or has_ended(instance, run_id, step):
            self._waiting[step] = _Waiting()
            return CheckStepHealthResult.healthy()
        beginnings = sum(
            entry.step_key == step
            for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_WORKER_STARTED)
        )
        if beginnings >= _MOST_BEGINNINGS:
            return CheckStepHealthResult.unhealthy(
                f"{beginnings} workers began it, and none came to an end; their logs, or those of their machines, say why "
                "(out of memory?)"
            )
        if not waiting.is_told and time.monotonic() - waiting.since > _SECONDS_UNTIL_WARNING:
            waiting.is_told = True
            _context(step_handler_context, step).log.warning(
                f"no worker has begun {step} for a minute; it waits until one is free. `ctg-assets worker` starts one"
            )
        self._ring(step_handler_context, step)
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """End the process of the worker that does it."""
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - an extra

        step = _step(step_handler_context)
        name = step_name(step_handler_context.execute_step_args.run_id, step)
        try:
            self._app.control.revoke(name, terminate=True)
        except OperationalError as error:
            _context(step_handler_context, step).log.warning(
                f"{step} goes on until it is done: no broker answers ({error})"
            )
        yield from ()

    def _ring(self, context: StepHandlerContext, step: str) -> None:
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - an extra

        waiting = self._waiting[step]
        waiting.rung_at = time.monotonic()
        try:
            ring(self._app, context.execute_step_args, _SECONDS_BETWEEN_RINGS)
        except OperationalError as error:
            if not waiting.is_told:
                waiting.is_told = True
                _context(context, step).log.warning(
                    f"no worker can be told of {step}, since no broker answers at CTG_BROKER_URL ({error}); it waits "
                    "until one does"
                )


def _step(context: StepHandlerContext) -> str:
    [step] = context.execute_step_args.step_keys_to_execute or ()
    return step


def _context(context: StepHandlerContext, step: str) -> Any:
    return context.get_step_context(step)
