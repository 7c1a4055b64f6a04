"""Dates, numbers and ages of studies and queries on scales, for ranges and for sorting."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from functools import lru_cache

from ctg_assets.model.fields import FieldNode
from ctg_assets.model.values import YEARS_PER_UNIT

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T[\d:]+)?)?)?", re.ASCII)
_US_DATE = re.compile(r"(\d\d)/(?:(\d\d)/)?(\d{4})", re.ASCII)


def first_and_last_day(text: str) -> tuple[int, int] | None:
    """The first and the last day (ordinals) of a full or partial date; None if it is no date."""
    if match := _DATE.fullmatch(text):
        year, month, day = match.groups()
    elif match := _US_DATE.fullmatch(text):
        month, day, year = match.groups()
    else:
        return None
    try:
        first = date(int(year), int(month or 1), int(day or 1))
        last_month = int(month or 12)
        last = date(first.year, last_month, int(day or monthrange(first.year, last_month)[1]))
    except ValueError:
        return None
    return first.toordinal(), last.toordinal()


@lru_cache(maxsize=100_000)
def _first_day(text: str) -> float | None:
    # A study's partial date counts as its first day, in ranges and in sorting.
    days = first_and_last_day(text)
    return None if days is None else days[0]


_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+?)s?", re.ASCII)


def _age_in_years(text: str) -> float | None:
    match = _AGE.fullmatch(text.lower())
    unit = YEARS_PER_UNIT.get(match[2]) if match else None
    return float(Fraction(match[1]) * unit) if match and unit else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) else None


DATE_TYPES = frozenset({"NormalizedDate", "PartialDate", "DateTimeMinutes"})
_NUMBER_TYPES = frozenset({"integer", "long", "number"})
MEASURES: dict[str, Callable[[str], float | None]] = {
    **dict.fromkeys(DATE_TYPES, _first_day),
    **dict.fromkeys(_NUMBER_TYPES, _number),
    "NormalizedTime": _age_in_years,
}
SORTABLE_TYPES = DATE_TYPES | _NUMBER_TYPES


def measure_of(node: FieldNode) -> Callable[[object], float | None]:
    """How to place a date, number or age of this node on a scale; None for what has no place on it."""
    measure = MEASURES[node.base_type]
    return lambda value: None if isinstance(value, (dict, list)) else measure(str(value))


def is_date(node: FieldNode) -> bool:
    """Whether the node holds dates."""
    return node.base_type in DATE_TYPES
