"""Rows of the baseline characteristics: every level with its rows, and the closest denominators."""

from __future__ import annotations

from typing import Any

import pytest

from ctg_assets_tests.model.flattened import Rows, picked, results, rows_of
from ctg_assets_tests.model.snapshots import Study


def _denoms(units: str, **counts: str) -> list[dict[str, Any]]:
    return [
        {
            "units": units,
            "counts": [{"groupId": code, "value": value} for code, value in counts.items()],
        }
    ]


AGE = {
    "title": "Age",
    "description": "At enrollment",
    "populationDescription": "Those who said",
    "paramType": "MEAN",
    "dispersionType": "STANDARD_DEVIATION",
    "unitOfMeasure": "years",
    "calculatePct": False,
    "denomUnitsSelected": "Eyes",
    "denoms": _denoms("Participants", BG000="9") + _denoms("Eyes", BG000="17", BG001="12"),
    "classes": [
        {
            "title": "Left",
            "denoms": _denoms("Eyes", BG000="8"),
            "categories": [
                {
                    "title": "Adults",
                    "measurements": [
                        {"groupId": "BG000", "value": "41.5", "spread": "NA", "comment": "One"},
                        {
                            "groupId": "BG001",
                            "value": "1,553",
                            "lowerLimit": "<1",
                            "upperLimit": ".5",
                        },
                    ],
                },
                {"title": "Children"},
            ],
        },
        {"title": "Right"},
    ],
}
SEX = {
    "title": "Sex",
    "paramType": "COUNT_OF_PARTICIPANTS",
    "classes": [{"categories": [{"measurements": [{"groupId": "BG001", "value": "3"}]}]}],
}
BASELINE = results(
    baselineCharacteristics={
        "groups": [{"id": "BG000", "title": "A"}, {"id": "BG001", "title": "B"}],
        "denoms": _denoms("Participants", BG000="1,024", BG001="13"),
        "measures": [AGE, SEX, {"title": "Race"}],
    }
)


def test_overall_counts() -> None:
    """The baseline's denominators come with their units, by group, as text and as numbers."""
    assert rows_of("baseline_counts", BASELINE)[0] == {
        "id": 1_000_000_001,
        "nct_id": "NCT00000001",
        "position": 1,
        "scope": "overall",
        "denom_position": 1,
        "result_group_id": 1_000_000_001,
        "ctgov_group_code": "BG000",
        "units": "Participants",
        "count_raw": "1,024",
        "count": 1024,
        "count_qualifier": None,
        "count_status": "number",
    }


def test_measures_classes_and_categories_without_values_are_kept() -> None:
    """Each level has its rows: a measure without classes, a class without categories, one without values."""
    names: tuple[str, ...] = (
        "id",
        "position",
        "title",
        "units",
        "calculate_percentage",
        "denom_units_selected",
    )
    assert picked(rows_of("baseline_measures", BASELINE), *names) == [
        (1_000_000_001, 1, "Age", "years", False, "Eyes"),
        (1_000_000_002, 2, "Sex", None, None, None),
        (1_000_000_003, 3, "Race", None, None, None),
    ]
    names = ("id", "position", "baseline_measure_id", "title")
    assert picked(rows_of("baseline_classes", BASELINE), *names) == [
        (1_000_000_001, 1, 1_000_000_001, "Left"),
        (1_000_000_002, 2, 1_000_000_001, "Right"),
        (1_000_000_003, 1, 1_000_000_002, None),
    ]
    names = ("id", "position", "baseline_measure_id", "baseline_class_id", "title")
    assert picked(rows_of("baseline_categories", BASELINE), *names) == [
        (1_000_000_001, 1, 1_000_000_001, 1_000_000_001, "Adults"),
        (1_000_000_002, 2, 1_000_000_001, 1_000_000_001, "Children"),
        (1_000_000_003, 1, 1_000_000_002, 1_000_000_003, None),
    ]


def test_denominators_below_the_whole_baseline() -> None:
    """Denominators of measures and classes are rows of their own, in the order of their lists."""
    names: tuple[str, ...] = (
        "position",
        "denom_position",
        "baseline_measure_id",
        "units",
        "ctgov_group_code",
        "count",
    )
    assert picked(rows_of("baseline_measure_counts", BASELINE), *names) == [
        (1, 1, 1_000_000_001, "Participants", "BG000", 9),
        (1, 2, 1_000_000_001, "Eyes", "BG000", 17),
        (2, 2, 1_000_000_001, "Eyes", "BG001", 12),
    ]
    names = ("denom_position", "baseline_class_id", "units", "ctgov_group_code", "count")
    assert picked(rows_of("baseline_class_counts", BASELINE), *names) == [
        (1, 1_000_000_001, "Eyes", "BG000", 8)
    ]


