"""Slices of the registry: parts that are walked side by side, each by page tokens of its own.

A token leads only to the page after it, so one walk cannot go faster than one answer after the other. Of
slices that have no study in common, several can be walked at a time. They are cut by the day of the last
posting, which every study has once; the API knows ranges of it. Each slice takes many short stretches of
time instead of a long one: so all are of about one size, whatever the query, without asking first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta

from ctg_assets.setting_values import MOST_CHAINS
from ctg_assets.times import REGISTRY_BEGAN

# The last page of a chain is half empty on average, and to count a slice costs a request.
_FEWEST_PAGES_OF_A_CHAIN = 4

# Chains are never of quite the same length, and the first minute's requests may be sent as fast as answers come:
# with 5 s an answer, 60 pages in five chains take 1.14 times what the limit allows, in seven 1.07 times.
_HEADROOM = 1.5

# With twelve, slices of real studies differ by 15 %; each stretch makes the URL longer by some 50 bytes.
_STRETCHES_OF_A_SLICE = 12

_FIELD = "AREA[LastUpdatePostDate]"


def chains_needed(answer_seconds: float, requests_per_minute: float, pages: int) -> int:
    """How many chains send as many requests as are allowed, if an answer takes so many seconds.

    1 where a single one does; never more than are worth their while for so many `pages`.
    """
    at_a_time = answer_seconds * requests_per_minute / 60
    wanted = 1 if at_a_time <= 1 else math.ceil(at_a_time * _HEADROOM)
    return max(1, min(wanted, MOST_CHAINS, pages // _FEWEST_PAGES_OF_A_CHAIN))


def slice_filters(number: int, newest: date) -> list[str]:
    """Filters (Essie expressions) that cut any set of studies into so many parts without a study in common.

    `newest` is about the day of the newest posting; what was posted earlier or later is in some part, too, and so
    are studies without that day. Stretches get longer into the past, as fewer studies were last posted there.
    """
    newest = max(newest, REGISTRY_BEGAN + timedelta(days=366))
    days = (newest - REGISTRY_BEGAN).days
    stretches = number * _STRETCHES_OF_A_SLICE
    # Stretch i is later than the end of i + 1, and not later than its own.
    ends = [newest - timedelta(round(days * (i / stretches) ** 2)) for i in range(stretches)]
    parts: list[list[str]] = [[] for _ in range(number)]
    parts[0].append(f"{_FIELD}MISSING")
    for i, end in enumerate(ends):
        first = ends[i + 1] + timedelta(days=1) if i + 1 < stretches else None
        if i and first is not None and first > end:
            continue  # of no day
        turn = i % (2 * number)
        # There and back, so that no part has the later stretch of each turn.
        parts[turn if turn < number else 2 * number - 1 - turn].append(
            f"{_FIELD}RANGE[{'MIN' if first is None else first},{end if i else 'MAX'}]"
        )
    return [" OR ".join(ranges) for ranges in parts if ranges]


def page_numbers(lengths: Sequence[int]) -> list[list[int]]:
    """The page numbers (from 1) of chains of so many pages: in turns, as long as each has pages left.

    So every range of pages has pages of all chains, and chains are walked side by side in each.
    """
    numbers: list[list[int]] = [[] for _ in lengths]
    page = 0
    for step in range(max(lengths, default=0)):
        for chain, length in enumerate(lengths):
            if step < length:
                page += 1
                numbers[chain].append(page)
    return numbers
