"""The query language: what expressions mean, and how they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.simulator.essie import EssieError, parse
from ctg_assets_tests.simulator.in_memory import study

WORDS = ("asthma", "cancer", "insulin", "pain")

Meaning = Callable[[set[str]], bool]


def matches(expression: str, record: dict[str, Any], area: str = "BasicSearch") -> bool:
    """Whether a study matches an expression."""
    return parse(expression, area).matches(record)


def _grouped(children: st.SearchStrategy[tuple[str, Meaning]]) -> Any:
    def negated(part: tuple[str, Meaning]) -> tuple[str, Meaning]:
        return f"NOT ({part[0]})", lambda words: not part[1](words)

    def joined(
        left: tuple[str, Meaning], right: tuple[str, Meaning], operator: str
    ) -> tuple[str, Meaning]:
        text = f"({left[0]}) {operator} ({right[0]})"
        if operator == "OR":
            return text, lambda words: left[1](words) or right[1](words)
        return text, lambda words: left[1](words) and right[1](words)

    return st.one_of(
        children.map(negated),
        st.builds(joined, children, children, st.sampled_from(["AND", "OR", ""])),
    )


def _word(word: str) -> tuple[str, Meaning]:
    return word, lambda words: word in words


EXPRESSIONS = st.recursive(st.sampled_from(WORDS).map(_word), _grouped, max_leaves=8)


@given(EXPRESSIONS, st.sets(st.sampled_from(WORDS)))
def test_operators_mean_what_python_says(expression: tuple[str, Meaning], words: set[str]) -> None:
    """AND, OR, NOT, parentheses and juxtaposition agree with the same logic in Python."""
    text, meaning = expression
    assert matches(text, study(1, title=" ".join(sorted(words)))) == meaning(words)


@given(st.sets(st.sampled_from(WORDS)))
def test_not_binds_before_and_before_or(words: set[str]) -> None:
    """Without parentheses NOT binds tightest, then AND, then OR."""
    expected = "asthma" in words or ("cancer" in words and "pain" not in words)
    record = study(1, title=" ".join(sorted(words)))
    assert matches("asthma OR cancer AND NOT pain", record) == expected
    assert matches("asthma OR cancer NOT pain", record) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("type 2 diabetes", True),
        ("diabetes type", True),
        ('"type 2 diabetes"', True),
        ('"diabetes type"', False),
        ("DIABETES", True),
        ("diabet", False),
        ("COVID-19", True),
        ("covid", True),
        ("and", False),
        (r"\OR", False),
        ("ANDROGEN", False),
        ("ALL", True),
        ("heart, covid", False),
    ],
)
def test_words_and_phrases(expression: str, expected: bool) -> None:
    """Words match whole, in any order and case; phrases match in order; operators are upper case."""
    record = study(1, title="Type 2 Diabetes After COVID-19")
    assert matches(expression, record) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("AREA[Phase]PHASE2", True),
        ("AREA[Phase](PHASE1 OR PHASE3)", True),
        ("AREA[Phase](PHASE1 OR PHASE4)", False),
        ("AREA[Phase]MISSING", False),
        ("NOT AREA[EnrollmentCount]MISSING", True),
        ("AREA[CompletionDate]MISSING", True),
        ("AREA[OverallStatus]not yet recruiting", True),
        ("AREA[protocolSection.statusModule.overallStatus]COMPLETED", False),
        ("AREA[HasResults]false", True),
        ("AREA[ConditionSearch]asthma AND AREA[TitleSearch]asthma", False),
        ("AREA[Condition]COVERAGE[FullMatch]asthma", False),
        ("AREA[Condition]COVERAGE[FullMatch](severe asthma)", True),
        ('AREA[Condition]COVERAGE[FullMatch]"severe asthma"', True),
        ("AREA[Condition]COVERAGE[StartsWith]severe", True),
        ("AREA[Condition]COVER[EndsWith]severe", False),
        ("AREA[LocationCity]Boston AND AREA[LocationStatus]RECRUITING", True),
        ("SEARCH[Location](AREA[LocationCity]Boston AND AREA[LocationStatus]RECRUITING)", False),
        ("SEARCH[Location](AREA[LocationCity]Paris AND AREA[LocationStatus]RECRUITING)", True),
    ],
)
def test_areas(expression: str, expected: bool) -> None:
    """AREA scopes what follows to a piece, a path or a search area, by that field's type."""
    record = study(
        1,
        title="Inhaled Steroids",
        conditions=["Severe Asthma"],
        phases=["PHASE2", "PHASE3"],
        status="NOT_YET_RECRUITING",
        enrollment=40,
        locations=[
            {"city": "Boston", "status": "COMPLETED"},
            {"city": "Paris", "status": "RECRUITING"},
        ],
    )
    assert matches(expression, record) == expected


