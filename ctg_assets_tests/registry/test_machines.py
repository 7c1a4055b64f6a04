"""The limit on requests of machines that share nothing but a Postgres."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctg_assets import registry_access
from ctg_assets.postgres.connection import PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.errors import ServerUnavailableError
from ctg_assets.postgres.request_record import RequestRecord
from ctg_assets.postgres.server import open_postgres
from ctg_assets.registry import rate_limit
from ctg_assets.registry.errors import RateLimitRecordError, RateLimitUnavailableError
from ctg_assets.registry.rate_limit import COUNTED_SECONDS, SharedRateLimit
from ctg_assets.registry_access import LimitOfMachines
from ctg_assets.settings import load_settings
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.registry.clock import FakeClock
from ctg_assets_tests.registry.test_rate_limit import most_in_a_window
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.postgres import kill_server, query, settings_for

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


@dataclass
class Server:
    """What the simulated time is for a real database, and whether machines get through to it."""

    address: PostgresAddress
    clock: FakeClock
    is_up: bool = True
    cut_off: set[str] = field(default_factory=set)
    # By how much its clock was set back, and when it was started.
    behind: float = 0.0
    started: float = 0.0
    # How long it takes to answer that it has noted a request.
    delay: float = 0.0

    def do(self, *statements: str) -> None:
        """Do something in the database."""
        with connect(self.address) as connection, connection.transaction():
            for statement in statements:
                connection.execute(statement.encode())

    def crash(self, lost: int) -> None:
        """Die and be there again, without the requests that were noted last, as if their commits had not been durable."""
        self.do(
            "DELETE FROM ctg_meta.registry_requests WHERE ctid IN (SELECT ctid FROM ctg_meta.registry_requests "
            f"ORDER BY sent_at DESC LIMIT {lost})",
            "UPDATE ctg_meta.registry_record SET newest = "
            "(SELECT max(sent_at) FROM ctg_meta.registry_requests)",
        )
        self.started = self.clock.now

    def dump(self) -> None:
        """Keep what is there."""
        self.do(
            "DROP SCHEMA IF EXISTS dumped CASCADE",
            "CREATE SCHEMA dumped",
            "CREATE TABLE dumped.requests AS TABLE ctg_meta.registry_requests",
            "CREATE TABLE dumped.record AS TABLE ctg_meta.registry_record",
        )

    def restore(self) -> None:
        """Have what was kept in the place of what is there."""
        self.do(
            "TRUNCATE ctg_meta.registry_requests, ctg_meta.registry_record",
            "INSERT INTO ctg_meta.registry_requests TABLE dumped.requests",
            "INSERT INTO ctg_meta.registry_record TABLE dumped.record",
        )


class TimedRecord(RequestRecord):
    """A record in a database that lives by simulated time."""

    def __init__(self, server: Server, registry: str, known_place: str | None) -> None:
        super().__init__(server.address, registry, known_place)
        self._server = server
        self._connection.execute("SET search_path = faked, pg_catalog, public")

    def seconds_to_wait(self, requests: int, window_seconds: float) -> float:
        """As ever, with the server's time as it is now."""
        server = self._server
        with postgres_errors("telling the time"):
            self._connection.execute(
                "SELECT set_config('faked.now', %s, false), set_config('faked.started', %s, false)",
                [str(server.clock.now - server.behind), str(server.started)],
            )
        wait = super().seconds_to_wait(requests, window_seconds)
        server.clock.now += server.delay
        server.delay = 0
        return wait


class _WaitedError(Exception):
    """A request would have had to wait."""


