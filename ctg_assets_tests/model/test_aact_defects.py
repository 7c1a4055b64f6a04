"""AACT's known defects and pitfalls: for each, that our tables are right there.

Numbers are of the issues of ctti-clinicaltrials/aact. What AACT's code does was read from its public
version of October 2024; whether the later, private one still does so is not known.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ctg_assets.model.flatten import flatten
from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables import staging_tables
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.model.flattened import (
    measured,
    outcome_study,
    picked,
    protocol,
    results,
    rows_of,
)
from ctg_assets_tests.model.snapshots import Study, snapshot

# --- keys ------------------------------------------------------------------------------------------


def _generated(count: int) -> list[Study]:
    """Generated studies under their own NCT ids."""
    source = GeneratedSource(count, seed=20)
    studies: list[Study] = [msgspec.json.decode(source.raw(index)) for index in range(count)]
    for study in studies:
        nct_id = study["protocolSection"]["identificationModule"]["nctId"]
        study |= {"nct_id": nct_id, "content_hash": f"hash of {nct_id}"}
    return studies


def _by_study(tables: dict[str, pa.Table]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Rows by table and study."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, rows in tables.items():
        for row in rows.to_pylist():
            found.setdefault((name, row["nct_id"]), []).append(row)
    return found


@pytest.mark.slow
def test_ids_stay_from_load_to_load() -> None:
    """1149: AACT gives every row a new id at each refresh; ours depend on the study's content alone."""
    studies = _generated(30)
    assert any(study["hasResults"] for study in studies)
    whole = _by_study(flatten(snapshot(*studies)))
    reordered = _by_study(flatten(snapshot(*reversed(studies))))
    part = _by_study(flatten(snapshot(*studies[::3])))
    assert reordered == whole
    assert part == {
        key: rows
        for key, rows in whole.items()
        if key[1] in {one["nct_id"] for one in studies[::3]}
    }


def test_ids_do_not_run_out() -> None:
    """AACT's ids are 32-bit and reached 2,023,959,605 of 2,147,483,647 in July 2026; ours are 64-bit."""
    last = protocol(conditions={"conditions": ["Asthma"]}) | {"nct_id": "NCT99999999"}
    (row,) = rows_of("conditions", last)
    assert row["id"] == 99_999_999_000_000_001
    keys = {
        column.type
        for table in staging_tables()
        for column in table.shape.columns
        if column.name == "id"
        or (column.name,) in {key.columns for key in table.shape.foreign_keys}
    }
    assert keys == {ColumnType.BIGINT, ColumnType.TEXT}, "ids, and the NCT id"


def test_every_study_is_there() -> None:
    """922: studies were missing; every study of the snapshot has its row, whatever else it lacks."""
    assert picked(rows_of("studies", {}, protocol(), {"hasResults": False}), "nct_id") == [
        ("NCT00000001",),
        ("NCT00000002",),
        ("NCT00000003",),
    ]


def test_withheld_study_has_no_description_nor_eligibility() -> None:
    """973 studies have no rows in AACT's one-to-one tables: not even empty rows may be made up."""
    withheld = protocol(identification={"nctId": "NCT00000002"}, status={"delayedPosting": True})
    described = protocol(description={"briefSummary": "b"}, eligibility={"sex": "ALL"})
    assert picked(rows_of("studies", described, withheld), "nct_id", "delayed_posting") == [
        ("NCT00000001", None),
        ("NCT00000002", True),
    ]
    for table in ("brief_summaries", "detailed_descriptions", "eligibilities"):
        assert picked(rows_of(table, described, withheld), "nct_id") == [("NCT00000001",)]


# --- result groups ---------------------------------------------------------------------------------


