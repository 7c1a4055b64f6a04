"""Rows of the outcome measures: every level with its rows, numbers beside their text, analyses."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ctg_assets_tests.model.flattened import measured, outcome_study, picked, rows_of

FULL = {
    "type": "PRIMARY",
    "title": "Survival",
    "description": "From randomization",
    "populationDescription": "All treated",
    "reportingStatus": "POSTED",
    "paramType": "MEDIAN",
    "dispersionType": "95% Confidence Interval",
    "unitOfMeasure": "months",
    "calculatePct": True,
    "timeFrame": "5 years",
    "typeUnitsAnalyzed": "Eyes",
    "denomUnitsSelected": "Participants",
    "groups": [{"id": "OG000", "title": "A"}, {"id": "OG001", "title": "B"}],
    "denoms": [
        {"units": "Participants", "counts": [{"groupId": "OG000", "value": "1,024"}]},
        {"units": "Eyes", "counts": [{"groupId": "OG000", "value": "2048"}, {"groupId": "OG001"}]},
    ],
    "classes": [
        {
            "title": "Year 1",
            "denoms": [{"units": "Participants", "counts": [{"groupId": "OG001", "value": "7"}]}],
            "categories": [
                {
                    "title": "Alive",
                    "measurements": [
                        {
                            "groupId": "OG000",
                            "value": "12.5",
                            "spread": "1.5",
                            "lowerLimit": "NA",
                            "upperLimit": ">99",
                            "comment": "Too few deaths",
                        },
                        {"groupId": "OG001", "value": "NA"},
                    ],
                },
                {"title": "Dead", "measurements": []},
            ],
        },
        {"title": "Year 2"},
    ],
    "analyses": [
        {
            "paramType": "Hazard Ratio (HR)",
            "paramValue": "0.83",
            "dispersionType": "STANDARD_ERROR_OF_MEAN",
            "dispersionValue": ".1",
            "statisticalMethod": "Log Rank",
            "statisticalComment": "Stratified",
            "pValue": "<0.001",
            "pValueComment": "Two-sided",
            "ciNumSides": "TWO_SIDED",
            "ciPctValue": "95",
            "ciLowerLimit": "-1.5",
            "ciUpperLimit": "NA",
            "ciLowerLimitComment": "low",
            "ciUpperLimitComment": "high",
            "estimateComment": "A over B",
            "testedNonInferiority": False,
            "nonInferiorityType": "SUPERIORITY",
            "nonInferiorityComment": "none",
            "otherAnalysisDescription": "other",
            "groupDescription": "A against B",
            "groupIds": ["OG001", "OG000", "OG007"],
        },
        {"nonInferiorityType": "OTHER", "groupIds": []},
    ],
}
STUDY = outcome_study({"title": "Later", "anticipatedPostingDate": "2031-02"}, FULL)


def test_outcomes() -> None:
    """An outcome has its row whether it is posted or announced; the date of an announcement is read."""
    announced, posted = rows_of("outcomes", STUDY)
    assert posted == {
        "id": 1_000_000_002,
        "nct_id": "NCT00000001",
        "position": 2,
        "outcome_type": "PRIMARY",
        "title": "Survival",
        "description": "From randomization",
        "time_frame": "5 years",
        "population": "All treated",
        "reporting_status": "POSTED",
        "anticipated_posting_month_year": None,
        "anticipated_posting_date": None,
        "anticipated_posting_date_first": None,
        "anticipated_posting_date_precision": None,
        "units": "months",
        "units_analyzed": "Eyes",
        "param_type": "MEDIAN",
        "dispersion_type": "95% Confidence Interval",
        "calculate_percentage": True,
        "denom_units_selected": "Participants",
    }
    date = "anticipated_posting_date"
    names = ("title", "anticipated_posting_month_year", date, f"{date}_first", f"{date}_precision")
    assert picked([announced], *names) == [
        ("Later", "2031-02", dt.date(2031, 2, 28), dt.date(2031, 2, 1), "month")
    ]


def test_denominators_of_outcomes_and_classes() -> None:
    """Denominators keep their units, their order and their text; those of a class are apart."""
    names: tuple[str, ...] = (
        "id",
        "position",
        "denom_position",
        "outcome_id",
        "result_group_id",
        "scope",
        "units",
    )
    assert picked(rows_of("outcome_counts", STUDY), *names, "count_raw", "count") == [
        (
            1_000_000_000 + running,
            position,
            denom,
            1_000_000_002,
            1_000_000_000 + group,
            "Measure",
            units,
            raw,
            count,
        )
        for running, position, denom, group, units, raw, count in [
            (1, 1, 1, 1, "Participants", "1,024", 1024),
            (2, 1, 2, 1, "Eyes", "2048", 2048),
            (3, 2, 2, 2, "Eyes", None, None),
        ]
    ]
    names = (
        "outcome_id",
        "outcome_class_id",
        "denom_position",
        "result_group_id",
        "units",
        "count",
    )
    assert picked(rows_of("outcome_class_counts", STUDY), *names) == [
        (1_000_000_002, 1_000_000_001, 1, 1_000_000_002, "Participants", 7)
    ]


def test_classes_and_categories_without_values_are_kept() -> None:
    """A class without categories and a category without values have their rows."""
    names: tuple[str, ...] = ("id", "position", "outcome_id", "title")
    assert picked(rows_of("outcome_classes", STUDY), *names) == [
        (1_000_000_001, 1, 1_000_000_002, "Year 1"),
        (1_000_000_002, 2, 1_000_000_002, "Year 2"),
    ]
    names = ("id", "position", "outcome_id", "outcome_class_id", "title")
    assert picked(rows_of("outcome_categories", STUDY), *names) == [
        (1_000_000_001, 1, 1_000_000_002, 1_000_000_001, "Alive"),
        (1_000_000_002, 2, 1_000_000_002, 1_000_000_001, "Dead"),
    ]


def test_measurements() -> None:
    """A value carries its place in every level, the outcome's facts, and its numbers beside their text."""
    first, second = rows_of("outcome_measurements", STUDY)
    assert first == {
        "id": 1_000_000_001,
        "nct_id": "NCT00000001",
        "position": 1,
        "outcome_id": 1_000_000_002,
        "outcome_class_id": 1_000_000_001,
        "outcome_category_id": 1_000_000_001,
        "result_group_id": 1_000_000_001,
        "ctgov_group_code": "OG000",
        "classification": "Year 1",
        "category": "Alive",
        "title": "Survival",
        "units": "months",
        "param_type": "MEDIAN",
        "param_value": "12.5",
        "param_value_num": 12.5,
        "param_value_qualifier": None,
        "param_value_status": "number",
        "dispersion_type": "95% Confidence Interval",
        "dispersion_value": "1.5",
        "dispersion_value_num": 1.5,
        "dispersion_value_qualifier": None,
        "dispersion_value_status": "number",
        "dispersion_lower_limit_raw": "NA",
        "dispersion_lower_limit": None,
        "dispersion_lower_limit_qualifier": "NA",
        "dispersion_lower_limit_status": "not available",
        "dispersion_upper_limit_raw": ">99",
        "dispersion_upper_limit": 99.0,
        "dispersion_upper_limit_qualifier": ">",
        "dispersion_upper_limit_status": "qualified",
        "explanation_of_na": "Too few deaths",
    }
    names = ("param_value", "param_value_num", "param_value_status", "dispersion_value_status")
    assert picked([second], "ctgov_group_code", *names) == [
        ("OG001", "NA", None, "not available", None)
    ]


