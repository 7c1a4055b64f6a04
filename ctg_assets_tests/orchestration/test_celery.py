"""Runs whose steps workers do: when a run rings for a step, and what a worker leaves alone.

Two machines with real workers and a real broker are in `whole_way/test_workers.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution.retries import RetryMode
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import serialize_value
from kombu.exceptions import OperationalError
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.cli.doctor.findings import Verdict
from ctg_assets.cli.doctor.services import look_at_workers
from ctg_assets.definitions import build_definitions
from ctg_assets.orchestration import celery_executor, celery_steps
from ctg_assets.orchestration.celery_steps import celery_app, do_step, has_ended, step_name
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.step_locks import is_step_locked, step_lock
from ctg_assets.settings import SettingsError, load_settings

BROKER = "amqp://guest:a-secret@127.0.0.1:1//"
STEP = "one"
done: list[str] = []


@dg.op
def one() -> None:
    """Stands for work."""
    done.append(STEP)


@dg.job
def one_step() -> None:
    """A job of one step."""
    one()


class Clock:
    """Stands for `time`."""

    now = 0.0

    def monotonic(self) -> float:
        """Its time."""
        return self.now


class Bench:
    """A run of one step, the handler of its steps, and a broker that is stood for."""

    def __init__(self, instance: dg.DagsterInstance, address: PostgresAddress) -> None:
        """The run has begun, and nobody was told of its step."""
        self.instance = instance
        self.address = address
        job = dg.reconstructable(one_step)
        self.run = instance.create_run_for_job(
            one_step, status=dg.DagsterRunStatus.STARTED, job_code_origin=job.get_python_origin()
        )
        self.args = ExecuteStepArgs(
            job.get_python_origin(), self.run.run_id, [STEP], retry_mode=RetryMode.DISABLED
        )
        self.name = step_name(self.run.run_id, STEP)
        self.clock = Clock()
        self.has_broker = True
        self.rung = 0
        self.warned: list[str] = []
        self.context: Any = SimpleNamespace(
            execute_step_args=self.args,
            instance=instance,
            get_step_context=lambda _: SimpleNamespace(
                log=SimpleNamespace(warning=self.warned.append)
            ),
        )
        self.handler = celery_executor._Workers(load_settings(broker_url=BROKER))

    def ring(self, *_: object) -> None:
        """Stands for the broker."""
        if not self.has_broker:
            raise OperationalError
        self.rung += 1

    def begin(self) -> None:
        """Have the step rung for, for the first time."""
        assert list(self.handler.launch_step(self.context)) == []

    def look(self, seconds: float) -> bool:
        """Let time pass, and the run look after its step; whether that is taken to be well."""
        self.clock.now += seconds
        return self.handler.check_step_health(self.context).is_healthy

    def report(self, kind: dg.DagsterEventType, facts: Any = None) -> None:
        """Have this stand among the step's events."""
        event = DagsterEvent(kind.value, one_step.name, step_key=STEP, event_specific_data=facts)
        self.instance.report_dagster_event(event, self.run.run_id)


@pytest.fixture
def bench(
    address: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """A bench whose database is empty."""
    monkeypatch.setenv("CTG_POSTGRES_URL", address.url)
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    done.clear()
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: nullcontext(instance))
        made = Bench(instance, address)
        monkeypatch.setattr(celery_executor, "time", made.clock)
        monkeypatch.setattr(celery_executor, "ring", made.ring)
        yield made