def test_result_group_is_that_of_the_outcome() -> None:
    """1209: codes restart in every outcome, so OG000 led to whichever outcome's group was found."""
    study = outcome_study(
        *(
            measured(
                {"groupId": "OG000", "value": "1"},
                title=title,
                groups=[{"id": "OG000", "title": f"Group of {title}"}],
                denoms=[{"units": "Eyes", "counts": [{"groupId": "OG000", "value": "1"}]}],
                analyses=[{"groupIds": ["OG000"]}],
            )
            for title in ("Pain", "Fever")
        )
    )
    groups = {row["id"]: row for row in rows_of("result_groups", study)}
    titles = {row["id"]: row["title"] for row in rows_of("outcomes", study)}
    for table in ("outcome_measurements", "outcome_counts", "outcome_analysis_groups"):
        rows = rows_of(table, study)
        assert [titles[row["outcome_id"]] for row in rows] == ["Pain", "Fever"]
        assert [groups[row["result_group_id"]]["title"] for row in rows] == [
            "Group of Pain",
            "Group of Fever",
        ]


def test_number_analyzed_is_from_the_same_study() -> None:
    """AACT looks for the last denominator by group and units in all studies, the NCT id left out."""
    first, second = (
        results(
            baselineCharacteristics={
                "denoms": [
                    {"units": "Participants", "counts": [{"groupId": "BG000", "value": value}]}
                    for value in denominators
                ],
                "measures": [measured({"groupId": "BG000", "value": "1"})],
            }
        )
        for denominators in (["111"], [])
    )
    for studies, analyzed in (((first, second), [111, None]), ((second, first), [None, 111])):
        rows = rows_of("baseline_measurements", *studies)
        assert [row["number_analyzed"] for row in rows] == analyzed


def test_class_denominators_of_outcomes_are_kept() -> None:
    """AACT has no denominators of an outcome's classes, which may differ from the outcome's."""
    denoms = [{"units": "Participants", "counts": [{"groupId": "OG000", "value": "9"}]}]
    study = outcome_study({"classes": [{"title": "Week 1"}, {"title": "Week 2", "denoms": denoms}]})
    (row,) = rows_of("outcome_class_counts", study)
    (week_1, week_2) = rows_of("outcome_classes", study)
    assert (row["outcome_class_id"], row["count"]) == (week_2["id"], 9)
    assert week_1["title"] == "Week 1"


def test_outcome_with_classes_but_no_data_keeps_them() -> None:
    """AACT drops the classes and categories of an outcome that has no values in them."""
    study = outcome_study({"classes": [{"title": "Week 1", "categories": [{"title": "Alive"}]}]})
    assert picked(rows_of("outcome_classes", study), "title") == [("Week 1",)]
    assert picked(rows_of("outcome_categories", study), "title") == [("Alive",)]
    assert rows_of("outcome_measurements", study) == []


# --- values that went missing ----------------------------------------------------------------------


def test_limitations_and_caveats_are_read() -> None:
    """925: the column was empty for months after the API had renamed its field."""
    study = results(moreInfo={"limitationsAndCaveats": {"description": "Stopped early"}})
    assert picked(rows_of("studies", study), "limitations_and_caveats") == [("Stopped early",)]


SECONDARY_IDS = protocol(
    identification={
        "secondaryIdInfos": [
            {"id": "2010-1", "type": "EUDRACT_NUMBER"},
            {
                "id": "G-7",
                "type": "OTHER_GRANT",
                "domain": "Wellcome Trust",
                "link": "https://w.example",
            },
        ]
    }
)


def test_secondary_ids_are_read() -> None:
    """1208: secondary ids were lost in a migration."""
    names = ("id_source", "id_value", "id_type", "id_link")
    assert picked(rows_of("id_information", SECONDARY_IDS), *names) == [
        ("secondary_id", "2010-1", "EUDRACT_NUMBER", None),
        ("secondary_id", "G-7", "OTHER_GRANT", "https://w.example"),
    ]


def test_secondary_ids_keep_their_organization() -> None:
    """Who issued a secondary id was missing, as users of cthist noticed (its issue 14)."""
    rows = rows_of("id_information", SECONDARY_IDS)
    assert picked(rows, "id_type_description") == [(None,), ("Wellcome Trust",)]


def test_dispersion_is_that_of_the_same_outcome() -> None:
    """838: an outcome without dispersion got the values of the outcome before it."""
    study = outcome_study(
        measured({"value": "1", "spread": "0.5"}, dispersionType="Standard Error"),
        measured({"value": "2"}),
        measured({"value": "3", "lowerLimit": "2", "upperLimit": "4"}, dispersionType="Full Range"),
        measured({"value": "5"}),
    )
    names = ("dispersion_type", "dispersion_value_num")
    limits = ("dispersion_lower_limit", "dispersion_upper_limit")
    assert picked(rows_of("outcome_measurements", study), "param_value", *names, *limits) == [
        ("1", "Standard Error", 0.5, None, None),
        ("2", None, None, None, None),
        ("3", "Full Range", None, 2.0, 4.0),
        ("5", None, None, None, None),
    ]


