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

from ctg_assets.extract.bulk_file import read_studies
from ctg_assets.model import values
from ctg_assets.model.flatten import flatten
from ctg_assets_tests.model import reference
from ctg_assets_tests.model.snapshots import typed_rows
from ctg_assets_tests.shared_material import shared_path

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
    assert found == years


_UNITS = st.sampled_from(sorted(reference.MINUTES_PER_UNIT))
_AGE_NUMBERS = st.from_regex(r"[0-9]{1,7}(\.[0-9]{1,7})?", fullmatch=True)


@pytest.mark.slow
@given(st.lists(st.tuples(_AGE_NUMBERS, _UNITS, st.booleans()), max_size=20))
def test_age_agrees_with_reference(parts: list[tuple[str, str, bool]]) -> None:
    """Every number of up to seven digits and decimals, in every unit, is the double closest to it.

    The space: all that the registry's pattern of ages allows, together in one column, NULL besides.
    """
    texts = [f"{number} {unit.title()}{'s' * plural}" for number, unit, plural in parts]
    column = pl.col("text")
    found = pl.DataFrame({"text": pl.Series([*texts, None], dtype=pl.String)}).select(
        years=values.years(column), days=values.days(column), number=values.age_number(column)
    )
    for text, row in zip(texts, found.rows(), strict=False):
        assert row == (reference.years(text), reference.days(text), reference.age(text)[0])
    assert found.rows()[-1] == (None, None, None)


@pytest.mark.parametrize("unit", ["Day", "Week"])
def test_whole_days_are_whole(unit: str) -> None:
    """Days and weeks are whole numbers of days, so that `>= 14` holds for two weeks."""
    per_unit = {"Day": 1, "Week": 7}[unit]
    frame = pl.DataFrame({"text": [f"{number} {unit}s" for number in range(1, 5001)]})
    found = frame.select(values.days(pl.col("text"))).to_series().to_list()
    assert found == [number * per_unit for number in range(1, 5001)]


def test_two_weeks_are_fourteen_days() -> None:
    """Case 05 of the odd inputs: 2 Weeks and 28 Days, from the file to the tables."""
    case = shared_path("cases/05-age-in-days-below-true.jsonl")
    tables = flatten(typed_rows(read_studies(case)), ["studies", "eligibilities"])
    (eligibility,) = tables["eligibilities"].to_pylist()
    assert (eligibility["minimum_age_days"], eligibility["maximum_age_days"]) == (14, 28)
    assert tables["studies"]["target_duration_days"].to_pylist() == [7]


@given(st.text())
def test_text_is_never_an_error(text: str) -> None:
    """No text makes the reading of an age fail, and what is read is a finite number."""
    found = pl.DataFrame({"text": [text]}).select(values.years(pl.col("text"))).item()
    assert found is None or (re.match("[0-9]", text) and 0 <= found < 10**7)


@pytest.mark.parametrize(
    ("text", "number", "unit", "days"),
    [
        ("18 Years", 18, "year", 18 * 365.25),
        ("1 Month", 1, "month", 365.25 / 12),
        ("1.5 Days", None, "day", 1.5),
        ("2 Weeks", 2, "week", 14.0),
        ("28.0 Days", 28, "day", 28.0),
        ("90 minutes", 90, "minute", 1 / 16),
        ("N/A", None, None, None),
        (None, None, None, None),
    ],
)
def test_parts_of_an_age(
    text: str | None, number: int | None, unit: str | None, days: float | None
) -> None:
    """An age gives days, its unit, and its number where that is whole."""
    column = pl.col("text")
    found = pl.DataFrame({"text": pl.Series([text], dtype=pl.String)}).select(
        number=values.age_number(column), unit=values.age_unit(column), days=values.days(column)
    )
    assert found.row(0) == (number, unit, days)