@pytest.mark.parametrize(
    ("expression", "start", "expected"),
    [
        ("AREA[StartDate]RANGE[2022-03-15,MAX]", "2022-03-15", True),
        ("AREA[StartDate]RANGE[2022-03-16,MAX]", "2022-03-15", False),
        ("AREA[StartDate]RANGE[MIN,2022-03]", "2022-03-31", True),
        ("AREA[StartDate]RANGE[MIN,2022]", "2022-12-31", True),
        ("AREA[StartDate]RANGE[MIN, 12/31/2021]", "2022-01-01", False),
        ("AREA[StartDate]2022", "2022-07", True),
        ("AREA[StartDate]2022-07-02", "2022-07", False),
        ("AREA[StartDate]RANGE[MIN,MAX]", None, False),
        ("NOT AREA[StartDate]RANGE[MIN,MAX]", None, True),
        ("AREA[StartDate]RANGE[MIN,MAX]", "soon", False),
    ],
)
def test_date_ranges(expression: str, start: str | None, expected: bool) -> None:
    """Bounds are inclusive and may be partial; a study's partial date counts as its first day."""
    assert matches(expression, study(1, start=start)) == expected


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_number_ranges_mean_what_python_says(lower: int, count: int, upper: int) -> None:
    """A range of numbers holds what lies between its bounds, both included."""
    expression = f"AREA[EnrollmentCount]RANGE[{lower},{upper}]"
    assert matches(expression, study(1, enrollment=count)) == (lower <= count <= upper)


@pytest.mark.parametrize(
    ("age", "expected"),
    [("16 Years", True), ("30 Days", True), ("191 Months", True), ("193 Months", False)],
)
def test_age_ranges_compare_across_units(age: str, expected: bool) -> None:
    """Ages are compared as times, whatever unit each is given in."""
    expression = "AREA[MinimumAge]RANGE[MIN, 16 years]"
    assert matches(expression, study(1, minimum_age=age)) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("AREA[NotARealField]x", "Unknown area name: `NotARealField`"),
        ("lung [x]", "mismatched input '[' expecting {<EOF>, '(', ','"),
        ("EXPANSION[None]x", "mismatched input '['"),
        ("(lung", "mismatched input '<EOF>'"),
        ("AND lung", "mismatched input 'AND'"),
        ("lung)", "mismatched input ')'"),
        ('"lung', "mismatched input '\"'"),
        (
            "AREA[Phase]PHASE9",
            "Allowed values for enum field `protocolSection.designModule.phases`",
        ),
        ("AREA[HasResults]maybe", "Allowed values for boolean field `hasResults`"),
        ("AREA[StartDate]RANGE[yesterday,MAX]", "Invalid value for field"),
        ("AREA[StartDate]RANGE[2022]", "RANGE takes a lower and an upper bound"),
        ("AREA[StartDate]2022-13", "Invalid value for field"),
        ("AREA[BriefTitle]RANGE[a,b]", "RANGE is not applicable to BriefTitle"),
        ("AREA[Condition]COVERAGE[Some]x", "Invalid coverage: Some"),
        ("SEARCH[BriefTitle](x)", "Unknown search document name: `BriefTitle`"),
    ],
)
def test_refusals_say_what_is_wrong(expression: str, message: str) -> None:
    """An expression that cannot be understood is refused in the registry's words."""
    with pytest.raises(EssieError) as refusal:
        parse(expression, "BasicSearch")
    assert str(refusal.value).startswith(message)


@given(st.text(alphabet=' ()[]",\\abANDORT-:0123AREA[Phase]RANGE', max_size=40))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Whatever the text, there is an expression or an EssieError, and the expression can be evaluated."""
    try:
        expression = parse(text, "BasicSearch")
    except EssieError:
        return
    assert expression.matches(study(1)) in {True, False}


def test_mistyped_records_are_no_match() -> None:
    """A record that holds a text where a module belongs is searched without an error."""
    record = {"protocolSection": {"statusModule": "lost", "identificationModule": [1]}}
    assert not matches("AREA[OverallStatus]COMPLETED OR asthma", record)