def test_facilities_have_a_geo_point() -> None:
    """PR 1218: facilities had no coordinates until September 2024."""
    place = {"facility": "F", "geoPoint": {"lat": 48.85341, "lon": -2.3488}}
    rows = rows_of("facilities", protocol(contactsLocations={"locations": [place]}))
    assert picked(rows, "latitude", "longitude") == [(48.85341, -2.3488)]


def test_milestones_keep_the_comment_on_a_group() -> None:
    """AACT reads a field that the API does not have, so its milestones.description is always NULL."""
    milestone = {"type": "STARTED", "achievements": [{"comment": "One withdrew consent"}]}
    study = results(participantFlow={"periods": [{"milestones": [milestone]}]})
    assert picked(rows_of("milestones", study), "description") == [("One withdrew consent",)]


def test_drop_withdrawals_keep_both_comments() -> None:
    """The comment on a reason and that on a group's number are always NULL in AACT."""
    reason = {"type": "Death", "comment": "Any cause", "reasons": [{"comment": "Unrelated"}]}
    study = results(participantFlow={"periods": [{"dropWithdraws": [reason]}]})
    assert picked(
        rows_of("drop_withdrawals", study), "drop_withdraw_comment", "reason_comment"
    ) == [("Any cause", "Unrelated")]


def test_has_results_is_the_registrys_word() -> None:
    """AACT infers results from outcomes, and misses studies that have results without any."""
    study = results(adverseEvents={"timeFrame": "1 year"}) | {"hasResults": True}
    assert picked(rows_of("studies", study, {"hasResults": False}), "has_results") == [
        (True,),
        (False,),
    ]
    assert rows_of("outcomes", study) == []


@pytest.mark.parametrize(
    "column",
    [
        "studies.nlm_download_date_description",
        "calculated_values.nlm_download_date",
        "design_outcomes.population",
        "drop_withdrawals.count_units",
        "reported_events.default_vocab",
        "reported_events.default_assessment",
        "result_agreements.agreement",
    ],
)
def test_columns_that_are_always_null_are_left_out(column: str) -> None:
    """AACT has columns without a field in the API, NULL in all 592,206 studies; here there are none."""
    columns = {
        f"{one.name}.{column.name}" for one in staging_tables() for column in one.shape.columns
    }
    assert column.partition(".")[0] in {table.name for table in staging_tables()}
    assert column not in columns


# --- values as they are ----------------------------------------------------------------------------


def test_partial_dates_keep_their_precision() -> None:
    """AACT makes a month its last day, and only the text beside it tells that no day was given."""
    study = protocol(
        status={
            "startDateStruct": {"date": "2020-02"},
            "completionDateStruct": {"date": "2020-02-29"},
        }
    )
    names = ("month_year", "date", "date_first", "date_precision")
    rows = rows_of("studies", study)
    assert picked(rows, *(f"start_{name}" for name in names)) == [
        ("2020-02", dt.date(2020, 2, 29), dt.date(2020, 2, 1), "month")
    ]
    assert picked(rows, *(f"completion_{name}" for name in names)) == [
        ("2020-02-29", dt.date(2020, 2, 29), dt.date(2020, 2, 29), "day")
    ]


def test_partial_dates_are_read_alike_everywhere() -> None:
    """AACT takes the first day for the posting of outcomes, though the last for all other dates."""
    study = outcome_study({"anticipatedPostingDate": "2031-02"})
    date = "anticipated_posting_date"
    assert picked(rows_of("outcomes", study), date, f"{date}_first", f"{date}_precision") == [
        (dt.date(2031, 2, 28), dt.date(2031, 2, 1), "month")
    ]


