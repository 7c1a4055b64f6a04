"""The shared limit on requests: simulated time for its law, real processes for its sharing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.registry import rate_limit
from ctg_assets.registry.errors import PermanentRegistryError, RateLimitRecordError
from ctg_assets.registry.rate_limit import WINDOW_SECONDS, SharedRateLimit
from ctg_assets_tests.registry.clock import FakeClock

# Longest that a request may have to wait: the window and what we add for transit.
LONGEST_WAIT_SECONDS = WINDOW_SECONDS + 2.01


@contextmanager
def living_by(clock: FakeClock) -> Iterator[None]:
    """Let the rate limit (and nothing else) live by a simulated clock."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limit, "time", clock)
        yield


def most_in_a_window(times: list[float]) -> int:
    """The largest number of these times within any 60 seconds."""
    return max(
        sum(start <= other < start + WINDOW_SECONDS for other in times[index:])
        for index, start in enumerate(times)
    )


@settings(max_examples=25, deadline=None)
@given(
    requests_per_minute=st.integers(1, 4),
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 7.0, 29.9, 61.0]), st.booleans(), st.booleans()),
        min_size=1,
        max_size=14,
    ),
)
def test_no_window_holds_more_than_the_limit(
    requests_per_minute: int, steps: list[tuple[float, bool, bool]]
) -> None:
    """Whatever the pauses, over two users of one record, restarts included, and no longer than needed."""
    clock = FakeClock()
    sent: list[float] = []
    with living_by(clock), tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def opened() -> SharedRateLimit:
            limit = SharedRateLimit(Path(folder) / "requests.sqlite", requests_per_minute)
            return stack.enter_context(closing(limit))

        users = [opened(), opened()]
        for pause, second_user, restart in steps:
            clock.now += pause
            if restart:
                users[second_user].close()
                users[second_user] = opened()
            asked = clock.now
            users[second_user].acquire()
            sent.append(clock.now)
            recent = sum(asked - LONGEST_WAIT_SECONDS < other for other in sent[:-1])
            waited = clock.now - asked
            assert waited <= LONGEST_WAIT_SECONDS
            assert waited == 0 or recent >= requests_per_minute
    assert most_in_a_window(sent) <= requests_per_minute


def test_transit_times_may_differ(tmp_path: Path) -> None:
    """Requests that travel up to two seconds longer than others stay within the limit on arrival."""
    clock = FakeClock()
    arrivals = []
    with living_by(clock), closing(SharedRateLimit(tmp_path / "r.sqlite", 3)) as limit:
        for number in range(9):
            limit.acquire()
            arrivals.append(clock.now + (1.9 if number % 6 < 3 else 0.0))
    assert most_in_a_window(sorted(arrivals)) <= 3


ACQUIRE_UNTIL_BLOCKED = """
import sys, time
from pathlib import Path
from ctg_assets.registry.rate_limit import SharedRateLimit

class Blocked(Exception):
    pass

def blocked(seconds):
    raise Blocked

limit = SharedRateLimit(Path(sys.argv[1]), int(sys.argv[2]))
print("open", flush=True)
sys.stdin.readline()
from ctg_assets.registry import rate_limit
permitted = 0
real = {"time_ns": time.time_ns, "monotonic": time.monotonic}
rate_limit.time = type("Clock", (), {**real, "sleep": blocked})
try:
    while True:
        limit.acquire()
        permitted += 1
except Blocked:
    print(permitted, flush=True)
"""


