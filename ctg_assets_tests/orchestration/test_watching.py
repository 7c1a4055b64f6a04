"""What Dagster's storage says to who watches from outside."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat

from ctg_assets.orchestration import watching
from ctg_assets.orchestration.runs import OUR_JOBS
from ctg_assets.orchestration.watching import DagsterWatch
from ctg_assets.settings import Settings

JOB = "plan_extraction"


@dg.asset(
    check_specs=[
        dg.AssetCheckSpec("sound", asset="thing"),
        dg.AssetCheckSpec("pretty", asset="thing"),
        dg.AssetCheckSpec("there", asset="thing"),
    ]
)
def thing() -> dg.MaterializeResult:  # type: ignore[type-arg]
    """An asset of which two checks do not pass."""
    return dg.MaterializeResult(
        check_results=[
            dg.AssetCheckResult(passed=False, check_name="sound"),
            dg.AssetCheckResult(
                passed=False, check_name="pretty", severity=dg.AssetCheckSeverity.WARN
            ),
            dg.AssetCheckResult(passed=True, check_name="there"),
        ]
    )


@dg.op
def broken() -> None:
    """Fail."""
    message = "no"
    raise RuntimeError(message)


@dg.job(name=JOB)
def failing() -> None:
    """A job that fails."""
    broken()


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance that is found by whoever opens one."""
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(watching, "open_instance", lambda: instance)
        monkeypatch.setattr(watching, "has_state", lambda _: True)
        yield instance


def test_where_nothing_was_run_there_is_nothing_to_tell(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No instance is made by looking for one."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    assert DagsterWatch(settings).read() is None
    assert list(settings.data_dir.iterdir()) == []


def test_runs_checks_daemons_and_stages_are_told(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    """Runs by how they ended, checks by severity, each daemon's sign of life, seconds of what succeeded."""
    assert JOB in OUR_JOBS
    job = dg.Definitions(assets=[thing], jobs=[dg.define_asset_job(JOB, selection="*")])
    assert job.resolve_job_def(JOB).execute_in_process(instance=instance).success
    assert not failing.execute_in_process(instance=instance, raise_on_error=False).success
    instance.add_daemon_heartbeat(DaemonHeartbeat(1_800_000_000.0, "SENSOR", "daemon", []))

    watch = DagsterWatch(settings)
    told = watch.read()
    assert told is not None
    assert {status: count for status, count in told.runs.items() if count} == {
        "success": 1,
        "failure": 1,
    }
    assert {"queued", "started", "canceled"} <= told.runs.keys()
    assert (told.dead_runs, told.heartbeats) == (0, {"SENSOR": 1_800_000_000.0})
    assert told.failed_checks == {"error": 1, "warning": 1}
    [(stage, seconds)] = told.stage_seconds.items()
    assert stage == "thing"
    assert 0 <= seconds < 60
