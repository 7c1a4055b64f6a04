"""Result groups: codes that start anew in each section and outcome, and their ties to planned arms."""

from __future__ import annotations

from typing import Any

import pytest

from ctg_assets_tests.model.flattened import measured, outcome_study, picked, results, rows_of
from ctg_assets_tests.model.snapshots import Study

TWO_OUTCOMES = outcome_study(
    measured(
        {"groupId": "OG000", "value": "1"},
        {"groupId": "OG001", "value": "2"},
        title="Pain",
        groups=[{"id": "OG000", "title": "Aspirin"}, {"id": "OG001", "title": "Placebo"}],
    ),
    measured(
        {"groupId": "OG000", "value": "3"},
        title="Fever",
        groups=[{"id": "OG000", "title": "Both Groups", "description": "All who took part"}],
    ),
)


def test_groups_of_every_section_and_outcome() -> None:
    """Every section's groups get a row; only those of outcomes refer to an outcome, each to its own."""
    study = results(
        participantFlow={"groups": [{"id": "FG000", "title": "Aspirin"}, {"id": "FG001"}]},
        baselineCharacteristics={"groups": [{"id": "BG000", "title": "Total"}]},
        adverseEvents={"eventGroups": [{"id": "EG000", "title": "Aspirin", "description": "d"}]},
    )
    study["resultsSection"] |= TWO_OUTCOMES["resultsSection"]
    names = ("id", "position", "result_type", "outcome_id", "ctgov_group_code", "title")
    assert picked(rows_of("result_groups", study), *names, "description") == [
        (1_000_000_001, 1, "Participant Flow", None, "FG000", "Aspirin", None),
        (1_000_000_002, 2, "Participant Flow", None, "FG001", None, None),
        (1_000_000_003, 1, "Baseline", None, "BG000", "Total", None),
        (1_000_000_004, 1, "Outcome", 1_000_000_001, "OG000", "Aspirin", None),
        (1_000_000_005, 2, "Outcome", 1_000_000_001, "OG001", "Placebo", None),
        (1_000_000_006, 1, "Outcome", 1_000_000_002, "OG000", "Both Groups", "All who took part"),
        (1_000_000_007, 1, "Reported Event", None, "EG000", "Aspirin", "d"),
    ]


def test_same_code_in_two_outcomes_is_two_groups() -> None:
    """A measurement leads to the group of its own outcome, though both outcomes call theirs OG000."""
    titles = {row["id"]: row["title"] for row in rows_of("result_groups", {}, TWO_OUTCOMES)}
    rows = rows_of("outcome_measurements", {}, TWO_OUTCOMES)
    assert [(row["title"], row["param_value"], titles[row["result_group_id"]]) for row in rows] == [
        ("Pain", "1", "Aspirin"),
        ("Pain", "2", "Placebo"),
        ("Fever", "3", "Both Groups"),
    ]


def test_same_code_in_two_studies_is_two_groups() -> None:
    """A group is looked for in the row's own study only, whatever other studies call theirs."""
    other = outcome_study(measured({"groupId": "OG001", "value": "9"}, groups=[{"id": "OG000"}]))
    rows = rows_of("outcome_measurements", TWO_OUTCOMES, other, TWO_OUTCOMES)
    assert picked(rows, "nct_id", "result_group_id") == [
        ("NCT00000001", 1_000_000_001),
        ("NCT00000001", 1_000_000_002),
        ("NCT00000001", 1_000_000_003),
        ("NCT00000002", None),
        ("NCT00000003", 3_000_000_001),
        ("NCT00000003", 3_000_000_002),
        ("NCT00000003", 3_000_000_003),
    ]


def _with_arms(arms: list[str | None], groups: list[str | None]) -> Study:
    study = results(participantFlow={"groups": [{"title": title} for title in groups]})
    labels: list[dict[str, Any]] = [{"label": label} for label in arms]
    study["protocolSection"] = {"armsInterventionsModule": {"armGroups": labels}}
    return study


@pytest.mark.parametrize(
    ("arms", "title", "arm", "match"),
    [
        (["Placebo", "Aspirin"], "Aspirin", 2, "title"),
        (["placebo", "ASPIRIN, 10 mg"], "Aspirin 10-mg", 2, "title ignoring case and punctuation"),
        (["Aspirin", "ASPIRIN"], "Aspirin", 1, "title"),
        (["ASPIRIN", "aspirin"], "Aspirin", None, "ambiguous"),
        (["Aspirin", "Aspirin"], "Aspirin", None, "ambiguous"),
        (["Aspirin", "Placebo"], "Aspirin then Placebo", None, "none"),
        (["Aspirin"], None, None, "none"),
        ([None], "Aspirin", None, "none"),
        (["---"], "!", None, "none"),
        ([], "Aspirin", None, "none"),
    ],
)
def test_tie_to_an_arm_is_stated(
    arms: list[str | None], title: str | None, arm: int | None, match: str
) -> None:
    """A group is tied to the one arm of its title, and it is said how alike the titles are."""
    study = _with_arms(arms, [title])
    (row,) = picked(rows_of("result_groups", study), "design_group_id", "design_group_match")
    assert row == (arm and 1_000_000_000 + arm, match)


def test_tie_stays_within_the_study() -> None:
    """An arm of another study is no arm of this one, however its title reads."""
    rows = rows_of("result_groups", _with_arms(["Aspirin"], []), _with_arms([], ["Aspirin"]))
    assert picked(rows, "design_group_id", "design_group_match") == [(None, "none")]