NUMBERS = [
    ("12", 12.0, None, "number"),
    ("-0.5", -0.5, None, "number"),
    (".5", 0.5, None, "number"),
    ("5.", 5.0, None, "number"),
    ("-.5", -0.5, None, "number"),
    ("1e-5", 1e-5, None, "number"),
    (" 12 ", 12.0, None, "number"),
    ("1,234", 1234.0, None, "number"),
    ("1,234.5", 1234.5, None, "number"),
    ("-12,345,678", -12345678.0, None, "number"),
    ("\u22120.3", -0.3, None, "number"),
    ("<0.001", 0.001, "<", "qualified"),
    ("< .001", 0.001, "<", "qualified"),
    ("&lt; 0.0001", 0.0001, "<", "qualified"),
    ("&gt;0.05", 0.05, ">", "qualified"),
    ("\u2264 5", 5.0, "<=", "qualified"),
    ("=>5", 5.0, ">=", "qualified"),
    ("= 0.917", 0.917, "=", "qualified"),
    ("~1,000", 1000.0, "~", "qualified"),
    ("NA", None, "NA", "not available"),
    ("n/a", None, "N/A", "not available"),
    ("NE", None, "NE", "not available"),
    (" Not   reached ", None, "NOT REACHED", "not available"),
    ("-0,083", None, None, "unparsed"),
    ("1,23", None, None, "unparsed"),
    ("12,3456", None, None, "unparsed"),
    ("1 234", None, None, "unparsed"),
    ("50%", None, None, "unparsed"),
    ("1-2", None, None, "unparsed"),
    ("1.2.3", None, None, "unparsed"),
    ("< NA", None, None, "unparsed"),
    ("inf", None, None, "unparsed"),
    ("nan", None, None, "unparsed"),
    ("1e999", None, None, "unparsed"),
    ("\u0661\u0662", None, None, "unparsed"),
    ("0x10", None, None, "unparsed"),
    (".", None, None, "unparsed"),
    ("", None, None, "unparsed"),
    (None, None, None, None),
]


def _number(text: str | None, *, whole: bool = False) -> reference.Number:
    found = values.numbers(pl.Series([text], dtype=pl.String), whole=whole)
    return found["value"][0], found["qualifier"][0], found["status"][0]


@pytest.mark.parametrize(("text", "value", "qualifier", "status"), NUMBERS)
def test_number_sent_as_text(
    text: str | None, value: float | None, qualifier: str | None, status: str | None
) -> None:
    """A number is read with what qualifies it; what could mean two things is not guessed."""
    assert _number(text) == reference.number(text) == (value, qualifier, status)


@pytest.mark.parametrize(
    ("text", "value", "status"),
    [
        ("12", 12, "number"),
        ("1,553", 1553, "number"),
        ("9007199254740993", 9007199254740993, "number"),
        ("9,007,199,254,740,993", 9007199254740993, "number"),
        ("9223372036854775807", 2**63 - 1, "number"),
        ("9223372036854775808", None, "unparsed"),
        ("5.0", 5, "number"),
        ("<5", 5, "qualified"),
        ("5.5", None, "unparsed"),
        ("1e3", 1000, "number"),
        ("1.25E+1", None, "unparsed"),
        ("1,234.5e1", 12345, "number"),
        ("12e-1", None, "unparsed"),
        ("120e-1", 12, "number"),
        ("1e999", None, "unparsed"),
        ("NA", None, "not available"),
    ],
)
def test_whole_number_sent_as_text(text: str, value: int | None, status: str) -> None:
    """A count is read exactly; a number that is not whole is no count."""
    found = _number(text, whole=True)
    assert (found[0], found[2]) == (value, status)
    assert found == reference.number(text, whole=True)


_DIGITS = st.from_regex(r"[0-9]{0,4}[.,]?[0-9]{0,3}[.,]?[0-9]{0,3}", fullmatch=True)
_SIGNED = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", " ", *reference.SIGNS]),
        st.sampled_from(["", " ", "\t"]),
        st.sampled_from(["", "-", "+", "\u2212"]),
        _DIGITS,
        st.sampled_from(["", "e5", "E-3", "e", "%", " "]),
    ),
)
_WILD_NUMBERS = st.one_of(
    _SIGNED,
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-(2**70), 2**70).map("{:,}".format),
    st.sampled_from(reference.WORDS).map(str.title),
    st.text(max_size=6),
)