def _start(record: Path, requests_per_minute: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ACQUIRE_UNTIL_BLOCKED, str(record), str(requests_per_minute)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _permitted(processes: list[subprocess.Popen[str]]) -> list[int]:
    """How many requests each process was permitted before it would have had to wait."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [int(process.communicate(timeout=60)[0]) for process in processes]


@pytest.mark.process
def test_processes_share_one_record(tmp_path: Path) -> None:
    """Two processes at once get as many requests as one would, and one started later gets none."""
    record = tmp_path / "päth with space" / "requests.sqlite"
    record.parent.mkdir()
    assert sum(_permitted([_start(record, 40), _start(record, 40)])) == 40
    assert _permitted([_start(record, 40)]) == [0]


def test_a_large_limit_is_no_burden(tmp_path: Path) -> None:
    """Ten thousand a minute can be had at once, without a pause."""
    clock = FakeClock()
    with living_by(clock), closing(SharedRateLimit(tmp_path / "r.sqlite", 10_000)) as limit:
        for _ in range(500):
            limit.acquire()
    assert clock.sleeps == []


def test_a_lower_limit_counts_what_was_sent_under_a_higher_one(tmp_path: Path) -> None:
    """After a restart with a smaller limit nothing is permitted until enough has passed."""
    clock = FakeClock()
    with living_by(clock):
        with closing(SharedRateLimit(tmp_path / "r.sqlite", 10)) as limit:
            for _ in range(10):
                limit.acquire()
        with closing(SharedRateLimit(tmp_path / "r.sqlite", 2)) as limit:
            limit.acquire()
    assert 60.0 < sum(clock.sleeps) < LONGEST_WAIT_SECONDS


@pytest.mark.parametrize("limit_afterwards", [5, 2])
def test_a_clock_set_back_does_not_block(tmp_path: Path, limit_afterwards: int) -> None:
    """Requests dated in the future count as just sent, instead of blocking until the future comes."""
    clock = FakeClock()
    with living_by(clock):
        with closing(SharedRateLimit(tmp_path / "r.sqlite", 5)) as limit:
            for _ in range(5):
                limit.acquire()
        clock.now -= 86_400
        with closing(SharedRateLimit(tmp_path / "r.sqlite", limit_afterwards)) as limit:
            limit.acquire()
    assert 60.0 < sum(clock.sleeps) < LONGEST_WAIT_SECONDS


@settings(max_examples=50, deadline=None)
@given(
    requests_per_minute=st.integers(1, 4),
    steps=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.5, 29.9, 61.0]),
            st.sampled_from([0.0, 1.0, 30.0, 61.0, 3600.0, 86_400.0, 3e8]),
            st.sampled_from([-1, 1]),
        ),
        min_size=1,
        max_size=14,
    ),
)
def test_a_clock_that_is_set_neither_blocks_nor_hammers(
    requests_per_minute: int, steps: list[tuple[float, float, int]]
) -> None:
    """Set back or forth by seconds to years before each request, the limit is kept and waits stay short."""
    clock = FakeClock()
    sent = []
    with (
        living_by(clock),
        tempfile.TemporaryDirectory() as folder,
        closing(SharedRateLimit(Path(folder) / "r.sqlite", requests_per_minute)) as limit,
    ):
        for pause, set_by, direction in steps:
            clock.now += pause
            clock.ahead += set_by * direction
            asked = clock.now
            limit.acquire()
            sent.append(clock.now)
            assert clock.now - asked <= 2 * LONGEST_WAIT_SECONDS
    assert most_in_a_window(sent) <= requests_per_minute


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    """A record that is no database names itself and the remedy, and the remedy works."""
    record = tmp_path / "requests.sqlite"
    record.write_bytes(b"this is not a database, but it is long enough to look like one" * 100)
    with pytest.raises(RateLimitRecordError, match=rf"{record} cannot be used.*delete it"):
        SharedRateLimit(record, 50)
    record.unlink()
    with closing(SharedRateLimit(record, 50)) as limit:
        limit.acquire()


def test_a_record_damaged_while_in_use_is_told(tmp_path: Path) -> None:
    """Without a record nothing is permitted: sending blindly could overstep the limit."""
    record = tmp_path / "requests.sqlite"
    with closing(SharedRateLimit(record, 50)) as limit:
        limit.acquire()
        for file in tmp_path.glob("requests.sqlite*"):
            if not file.name.endswith(".lock"):
                file.write_bytes(b"\0" * 8192)
        with pytest.raises(PermanentRegistryError, match="cannot be used"):
            limit.acquire()


def test_a_record_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A folder that is none is a clear failure too."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RateLimitRecordError, match="its folder can be written to"):
        SharedRateLimit(tmp_path / "file" / "requests.sqlite", 50)
