"""Rows of the participant flow: periods, milestones, reasons for leaving, and what has no numbers."""

from __future__ import annotations

from ctg_assets_tests.model.flattened import picked, results, rows_of

FLOW = results(
    participantFlow={
        "recruitmentDetails": "June 2010 to May 2012",
        "preAssignmentDetails": "Two weeks of washout",
        "typeUnitsAnalyzed": "Eyes",
        "groups": [{"id": "FG000", "title": "A"}, {"id": "FG001", "title": "B"}],
        "periods": [
            {
                "title": "Overall Study",
                "milestones": [
                    {
                        "type": "STARTED",
                        "comment": "Randomized",
                        "achievements": [
                            {"groupId": "FG000", "numSubjects": "1,024", "numUnits": "2048"},
                            {"groupId": "FG001", "numSubjects": "50", "comment": "One twice"},
                        ],
                    },
                    {"type": "COMPLETED"},
                ],
                "dropWithdraws": [
                    {
                        "type": "Death",
                        "comment": "Any cause",
                        "reasons": [
                            {"groupId": "FG001", "numSubjects": "2", "comment": "Unrelated"},
                            {"groupId": "FG009", "numSubjects": "0"},
                        ],
                    },
                    {"type": "Other", "reasons": []},
                ],
            },
            {"title": "Follow-up"},
            {"title": "Extension", "milestones": [{"type": "STARTED", "achievements": []}]},
        ],
    }
)


def test_participant_flow_is_one_row() -> None:
    """A study that reports participant flow has one row of what holds for all periods."""
    rows = rows_of("participant_flows", {}, FLOW)
    names = ("id", "nct_id", "recruitment_details", "pre_assignment_details", "units_analyzed")
    assert picked(rows, *names) == [
        (2_000_000_001, "NCT00000002", "June 2010 to May 2012", "Two weeks of washout", "Eyes")
    ]


def test_period_without_milestones_is_kept() -> None:
    """Each period has its row, with or without anything in it."""
    assert picked(rows_of("flow_periods", FLOW), "id", "position", "title") == [
        (1_000_000_001, 1, "Overall Study"),
        (1_000_000_002, 2, "Follow-up"),
        (1_000_000_003, 3, "Extension"),
    ]


def test_milestone_and_reason_without_numbers_are_kept() -> None:
    """Milestones and reasons refer to their period and are there even where no group has a number."""
    names: tuple[str, ...] = ("id", "position", "flow_period_id", "title", "comment")
    assert picked(rows_of("flow_milestones", FLOW), *names) == [
        (1_000_000_001, 1, 1_000_000_001, "STARTED", "Randomized"),
        (1_000_000_002, 2, 1_000_000_001, "COMPLETED", None),
        (1_000_000_003, 1, 1_000_000_003, "STARTED", None),
    ]
    names = ("id", "position", "flow_period_id", "reason", "comment")
    assert picked(rows_of("flow_drop_withdrawals", FLOW), *names) == [
        (1_000_000_001, 1, 1_000_000_001, "Death", "Any cause"),
        (1_000_000_002, 2, 1_000_000_001, "Other", None),
    ]


def test_milestones_by_group() -> None:
    """A group's number of a milestone comes with its group, its milestone and period, and both comments."""
    first, second = rows_of("milestones", FLOW)
    assert first == {
        "id": 1_000_000_001,
        "nct_id": "NCT00000001",
        "position": 1,
        "flow_period_id": 1_000_000_001,
        "flow_milestone_id": 1_000_000_001,
        "result_group_id": 1_000_000_001,
        "ctgov_group_code": "FG000",
        "title": "STARTED",
        "period": "Overall Study",
        "description": None,
        "milestone_description": "Randomized",
        "count_raw": "1,024",
        "count": 1024,
        "count_qualifier": None,
        "count_status": "number",
        "count_units": "2048",
        "count_units_num": 2048,
        "count_units_qualifier": None,
        "count_units_status": "number",
    }
    names = ("position", "ctgov_group_code", "description", "count", "count_units")
    assert picked([second], *names) == [(2, "FG001", "One twice", 50, None)]


def test_drop_withdrawals_by_group() -> None:
    """A group's number of a reason comes with both comments; a code that no group has leads nowhere."""
    rows = rows_of("drop_withdrawals", FLOW)
    names: tuple[str, ...] = (
        "flow_period_id",
        "flow_drop_withdrawal_id",
        "result_group_id",
        "ctgov_group_code",
    )
    assert picked(rows, *names) == [
        (1_000_000_001, 1_000_000_001, 1_000_000_002, "FG001"),
        (1_000_000_001, 1_000_000_001, None, "FG009"),
    ]
    names = ("period", "reason", "count", "drop_withdraw_comment", "reason_comment")
    assert picked(rows, *names) == [
        ("Overall Study", "Death", 2, "Any cause", "Unrelated"),
        ("Overall Study", "Death", 0, "Any cause", None),
    ]
