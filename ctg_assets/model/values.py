"""How single values are read: numbers, partial dates, ages, lists, text that Postgres can hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from fractions import Fraction

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

DAYS_PER_UNIT: Mapping[str, Fraction] = {
    "year": Fraction(1461, 4),
    "month": Fraction(1461, 4 * 12),
    "week": Fraction(7),
    "day": Fraction(1),
    "hour": Fraction(1, 24),
    "minute": Fraction(1, 24 * 60),
}
"""How many days each unit of an age or duration has, exactly: a year has 365.25 days or 12 months."""

YEARS_PER_UNIT: Mapping[str, Fraction] = {
    unit: days / DAYS_PER_UNIT["year"] for unit, days in DAYS_PER_UNIT.items()
}

# [0-9], not \d: in these patterns \d would also match digits of other scripts.
_PARTIAL_DATE = r"^[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?$"
# Seven digits bound the number so that no text, however long, becomes an infinite age.
_AGE = r"(?i)^([0-9]{1,7}(?:\.[0-9]{1,7})?) (year|month|week|day|hour|minute)s?$"
_AGE_PARTS = re.compile(_AGE, re.ASCII)

_TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}$"
_LABEL = r"(?s)^([^:]+): (.*)$"

ONLY_SHARED = pl.QueryOptFlags.none().update(comm_subexpr_elim=True)
"""Of what the lazy engine does to a query what serves ours: it computes once what several expressions share.

All else it does takes a third of its time, and finds nothing.
"""

_DOCUMENTS = "https://ClinicalTrials.gov/ProvidedDocs"

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


def unless_day(text: pl.Expr) -> pl.Expr:
    """The text where it is not a day of the calendar such as `2021-03-15`, and NULL where it is."""
    is_day = first_day(text).is_not_null() & (text.str.len_bytes() == _LENGTH_OF_DAY)
    return pl.when(~is_day).then(text)


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

    A year is 365.25 days or 12 months. NULL for text that is not a number and a known unit. The value
    is the double closest to the exact one, so that what is a whole number is one.
    """
    return _converted(text, YEARS_PER_UNIT)


def days(text: pl.Expr) -> pl.Expr:
    """An age or duration in days, read as by `years`; NULL where that is."""
    return _converted(text, DAYS_PER_UNIT)


def _converted(text: pl.Expr, per_unit: Mapping[str, Fraction]) -> pl.Expr:
    """Ages in another unit, rounded once: products of doubles made 13.999999999999998 of two weeks."""

    def read(one: str) -> float | None:
        match = _AGE_PARTS.fullmatch(one)
        return float(Fraction(match[1]) * per_unit[match[2].lower()]) if match else None

    def convert(column: pl.Series) -> pl.Series:
        # Millions of ages have a few hundred spellings.
        spellings = column.unique().drop_nulls()
        read_once = [read(one) for one in spellings]
        return column.replace_strict(
            spellings, pl.Series(read_once, dtype=pl.Float64), default=None, return_dtype=pl.Float64
        )

    return text.map_batches(convert, return_dtype=pl.Float64, is_elementwise=True)


def age_number(text: pl.Expr) -> pl.Expr:
    """The number of an age or duration, where it is whole, whatever its unit."""
    number = text.str.extract(_AGE, 1).str.extract(r"^([0-9]+)(?:\.0+)?$", 1)
    return number.cast(pl.Int32, strict=False)


def age_unit(text: pl.Expr) -> pl.Expr:
    """The unit of an age or duration in lower case and singular, such as `year`."""
    return text.str.extract(_AGE, 2).str.to_lowercase()


def year(text: pl.Expr) -> pl.Expr:
    """The year of a partial date; NULL where `first_day` is."""
    return first_day(text).dt.year()


def months_between(start: pl.Expr, end: pl.Expr) -> pl.Expr:
    """Completed calendar months from one day to another, negative where `end` is earlier.

    The last day of a month completes it: from 31 January to 28 February is one month.
    """
    early, late = pl.min_horizontal(start, end), pl.max_horizontal(start, end)
    months = (late.dt.year() - early.dt.year()) * 12 + late.dt.month() - early.dt.month()
    unfinished = (late.dt.day() < early.dt.day()) & (late != late.dt.month_end())
    sign = pl.when(end < start).then(-1).when(end >= start).then(1)
    return sign * (months - unfinished.cast(pl.Int32))


def timestamp(text: pl.Expr) -> pl.Expr:
    """A day and time such as `2020-09-29T21:40`; NULL for text that is none."""
    plain = pl.when(text.str.contains(_TIMESTAMP) & ~text.str.starts_with("0000")).then(text)
    return plain.str.to_datetime("%Y-%m-%dT%H:%M", time_unit="us", strict=False)


def day_of_timestamp(text: pl.Expr) -> pl.Expr:
    """The day of a day and time; NULL where `timestamp` is."""
    return timestamp(text).dt.date()