def test_analyses() -> None:
    """An analysis keeps each number as text, number, qualifier and status, and every comment."""
    first, second = rows_of("outcome_analyses", STUDY)
    numbers = {
        ("param_value_raw", "param_value", "param_value_qualifier"): ("0.83", 0.83, None),
        ("dispersion_value_raw", "dispersion_value", "dispersion_value_qualifier"): (
            ".1",
            0.1,
            None,
        ),
        ("p_value_raw", "p_value", "p_value_modifier"): ("<0.001", 0.001, "<"),
        ("ci_percent_raw", "ci_percent", "ci_percent_qualifier"): ("95", 95.0, None),
        ("ci_lower_limit_raw", "ci_lower_limit", "ci_lower_limit_qualifier"): ("-1.5", -1.5, None),
        ("ci_upper_limit_raw", "ci_upper_limit", "ci_upper_limit_qualifier"): ("NA", None, "NA"),
    }
    texts = {
        "id": 1_000_000_001,
        "nct_id": "NCT00000001",
        "position": 1,
        "outcome_id": 1_000_000_002,
        "tested_non_inferiority": False,
        "non_inferiority_type": "SUPERIORITY",
        "non_inferiority_description": "none",
        "param_type": "Hazard Ratio (HR)",
        "param_value_status": "number",
        "dispersion_type": "STANDARD_ERROR_OF_MEAN",
        "dispersion_value_status": "number",
        "p_value_status": "qualified",
        "p_value_description": "Two-sided",
        "ci_n_sides": "TWO_SIDED",
        "ci_percent_status": "number",
        "ci_lower_limit_status": "number",
        "ci_upper_limit_status": "not available",
        "ci_lower_limit_na_comment": "low",
        "ci_upper_limit_na_comment": "high",
        "method": "Log Rank",
        "method_description": "Stratified",
        "estimate_description": "A over B",
        "groups_description": "A against B",
        "other_analysis_description": "other",
    }
    expected: dict[str, Any] = dict(texts)
    for names, found in numbers.items():
        expected |= dict(zip(names, found, strict=True))
    assert first == expected
    assert picked([second], "position", "non_inferiority_type", "p_value") == [(2, "OTHER", None)]