def test_the_executor_is_chosen_by_the_setting(tmp_path: Path) -> None:
    """Workers do the steps where it says so; downloads and report are written where their run is started all the same."""
    given: dict[str, Any] = {"data_dir": str(tmp_path), "marts": "none", "broker_url": BROKER}
    chosen = build_definitions(executor="celery", **given)
    assert chosen.executor is not None
    assert chosen.resolve_job_def("build_warehouse").executor_def.name == "celery"
    assert chosen.resolve_job_def("export_aact").executor_def.name == "in_process"
    usual = build_definitions(**given)
    assert usual.resolve_job_def("build_warehouse").executor_def.name == "in_process"


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a broker's address, and without the extra, by the command and by the definitions."""
    monkeypatch.setenv("CTG_EXECUTOR", "celery")
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    refused = CliRunner().invoke(app, ["worker"], env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    assert "needs CTG_BROKER_URL, as amqp://" in refused.output
    with pytest.raises(SettingsError, match="needs CTG_BROKER_URL"):
        build_definitions(marts="none")
    monkeypatch.setitem(sys.modules, "celery", None)
    with pytest.raises(SettingsError, match=r"pip install 'ctg-assets\[celery\]'"):
        celery_app(load_settings(broker_url=BROKER))


def test_an_address_that_is_none_is_not_shown() -> None:
    """It may hold a password."""
    with pytest.raises(SettingsError, match="CTG_BROKER_URL: a broker is at amqp://") as refused:
        load_settings(broker_url="redis://:a-secret@host")
    assert "a-secret" not in str(refused.value)


def test_a_lock_is_its_sessions(address: PostgresAddress) -> None:
    """Nobody else gets the lock of a step meanwhile, others can see it, and other steps have their own."""
    with step_lock(address, "run/a") as is_ours:
        assert is_ours
        assert is_step_locked(address, "run/a")
        assert not is_step_locked(address, "run/b")
        with step_lock(address, "run/a") as is_ours_too, step_lock(address, "run/b") as is_free:
            assert (is_ours_too, is_free) == (False, True)
    assert not is_step_locked(address, "run/a")


def test_a_step_is_rung_for_until_somebody_does_it(bench: Bench) -> None:
    """Not while its lock is held; again when who held it died; not when its end is known."""
    bench.begin()
    assert bench.look(4)
    assert bench.rung == 1
    assert bench.look(2)
    assert bench.rung == 2
    with step_lock(bench.address, bench.name):
        assert bench.look(6)
        assert bench.rung == 2
    assert bench.look(6)
    assert bench.rung == 3
    bench.report(dg.DagsterEventType.STEP_SKIPPED)
    assert bench.look(6)
    assert bench.rung == 3
    assert bench.warned == []


def test_who_waits_for_long_is_told(bench: Bench) -> None:
    """Once, of a missing worker or a missing broker, and the step is not given up."""
    bench.begin()
    for _ in range(30):
        assert bench.look(6)
    assert len(bench.warned) == 1
    assert "no worker has begun one for a minute" in bench.warned[0]
    bench.warned.clear()
    bench.has_broker = False
    bench.begin()
    for _ in range(3):
        assert bench.look(6)
    assert len(bench.warned) == 1
    assert "no broker answers at CTG_BROKER_URL" in bench.warned[0]
    bench.has_broker = True
    rung = bench.rung
    assert bench.look(6)
    assert bench.rung == rung + 1


def test_a_step_that_kills_its_workers_is_given_up(bench: Bench) -> None:
    """Else it would kill one after the other for ever."""
    bench.begin()
    for _ in range(4):
        bench.report(dg.DagsterEventType.STEP_WORKER_STARTED, EngineEventData())
    assert bench.look(6)
    bench.report(dg.DagsterEventType.STEP_WORKER_STARTED, EngineEventData())
    assert not bench.look(6)


def test_a_worker_does_a_step_once(bench: Bench) -> None:
    """A message that comes again finds the step done, by another process, or of a run that is over."""
    packed = serialize_value(bench.args)
    with step_lock(bench.address, bench.name):
        do_step(packed)
    assert done == []
    do_step(packed)
    assert has_ended(bench.instance, bench.run.run_id, STEP)
    do_step(packed)
    assert done == [STEP]
    other = Bench(bench.instance, bench.address)
    bench.instance.report_run_failed(other.run)
    do_step(serialize_value(other.args))
    assert done == [STEP]


def test_a_worker_without_the_runs_storage_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Its step is left to others."""
    bench.instance.delete_run(bench.run.run_id)
    do_step(serialize_value(bench.args))
    assert "all machines need the same one (DAGSTER_POSTGRES_URL)" in caplog.text
    assert done == []


def test_the_doctor_asks_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where steps are theirs; a broker that is not there, and workers that are not, are said."""
    assert list(look_at_workers(load_settings())) == []
    settings = load_settings(executor="celery", broker_url=BROKER)
    [found] = look_at_workers(settings)
    assert found.verdict is Verdict.WARNING
    assert "broker at amqp://guest:**@127.0.0.1:1// does not let us in" in found.text
    names: list[str] = []
    monkeypatch.setattr(celery_steps, "connected_workers", lambda _: names)
    [found] = look_at_workers(settings)
    assert (found.verdict, "steps of runs wait until there is one" in found.text) == (
        Verdict.WARNING,
        True,
    )
    names.append("7@one")
    [found] = look_at_workers(settings)
    assert (found.verdict, found.text) == (Verdict.OK, "7@one answer through the broker")
