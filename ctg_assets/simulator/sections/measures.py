"""Measured values of generated results: classes, categories, and the statistics that compare groups."""

from __future__ import annotations

from typing import Any

from ctg_assets.simulator.draws import Draw, Weighted
from ctg_assets.simulator.sections.parts import (
    Json,
    chance,
    present,
    prose,
)
from ctg_assets.simulator.vocabulary import enum

_CATEGORIES = Weighted({1: 8, 2: 2, 5: 1})

# Numbers as sponsors type them. Some of these are no numbers, which is the point.
_ODD_VALUES = ("1,234", "<0.001", "NA", "12.5 (3)", ">99", "0", "-0.4", "1.2E3", "\u22645", "N/A")
_P_VALUES = ("<0.001", "0.04", "<.0001", "= 0.512", "0.1234", "> 0.05", ">0.999", "0.0500", "NS")
_METHODS = (
    "ANCOVA",
    "ANOVA",
    "Log Rank",
    "Regression, Cox",
    "t-test, 2 sided",
    "Fisher Exact",
    "Chi-squared",
)
_ESTIMATES = (
    "Hazard Ratio (HR)",
    "Odds Ratio (OR)",
    "LS Mean Difference",
    "Mean Difference (Final Values)",
)


def classes_of_measure(
    draw: Draw, number: int, groups: list[Any], denoms: list[Json]
) -> list[Json]:
    """Classes of a measure; most have one class of one category, a few have dozens."""
    classes = min(60, int(1 / (1 - draw.random()) ** 0.6)) if number else 3
    categories = draw.weighted(_CATEGORIES) if number else 2
    limits = chance(draw, number, 3)
    spread = not limits or number == 0
    return [
        present(
            {
                "title": f"Week {4 * place}" if classes > 1 else None,
                "denoms": denoms if chance(draw, number, 4) else None,
                "categories": [
                    present(
                        {
                            "title": f"Category {category + 1}" if categories > 1 else None,
                            "measurements": [
                                present(
                                    {
                                        "groupId": group,
                                        "value": _value(draw),
                                        "spread": _value(draw) if spread else None,
                                        "lowerLimit": _value(draw) if limits else None,
                                        "upperLimit": _value(draw) if limits else None,
                                        "comment": prose(draw, 1)
                                        if chance(draw, number, 60)
                                        else None,
                                    }
                                )
                                for group in groups
                            ],
                        }
                    )
                    for category in range(categories)
                ],
            }
        )
        for place in range(classes)
    ]


def _value(draw: Draw) -> str:
    if draw.below(25) == 0:
        return draw.pick(_ODD_VALUES)
    if draw.below(3) == 0:
        return str(draw.below(200))
    return f"{draw.random() * 90:.{draw.between(1, 3)}f}"


def analysis(draw: Draw, groups: list[Any], *, complete: bool) -> Json:
    """A statistical comparison of the first two groups; a complete one has all that is optional."""

    def some(text: str, every: int) -> str | None:
        return text if complete or draw.below(every) == 0 else None

    return present(
        {
            "paramType": draw.pick(_ESTIMATES),
            "paramValue": _value(draw),
            "dispersionType": some(draw.weighted(enum("AnalysisDispersionType")), 4),
            "dispersionValue": some(_value(draw), 4),
            "statisticalMethod": draw.pick(_METHODS),
            "statisticalComment": some(prose(draw, 1), 4),
            "pValue": draw.pick(_P_VALUES),
            "pValueComment": some(prose(draw, 1), 3),
            "ciNumSides": draw.weighted(enum("ConfidenceIntervalNumSides")),
            "ciPctValue": draw.pick(("95", "90", "97.5", "99")),
            "ciLowerLimit": _value(draw),
            "ciUpperLimit": _value(draw),
            "ciLowerLimitComment": some(prose(draw, 1), 30),
            "ciUpperLimitComment": some(prose(draw, 1), 30),
            "estimateComment": some(prose(draw, 1), 4),
            "testedNonInferiority": True if complete or draw.below(4) == 0 else None,
            "nonInferiorityType": draw.weighted(enum("NonInferiorityType")),
            "nonInferiorityComment": some(prose(draw, 1), 6),
            "otherAnalysisDescription": some(prose(draw, 1), 30),
            "groupDescription": some(prose(draw, 1), 2),
            "groupIds": groups[:2],
        }
    )
