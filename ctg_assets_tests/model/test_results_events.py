"""Rows of the adverse events, and of what the results say of publication and contact."""

from __future__ import annotations

from ctg_assets_tests.model.flattened import picked, results, rows_of

EVENTS = results(
    adverseEvents={
        "frequencyThreshold": "5",
        "timeFrame": "1 year",
        "description": "Asked at each visit",
        "allCauseMortalityComment": "One after the study",
        "eventGroups": [
            {
                "id": "EG000",
                "title": "A",
                "deathsNumAffected": 1,
                "deathsNumAtRisk": 10,
                "seriousNumAffected": 2,
                "seriousNumAtRisk": 9,
                "otherNumAffected": 3,
                "otherNumAtRisk": 8,
            },
            {"id": "EG001", "title": "B", "seriousNumAffected": 0},
        ],
        "seriousEvents": [
            {
                "term": "Stroke",
                "organSystem": "Nervous system disorders",
                "sourceVocabulary": "MedDRA 27.0",
                "assessmentType": "SYSTEMATIC_ASSESSMENT",
                "notes": "Ischemic only",
                "stats": [
                    {"groupId": "EG000", "numEvents": 4, "numAffected": 2, "numAtRisk": 9},
                    {"groupId": "EG001", "numAtRisk": 7},
                ],
            },
            {"term": "Fall"},
        ],
        "otherEvents": [
            {"term": "Rash", "stats": [{"groupId": "EG001", "numAffected": 1, "numAtRisk": 7}]},
        ],
    }
)


def test_how_events_were_collected_is_kept_without_events() -> None:
    """How events were collected is one row, also where no event is listed."""
    silent = results(adverseEvents={"timeFrame": "2 weeks", "frequencyThreshold": "none"})
    names = ("nct_id", "time_frame", "description", "all_cause_mortality_comment")
    numbers = ("frequency_threshold_raw", "frequency_threshold", "frequency_threshold_status")
    assert picked(rows_of("adverse_event_reports", EVENTS, {}, silent), *names, *numbers) == [
        ("NCT00000001", "1 year", "Asked at each visit", "One after the study", "5", 5.0, "number"),
        ("NCT00000003", "2 weeks", None, None, "none", None, "unparsed"),
    ]
    assert rows_of("reported_events", silent) == []


def test_terms_without_numbers_are_kept() -> None:
    """Each term has its row, serious ones first, also where no group has a number."""
    names = ("id", "position", "event_type", "adverse_event_term", "organ_system", "vocab")
    assert picked(rows_of("reported_event_terms", EVENTS), *names, "assessment", "notes") == [
        (
            1_000_000_001,
            1,
            "serious",
            "Stroke",
            "Nervous system disorders",
            "MedDRA 27.0",
            "SYSTEMATIC_ASSESSMENT",
            "Ischemic only",
        ),
        (1_000_000_002, 2, "serious", "Fall", None, None, None, None),
        (1_000_000_003, 1, "other", "Rash", None, None, None, None),
    ]


def test_events_by_group() -> None:
    """A group's numbers come with their term, their group and how events were collected."""
    first, second, third = rows_of("reported_events", EVENTS)
    assert first == {
        "id": 1_000_000_001,
        "nct_id": "NCT00000001",
        "position": 1,
        "reported_event_term_id": 1_000_000_001,
        "result_group_id": 1_000_000_001,
        "ctgov_group_code": "EG000",
        "event_type": "serious",
        "frequency_threshold": 5.0,
        "adverse_event_term": "Stroke",
        "organ_system": "Nervous system disorders",
        "vocab": "MedDRA 27.0",
        "assessment": "SYSTEMATIC_ASSESSMENT",
        "subjects_affected": 2,
        "subjects_at_risk": 9,
        "event_count": 4,
    }
    names = ("position", "reported_event_term_id", "result_group_id", "event_type")
    numbers = ("subjects_affected", "subjects_at_risk", "event_count")
    assert picked([second, third], *names, *numbers) == [
        (2, 1_000_000_001, 1_000_000_002, "serious", None, 7, None),
        (1, 1_000_000_003, 1_000_000_002, "other", 1, 7, None),
    ]


def test_totals_of_each_kind() -> None:
    """Each group has three totals, with NULL where a number was not sent and 0 where it was."""
    names = ("position", "result_group_id", "ctgov_group_code", "event_type", "classification")
    numbers = ("subjects_affected", "subjects_at_risk")
    serious, other, deaths = (
        ("serious", "Total, serious adverse events"),
        ("other", "Total, other adverse events"),
        ("deaths", "Total, all-cause mortality"),
    )
    assert picked(rows_of("reported_event_totals", EVENTS), *names, *numbers) == [
        (1, 1_000_000_001, "EG000", *serious, 2, 9),
        (2, 1_000_000_002, "EG001", *serious, 0, None),
        (1, 1_000_000_001, "EG000", *other, 3, 8),
        (2, 1_000_000_002, "EG001", *other, None, None),
        (1, 1_000_000_001, "EG000", *deaths, 1, 10),
        (2, 1_000_000_002, "EG001", *deaths, None, None),
    ]


def test_agreement_and_contact() -> None:
    """The agreement on publication and the contact for results are one row each, if there are any."""
    study = results(
        moreInfo={
            "certainAgreement": {
                "piSponsorEmployee": False,
                "restrictiveAgreement": True,
                "restrictionType": "LTE60",
                "otherDetails": "Sixty days",
            },
            "pointOfContact": {
                "title": "Dr. A",
                "organization": "Clinic",
                "email": "a@example.org",
                "phone": "555-0100",
                "phoneExt": "7",
            },
        }
    )
    names: tuple[str, ...] = (
        "id",
        "pi_employee",
        "restrictive_agreement",
        "restriction_type",
        "other_details",
    )
    assert picked(rows_of("result_agreements", {}, study), *names) == [
        (2_000_000_001, False, True, "LTE60", "Sixty days")
    ]
    names = ("id", "name", "organization", "email", "phone", "extension")
    assert picked(rows_of("result_contacts", study, results(moreInfo={})), *names) == [
        (1_000_000_001, "Dr. A", "Clinic", "a@example.org", "555-0100", "7")
    ]
