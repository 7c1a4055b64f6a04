"""Commas that may mean two things: read between thousands, unless the same measure has decimal commas."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.model import values
from ctg_assets.model.flatten import flatten, snapshot_columns
from ctg_assets.model.tables import readings, staging_tables
from ctg_assets.model.tables.declaration import enclosing_lists
from ctg_assets.model.tables.readings import Read
from ctg_assets_tests.model import reference
from ctg_assets_tests.model.flattened import measured, outcome_study, picked, results, rows_of
from ctg_assets_tests.model.snapshots import Study, real_studies, snapshot
from ctg_assets_tests.soak import times

DECIMAL = (
    *("0,3139", "12,5", "0,083", "-0,083", "+1,2", "1234,567", "1,2345", "0,0", ",5"),
    *("< 0,05", "&lt;0,001", "\u22120,3", "1,5e3", "12,5 %", "1.249,5", "1.249,500", "1 249,50"),
)
EITHER = ("1,249", "12,345", "-123,456", "<1,249", "~ 1,249", "1,249.", "\u22121,249", "1,249e2")
CLEAR = (
    *("", ",", "1,", "1249", "1.5", "1,249.5", "1,249,500", "12,34,567", "1,249%", "1,2-1,4"),
    *("NA", "NA, 5", "a 1,249", "1, 249", "1.2,3", "12.34,5", "0,5.", "\u0661,\u0662"),
)


def _kind(text: str | None) -> str | None:
    series = pl.Series([None, text, None], dtype=pl.String)
    decimal, either = (
        found.to_list() for found in (values.decimal_commas(series), values.either_commas(series))
    )
    assert not (decimal and either)
    assert set(decimal + either) <= {1}
    return "decimal" if decimal else "either" if either else None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, "decimal") for text in DECIMAL),
        *((text, "either") for text in EITHER),
        *((text, None) for text in CLEAR),
    ],
)
def test_what_a_comma_can_be(text: str, kind: str | None) -> None:
    """Only a comma with three digits behind it, and one to three before, may mean two things."""
    assert _kind(text) == reference.comma(text) == kind


@pytest.mark.slow
@settings(max_examples=300)
@given(
    st.from_regex(
        r"(<|&lt;|>=| )?[-+\u2212]?[0-9]{0,4}[., ]?[0-9]{0,3},?[0-9]{0,4}\.?(e-?[0-9]?)?( ?%)?",
        fullmatch=True,
    )
)
def test_commas_agree_with_reference(text: str) -> None:
    """Whatever digits, points, blanks, commas and signs are put together, both ways see the same."""
    assert _kind(text) == reference.comma(text)


def _values(*texts: str) -> list[dict[str, str]]:
    return [{"value": text} for text in texts]


VALUE_COLUMNS = ("param_value", "param_value_num", "param_value_qualifier", "param_value_status")


def test_thousand_beside_decimal_commas_is_no_number() -> None:
    """`1,249` beside `0,3139` is NULL and says why; other numbers of the measure are read."""
    measure = measured(*_values("0,3139", "1,249", "<2,500", "1,249,500", "7", "3.5"))
    expected = [
        ("0,3139", None, None, "unparsed"),
        ("1,249", None, None, "ambiguous comma"),
        ("<2,500", None, None, "ambiguous comma"),
        ("1,249,500", 1249500.0, None, "number"),
        ("7", 7.0, None, "number"),
        ("3.5", 3.5, None, "number"),
    ]
    rows = rows_of("outcome_measurements", outcome_study(measure))
    assert picked(rows, *VALUE_COLUMNS) == expected
    baseline = results(baselineCharacteristics={"measures": [measure]})
    assert picked(rows_of("baseline_measurements", baseline), *VALUE_COLUMNS) == expected


def test_other_measures_and_studies_are_no_evidence() -> None:
    """Decimal commas of another measure, or of the same measure of another study, change nothing."""
    thousand, decimal = measured(*_values("1,249")), measured(*_values("0,5"))
    studies = outcome_study(thousand, decimal), outcome_study(decimal, thousand)
    rows = rows_of("outcome_measurements", *studies)
    assert [row["param_value_num"] for row in rows] == [1249.0, None, None, 1249.0]


# Where the numbers of a measure are, and the columns that they are read into.
_MEASUREMENT = {
    "value": ("param_value_num", "param_value_status"),
    "spread": ("dispersion_value_num", "dispersion_value_status"),
    "lowerLimit": ("dispersion_lower_limit", "dispersion_lower_limit_status"),
    "upperLimit": ("dispersion_upper_limit", "dispersion_upper_limit_status"),
}
_ANALYSIS = {
    "paramValue": ("param_value", "param_value_status"),
    "dispersionValue": ("dispersion_value", "dispersion_value_status"),
    "pValue": ("p_value", "p_value_status"),
    "ciPctValue": ("ci_percent", "ci_percent_status"),
    "ciLowerLimit": ("ci_lower_limit", "ci_lower_limit_status"),
    "ciUpperLimit": ("ci_upper_limit", "ci_upper_limit_status"),
}
# Mostly without decimal commas, so that measures of both kinds are common.
_TEXT = st.sampled_from(
    [None, "NA", "12", "3.5", "1,249", "1,249", "20,000", "1,249.5", *EITHER[:4]] * 4
    + list(DECIMAL)
)


def _items(names: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, _TEXT))


def _lists(name: str, items: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: st.lists(st.none() | items, max_size=3)})


_CLASSES = _lists("classes", _lists("categories", _lists("measurements", _items(_MEASUREMENT))))
_OUTCOMES = st.builds(dict.__or__, _CLASSES, _lists("analyses", _items(_ANALYSIS)))
_STUDIES = st.lists(
    st.builds(
        lambda outcomes, measures: results(
            outcomeMeasures={"outcomeMeasures": outcomes},
            baselineCharacteristics={"measures": measures},
        ),
        st.lists(st.none() | _OUTCOMES, max_size=3),
        st.lists(st.none() | _CLASSES, max_size=3),
    ),
    max_size=3,
)


def _present(item: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [one for one in item.get(name) or [] if one is not None]


def _expected(
    measures: list[dict[str, Any]],
) -> tuple[list[tuple[float | None, str | None]], list[tuple[float | None, str | None]]]:
    """Numbers and statuses of measurements and analyses, each measure checked_records as a whole."""
    found: tuple[list[Any], list[Any]] = [], []
    for measure in measures:
        measurements = [
            one
            for class_ in _present(measure, "classes")
            for category in _present(class_, "categories")
            for one in _present(category, "measurements")
        ]
        analyses = _present(measure, "analyses")
        texts = {text for item in (*measurements, *analyses) for text in item.values()}
        has_decimal_commas = bool(texts & set(DECIMAL))
        for items, names, rows in (
            (measurements, _MEASUREMENT, found[0]),
            (analyses, _ANALYSIS, found[1]),
        ):
            for text in (item.get(name) for item in items for name in names):
                number, _, status = reference.number(text)
                is_ambiguous = has_decimal_commas and text in {*EITHER, "20,000"}
                rows.append((None, "ambiguous comma") if is_ambiguous else (number, status))
    return found


@pytest.mark.soak
@settings(max_examples=times(20, 60), deadline=None)
@given(_STUDIES)
def test_measures_of_any_mixture(studies: list[Study]) -> None:
    """Every number of every measure, whatever is written where, is read as its measure is written.

    The space: up to three studies of up to three outcomes (with analyses) and baseline measures, with
    up to three classes, categories and measurements each, in all ten places that hold a number, null
    and missing items at each level; thousands, decimal commas, clear numbers and none.
    """
    rows = snapshot(*studies)
    modules = [study["resultsSection"] for study in studies]
    outcomes = [
        one
        for module in modules
        for one in _present(module["outcomeMeasuresModule"], "outcomeMeasures")
    ]
    baseline = [
        one
        for module in modules
        for one in _present(module["baselineCharacteristicsModule"], "measures")
    ]
    measurements, analyses = _expected(outcomes)
    expected = {
        "outcome_measurements": (_MEASUREMENT, measurements),
        "outcome_analyses": (_ANALYSIS, analyses),
        "baseline_measurements": (_MEASUREMENT, _expected(baseline)[0]),
    }
    for table, (names, wanted) in expected.items():
        # Each table from a file, by the columns that it says it needs.
        file = io.BytesIO()
        pq.write_table(rows, file)
        read = pq.ParquetFile(file).read(columns=list(snapshot_columns([table])))
        found = flatten(read, [table])[table].to_pylist()
        pairs = [(row[one], row[other]) for row in found for one, other in names.values()]
        assert pairs == wanted, table


_MEASURE_LISTS = {
    "resultsSection.outcomeMeasuresModule.outcomeMeasures[]",
    "resultsSection.baselineCharacteristicsModule.measures[]",
}


def test_every_number_of_a_measure_is_read_in_the_light_of_all_others() -> None:
    """No number of a measure, but for whole ones that count, is read alone or leaves another out."""
    beside: dict[str, set[frozenset[str]]] = {one: set() for one in _MEASURE_LISTS}
    read: dict[str, set[str]] = {one: set() for one in _MEASURE_LISTS}
    for table in staging_tables():
        for source in table.sources:
            for item in table.fields:
                if not (isinstance(item.value, Read) and item.value.reading is readings.number):
                    continue
                path = source.resolve(item.value.path) or ""
                for measure in _MEASURE_LISTS & set(enclosing_lists(path)):
                    read[measure].add(path)
                    assert item.value.beside is not None, (table.name, item.name)
                    around = source.resolve(item.value.beside.item)
                    paths = item.value.beside.paths
                    beside[measure].add(frozenset(f"{around}.{one}" for one in paths))
    assert {measure: len(paths) for measure, paths in read.items()} == {
        "resultsSection.outcomeMeasuresModule.outcomeMeasures[]": 10,
        "resultsSection.baselineCharacteristicsModule.measures[]": 4,
    }
    assert beside == {measure: {frozenset(paths)} for measure, paths in read.items()}


@pytest.mark.slow
def test_recorded_numbers_stay_as_they_were() -> None:
    """In the recorded studies no thousand stands beside decimal commas, so each is still read."""
    _, rows = real_studies()
    found = flatten(rows, ["outcome_measurements", "outcome_analyses", "baseline_measurements"])
    thousands = 0
    for table in found.values():
        for name in table.column_names:
            if name.endswith("_status"):
                assert "ambiguous comma" not in table[name].unique().to_pylist(), name
        texts = table["param_value"].to_pylist()
        thousands += sum(
            isinstance(text, str) and reference.comma(text) == "either" for text in texts
        )
    assert thousands > 0
