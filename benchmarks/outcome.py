"""Tasks: how they are named, what they hand back, and the clock they are timed with."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BEFORE = "before the clock"
"""The part of a task that took place before its seconds were counted."""


@dataclass(frozen=True)
class Outcome:
    """`seconds` of the work itself; `parts` of it by name; rows by table."""

    seconds: float
    parts: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    json_bytes: int = 0


def find_task(name: str) -> Callable[..., Outcome]:
    """The function that `<module>:<function>` names."""
    module, _, function = name.partition(":")
    task: Callable[..., Outcome] = getattr(importlib.import_module(module), function)
    return task


@dataclass
class Clock:
    """Counts the seconds spent inside its blocks."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time until the block ends."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began