def test_free_text_that_looks_like_an_enum_stays_text() -> None:
    """One name is an enum in one section and free text in another; each is kept as it was sent."""
    study = results(
        baselineCharacteristics={"measures": [measured({}, dispersionType="STANDARD_DEVIATION")]},
        outcomeMeasures={
            "outcomeMeasures": [
                measured(
                    {},
                    dispersionType="Standard Deviation",
                    analyses=[
                        {
                            "paramType": "Mean Difference (Final Values)",
                            "dispersionType": "STANDARD_ERROR_OF_MEAN",
                        }
                    ],
                )
            ]
        },
    )
    kept = {
        table: [row["dispersion_type"] for row in rows_of(table, study)]
        for table in ("baseline_measurements", "outcome_measurements", "outcome_analyses")
    }
    assert kept == {
        "baseline_measurements": ["STANDARD_DEVIATION"],
        "outcome_measurements": ["Standard Deviation"],
        "outcome_analyses": ["STANDARD_ERROR_OF_MEAN"],
    }
    (analysis,) = rows_of("outcome_analyses", study)
    assert analysis["param_type"] == "Mean Difference (Final Values)"


NUMBERS = [
    ("1,234", 1234.0, None, "number"),
    ("1,234.5", 1234.5, None, "number"),
    (".5", 0.5, None, "number"),
    ("<0.1", 0.1, "<", "qualified"),
    ("> 99", 99.0, ">", "qualified"),
    ("NA", None, "NA", "not available"),
    ("12 (3)", None, None, "unparsed"),
]


@pytest.mark.parametrize(("sent", "number", "qualifier", "status"), NUMBERS)
def test_numbers_with_separators_or_qualifiers_are_read(
    sent: str, number: float | None, qualifier: str | None, status: str
) -> None:
    """AACT's numbers are NULL for any text that is more than digits; the reason why is not told."""
    measurement = {"value": sent, "spread": sent, "lowerLimit": sent, "upperLimit": sent}
    study = results(
        baselineCharacteristics={"measures": [measured(measurement)]},
        outcomeMeasures={"outcomeMeasures": [measured(measurement)]},
    )
    for table in ("baseline_measurements", "outcome_measurements"):
        (row,) = rows_of(table, study)
        for prefix, raw, value in (
            ("param_value", "param_value", "param_value_num"),
            ("dispersion_value", "dispersion_value", "dispersion_value_num"),
            ("dispersion_lower_limit", "dispersion_lower_limit_raw", "dispersion_lower_limit"),
            ("dispersion_upper_limit", "dispersion_upper_limit_raw", "dispersion_upper_limit"),
        ):
            found = (row[raw], row[value], row[f"{prefix}_qualifier"], row[f"{prefix}_status"])
            assert found == (sent, number, qualifier, status)


def test_count_with_a_separator_is_read() -> None:
    """A denominator such as 1,553 is a number of participants, not NULL."""
    counts = [{"groupId": "BG000", "value": "1,553"}]
    study = results(
        baselineCharacteristics={"denoms": [{"units": "Participants", "counts": counts}]}
    )
    assert picked(rows_of("baseline_counts", study), "count_raw", "count") == [("1,553", 1553)]


def test_a_p_values_modifier_is_no_rest_of_its_text() -> None:
    """AACT's modifier is what is left without digits, dot and minus: `e` for a P value of 1e-5."""
    study = outcome_study({"analyses": [{"pValue": "1e-5"}, {"pValue": "<=.05"}]})
    names = ("p_value_raw", "p_value_modifier", "p_value")
    assert picked(rows_of("outcome_analyses", study), *names) == [
        ("1e-5", None, 1e-5),
        ("<=.05", "<=", 0.05),
    ]


def test_ages_are_normalized() -> None:
    """AACT's age numbers leave months and years as they come; ours are in years, too."""
    study = protocol(eligibility={"minimumAge": "6 Months", "maximumAge": "2 Years"})
    names = ("minimum_age", "minimum_age_years", "maximum_age", "maximum_age_years")
    assert picked(rows_of("eligibilities", study), *names) == [("6 Months", 0.5, "2 Years", 2.0)]


