"""The limit on requests of machines that share nothing but a Postgres."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from ctg_assets import registry_access
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import ServerUnavailableError
from ctg_assets.postgres.request_record import RequestRecord
from ctg_assets.registry import rate_limit
from ctg_assets.registry.rate_limit import COUNTED_SECONDS, SharedRateLimit
from ctg_assets.registry_access import LimitOfMachines
from ctg_assets.settings import load_settings
from ctg_assets_tests.registry.clock import FakeClock
from ctg_assets_tests.support.postgres import query

REGISTRY = "http://registry.test/api/v2"
REQUESTS = 12

# A machine: its own data folder, and the settings that any other has. It says how many requests it may
# send before it would have to wait.
MACHINE = """
import sys, time
from types import SimpleNamespace
from ctg_assets import registry_access
from ctg_assets.registry import rate_limit
from ctg_assets.settings import load_settings

class Blocked(Exception):
    pass

def blocked(seconds):
    raise Blocked

settings = load_settings(
    data_dir=sys.argv[1], postgres_url=sys.argv[2], requests_per_minute=int(sys.argv[3]),
    api_url="http://registry.test/api/v2",
)
with registry_access.open_registry(settings) as client:
    print("open", flush=True)
    sys.stdin.readline()
    clock = SimpleNamespace(time_ns=time.time_ns, monotonic=time.monotonic, sleep=blocked)
    registry_access.time = rate_limit.time = clock
    permitted = 0
    try:
        while True:
            client._requests._rate_limit.acquire()
            permitted += 1
    except Blocked:
        print(permitted, flush=True)
"""


def _machine(folder: Path, url: str, requests: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MACHINE, str(folder), url, str(requests)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.process
def test_machines_share_one_limit(address: PostgresAddress, tmp_path: Path) -> None:
    """Two at a time, with a data folder each, are permitted as many requests as one would be."""
    machines = [_machine(tmp_path / name, address.url, 40) for name in ("one", "two")]
    for machine in machines:
        assert machine.stdout is not None
        assert machine.stdout.readline() == "open\n"
    for machine in machines:
        assert machine.stdin is not None
        machine.stdin.write("\n")
        machine.stdin.flush()
    permitted = [int(machine.communicate(timeout=60)[0]) for machine in machines]
    assert sum(permitted) == 40
    assert query(address, "SELECT count(*) FROM ctg_meta.registry_requests") == [(40,)]
    assert query(address, "SELECT count(*) FROM ctg_meta.registry_senders") == [(2,)]


class Place:
    """Machines in this process, whose waiting passes simulated time; the database keeps its own."""

    def __init__(self, address: PostgresAddress, folder: Path, clock: FakeClock) -> None:
        self.address = address
        self.folder = folder
        self.clock = clock
        self.is_up = True
        self.opened: list[LimitOfMachines] = []

    def machine(self, name: str, registry: str = REGISTRY) -> LimitOfMachines:
        """The limit of a machine with a data folder of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)

        def own_limit(requests: int) -> SharedRateLimit:
            return SharedRateLimit(folder / "requests.sqlite", requests)

        def open_record() -> RequestRecord:
            if not self.is_up:
                message = "no Postgres answers"
                raise ServerUnavailableError(message)
            return RequestRecord(self.address, registry, name)

        limit = LimitOfMachines(
            REQUESTS,
            own=own_limit(REQUESTS),
            own_limit=own_limit,
            open_record=open_record,
            memory=folder / "machines",
        )
        self.opened.append(limit)
        return limit

    def permitted(self, limit: LimitOfMachines) -> int:
        """How many requests are permitted before one would have to wait; that one is not sent."""
        sent = 0
        waited: list[float] = []

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            raise _WaitedError

        self.clock.sleep = sleep  # type: ignore[method-assign]
        try:
            while sent <= 2 * REQUESTS:
                limit.acquire()
                sent += 1
        except _WaitedError:
            assert 0 < waited[0] <= COUNTED_SECONDS + 0.01
        return sent

    def go_down(self) -> None:
        """End all sessions in the database, and let nobody in."""
        self.is_up = False
        with connect(self.address.database("postgres")) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [self.address.dbname],
            )

    def pass_time(self, seconds: float) -> None:
        """Let time pass, for machines and for the database's record."""
        self.clock.now += seconds
        with connect(self.address) as connection:
            connection.execute(
                "UPDATE ctg_meta.registry_requests SET sent_at = sent_at - make_interval(secs => %s)",
                [seconds],
            )


