"""Steps of runs, done by Celery's workers: how they are told of one, and how they do it.

The broker is a bell and no memory. Who does a step holds its lock in Postgres (`postgres/step_locks.py`), and what became of it stands
in Dagster's event log, so that a message may get lost or come twice: the run rings again while nobody holds the
lock, and who takes up a step that somebody does, or that has ended, leaves it.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster._cli.api import _execute_step_command_body
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import deserialize_value, serialize_value
from dagster_shared.record import replace

from ctg_assets.errors import TransientError
from ctg_assets.postgres.server import open_postgres
from ctg_assets.postgres.step_locks import step_lock
from ctg_assets.settings import Settings, SettingsError, load_settings
from ctg_assets.storage.leases import LEASE_TIME, patience_with_leases

_log = logging.getLogger(__name__)

QUEUE = "ctg-assets"
_TASK = "ctg_assets.step"

# What a killed process left in an object store is anybody's after this time, and some more for looking.
_PATIENCE = LEASE_TIME + timedelta(seconds=15)

# The broker takes the connection of who is silent for two of these for broken.
_HEARTBEAT_SECONDS = 20

_ANSWER_SECONDS = 2

_ENDS = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.STEP_SKIPPED,
}


class BrokerUnavailableError(TransientError):
    """The broker by which workers are told of steps does not answer, or not to us."""


def step_name(run_id: str, step: str) -> str:
    """What a step of a run is called by all who have to do with it."""
    return f"{run_id}/{step}"


def celery_app(settings: Settings) -> Any:
    """The Celery app of runs and workers. Raises SettingsError where something for it is missing."""
    try:
        from celery import Celery  # noqa: PLC0415 - an extra
        from kombu import Queue  # noqa: PLC0415
    except ImportError as error:
        message = "CTG_EXECUTOR=celery needs a library: pip install 'ctg-assets[celery]'"
        raise SettingsError(message) from error
    if settings.broker_url is None:
        message = (
            "CTG_EXECUTOR=celery needs CTG_BROKER_URL, as amqp://user:password@host:5672/vhost"
        )
        raise SettingsError(message)
    app = Celery("ctg_assets", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=QUEUE,
        task_queues=[Queue(QUEUE)],
        # What is parallel in a step is parallel inside, and its memory is given back with its process.
        worker_concurrency=1,
        worker_max_tasks_per_child=1,
        worker_prefetch_multiplier=1,
        broker_heartbeat=_HEARTBEAT_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    app.task(name=_TASK)(do_step)
    return app


def connected_workers(settings: Settings) -> list[str]:
    """The workers that answer through the broker, as `1234@host`.

    Raises SettingsError as `celery_app`, and BrokerUnavailableError when the broker does not let us in.
    """
    app = celery_app(settings)
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - an extra

    with app.connection_for_read(connect_timeout=_ANSWER_SECONDS) as connection:
        refused = (*connection.connection_errors, *connection.channel_errors, OperationalError)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0)
            answers = app.control.ping(timeout=_ANSWER_SECONDS, connection=connection)
        except refused as error:
            message = (
                f"the broker at {connection.as_uri()} does not let us in ({error}); look whether it runs, and at "
                "CTG_BROKER_URL"
            )
            raise BrokerUnavailableError(message) from error
    return sorted(name for answer in answers for name in answer)


def work(settings: Settings) -> None:
    """Do steps until a signal comes, each in a fork of this process. Raises as `celery_app`."""
    app = celery_app(settings)
    from celery.signals import setup_logging  # noqa: PLC0415 - an extra

    # What Celery says goes where all goes that we log.
    setup_logging.connect(lambda **_: None, weak=False)
    name = f"--hostname={os.getpid()}@%h"
    options = ["--loglevel=WARNING", "--without-gossip", "--without-mingle", name]
    app.worker_main(["--quiet", "worker", *options])


def ring(app: Any, args: ExecuteStepArgs, seconds: int) -> None:
    """Tell the workers of a step; who has not heard it after so many seconds never will.

    Raises kombu's OperationalError when no broker answers.
    """
    # Each machine has its own way to Dagster's storage, which may hold a password.
    packed = serialize_value(replace(args, instance_ref=None))
    app.send_task(
        _TASK,
        [packed],
        queue=QUEUE,
        task_id=step_name(args.run_id, _only_step(args)),
        # By the broker's clock; what Celery calls `expires` goes by the workers' clocks.
        expiration=seconds,
        delivery_mode="transient",
        retry_policy={"max_retries": 1},
    )


def do_step(packed: str) -> None:
    """Do a step that a run asks for, unless another process does it, or did.

    What fails in it stands in Dagster's events. Raises what keeps it from standing there.
    """
    args = deserialize_value(packed, ExecuteStepArgs)
    step = _only_step(args)
    name = step_name(args.run_id, step)
    with (
        open_postgres(load_settings()) as address,
        step_lock(address, name) as is_ours,
        dg.DagsterInstance.get() as instance,
    ):
        if not is_ours:
            _log.info("step %s is being done by another process", name)
            return
        run = instance.get_run_by_id(args.run_id)
        if run is None:
            _log.error(
                "step %s is of a run that is not in Dagster's storage as this machine knows it; all machines need the same "
                "one (DAGSTER_POSTGRES_URL)",
                name,
            )
        elif run.is_finished or has_ended(instance, args.run_id, step):
            _log.info("step %s has ended", name)
        else:
            with patience_with_leases(_PATIENCE):
                for _ in _execute_step_command_body(args, instance, run):
                    pass


def has_ended(instance: dg.DagsterInstance, run_id: str, step: str) -> bool:
    """Whether the end of a step stands in the event log."""
    return any(entry.step_key == step for entry in instance.all_logs(run_id, of_type=_ENDS))


def _only_step(args: ExecuteStepArgs) -> str:
    [step] = args.step_keys_to_execute or ()
    return step
