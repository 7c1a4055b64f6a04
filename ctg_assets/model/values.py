"""How single values are read: partial dates, ages, joined lists, text that Postgres can hold.

Belongs here: vectorised expressions and kernels over one column, each total (whatever text the
registry sends, the answer is a value or NULL, never an error). Does not belong here: which column
is read how (`tables`), and how columns come out of nested studies (`flatten.py`).
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

DAYS_PER_YEAR = 365.25

YEARS_PER_UNIT: dict[str, float] = {
    "year": 1.0,
    "month": 1 / 12,
    "week": 7 / DAYS_PER_YEAR,
    "day": 1 / DAYS_PER_YEAR,
    "hour": 1 / (24 * DAYS_PER_YEAR),
    "minute": 1 / (24 * 60 * DAYS_PER_YEAR),
}

# [0-9], not \d: in these patterns \d would also match digits of other scripts.
_PARTIAL_DATE = r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$"
# Seven digits bound the number so that no text, however long, becomes an infinite age.
_AGE = r"(?i)^([0-9]{1,7}(?:\.[0-9]{1,7})?) (year|month|week|day|hour|minute)s?$"

_LENGTH_OF_YEAR, _LENGTH_OF_MONTH, _LENGTH_OF_DAY = 4, 7, 10


def first_day(text: pl.Expr) -> pl.Expr:
    """The first day that a date such as `2021`, `2021-03` or `2021-03-15` covers.

    NULL for text that is no such date, including days that no calendar has and the year 0000.
    """
    length = text.str.len_bytes()
    completed = (
        pl.when(~text.str.contains(_PARTIAL_DATE) | text.str.starts_with("0000"))
        .then(None)
        .when(length == _LENGTH_OF_YEAR)
        .then(text + "-01-01")
        .when(length == _LENGTH_OF_MONTH)
        .then(text + "-01")
        .otherwise(text)
    )
    return completed.str.to_date("%Y-%m-%d", strict=False)


def last_day(text: pl.Expr) -> pl.Expr:
    """The last day that a partial date covers; NULL where `first_day` is."""
    first = first_day(text)
    length = text.str.len_bytes()
    return (
        pl.when(length == _LENGTH_OF_DAY)
        .then(first)
        .when(length == _LENGTH_OF_MONTH)
        .then(first.dt.month_end())
        .otherwise(first.dt.replace(month=12, day=31))
    )


def precision(text: pl.Expr) -> pl.Expr:
    """`day`, `month` or `year`: how exact a partial date is; NULL where `first_day` is."""
    length = text.str.len_bytes()
    return (
        pl.when(first_day(text).is_null())
        .then(None)
        .when(length == _LENGTH_OF_DAY)
        .then(pl.lit("day"))
        .when(length == _LENGTH_OF_MONTH)
        .then(pl.lit("month"))
        .otherwise(pl.lit("year"))
    )


def years(text: pl.Expr) -> pl.Expr:
    """An age or duration such as `18 Years` or `30 Minutes` in years.

    A year is 365.25 days or 12 months. NULL for text that is not a number and a known unit.
    """
    number = text.str.extract(_AGE, 1).cast(pl.Float64)
    unit = text.str.extract(_AGE, 2).str.to_lowercase()
    return number * unit.replace_strict(YEARS_PER_UNIT, default=None, return_dtype=pl.Float64)


def lower(text: pl.Expr) -> pl.Expr:
    """Text in lower case, by Unicode's rules."""
    return text.str.to_lowercase()


def joined(items: pl.Expr) -> pl.Expr:
    """The items of each list of text joined with `/`; NULL where a list has no item that is not null."""
    present = items.list.drop_nulls()
    return pl.when(present.list.len() > 0).then(present.list.join("/"))


def contains(items: pl.Expr, argument: str) -> pl.Expr:
    """Whether each list of text contains `argument`; NULL where there is no list."""
    return items.list.contains(pl.lit(argument))


def without_nul(text: pa.Array) -> pa.Array:
    """Text with U+0000 replaced by U+FFFD: Postgres text cannot hold it, JSON can."""
    if not pc.any(pc.match_substring(text, "\0")).as_py():
        return text
    return pc.replace_substring(text, "\0", "\ufffd")