@pytest.mark.slow
@given(st.lists(st.none() | _WILD_NUMBERS, max_size=20), st.booleans())
def test_numbers_agree_with_reference(texts: list[str | None], whole: bool) -> None:
    """Whatever the texts, alone or together, each reads as the slow way reads it."""
    found = values.numbers(pl.Series(texts, dtype=pl.String), whole=whole)
    rows = list(zip(found["value"], found["qualifier"], found["status"], strict=True))
    assert rows == [reference.number(text, whole=whole) for text in texts]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_is_read_to_the_last_digit(number: float) -> None:
    """A number written out in full comes back as the same number."""
    assert _number(repr(number))[0] == number
    assert _number(f"< {number!r}")[:2] == (number, "<")


@pytest.mark.parametrize(
    ("start", "end", "months"),
    [
        ("2021-01-01", "2022-01-01", 12),
        ("2021-01-15", "2021-02-14", 0),
        ("2021-01-15", "2021-02-15", 1),
        ("2021-01-31", "2021-02-28", 1),
        ("2021-02-28", "2021-03-30", 1),
        ("2022-01-01", "2021-01-02", -11),
        ("2021-02-28", "2021-01-31", -1),
    ],
)
def test_completed_months(start: str, end: str, months: int) -> None:
    """Months are those of the calendar, completed, whichever day is earlier."""
    days = {"start": Day.fromisoformat(start), "end": Day.fromisoformat(end)}
    found = pl.DataFrame(days).select(values.months_between(pl.col("start"), pl.col("end"))).item()
    assert found == months == reference.completed_months(days["start"], days["end"])


@given(st.dates(), st.dates())
def test_completed_months_agree_with_reference(start: Day, end: Day) -> None:
    """Between any two days there are as many months as the slow way counts."""
    frame = pl.DataFrame({"start": [start], "end": [end]})
    found = frame.select(values.months_between(pl.col("start"), pl.col("end"))).item()
    assert found == reference.completed_months(start, end)


@given(
    st.one_of(
        st.datetimes().map(lambda time: f"{time:%Y-%m-%dT%H:%M}"),
        st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}", fullmatch=True),
        st.text(max_size=17),
    )
)
def test_timestamp_agrees_with_reference(text: str) -> None:
    """A day and time is read where there is one, and nothing else is."""
    found = pl.DataFrame({"text": [text]}).select(
        time=values.timestamp(pl.col("text")), day=values.day_of_timestamp(pl.col("text"))
    )
    time = reference.timestamp(text)
    assert found.row(0) == (time, time and time.date())


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("Drug: Aspirin", "DRUG", "Aspirin"),
        ("Dietary Supplement: Zinc: 5 mg", "DIETARY_SUPPLEMENT", "Zinc: 5 mg"),
        ("Drug: ", "DRUG", ""),
        ("Drug:Aspirin", None, None),
        ("Aspirin", None, None),
        (": Aspirin", None, None),
        ("Drug: two\nlines", "DRUG", "two\nlines"),
    ],
)
def test_label(text: str, kind: str | None, name: str | None) -> None:
    """A label is its kind, as enumerations spell it, and the name behind the first colon."""
    frame = pl.DataFrame({"text": [text]})
    column = pl.col("text")
    found = frame.select(values.kind_of_label(column), name=values.name_of_label(column)).row(0)
    assert found == (kind, name) == reference.label(text)


@given(st.text(st.characters(max_codepoint=0x24F), max_size=12))
def test_titles_are_compared_by_their_words(text: str) -> None:
    """What is left of a title is its letters and digits in lower case, word by word."""
    found = pl.DataFrame({"text": [text]}).select(values.normalized(pl.col("text"))).item()
    assert found == reference.words(text)


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
    expected = [None if text is None else text.replace("\0", "\ufffd") for text in texts]
    whole = pa.array(texts, pa.string())
    assert values.without_nul(whole).to_pylist() == expected
    assert values.without_nul(whole.slice(1)).to_pylist() == expected[1:]


def test_text_without_nul_is_not_copied() -> None:
    """Text that needs no replacement comes back as the same array."""
    for array in (
        pa.array(["a", None, "é"]),
        pa.array(["\0", "a"]).slice(1),
        pa.array([None], "string"),
    ):
        assert values.without_nul(array) is array
