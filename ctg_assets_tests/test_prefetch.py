"""Working ahead, in threads."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Barrier

import pytest

from ctg_assets.prefetch import map_ahead

_SECONDS = 30


def test_results_come_in_the_order_of_the_items() -> None:
    """Whether there are fewer or more items than are worked on at once."""
    for count in range(6):
        assert list(map_ahead(str, range(count), at_once=3)) == [str(n) for n in range(count)]


def test_as_many_are_worked_on_at_once_as_asked() -> None:
    """Each of two waits for the other, so that one alone would never end."""
    both = Barrier(2)

    def meet(number: int) -> int:
        both.wait(_SECONDS)
        return number

    assert list(map_ahead(meet, range(4), at_once=2)) == [0, 1, 2, 3]


def test_items_are_read_only_as_they_are_needed() -> None:
    """No more is in memory than what is worked on, and what the caller has."""
    read = []

    def items() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    results = map_ahead(str, items(), at_once=2)
    assert next(results) == "0"
    assert read == [0, 1]
    results.close()
    assert read == [0, 1]


def test_what_work_or_reading_raises_goes_through() -> None:
    """After the results before it."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        message = "cannot be read"
        raise OSError(message)

    results = map_ahead(lambda number: 1 // (2 - number), items(), at_once=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(OSError, match="cannot be read"):
        list(map_ahead(str, items(), at_once=2))