class Place:
    """Machines in this process and their database, which live by simulated time."""

    def __init__(self, address: PostgresAddress, folder: Path, clock: FakeClock) -> None:
        self.server = Server(address, clock)
        self.clock = clock
        self.folder = folder
        # When anybody sent a request to the registry.
        self.sent: list[float] = []
        self.waited = 0.0
        self._opened: list[LimitOfMachines] = []
        self._own: list[SharedRateLimit] = []
        clock.sleep = self._sleep  # type: ignore[method-assign]
        self.server.do(
            "CREATE SCHEMA IF NOT EXISTS faked",
            "CREATE OR REPLACE FUNCTION faked.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
            "AS $$ SELECT to_timestamp(current_setting('faked.now')::float8) $$",
            "CREATE OR REPLACE FUNCTION faked.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql "
            "AS $$ SELECT to_timestamp(current_setting('faked.started')::float8) $$",
        )

    def machine(self, name: str, registry: str = REGISTRY) -> LimitOfMachines:
        """The limit of a machine with a data folder of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)

        def open_record(known_place: str | None) -> RequestRecord:
            if not self.server.is_up or name in self.server.cut_off:
                message = "no Postgres answers"
                raise ServerUnavailableError(message)
            return TimedRecord(self.server, registry, known_place)

        own = SharedRateLimit(folder / "requests.sqlite", REQUESTS)
        limit = LimitOfMachines(
            REQUESTS, own=own, open_record=open_record, memory=folder / "machines"
        )
        self._own.append(own)
        self._opened.append(limit)
        return limit

    def send(self, limit: LimitOfMachines, most: int = 2 * REQUESTS) -> int:
        """Send so many requests, or fewer if one would have to wait; that one is not sent. Returns how many were."""
        for number in range(most):
            try:
                limit.acquire()
            except _WaitedError:
                return number
            self.sent.append(self.clock.now)
        return most

    def send_patiently(self, limit: LimitOfMachines) -> float:
        """Send one request, waiting as long as one has to; returns how long that was."""
        began = self.clock.now
        while not self.send(limit, 1):
            self.clock.now += self.waited
        return self.clock.now - began

    def hang_up(self, limit: LimitOfMachines) -> None:
        """Break a machine's connection."""
        if limit._record is not None:
            limit._record._connection.close()

    def go_down(self) -> None:
        """Let the database go down, and all connections with it."""
        self.server.is_up = False
        for limit in self._opened:
            self.hang_up(limit)

    def close(self) -> None:
        """Close all that was opened."""
        for limit in self._opened:
            limit.close()
        for own in self._own:
            own.close()

    def _sleep(self, seconds: float) -> None:
        assert 0 < seconds <= COUNTED_SECONDS + 0.01
        self.waited = seconds
        raise _WaitedError


@contextmanager
def opened_place(address: PostgresAddress, folder: Path) -> Iterator[Place]:
    """A database that is up, and no machine yet."""
    clock = FakeClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_access, "time", clock)
        patch.setattr(rate_limit, "time", clock)
        here = Place(address, folder, clock)
        try:
            yield here
        finally:
            here.close()


@pytest.fixture
def place(address: PostgresAddress, tmp_path: Path) -> Iterator[Place]:
    """A database that is up, and no machine yet."""
    with opened_place(address, tmp_path) as here:
        yield here


DROP = "DROP TABLE IF EXISTS ctg_meta.registry_requests, ctg_meta.registry_record"


