"""A clock that tests move by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest


class FakeClock:
    """Seconds since an arbitrary start; sleeping passes time at once.

    `now` is the time that passes. `ahead` is by how much somebody has set the clock forward (or, below
    zero, back), which monotonic time does not know.
    """

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.now = start
        self.ahead = 0.0
        self.sleeps: list[float] = []

    def monotonic(self) -> float:
        """The time that has passed, in seconds."""
        return self.now

    def time_ns(self) -> int:
        """What the clock shows, in nanoseconds."""
        return round((self.now + self.ahead) * 1000) * 1_000_000

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.sleeps.append(seconds)
        self.now += seconds

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this thread live by this clock until the test ends.

        Others keep the real one: a server that began to wait by ours would go on waiting for ever.
        """
        ours: dict[str, Callable[..., Any]] = {
            "monotonic": self.monotonic,
            "sleep": self.sleep,
            "time_ns": self.time_ns,
        }
        for name, fake in ours.items():
            monkeypatch.setattr(time, name, _in_this_thread(fake, getattr(time, name)))


def _in_this_thread(fake: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    owner = threading.get_ident()

    def chosen(*arguments: float) -> Any:
        return (fake if threading.get_ident() == owner else real)(*arguments)

    return chosen