class _WaitedError(Exception):
    """A request would have had to wait."""


@pytest.fixture
def place(
    address: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A database that is up, and no machine yet."""
    clock = FakeClock()
    monkeypatch.setattr(registry_access, "time", clock)
    monkeypatch.setattr(rate_limit, "time", clock)
    here = Place(address, tmp_path, clock)
    yield here
    for limit in here.opened:
        limit.close()


def test_what_another_machine_sent_counts_until_the_window_is_over(place: Place) -> None:
    """A second machine gets what the first has left, and all of it a window later; another registry is none of theirs."""
    one, two = place.machine("one"), place.machine("two")
    for _ in range(REQUESTS - 3):
        one.acquire()
    assert place.permitted(two) == 3
    assert place.permitted(one) == 0
    assert place.permitted(place.machine("three", "http://other.test")) == REQUESTS
    place.pass_time(COUNTED_SECONDS + 0.5)
    assert place.permitted(two) == REQUESTS


@pytest.mark.parametrize(("machines", "share"), [(0, 6), (1, 12), (3, 4), (20, 1)])
def test_a_machine_alone_takes_its_share(
    place: Place, machines: int, share: int, caplog: pytest.LogCaptureFixture
) -> None:
    """While no Postgres answers, machines that knew of each other stay within the limit together.

    One that never learnt of others takes half; it may have one.
    """
    for number in range(1, machines):
        with closing(RequestRecord(place.address, REGISTRY, f"other {number}")) as other:
            other.senders()
    limit = place.machine("one")
    if machines:
        limit.acquire()
        place.pass_time(COUNTED_SECONDS + 0.5)
    place.go_down()
    assert place.permitted(limit) == share
    assert "cannot be shared with other machines" in caplog.text
    assert f"{share} requests a minute are sent from here" in caplog.text


def test_what_was_sent_alone_counts_when_the_database_is_back(place: Place) -> None:
    """Others do not get a second time what was sent while nobody could note it."""
    one, two = place.machine("one"), place.machine("two")
    one.acquire()
    two.acquire()
    place.pass_time(2 * COUNTED_SECONDS + 1)  # forgotten by then
    one.close()
    one = place.machine("one")
    one.acquire()  # learns that there are two
    place.go_down()
    assert place.permitted(one) == REQUESTS // 2 - 1
    place.is_up = True
    assert place.permitted(one) == 0  # not asked again so soon
    place.clock.now += 31
    assert place.permitted(one) > 0
    assert query(place.address, "SELECT count(*) FROM ctg_meta.registry_requests") == [(REQUESTS,)]
    assert place.permitted(two) == 0


def test_a_database_clock_that_is_set_back_does_not_block(place: Place) -> None:
    """What seems to have been sent in the future counts as sent now."""
    limit = place.machine("one")
    limit.acquire()
    place.pass_time(-86_400)
    place.clock.now += 86_400 + COUNTED_SECONDS + 1
    assert place.permitted(limit) == REQUESTS - 1
    newest = query(
        place.address, "SELECT max(sent_at) <= clock_timestamp() FROM ctg_meta.registry_requests"
    )
    assert newest == [(True,)]


def test_a_machine_that_hangs_does_not_hold_up_others(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever keeps the lock on the record for long is taken for dead, and the share is taken meanwhile."""
    monkeypatch.setattr("ctg_assets.postgres.request_record._LOCK_SECONDS", 0.02)
    limit = place.machine("one")
    limit.acquire()
    with psycopg.connect(place.address.url) as hanging:
        hanging.execute(
            "SELECT pg_advisory_xact_lock(hashtext('ctg_assets requests'), hashtext(%s))",
            [REGISTRY],
        )
        limit.acquire()
    assert "cannot be shared" in caplog.text


def test_who_only_looks_leaves_no_trace(address: PostgresAddress, tmp_path: Path) -> None:
    """The doctor asks the registry, and makes nothing in a database that it was not asked to load."""
    settings = load_settings(data_dir=tmp_path, postgres_url=address.url, api_url=REGISTRY)
    with registry_access.open_registry(settings, only_look=True) as client:
        client._requests._rate_limit.acquire()
    assert query(address, "SELECT to_regnamespace('ctg_meta')") == [(None,)]