def test_newlines_and_quotes_are_kept() -> None:
    """AACT's flat files have ~ for every newline, and no quotes that were doubled."""
    criteria = 'Inclusion:\n\n* Age ""over"" 18\r\n* Can read "ICF"~\t'
    study = protocol(eligibility={"eligibilityCriteria": criteria})
    assert picked(rows_of("eligibilities", study), "criteria") == [(criteria,)]


def test_order_of_lists_is_kept() -> None:
    """AACT keeps no order: primary outcomes, arms and sites come as they are inserted."""
    names = ["c", "a", "b"]
    study = protocol(
        armsInterventions={"armGroups": [{"label": name} for name in names]},
        contactsLocations={"locations": [{"facility": name} for name in names]},
        outcomes={"primaryOutcomes": [{"measure": name} for name in names]},
    )
    study |= outcome_study(*({"title": name} for name in names))
    for table, column in (
        ("design_groups", "title"),
        ("facilities", "name"),
        ("design_outcomes", "measure"),
        ("outcomes", "title"),
    ):
        assert picked(rows_of(table, study), "position", column) == [(1, "c"), (2, "a"), (3, "b")]


# --- labels and contacts ---------------------------------------------------------------------------


def test_intervention_of_arms_with_the_same_label() -> None:
    """AACT takes the last arm of a label and tells nothing; here it is the first, beside the label."""
    study = protocol(
        armsInterventions={
            "armGroups": [{"label": "A", "type": "EXPERIMENTAL"}, {"label": "A"}],
            "interventions": [
                {"name": "Aspirin", "armGroupLabels": ["A", "B"], "otherNames": ["ASA", "ASA"]}
            ],
        }
    )
    names = ("position", "arm_group_label", "design_group_id", "intervention_id")
    assert picked(rows_of("design_group_interventions", study), *names) == [
        (1, "A", 1_000_000_001, 1_000_000_001),
        (2, "B", None, 1_000_000_001),
    ]
    assert picked(rows_of("intervention_other_names", study), "position", "name") == [
        (1, "ASA"),
        (2, "ASA"),
    ]


# --- what AACT has no column for -------------------------------------------------------------------


def test_contact_keeps_its_role() -> None:
    """AACT splits a site's contacts by role and then drops the role of those that are no investigators."""
    contacts = [
        {"name": "A", "role": "CONTACT"},
        {"name": "B", "role": "PRINCIPAL_INVESTIGATOR"},
        {"name": "C", "role": "CONTACT", "phoneExt": "7"},
        {"name": "D", "role": "STUDY_CHAIR"},
        {"name": "E"},
    ]
    study = protocol(contactsLocations={"locations": [{"facility": "F", "contacts": contacts}]})
    names = ("position", "facility_id", "name", "role")
    assert picked(rows_of("facility_contacts", study), *names, "contact_type") == [
        (1, 1_000_000_001, "A", "CONTACT", "primary"),
        (3, 1_000_000_001, "C", "CONTACT", "backup"),
        (5, 1_000_000_001, "E", None, "backup"),
    ]
    assert picked(rows_of("facility_investigators", study), *names) == [
        (2, 1_000_000_001, "B", "PRINCIPAL_INVESTIGATOR"),
        (4, 1_000_000_001, "D", "STUDY_CHAIR"),
    ]


def test_interventions_that_an_arm_names_are_kept() -> None:
    """AACT has no `interventionNames` of arms, only the labels that interventions name."""
    study = protocol(
        armsInterventions={
            "armGroups": [{"label": "A", "interventionNames": ["Drug: Aspirin", "Drug: Gone"]}],
            "interventions": [{"name": "Aspirin", "type": "DRUG"}],
        }
    )
    rows = rows_of("design_group_intervention_names", study)
    names = ("position", "design_group_id", "intervention_id")
    assert picked(rows, *names) == [(1, 1_000_000_001, 1_000_000_001), (2, 1_000_000_001, None)]


def test_documents_keep_abbreviation_size_and_upload() -> None:
    """AACT has no abbreviation, size or time of upload of a document."""
    document = {
        "typeAbbrev": "Prot_SAP",
        "label": "Study Protocol",
        "filename": "Prot_SAP_000.pdf",
        "uploadDate": "2020-09-29T21:40",
        "size": 1234,
    }
    study = {"documentSection": {"largeDocumentModule": {"largeDocs": [document]}}}
    (row,) = rows_of("provided_documents", study)
    assert {"Prot_SAP", "Study Protocol", "2020-09-29T21:40", 1234} <= set(row.values())


