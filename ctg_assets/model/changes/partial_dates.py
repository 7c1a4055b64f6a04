"""Dates of which the registry may know the year or the month alone, compared with each other."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from typing import Any

# Not \d, which other scripts' digits match, too.
_PARTIAL_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2}))?)?")


def first_and_last_day(text: Any) -> tuple[date, date] | None:
    """The days that `2021`, `2021-03` or `2021-03-15` covers; None for what is no such date."""
    parts = _PARTIAL_DATE.fullmatch(text) if isinstance(text, str) else None
    if parts is None:
        return None
    year, month, day = (int(part) if part else None for part in parts.groups())
    try:
        first = date(year or 0, month or 1, day or 1)
    except ValueError:
        return None
    last_month = month or 12
    last_day = day or monthrange(first.year, last_month)[1]
    return first, date(first.year, last_month, last_day)


def days_moved(old: Any, new: Any) -> int | None:
    """By how many days a date moved, negative if it is earlier now; None if either is no date.

    Dates of different precision are compared at the coarser one: from `2021-03` to `2021-03-15` nothing
    moved, to `2021-05-15` two months of 61 days.
    """
    if not (first_and_last_day(old) and first_and_last_day(new)):
        return None
    length = min(len(old), len(new))
    before, after = first_and_last_day(old[:length]), first_and_last_day(new[:length])
    return (after[0] - before[0]).days if before and after else None


def is_after(day: date, text: Any) -> bool | None:
    """Whether a day comes after all that a date covers; None if that cannot be known from the date.

    On the day itself, and on the first day of a month or year, it does not.
    """
    covered = first_and_last_day(text)
    if covered is None or covered[0] < day <= covered[1]:
        return None
    return day > covered[1]
