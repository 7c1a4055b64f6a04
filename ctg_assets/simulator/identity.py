"""Which NCT ids and posting dates the generated studies have, computable without generating them.

Dates are handled as proleptic ordinals (`date.toordinal`), because `datetime.date` arithmetic would
dominate the cost of a crawl-wide sort by last update.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date
from functools import cache
from itertools import pairwise

# The NCT numbers are 102 … 7,499,874: those of the real registry up to early 2026. A prime count makes every
# multiplier invertible, so that i -> multiplier * i + offset is a permutation with a cheap inverse.
_LOWEST_NUMBER = 102
_NUMBERS = 7_499_773
_FIRST_ALIAS_POSITION = 7_400_000
_ALIAS_EVERY = 200

MAX_STUDIES = _FIRST_ALIAS_POSITION
"""Most studies one seed can number; the positions after it are numbers of obsolete aliases."""

FIRST_DATA_DAY = date(2026, 3, 2).toordinal()
"""The registry day (ordinal) of revision 0: no study of that revision was posted later."""

# When the real registry reached these numbers; between them numbers were given out evenly enough.
_SUBMISSION_KNOTS = tuple(
    (number, date.fromisoformat(day).toordinal())
    for number, day in (
        (0, "1999-09-17"),
        (25_000, "2001-10-18"),
        (100_000, "2004-12-29"),
        (200_000, "2005-09-13"),
        (1_000_000, "2009-10-22"),
        (2_000_000, "2013-11-26"),
        (3_000_000, "2016-12-20"),
        (4_000_000, "2019-05-27"),
        (5_000_000, "2021-08-09"),
        (6_000_000, "2023-08-15"),
        (7_000_000, "2025-05-29"),
        (7_500_000, "2026-02-16"),
    )
)
_KNOT_NUMBERS = [number for number, _ in _SUBMISSION_KNOTS]
_KNOT_SLOPES = [
    (day_after - day) / (number_after - number)
    for (number, day), (number_after, day_after) in pairwise(_SUBMISSION_KNOTS)
]

_MASK = (1 << 64) - 1


def mix(seed: int, index: int, purpose: int) -> int:
    """A well-scattered 64-bit number that depends on the arguments only (splitmix64's finalizer)."""
    z = (
        seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + purpose * 0x8CB92BA72F3D8DD7
    ) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


@cache
def iso(ordinal: int) -> str:
    """The ISO 8601 text of a day given as its ordinal."""
    return date.fromordinal(ordinal).isoformat()


@cache
def _permutation(seed: int) -> tuple[int, int, int]:
    """Multiplier, offset and inverse multiplier of the seed's permutation of the NCT numbers."""
    # Multipliers near 0 or the modulus would number neighbouring studies in order.
    multiplier = _NUMBERS // 4 + mix(seed, 0, 1) % (_NUMBERS // 2)
    return multiplier, mix(seed, 0, 2) % _NUMBERS, pow(multiplier, -1, _NUMBERS)


def _number(seed: int, position: int) -> int:
    multiplier, offset, _ = _permutation(seed)
    return _LOWEST_NUMBER + (multiplier * position + offset) % _NUMBERS


def _position(seed: int, nct_id: str) -> int | None:
    digits = nct_id.removeprefix("NCT")
    if len(nct_id) != 11 or len(digits) != 8 or not (digits.isascii() and digits.isdecimal()):
        return None
    step = int(digits) - _LOWEST_NUMBER
    if not 0 <= step < _NUMBERS:
        return None
    _, offset, inverse = _permutation(seed)
    return (step - offset) * inverse % _NUMBERS


def nct_number(seed: int, index: int) -> int:
    """The number in the NCT id of study `index`; raises IndexError outside 0 … MAX_STUDIES - 1."""
    if not 0 <= index < MAX_STUDIES:
        message = f"generated studies are numbered 0 to {MAX_STUDIES - 1}, not {index}"
        raise IndexError(message)
    return _number(seed, index)


def nct_id(seed: int, index: int) -> str:
    """The NCT id of study `index`: unique within a seed, and scattered as in the unsorted registry."""
    return f"NCT{nct_number(seed, index):08d}"


def index_of(seed: int, wanted: str) -> int | None:
    """The index of the study with this NCT id; None for aliases and for what is no NCT id."""
    position = _position(seed, wanted)
    return position if position is not None and position < MAX_STUDIES else None


def alias_of(seed: int, index: int) -> str | None:
    """The obsolete NCT id of study `index`, which every 200th study has; never another study's id."""
    if index % _ALIAS_EVERY or not 0 <= index < MAX_STUDIES:
        return None
    return f"NCT{_number(seed, _FIRST_ALIAS_POSITION + index // _ALIAS_EVERY):08d}"


def alias_index(seed: int, alias: str) -> int | None:
    """The index of the study of which `alias` is the obsolete NCT id, or None."""
    position = _position(seed, alias)
    if position is None or position < _FIRST_ALIAS_POSITION:
        return None
    index = (position - _FIRST_ALIAS_POSITION) * _ALIAS_EVERY
    return index if index < MAX_STUDIES else None


def first_submit_day(seed: int, index: int) -> int:
    """The ordinal of the day the study was first submitted; it follows from its NCT number."""
    number = nct_number(seed, index)
    knot = bisect_right(_KNOT_NUMBERS, number) - 1
    return _SUBMISSION_KNOTS[knot][1] + int((number - _KNOT_NUMBERS[knot]) * _KNOT_SLOPES[knot])


def first_post_day(seed: int, index: int) -> int:
    """The ordinal of the day the study was first posted: one to twelve days after its submission."""
    return first_submit_day(seed, index) + 1 + mix(seed, index, 3) % 12


def last_update_post_day(seed: int, index: int, revision: int = 0) -> int:
    """The ordinal of the day the study's latest change was posted.

    Revision 0 lies between the first posting and FIRST_DATA_DAY; revision r > 0 was posted r days
    after FIRST_DATA_DAY.
    """
    if revision:
        return FIRST_DATA_DAY + revision
    first = first_post_day(seed, index)
    scatter = mix(seed, index, 4)
    # A quarter of the registry's studies were never touched after their first posting.
    if scatter % 4 == 0:
        return first
    fraction = (scatter >> 11) / (1 << 53)
    return first + int((FIRST_DATA_DAY - first) * fraction**1.5)
