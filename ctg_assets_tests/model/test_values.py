"""Reading single values, against a table of cases and a slow, obvious reference."""

from __future__ import annotations

import calendar
import datetime as dt
import re

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.model import values
from ctg_assets_tests.model import reference

Day = dt.date

PARTIAL_DATES = [
    ("2021-03-15", Day(2021, 3, 15), Day(2021, 3, 15), "day"),
    ("2021-03", Day(2021, 3, 1), Day(2021, 3, 31), "month"),
    ("2021", Day(2021, 1, 1), Day(2021, 12, 31), "year"),
    ("2020-02", Day(2020, 2, 1), Day(2020, 2, 29), "month"),
    ("1900-02", Day(1900, 2, 1), Day(1900, 2, 28), "month"),
    ("2020-02-29", Day(2020, 2, 29), Day(2020, 2, 29), "day"),
    ("2021-02-29", None, None, None),
    ("2021-13", None, None, None),
    ("2021-00", None, None, None),
    ("2021-3-5", None, None, None),
    ("0000", None, None, None),
    ("0001", Day(1, 1, 1), Day(1, 12, 31), "year"),
    ("9999-12", Day(9999, 12, 1), Day(9999, 12, 31), "month"),
    ("March 2021", None, None, None),
    ("2021-03-15T10:00", None, None, None),
    ("2021-03\n", None, None, None),
    ("\uff12\uff10\uff12\uff11", None, None, None),
    ("", None, None, None),
    (None, None, None, None),
]


def _dates(text: str | None) -> tuple[Day | None, Day | None, str | None]:
    frame = pl.DataFrame({"text": pl.Series([text], dtype=pl.String)})
    column = pl.col("text")
    row: tuple[Day | None, Day | None, str | None] = frame.select(
        first=values.first_day(column),
        last=values.last_day(column),
        precision=values.precision(column),
    ).row(0)
    return row


@pytest.mark.parametrize(("text", "first", "last", "precision"), PARTIAL_DATES)
def test_partial_date_covers_days(
    text: str | None, first: Day | None, last: Day | None, precision: str | None
) -> None:
    """A partial date gives its first day, its last day and its precision, or nothing at all."""
    assert _dates(text) == (first, last, precision)


@pytest.mark.parametrize(("text", "first", "last", "precision"), PARTIAL_DATES)
def test_text_is_kept_unless_it_is_a_day(
    text: str | None, first: Day | None, last: Day | None, precision: str | None
) -> None:
    """What the last day does not tell in full is kept as text, and only that."""
    series = pl.Series("text", [text], dtype=pl.String)
    (kept,) = series.to_frame().select(values.unless_day(pl.col("text"))).row(0)
    assert kept == (None if precision == "day" else text)
    assert (kept is None) == (text is None or (last is not None and last.isoformat() == text))


@given(
    st.one_of(
        st.dates().map(str),
        st.dates().map(lambda day: str(day)[:7]),
        st.from_regex(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?", fullmatch=True),
        st.from_regex(r"\d{1,5}[-/ ]\d{1,2}([-/ ]\d{1,2})?", fullmatch=True),
        st.text(max_size=12),
    )
)
def test_partial_date_agrees_with_reference(text: str) -> None:
    """Whatever the text, vectorised reading gives what reading with datetime and calendar gives."""
    assert _dates(text) == reference.partial_date(text)


@given(st.dates())
def test_month_ends_with_its_last_day(day: Day) -> None:
    """The last day of a month is the calendar's, in leap years and in December too."""
    last = calendar.monthrange(day.year, day.month)[1]
    assert _dates(f"{day.year:04}-{day.month:02}")[1] == day.replace(day=last)


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("18 Years", 18.0),
        ("1 Year", 1.0),
        ("6 Months", 0.5),
        ("1 Month", 1 / 12),
        ("52 Weeks", 52 * 7 / 365.25),
        ("1461 Days", 4.0),
        ("36 Hours", 1.5 / 365.25),
        ("30 Minutes", 30 / (60 * 24 * 365.25)),
        ("1.5 years", 1.5),
        ("0 Years", 0.0),
        ("N/A", None),
        ("Years", None),
        ("-1 Years", None),
        ("18", None),
        ("18 Decades", None),
        ("18 Years or older", None),
        (f"{'9' * 400} Years", None),
        ("", None),
        (None, None),
    ],
)
def test_age_in_years(text: str | None, years: float | None) -> None:
    """An age with a known unit becomes years; anything else becomes NULL."""
    frame = pl.DataFrame({"text": pl.Series([text], dtype=pl.String)})
    found = frame.select(values.years(pl.col("text"))).item()
    assert found == (None if years is None else pytest.approx(years))


@given(st.integers(0, 10**7 - 1), st.sampled_from(sorted(reference.DAYS_PER_UNIT)), st.booleans())
def test_age_agrees_with_reference(number: int, unit: str, plural: bool) -> None:
    """Every number and unit, in either grammatical number, gives what the reference gives."""
    text = f"{number} {unit.title()}{'s' if plural else ''}"
    found = pl.DataFrame({"text": [text]}).select(values.years(pl.col("text"))).item()
    assert found == pytest.approx(reference.years(text))


@given(st.text())
def test_text_is_never_an_error(text: str) -> None:
    """No text makes the reading of an age fail, and what is read is a finite number."""
    found = pl.DataFrame({"text": [text]}).select(values.years(pl.col("text"))).item()
    assert found is None or (re.match("[0-9]", text) and 0 <= found < 10**7)


def test_lists_of_text() -> None:
    """Lists are joined without their null items; a list with nothing in it joins to NULL."""
    items = [["PHASE1", "PHASE2"], ["PHASE1"], ["A", None, "B"], [None], [], None]
    frame = pl.DataFrame({"items": items}, schema={"items": pl.List(pl.String)})
    found = frame.select(
        joined=values.joined(pl.col("items")), has=values.contains(pl.col("items"), "PHASE1")
    )
    assert found["joined"].to_list() == ["PHASE1/PHASE2", "PHASE1", "A/B", None, None, None]
    assert found["has"].to_list() == [True, True, False, False, False, None]


@given(st.lists(st.none() | st.text(alphabet="a\0é", max_size=4)))
def test_nul_is_replaced(texts: list[str | None]) -> None:
    """U+0000, which Postgres refuses, becomes U+FFFD, and no other character is touched."""
    found = values.without_nul(pa.array(texts, pa.string())).to_pylist()
    assert found == [None if text is None else text.replace("\0", "\ufffd") for text in texts]


def test_text_without_nul_is_not_copied() -> None:
    """Text that needs no replacement comes back as the same array."""
    array = pa.array(["a", None, "é"])
    assert values.without_nul(array) is array
