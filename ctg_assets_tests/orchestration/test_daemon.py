"""The sensor alone, in a daemon that nobody touches."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from ctg_assets.refresh.desired_state import actual_state, desired_state
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.orchestration.workplace import Workplace, wait_until, workplace
from ctg_assets_tests.soak import only_in_soaks

pytestmark = [pytest.mark.process, pytest.mark.soak, only_in_soaks]

STUDIES = 45
_SECONDS = 600
_ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@contextmanager
def daemon(place: Workplace) -> Iterator[None]:
    """`dagster-daemon run` in a workplace; its output goes to a file beside the data."""
    with (place.folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            ["dagster-daemon", "run", "-m", "ctg_assets_tests.orchestration.quick_location"],
            cwd=place.folder,
            env={**place.environment(), "DAGSTER_HOME": str(place.folder)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            end_daemon(process, place.folder)


def end_daemon(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End a daemon that works in a folder, with its code server and runs."""
    everyone = list(_working_in(folder))
    process.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(everyone, timeout=20)
    for left in alive:
        left.kill()
    process.wait()


def _working_in(folder: Path) -> Iterator[psutil.Process]:
    """The daemon, its code server and runs, which are forks and no children of ours."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()) == folder:
                yield process


def _run_worker(place: Workplace) -> int:
    """The process that executes the newest run, as the run's tags say."""
    _, _, tags = place.dagster_state()["runs"][0]
    return int(tags["ctg/process"].split("/")[1])


def _statuses(place: Workplace) -> set[str]:
    return {status for *_, status, _ in place.dagster_state()["runs"]}


def _is_built(place: Workplace, data_timestamp: str) -> bool:
    """Whether the warehouse holds a data version, through to the marts."""
    manifest = place.lake.snapshots.latest()
    if manifest is None or manifest.data_timestamp != data_timestamp:
        return False
    return actual_state(place.settings) == desired_state(place.settings, manifest)


def _pages_asked(running: RunningSimulator) -> int:
    return sum(
        # Counts and searches ask for ids alone.
        request.path.endswith("/studies") and "fields=NCTId" not in request.query
        for request in running.requests
    )


def test_sensor_alone_keeps_everything_up_to_date() -> None:
    """With only a daemon running, all work is done through to the marts.

    That is the first load, resuming after a killed run, and refreshing when the registry's data moved.
    """
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(
            running.api_url,
            poll_seconds="2",
            retry_seconds="60",
            refresh_mode="full",
            token_chains="1",
            marts="fct_study_sponsor",
        ) as place,
    ):
        running.set_faults("page=3@studies:timeout")
        with daemon(place):
            wait_until("third page asked for", lambda: _pages_asked(running) == 3, _SECONDS)
            os.kill(_run_worker(place), signal.SIGKILL)
            version = running.version.data_timestamp
            wait_until("first load", lambda: _is_built(place, version), _SECONDS, pause=1)
            # Only the page that was in flight was asked for twice.
            assert _pages_asked(running) == STUDIES // 10 + 1 + 1

            version = running.advance(GeneratedSource(STUDIES + 1, 1)).data_timestamp
            wait_until("refresh", lambda: _is_built(place, version), _SECONDS, pause=1)
            # The run goes on for a moment after the last mart, and would fail if its daemon ended then.
            wait_until("end of all runs", lambda: _statuses(place) <= _ENDED, _SECONDS, pause=1)
        built = place.query("SELECT count(DISTINCT nct_id) FROM marts.fct_study_sponsor")
        assert built == [(STUDIES + 1,)]
        state = place.dagster_state()
        assert sorted(set(state["materialized"]["page_shards"])) == place.pages()
        assert [status for *_, status, _ in state["runs"]].count("FAILURE") == 1
        jobs = [job for job, *_ in reversed(state["runs"])]
        once = ["plan_extraction", "extract_pages", "build_warehouse", "build_warehouse"]
        assert jobs == [*once[:2], *once[1:], *once]