def test_groups_of_an_analysis_in_their_order() -> None:
    """An analysis's groups are of its outcome and keep their order; an unknown code leads nowhere."""
    names = ("position", "outcome_id", "outcome_analysis_id", "ctgov_group_code", "result_group_id")
    assert picked(rows_of("outcome_analysis_groups", STUDY), *names) == [
        (1, 1_000_000_002, 1_000_000_001, "OG001", 1_000_000_002),
        (2, 1_000_000_002, 1_000_000_001, "OG000", 1_000_000_001),
        (3, 1_000_000_002, 1_000_000_001, "OG007", None),
    ]


@pytest.mark.parametrize(
    ("sent", "number", "qualifier", "status"),
    [
        ("<0.001", 0.001, "<", "qualified"),
        ("< .05", 0.05, "<", "qualified"),
        ("&lt; 0.0001", 0.0001, "<", "qualified"),
        ("0.04", 0.04, None, "number"),
        ("= 0.512", 0.512, "=", "qualified"),
        ("NS", None, "NS", "not available"),
        ("about 0.05", None, None, "unparsed"),
        ("0,04", None, None, "unparsed"),
        (None, None, None, None),
    ],
)
def test_p_values(
    sent: str | None, number: float | None, qualifier: str | None, status: str | None
) -> None:
    """A P value's sign is apart from its number, and what is no clear number is not guessed."""
    rows = rows_of("outcome_analyses", outcome_study({"analyses": [{"pValue": sent}]}))
    names = ("p_value_raw", "p_value", "p_value_modifier", "p_value_status")
    assert picked(rows, *names) == [(sent, number, qualifier, status)]


def test_measurement_without_anything_is_a_row() -> None:
    """A measurement of which nothing was sent is still a row with its place."""
    (row,) = rows_of("outcome_measurements", outcome_study(measured({})))
    kept = {name: value for name, value in row.items() if value is not None}
    assert kept == {
        "id": 1_000_000_001,
        "nct_id": "NCT00000001",
        "position": 1,
        "outcome_id": 1_000_000_001,
        "outcome_class_id": 1_000_000_001,
        "outcome_category_id": 1_000_000_001,
    }
