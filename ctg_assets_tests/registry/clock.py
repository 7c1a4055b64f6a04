"""A clock that tests move by hand.

Belongs here: simulated time for code that reads clocks and sleeps. Does not belong here: expectations.
"""

from __future__ import annotations

import time

import pytest


class FakeClock:
    """Seconds since an arbitrary start; sleeping passes time at once."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.now = start
        self.sleeps: list[float] = []

    def time(self) -> float:
        """The present, in seconds."""
        return self.now

    def time_ns(self) -> int:
        """The present, in nanoseconds."""
        return round(self.now * 1000) * 1_000_000

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.sleeps.append(seconds)
        self.now += seconds

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the whole process live by this clock until the test ends."""
        monkeypatch.setattr(time, "monotonic", self.time)
        monkeypatch.setattr(time, "sleep", self.sleep)
        monkeypatch.setattr(time, "time_ns", self.time_ns)
