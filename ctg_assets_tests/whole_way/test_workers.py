"""Steps of runs on two machines, which share a broker, an object store and Postgres; anything of it dies.

A whole soak kills thirty times, over workers, broker, storage and Postgres, which takes twenty minutes; shorter ones, from a
fifth on, six times. CI has none: the machine at work and the broker dead once cost it 55 s of computing.
"""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ctg_assets.refresh.planner import Idle, Stage, Step
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets_tests.feed.helpers import receiver
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.registry.test_rate_limit import most_in_a_window
from ctg_assets_tests.soak import IS_LONG, times
from ctg_assets_tests.support.namespaces import Machine
from ctg_assets_tests.whole_way.changing_lakes import comes_to, is_sound, source
from ctg_assets_tests.whole_way.working_machines import (
    ALONE,
    CONTROL,
    Services,
    Site,
    rows_of_all_tables,
    shared_services,
    working_site,
)

pytestmark = [
    pytest.mark.process,
    pytest.mark.postgres,
    pytest.mark.soak,
    pytest.mark.skipif(not IS_LONG, reason="two machines at work: in soaks from a fifth on"),
]

_LIMIT = 15
_GIVEN = {
    "query": "",
    "page_size": "8",
    "requests_per_minute": str(_LIMIT),
    "max_shrink_fraction": "1",
    "refresh_mode": "full",
    "retry_seconds": "60",
    "token_chains": "1",
    "marts": "fct_study_sponsor",
    "aact": "true",
}
_KILLS_A_VERSION = 5
# Seconds, at most: between two kills, of an outage of the storage, and that a machine is cut off before it dies.
_PAUSE, _OUTAGE, _SILENCE = 8.0, 6.0, 3.0


@pytest.fixture
def simulator() -> Iterator[RunningSimulator]:
    """A registry whose log is of this test alone."""
    with running_simulator(source(0)) as running:
        yield running


class _Killer:
    """Kills at random moments what a site is made of, and has it started again, as systemd would."""

    def __init__(self, site: Site, services: Services, seed: int) -> None:
        self.done: list[str] = []
        self._site = site
        self._services = services
        self._chosen = random.Random(seed)
        self._over = threading.Event()

    def kill(self, kills: int) -> None:
        """Kill so many times, or until somebody says that it is over."""
        ways: Sequence[Callable[[], str]] = (
            *(self._kill_process, self._kill_process, self._cut_off),
            *(self._kill_broker, self._cut_storage, self._kill_postgres),
        )
        for _ in range(kills):
            if self._over.wait(self._chosen.uniform(0, _PAUSE)):
                return
            self.done.append(self._chosen.choice(ways)())

    def stop(self) -> None:
        """No more from now on."""
        self._over.set()

    def kill_with_broker(self, machine: Machine) -> None:
        """Kill a machine and the broker at once, and start both again."""
        machine.kill()
        self._services.broker.kill()
        self._site.start(machine)
        self._services.broker.start()
        self.done += [machine.name, "broker"]

    def _kill_process(self) -> str:
        machine = self._chosen.choice(self._site.machines)
        processes = machine.processes()
        if processes:
            with suppress(psutil.NoSuchProcess):
                self._chosen.choice(processes).kill()
        # The first process takes all with it; Celery replaces another one.
        self._over.wait(1)
        if not machine.is_up:
            self._site.start(machine)
        return f"a process of {machine.name}"

    def _cut_off(self) -> str:
        machine = self._chosen.choice(self._site.machines)
        machine.unplug()
        try:
            self._over.wait(self._chosen.uniform(0, _SILENCE))
            machine.kill()
        finally:
            machine.plug_in()
        self._site.start(machine)
        return f"{machine.name}, cut off"

    def _kill_broker(self) -> str:
        self._services.broker.kill()
        self._services.broker.start()
        return "broker"

    def _cut_storage(self) -> str:
        with self._services.s3_line.cut():
            self._over.wait(self._chosen.uniform(0, _OUTAGE))
        return "storage"

    def _kill_postgres(self) -> str:
        self._services.postgres.kill()
        self._services.postgres.start()
        return "Postgres"


def _pages_asked(simulator: RunningSimulator) -> int:
    return sum(
        # Counts and searches ask for ids alone.
        request.path.endswith("/studies") and "fields=NCTId" not in request.query
        for request in simulator.requests
    )


