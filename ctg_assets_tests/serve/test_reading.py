"""Reading something for many who ask."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ctg_assets.serve.reading import CachedReading, NotReadError

# Only a test that fails waits for so long.
PATIENCE_SECONDS = 30.0


class Source:
    """Something to read: gives numbers, fails when told to, and waits when told to."""

    def __init__(self) -> None:
        self.times = 0
        self.failure: Exception | None = None
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self) -> int:
        """How often it was read, this time included."""
        self.times += 1
        number = self.times
        assert self.may_end.wait(PATIENCE_SECONDS)
        if self.failure is not None:
            raise self.failure
        return number


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def source() -> Source:
    """What is read."""
    return Source()


@pytest.fixture
def clock() -> Clock:
    """The reading's clock."""
    return Clock()


def reading_of(read: Callable[[], int], clock: Clock, kept: float = 60.0) -> CachedReading[int]:
    """A reading that is good for five seconds."""
    return CachedReading("the number", read, fresh_seconds=5.0, kept_seconds=kept, clock=clock)


def test_a_value_is_good_for_some_seconds(source: Source, clock: Clock) -> None:
    """It is read again when it is older, and not before."""
    reading = reading_of(source, clock)
    values = []
    for moment in (0.0, 4.9, 5.0, 9.9, 20.0):
        clock.now = moment
        values.append(reading.get(PATIENCE_SECONDS))
    assert values == [1, 1, 2, 2, 3]


def test_a_failure_is_told_and_tried_again(source: Source, clock: Clock) -> None:
    """A failure is as good for some seconds as a value, and what was read before is kept for a while."""
    reading = reading_of(source, clock)
    assert reading.kept() is None
    assert reading.get(PATIENCE_SECONDS) == 1
    source.failure, clock.now = OSError("the disk is gone"), 6.0
    for _ in range(2):
        with pytest.raises(NotReadError, match="the disk is gone"):
            reading.get(PATIENCE_SECONDS)
    assert source.times == 2
    clock.now = 60.0
    assert reading.kept() == 1
    clock.now = 60.1
    assert reading.kept() is None
    source.failure = None
    assert reading.get(PATIENCE_SECONDS) == 3


def test_who_has_waited_long_enough_goes(source: Source, clock: Clock) -> None:
    """A reading that takes long is told as such, goes on, and is what all who ask meanwhile wait for."""
    source.may_end.clear()
    reading = reading_of(source, clock)
    for _ in range(3):
        with pytest.raises(NotReadError, match="the number could not be read within 0 s"):
            reading.get(0.01)
    source.may_end.set()
    assert reading.get(PATIENCE_SECONDS) == 1
    assert source.times == 1


def test_a_reading_that_never_ends_is_given_up(source: Source, clock: Clock) -> None:
    """After a minute another one is tried beside it."""
    source.may_end.clear()
    reading = reading_of(source, clock)
    reading.begin()
    clock.now = 59.0
    reading.begin()
    clock.now = 60.0
    attempt = reading.begin()
    source.may_end.set()
    assert reading.wait(attempt, PATIENCE_SECONDS) == 2