def test_mesh_ids_and_topic_tree_are_kept() -> None:
    """AACT has the terms of MeSH descriptors, but neither their ids nor the topic tree above them."""
    browse = {
        "meshes": [{"id": "D001249", "term": "Asthma"}],
        "browseLeaves": [{"id": "M4556", "name": "Asthma", "relevance": "HIGH"}],
        "browseBranches": [{"abbrev": "BC08", "name": "Respiratory Tract Diseases"}],
    }
    study = {"derivedSection": {"conditionBrowseModule": browse}}
    assert picked(rows_of("browse_conditions", study), "mesh_id") == [("D001249",)]
    assert picked(rows_of("browse_condition_leaves", study), "name", "relevance") == [
        ("Asthma", "HIGH")
    ]
    assert picked(rows_of("browse_condition_branches", study), "abbrev") == [("BC08",)]


# --- calculated values -----------------------------------------------------------------------------


def test_months_are_those_of_the_calendar() -> None:
    """AACT counts months of 30 days, so that ten years from start to completion are 121 months."""
    study = protocol(
        status={
            "startDateStruct": {"date": "2010-01-01", "type": "ACTUAL"},
            "primaryCompletionDateStruct": {"date": "2020-01-01", "type": "ACTUAL"},
            "resultsFirstSubmitDate": "2025-01-01",
        }
    )
    names = ("actual_duration", "actual_duration_days", "months_to_report_results")
    assert picked(rows_of("calculated_values", study), *names) == [(120, 3652, 60)]


def test_time_to_report_needs_an_actual_completion() -> None:
    """AACT reports months from completions that are only estimated, which come out negative."""
    study = protocol(
        status={
            "primaryCompletionDateStruct": {"date": "2030-01", "type": "ESTIMATED"},
            "resultsFirstSubmitDate": "2025-01-01",
        }
    )
    names = ("months_to_report_results", "days_to_report_results")
    assert picked(rows_of("calculated_values", study), *names) == [(None, None)]


def test_subjects_with_events_count_once() -> None:
    """AACT sums over terms, so that a participant with two kinds of event counts twice."""
    stats = [{"groupId": "EG000", "numAffected": 3}]
    study = results(
        adverseEvents={
            "eventGroups": [
                {"id": "EG000", "seriousNumAffected": 4, "otherNumAffected": 1},
                {"id": "EG001", "seriousNumAffected": 2},
            ],
            "seriousEvents": [{"term": "Stroke", "stats": stats}, {"term": "Fall", "stats": stats}],
        }
    )
    names = ("number_of_sae_subjects", "number_of_nsae_subjects")
    assert picked(rows_of("calculated_values", study, {}), *names) == [(6, 1), (None, None)]


def test_numbers_of_planned_outcomes_are_never_null() -> None:
    """AACT has NULL instead of 0 where no outcome of a rank is planned."""
    study = protocol(outcomes={"primaryOutcomes": [{"measure": "Pain"}]})
    names = [f"number_of_{rank}_outcomes_to_measure" for rank in ("primary", "secondary", "other")]
    assert picked(rows_of("calculated_values", study, {}), *names) == [(1, 0, 0), (0, 0, 0)]


def test_site_flags_are_never_null() -> None:
    """In AACT a study without sites has neither a US site nor none: has_us_facility is NULL."""
    abroad, home = (
        protocol(contactsLocations={"locations": [{"country": country}]})
        for country in ("France", "Puerto Rico")
    )
    names = ("number_of_facilities", "has_us_facility", "has_single_facility")
    assert picked(rows_of("calculated_values", {}, abroad, home), *names) == [
        (0, False, False),
        (1, False, True),
        (1, True, True),
    ]


def test_results_without_outcomes_are_reported() -> None:
    """AACT says that results were reported where there are outcomes, whatever the registry says."""
    study = results(adverseEvents={"timeFrame": "1 year"}) | {"hasResults": True}
    assert picked(rows_of("calculated_values", study), "were_results_reported") == [(True,)]