def _refresh_and_kill_who_walks(site: Site, services: Services) -> list[str]:
    """Bring all up to date; the machine that walks dies in the middle of that, and the broker with it."""
    killer = _Killer(site, services, 0)
    before = _pages_asked(services.simulator)
    services.simulator.set_faults("page=2@studies:timeout")

    def meanwhile(step: Step) -> None:
        if step.stage is Stage.PAGES and not killer.done:
            wait_until(
                "the second page is asked for",
                lambda: _pages_asked(services.simulator) == before + 2,
            )
            machine = site.at_work()
            assert machine is not None
            killer.kill_with_broker(machine)

    site.refresh(meanwhile)
    # One run each to plan, walk and build: none failed.
    assert site.runs == 3
    # The page that was in flight, and no other, was asked for twice.
    assert _pages_asked(services.simulator) == before + 3 + 1
    return killer.done


def _refresh_and_kill(site: Site, services: Services, kills: int, seed: int) -> _Killer:
    """Bring all up to date while so many kills happen, or fewer if that is done sooner."""
    killer = _Killer(site, services, seed)
    with ThreadPoolExecutor(1) as threads:
        killing = threads.submit(killer.kill, kills)
        try:
            site.refresh()
        finally:
            killer.stop()
        killing.result()
    # What was killed last may have left something.
    site.refresh()
    return killer


def _refresh_alone(site: Site, simulator: RunningSimulator) -> set[int]:
    """Have the other machine do the same; returns the numbers of its requests, which have a limit of their own."""
    before = len(simulator.requests)
    site.refresh_alone()
    return {request.number for request in simulator.requests[before:]}


def _events(name: str, site: Site) -> list[Any]:
    """The events that a sink gets, in the order of their numbers; what came twice came alike."""
    with receiver() as there:
        site.deliver(name, there.url)
        events = [event for request in there.requests for event in request.events]
    assert [event["change_seq"] for event in events] == list(range(1, len(events) + 1))
    return events


def test_machines_and_services_die(
    simulator: RunningSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First load and refreshes while they do: lake, tables and feed are as if one machine had done it undisturbed."""
    with (
        shared_services(simulator) as (network, services),
        working_site(tmp_path, network, services, **_GIVEN) as site,
    ):
        for name, value in services.s3.environment().items():
            monkeypatch.setenv(name, value)
        killed = _refresh_and_kill_who_walks(site, services)
        alone = _refresh_alone(site, simulator)
        version = 0
        while len(killed) < times(2, 30):
            version += 1
            simulator.advance(source(version))
            kills = min(_KILLS_A_VERSION, times(2, 30) - len(killed))
            killer = _refresh_and_kill(site, services, kills, version)
            killed += killer.done
            alone |= _refresh_alone(site, simulator)
        is_sound(site.lake)
        assert comes_to(site.lake) == comes_to(site.lake_alone)
        assert rows_of_all_tables(site.tables) == rows_of_all_tables(site.tables_alone)
        assert _events(CONTROL, site) == _events(ALONE, site)
        # Who walked died, so both of them did.
        assert {machine.name for machine in site.machines} <= site.senders()
        arrived = [
            request.arrived_ns / 1e9
            for request in simulator.requests
            if request.number not in alone
        ]
        assert most_in_a_window(arrived) <= _LIMIT
        assert len(killed) == times(2, 30)


def test_who_starts_runs_does_not_matter(
    simulator: RunningSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is stopped stops its step on the machine that does it; then the sensor, in a daemon, has all done."""
    given = {**_GIVEN, "requests_per_minute": "10000", "marts": "none", "aact": "false"}
    with (
        shared_services(simulator) as (network, services),
        working_site(tmp_path, network, services, **given) as site,
    ):
        for name, value in services.s3.environment().items():
            monkeypatch.setenv(name, value)
        simulator.set_faults("page=2@studies:timeout")
        plan = site.next_step()
        assert isinstance(plan, Step)
        site.start_run(plan).wait()
        step = site.next_step()
        assert isinstance(step, Step)
        assert step.stage is Stage.PAGES
        run = site.start_run(step)
        wait_until("a machine walks", lambda: site.at_work() and _pages_asked(simulator) == 2)
        run.send_signal(signal.SIGINT)
        wait_until("nobody does the step", lambda: site.at_work() is None, seconds=20)
        assert run.wait() != 0
        with site.daemon():
            wait_until(
                "the sensor has all done",
                lambda: isinstance(site.next_step(), Idle),
                seconds=300,
                pause=1,
            )
        site.refresh_alone()
        assert comes_to(site.lake) == comes_to(site.lake_alone)
        assert rows_of_all_tables(site.tables) == rows_of_all_tables(site.tables_alone)