def kind_of_label(text: pl.Expr) -> pl.Expr:
    """`DIETARY_SUPPLEMENT` of `Dietary Supplement: Zinc`: the spelling of the enumeration."""
    return text.str.extract(_LABEL, 1).str.to_uppercase().str.replace_all(" ", "_", literal=True)


def name_of_label(text: pl.Expr) -> pl.Expr:
    """`Zinc` of `Dietary Supplement: Zinc`; NULL for text of another form."""
    return text.str.extract(_LABEL, 2)


def normalized(text: pl.Expr) -> pl.Expr:
    """Text for comparing titles: lower case, letters and digits only, single blanks between words.

    NULL where nothing is left.
    """
    words = text.str.to_lowercase().str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    words = words.str.strip_chars(" ")
    return pl.when(words != "").then(words)


def lower(text: pl.Expr) -> pl.Expr:
    """Text in lower case, by Unicode's rules."""
    return text.str.to_lowercase()


def joined(items: pl.Expr) -> pl.Expr:
    """The items of each list of text joined with `/`; NULL where a list has no item that is not null."""
    present = items.list.drop_nulls()
    text = present.list.join("/").str.replace_all("\0", "\ufffd", literal=True)
    return pl.when(present.list.len() > 0).then(text)


def contains(items: pl.Expr, argument: str) -> pl.Expr:
    """Whether each list of text contains `argument`; NULL where there is no list."""
    return items.list.contains(pl.lit(argument))


def document_url(nct_id: pl.Expr, file_name: pl.Expr) -> pl.Expr:
    """Where the registry keeps a document of a study, as AACT composes it."""
    ending = nct_id.str.slice(-2)
    return pl.concat_str(pl.lit(_DOCUMENTS), ending, nct_id, file_name, separator="/")


class NumberStatus(Enum):
    """What a text is that should be a number; a missing text has no status."""

    NUMBER = "number"
    QUALIFIED = "qualified"
    NOT_AVAILABLE = "not available"
    UNPARSED = "unparsed"
    AMBIGUOUS_COMMA = "ambiguous comma"


NO_NUMBER = frozenset(
    {
        *("NA", "N/A", "N.A.", "NC", "ND", "NE", "NR", "NS"),
        *("NOT APPLICABLE", "NOT AVAILABLE", "NOT CALCULABLE", "NOT CALCULATED", "NOT DETERMINED"),
        *("NOT ESTIMABLE", "NOT EVALUABLE", "NOT REACHED", "NOT REPORTED", "NOT SIGNIFICANT"),
    }
)
"""What people write for a number that there is none of, in upper case with single blanks."""

_SPELLINGS: Mapping[str, str] = {
    "&lt;": "<",
    "&gt;": ">",
    "&le;": "<=",
    "&ge;": ">=",
    "&#60;": "<",
    "&#62;": ">",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u2212": "-",
    "\u2248": "~",
}

_SIGN = r"^(<=|>=|=<|=>|<|>|=|~)?\s*"
# Commas only between groups of three that do not begin with 0: `0,083` is somebody's decimal comma.
_QUALIFIED_NUMBER = _SIGN + (
    r"([+-]?(?:[0-9]{1,99}\.?[0-9]{0,99}|\.[0-9]{1,99}|[1-9][0-9]{0,2}(?:,[0-9]{3}){1,32}(?:\.[0-9]{0,99})?)"
    r"(?:[eE][+-]?[0-9]{1,3})?)$"
)
_REVERSED = {"=<": "<=", "=>": ">="}

_GROUPED = r"[1-9][0-9]{0,2}(?:,[0-9]{3})+"
_EITHER_COMMA = _SIGN + r"[+-]?[1-9][0-9]{0,2},[0-9]{3}\.?(?:[eE][+-]?[0-9]+)?$"
"""A number whose comma may be a decimal comma or stand between thousands: `1,249`."""

# What a comma can stand in as a decimal one, `1.249,5` and `,5` included; a percent sign does no harm.
_ONE_COMMA = _SIGN + (
    r"[+-]?((?:[0-9]{1,3}(?:[. ][0-9]{3})+|[0-9]*),[0-9]+)(?:[eE][+-]?[0-9]+)?\s*%?$"
)


def numbers(text: pl.Series, *, whole: bool = False) -> dict[str, pl.Series]:
    """Texts read as numbers (whole ones, if asked): `value`, `qualifier` and `status`, whatever they hold.

    The qualifier is the sign before a number, or the word that stands for none. Nearly all texts are
    plain numbers and cost one conversion; the few others are looked at closely. What could mean two
    things (a percent sign, a decimal comma, a range) is left unparsed, not guessed.
    """
    value = text.cast(pl.Int64 if whole else pl.Float64, strict=False)
    plain = value.is_not_null() if whole else pl.Series(np.isfinite(value.to_numpy()))
    odd = _at(text.is_not_null() & ~plain)
    # What there are of qualifiers and statuses: of no text, of a plain number, of each text looked at.
    qualifiers = pl.Series([None, None], dtype=pl.String)
    statuses = pl.Series([None, NumberStatus.NUMBER.value])
    places = plain.cast(pl.UInt32).to_numpy(writable=True)
    if len(odd):
        looked_at = _looked_at(text[odd], whole=whole)
        value = value.scatter(odd, looked_at["value"])
        qualifiers = qualifiers.append(looked_at["qualifier"]).rechunk()
        statuses = statuses.append(looked_at["status"]).rechunk()
        places[odd.to_numpy()] = np.arange(2, len(odd) + 2)
    # Taking each row's words from these costs a tenth of putting some words among nulls.
    each = pl.Series(places)
    return {"value": value, "qualifier": qualifiers[each], "status": statuses[each]}


