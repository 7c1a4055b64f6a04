"""Random draws for generated studies, several times cheaper than `random`'s convenience methods."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Weighted(Generic[T]):
    """Values with the proportions in which they are drawn; weights need not add up to anything."""

    __slots__ = ("cumulative", "values")

    def __init__(self, weights: Mapping[T, float]) -> None:
        positive = {value: weight for value, weight in weights.items() if weight > 0}
        total = sum(positive.values())
        self.values = tuple(positive)
        # The last bound is left out, so that rounding can never make a draw fall off the end.
        self.cumulative = [bound / total for bound in accumulate(positive.values())][:-1]


class Draw:
    """The draws of one study: the same seed gives the same sequence in every process.

    A `complete` study has everything that is optional and draws weighted values evenly, so that a few
    such studies show every field and every value of an enumeration.
    """

    __slots__ = ("complete", "random")

    def __init__(self, seed: int, *, complete: bool = False) -> None:
        self.random = Random(seed).random  # noqa: S311  (made-up studies need no cryptography)
        self.complete = complete

    def maybe(self, probability: float) -> bool:
        """True with this probability; always true in a complete study."""
        return self.complete or self.random() < probability

    def below(self, bound: int) -> int:
        """A whole number from 0 to `bound` - 1."""
        return int(self.random() * bound)

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.random() * (high - low + 1))

    def pick(self, values: Sequence[T]) -> T:
        """One of the values, evenly."""
        return values[int(self.random() * len(values))]

    def skewed(self, values: Sequence[T]) -> T:
        """One of the values, the early ones far more often than the late ones."""
        return values[int(self.random() ** 2.5 * len(values))]

    def weighted(self, table: Weighted[T]) -> T:
        """One of the table's values, in its proportions; evenly in a complete study."""
        if self.complete:
            return self.pick(table.values)
        return table.values[bisect_right(table.cumulative, self.random())]

    def run(self, values: Sequence[T], length: int) -> list[T]:
        """`length` neighbours among the values, hence distinct as long as there are that many.

        A slice costs far less than as many independent draws.
        """
        start = int(self.random() * len(values))
        found = list(values[start : start + length])
        while len(found) < length:
            found.extend(values[: length - len(found)])
        return found

    def several(self, values: Sequence[T], most: int) -> list[T]:
        """One to `most` different values; all of them in a complete study."""
        return self.run(values, len(values) if self.complete else self.between(1, most))

    def heavy(self, typical: float, most: int) -> int:
        """A count of at least 1 with a heavy (Pareto) tail, cut off at `most`; half are below `typical`."""
        return min(most, int(1 + (typical - 1) * (1 / (1 - self.random()) - 1) ** 0.9))