class Happenings:
    """Machines to which something happens; each event is a method."""

    def __init__(self, place: Place, machines: int) -> None:
        self.place = place
        self.server = place.server
        self.names = [f"machine {number}" for number in range(machines)]
        self.limits = [place.machine(name) for name in self.names]
        self.server.do(DROP)
        # Before, there is nothing that could be lost, and a stranger to a lost record could not be told from the first.
        for limit in self.limits:
            place.send(limit, 1)
        self.server.dump()

    def happen(self, event: str, number: int = 0, much: int = REQUESTS) -> None:
        """Let one of `EVENTS` happen to a machine, or to what all share; `much` is how much of it."""
        event_of: Callable[[int, int], None] = getattr(self, f"_{event}")
        event_of(number % len(self.names), much)

    def _sends(self, number: int, much: int) -> None:
        with suppress(RateLimitUnavailableError):
            self.place.send(self.limits[number], much)

    def _is_killed(self, number: int, much: int) -> None:
        self.limits[number] = self.place.machine(self.names[number])

    def _loses_its_folder(self, number: int, much: int) -> None:
        self.names[number] += "'"
        self.limits[number] = self.place.machine(self.names[number])

    def _is_cut_off(self, number: int, much: int) -> None:
        self.server.cut_off.add(self.names[number])
        self.place.hang_up(self.limits[number])

    def _is_plugged_in(self, number: int, much: int) -> None:
        self.server.cut_off.discard(self.names[number])

    def _clocks_are_set(self, number: int, much: int) -> None:
        self.place.clock.ahead = 1000.0 * (much - REQUESTS // 2)

    def _postgres_goes_down(self, number: int, much: int) -> None:
        self.place.go_down()

    def _postgres_is_up(self, number: int, much: int) -> None:
        self.server.is_up = True

    def _postgres_crashes(self, number: int, much: int) -> None:
        self.place.go_down()
        self.server.crash(much)
        self.server.is_up = True

    def _postgres_is_slow(self, number: int, much: int) -> None:
        self.server.delay = much / 4

    def _postgres_is_set_back(self, number: int, much: int) -> None:
        self.server.behind += much * 3

    def _is_dumped(self, number: int, much: int) -> None:
        self.server.dump()

    def _is_restored(self, number: int, much: int) -> None:
        self.server.restore()

    def _is_truncated(self, number: int, much: int) -> None:
        self.server.do("TRUNCATE ctg_meta.registry_requests")

    def _is_deleted(self, number: int, much: int) -> None:
        self.server.do("DELETE FROM ctg_meta.registry_requests")

    def _is_dropped(self, number: int, much: int) -> None:
        """The first to ask for the new record has to know the old one, so this happens to nobody else."""
        if all((self.place.folder / name / "machines").exists() for name in self.names):
            self.place.go_down()
            self.server.do(DROP)
            self.server.is_up = True
            self.server.cut_off.discard(self.names[number])
            self.place.send(self.limits[number], 1)


EVENTS = [
    name.removeprefix("_")
    for name in vars(Happenings)
    if name.startswith("_") and not name.startswith("__")
]
_STEPS = st.lists(
    st.tuples(
        st.sampled_from([*EVENTS, *("sends",) * len(EVENTS)]),
        st.integers(0, 3),
        st.integers(1, REQUESTS),
        st.sampled_from([0.0, 0.0, 0.3, 2.5, 20.0, 59.0]),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=times(10, 300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(machines=st.integers(2, 4), steps=_STEPS)
def test_no_window_of_all_machines_holds_more_than_the_limit(
    server_of_machines: PostgresAddress, machines: int, steps: list[tuple[str, int, int, float]]
) -> None:
    """Whatever dies, is cut off or restored in whatever order; and once that is over, everybody may send again."""
    with (
        tempfile.TemporaryDirectory() as folder,
        opened_place(server_of_machines, Path(folder)) as place,
    ):
        happenings = Happenings(place, machines)
        for event, number, much, pause in steps:
            happenings.happen(event, number, much)
            place.clock.now += pause
        place.server.is_up = True
        place.server.cut_off.clear()
        for limit in happenings.limits:
            # What was lost, then one's own share of a window.
            assert place.send_patiently(limit) <= 3 * COUNTED_SECONDS
        assert most_in_a_window(place.sent) <= REQUESTS


@pytest.fixture(scope="module")
def server_of_machines(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """A database for all examples of a property."""
    with new_database(server) as address:
        yield address


def test_what_another_machine_sent_counts_until_the_window_is_over(place: Place) -> None:
    """A second machine gets what the first has left, and all of it a window later; another registry is none of theirs."""
    one, two = place.machine("one"), place.machine("two")
    assert place.send(one, REQUESTS - 3) == REQUESTS - 3
    assert place.send(two) == 3
    assert place.send(one) == 0
    assert place.send(place.machine("three", "http://other.test")) == REQUESTS
    place.clock.now += COUNTED_SECONDS + 0.5
    assert place.send(two) == REQUESTS


def test_nothing_is_sent_while_the_record_cannot_be_asked(place: Place) -> None:
    """A machine that is cut off says why it sends nothing, and what others may send stays whole; later it goes on."""
    one, two = place.machine("one"), place.machine("two")
    assert place.send(one, 2) == 2
    place.server.cut_off.add("one")
    place.hang_up(one)
    with pytest.raises(
        RateLimitUnavailableError,
        match=r"nothing is sent while Postgres cannot be asked.*no Postgres answers",
    ):
        one.acquire()
    assert place.send(two) == REQUESTS - 2
    place.server.cut_off.clear()
    place.clock.now += COUNTED_SECONDS + 0.5
    assert place.send(one, 1) == 1


def test_a_record_that_is_not_ours_is_not_waited_for(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """What only a person can mend is said at once, as that."""
    with psycopg.connect(address.url) as connection:
        connection.execute("CREATE SCHEMA ctg_meta; CREATE TABLE ctg_meta.registry_requests ()")
    settings = load_settings(data_dir=tmp_path, postgres_url=address.url, api_url=REGISTRY)
    with (
        registry_access.open_registry(settings) as client,
        pytest.raises(RateLimitRecordError, match=r"nothing is sent.*ctg_meta"),
    ):
        client._requests._rate_limit.acquire()


@pytest.mark.parametrize(
    "lost",
    ["postgres_crashes", "is_restored", "is_truncated", "is_deleted", "is_dropped"],
)
def test_a_window_passes_in_silence_where_notes_may_be_lost(place: Place, lost: str) -> None:
    """Nobody sends for as long as lost requests count, whoever comes first, and nobody waits twice for it."""
    happenings = Happenings(place, 2)
    one, two = happenings.limits
    assert place.send(one) == REQUESTS - 2
    place.clock.now += 10
    happenings.happen(lost)
    place.clock.now += 1
    assert place.send(two) == 0
    place.clock.now += 30
    assert place.send(one) == 0
    place.clock.now += COUNTED_SECONDS - 29.5
    assert place.send(one, 2) == 2
    assert place.send(two) == REQUESTS - 2


def test_the_first_machine_of_all_does_not_wait(place: Place) -> None:
    """Where nobody ever noted requests none can be missing; a release that noted them otherwise may have lost some."""
    assert place.send(place.machine("one"), 1) == 1
    place.server.do("DROP TABLE ctg_meta.registry_record")
    assert place.send(place.machine("two"), 1) == 0


def test_a_note_that_took_long_is_no_permission(place: Place) -> None:
    """A request is not sent by a note that was made a while ago; a machine that is always that slow says so."""
    limit = place.machine("one")
    place.server.delay = 1.1
    assert place.send(limit) == REQUESTS - 1
    place.clock.now += COUNTED_SECONDS + 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry_access, "_GOOD_FOR_SECONDS", -1.0)
        with pytest.raises(RateLimitUnavailableError, match="5 times in a row"):
            limit.acquire()


def test_a_database_clock_that_is_set_back_does_not_block(place: Place) -> None:
    """What seems to have been sent in the future counts as sent now."""
    limit = place.machine("one")
    assert place.send(limit, 1) == 1
    place.server.behind = 86_400
    assert place.send(limit) == REQUESTS - 1
    assert 0 < place.waited <= COUNTED_SECONDS + 0.01


def test_a_machine_that_hangs_does_not_hold_up_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stands still with the lock on the record loses it, and what was half done is undone."""
    one, two = place.machine("one"), place.machine("two")
    assert place.send(one, 1) == 1
    monkeypatch.setattr("ctg_assets.postgres.request_record._SILENT_SECONDS", 0.1)
    record = one._record
    assert record is not None
    # It stands still after the last statement of a note, and goes on when others have sent.
    count, sent = record._seconds_until_whole, []

    def stand_still(of: Mapping[str, object]) -> float:
        wait = count(of)
        monkeypatch.setattr(record, "_seconds_until_whole", count)
        sent.append(place.send(two))
        return wait

    monkeypatch.setattr(record, "_seconds_until_whole", stand_still)
    assert place.send(one) == 0
    assert sent == [REQUESTS - 1]


def test_a_database_that_does_not_answer_is_given_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long somebody keeps the lock, or the line swallows all; afterwards everything is as before."""
    limit = place.machine("one")
    assert place.send(limit, 1) == 1
    with psycopg.connect(place.server.address.url) as hanging:
        hanging.execute(
            "SELECT pg_advisory_xact_lock(hashtext('ctg_assets requests'), hashtext(%s))",
            [REGISTRY],
        )
        for name, said in (
            ("_LOCK_SECONDS", "hold locks"),
            ("_ANSWER_SECONDS", "No Postgres answers"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(f"ctg_assets.postgres.request_record.{name}", 0.2)
                with pytest.raises(RateLimitUnavailableError, match=said):
                    limit.acquire()
    assert place.send(limit) == REQUESTS - 1


@pytest.mark.process
def test_a_killed_postgres_loses_nothing_that_was_permitted(data_dir: Path) -> None:
    """If one of its processes dies it goes on with all notes; if all of it does, a window passes before anybody sends."""
    with ExitStack() as stack:
        address = stack.enter_context(open_postgres(settings_for(data_dir)))

        def opened(known_place: str | None = None) -> RequestRecord:
            record = RequestRecord(address, REGISTRY, known_place)
            stack.callback(record.close)
            return record

        with connect(address) as connection:
            # Else what is committed gets to the disk sooner than a kill comes.
            connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")
            connection.execute("SELECT pg_reload_conf()")
        record = opened()
        with connect(address) as doomed:
            process = psutil.Process(doomed.info.backend_pid)
            for _ in range(REQUESTS - 1):
                assert record.seconds_to_wait(REQUESTS, COUNTED_SECONDS) == 0
            process.kill()
            process.wait()
        with pytest.raises(ServerUnavailableError):
            record.seconds_to_wait(REQUESTS, COUNTED_SECONDS)
        wait_until("it has recovered", lambda: _answers(address))
        assert query(address, "SELECT count(*) FROM ctg_meta.registry_requests") == [
            (REQUESTS - 1,)
        ]
        assert opened(record.place).seconds_to_wait(REQUESTS, COUNTED_SECONDS) == 0
        kill_server(data_dir / "postgres" / "data")
        address = stack.enter_context(open_postgres(settings_for(data_dir)))
        assert (
            COUNTED_SECONDS - 5 < opened().seconds_to_wait(99, COUNTED_SECONDS) <= COUNTED_SECONDS
        )


def _answers(address: PostgresAddress) -> bool:
    try:
        return query(address, "SELECT 1") == [(1,)]
    except ServerUnavailableError:
        return False


def test_who_only_looks_makes_nothing_and_counts_where_others_do(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """The doctor asks the registry, and makes nothing in a database that it was not asked to load."""
    settings = load_settings(
        data_dir=tmp_path, postgres_url=address.url, api_url=REGISTRY, requests_per_minute=4
    )

    def look() -> None:
        with registry_access.open_registry(settings, only_look=True) as client:
            client._requests._rate_limit.acquire()

    look()
    assert query(address, "SELECT to_regnamespace('ctg_meta')") == [(None,)]
    with registry_access.open_registry(settings) as client:
        client._requests._rate_limit.acquire()
    look()
    assert query(address, "SELECT count(*) FROM ctg_meta.registry_requests") == [(2,)]
