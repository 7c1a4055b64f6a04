"""Counters that are looked at after a test."""

from __future__ import annotations

from collections import Counter

from ctg_assets.metrics import Increment


class NotedCounters:
    """Keeps what was counted in memory, by name and the values of the labels."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, ...]] = Counter()

    def add(self, *increments: Increment) -> None:
        """Note all of these."""
        for increment in increments:
            key = (increment.name, *(value for _, value in increment.labels))
            self.counted[key] += increment.amount  # type: ignore[assignment]

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """What was counted of a metric, by the values of its labels."""
        return {key[1:]: value for key, value in self.counted.items() if key[0] == name and value}