def decimal_commas(text: pl.Series) -> pl.Series:
    """The indices of texts that are a number with a comma that can only be a decimal comma.

    Such are `0,3139`, `12,5` and `0,083`; none is `1,249`, nor `1,249,500`.
    """
    at = _at(text.str.contains(",", literal=True))
    number = _clean(pl.col("text")).str.extract(_ONE_COMMA, 2)
    only = number.is_not_null() & ~number.str.contains(f"^{_GROUPED}$")
    return at.filter(text[at].to_frame("text").select(only).to_series())


def either_commas(text: pl.Series) -> pl.Series:
    """The indices of texts that are a number whose comma may mean two things, such as `1,249`."""
    at = _at(text.str.contains(",", literal=True))
    either = _clean(pl.col("text")).str.contains(_EITHER_COMMA)
    return at.filter(text[at].to_frame("text").select(either).to_series())


def without_ambiguous(numbers: dict[str, pl.Series], at: pl.Series) -> dict[str, pl.Series]:
    """What `numbers` gives, but that the texts at these indices, where read, are of an ambiguous comma."""
    read = at.filter(numbers["value"][at].is_not_null())
    status = NumberStatus.AMBIGUOUS_COMMA.value
    return {
        name: column.scatter(read, status if name == "status" else None)
        for name, column in numbers.items()
    }


def _at(mask: pl.Series) -> pl.Series:
    """The indices at which a mask is true."""
    return pl.int_range(len(mask), dtype=pl.UInt32, eager=True).filter(mask)


def _clean(text: pl.Expr) -> pl.Expr:
    """Text of a number in one spelling of its signs."""
    return text.str.replace_many(_SPELLINGS).str.strip_chars()


def _looked_at(text: pl.Series, *, whole: bool) -> pl.DataFrame:
    """Value, qualifier and status of texts that are not just a number."""
    clean = _clean(pl.col("text"))
    digits = clean.str.extract(_QUALIFIED_NUMBER, 2).str.replace_all(",", "", literal=True)
    if whole:
        number = digits.map_batches(_whole_numbers, return_dtype=pl.Int64, is_elementwise=True)
    else:
        number = digits.cast(pl.Float64, strict=False)
        number = pl.when(number.is_finite()).then(number)
    sign = clean.str.extract(_QUALIFIED_NUMBER, 1).replace(_REVERSED)
    word = clean.str.to_uppercase().str.replace_all(r"\s+", " ")
    statuses = {status: pl.lit(status.value) for status in NumberStatus}
    return (
        pl.DataFrame({"text": text})
        .lazy()
        .with_columns(number=number, sign=sign, word=pl.when(word.is_in(NO_NUMBER)).then(word))
        .select(
            value="number",
            qualifier=pl.when(pl.col("number").is_not_null()).then("sign").otherwise("word"),
            status=pl.when(pl.col("number").is_not_null() & pl.col("sign").is_not_null())
            .then(statuses[NumberStatus.QUALIFIED])
            .when(pl.col("number").is_not_null())
            .then(statuses[NumberStatus.NUMBER])
            .when(pl.col("word").is_not_null())
            .then(statuses[NumberStatus.NOT_AVAILABLE])
            .otherwise(statuses[NumberStatus.UNPARSED]),
        )
        .collect(optimizations=ONLY_SHARED)
    )


def _whole_numbers(text: pl.Series) -> pl.Series:
    """Numbers such as `12.0` and `1.2e3` that are whole and fit into 64 bits; NULL for others."""

    def read(one: str) -> int | None:
        number = Fraction(one)
        fits = number.denominator == 1 and -(2**63) <= number < 2**63
        return int(number) if fits else None

    spellings = text.unique().drop_nulls()
    read_once = pl.Series([read(one) for one in spellings], dtype=pl.Int64)
    return text.replace_strict(spellings, read_once, default=None, return_dtype=pl.Int64)


def without_nul(text: pa.Array) -> pa.Array:
    """Text with U+0000 replaced by U+FFFD: Postgres text cannot hold it, JSON can."""
    if len(text) == text.null_count:
        return text
    _, offsets, data = text.buffers()
    ends = memoryview(offsets).cast("i")
    first, last = ends[text.offset], ends[text.offset + len(text)]
    # A look at the bytes takes a thirtieth of the time of asking each text.
    if first == last or np.frombuffer(data, np.uint8, last - first, first).min() > 0:
        return text
    return pc.replace_substring(text, "\0", "\ufffd")