def test_measurements() -> None:
    """A value carries its place in every level, the measure's facts, and its numbers beside their text."""
    first, second, third = rows_of("baseline_measurements", BASELINE)
    assert first == {
        "id": 1_000_000_001,
        "nct_id": "NCT00000001",
        "position": 1,
        "baseline_measure_id": 1_000_000_001,
        "baseline_class_id": 1_000_000_001,
        "baseline_category_id": 1_000_000_001,
        "result_group_id": 1_000_000_001,
        "ctgov_group_code": "BG000",
        "classification": "Left",
        "category": "Adults",
        "title": "Age",
        "units": "years",
        "param_type": "MEAN",
        "param_value": "41.5",
        "param_value_num": 41.5,
        "param_value_qualifier": None,
        "param_value_status": "number",
        "dispersion_type": "STANDARD_DEVIATION",
        "dispersion_value": "NA",
        "dispersion_value_num": None,
        "dispersion_value_qualifier": "NA",
        "dispersion_value_status": "not available",
        "dispersion_lower_limit_raw": None,
        "dispersion_lower_limit": None,
        "dispersion_lower_limit_qualifier": None,
        "dispersion_lower_limit_status": None,
        "dispersion_upper_limit_raw": None,
        "dispersion_upper_limit": None,
        "dispersion_upper_limit_qualifier": None,
        "dispersion_upper_limit_status": None,
        "explanation_of_na": "One",
        "number_analyzed_units": "Eyes",
        "number_analyzed": 8,
        "calculate_percentage": False,
    }
    names: tuple[str, ...] = (
        "param_value_num",
        "dispersion_lower_limit",
        "dispersion_lower_limit_qualifier",
        "dispersion_upper_limit",
    )
    assert picked([second], *names) == [(1553.0, 1.0, "<", 0.5)]
    names = (
        "position",
        "baseline_measure_id",
        "baseline_class_id",
        "baseline_category_id",
        "title",
    )
    assert picked([third], *names) == [(1, 1_000_000_002, 1_000_000_003, 1_000_000_003, "Sex")]


def _analyzed(rows: Rows) -> list[tuple[Any, ...]]:
    return picked(rows, "ctgov_group_code", "number_analyzed", "number_analyzed_units")


def test_number_analyzed_is_from_the_closest_denominators() -> None:
    """The class's denominators go before the measure's, those before the whole baseline's."""
    assert _analyzed(rows_of("baseline_measurements", BASELINE)) == [
        ("BG000", 8, "Eyes"),
        ("BG001", 12, "Eyes"),
        ("BG001", 13, "Participants"),
    ]


@pytest.mark.parametrize(
    ("denoms", "analyzed"),
    [
        ([], None),
        (_denoms("Eyes", BG001="5"), None),
        (_denoms("Participants", BG000="5"), None),
        (_denoms("Eyes", BG001="5") + _denoms("Participants", BG001="4"), 4),
        (_denoms("Participants", BG001="about 5"), None),
    ],
)
def test_number_analyzed_of_other_units_or_groups_is_not_taken(
    denoms: list[dict[str, Any]], analyzed: int | None
) -> None:
    """Only a denominator of the same group and units counts; without one the number is NULL."""
    study: Study = results(baselineCharacteristics={"denoms": denoms, "measures": [SEX]})
    assert _analyzed(rows_of("baseline_measurements", study)) == [
        ("BG001", analyzed, "Participants")
    ]


def test_number_analyzed_of_another_class_or_measure_is_not_taken() -> None:
    """Each value finds its own class's and measure's denominators, though groups and units repeat."""

    def values(denoms: list[str]) -> list[dict[str, Any]]:
        measurements = [{"groupId": "BG000", "value": "1"}]
        return [
            {
                "denoms": _denoms("Participants", BG000=denom) if denom else [],
                "categories": [{"measurements": measurements}],
            }
            for denom in denoms
        ]

    study = results(
        baselineCharacteristics={
            "measures": [
                {"classes": values(["1", "2", ""])},
                {"denoms": _denoms("Participants", BG000="3"), "classes": values(["", "4"])},
                {"denoms": _denoms("Participants", BG000="5"), "classes": values([""])},
            ]
        }
    )
    rows = rows_of("baseline_measurements", study)
    assert [row["number_analyzed"] for row in rows] == [1, 2, None, 3, 4, 5]
