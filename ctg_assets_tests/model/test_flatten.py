"""Flattening studies into rows: exact rows of small studies, a reference, and real studies."""

from __future__ import annotations

import datetime as dt
import io
from functools import cache
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctg_assets.model.fields import FieldNode, nodes_by_path
from ctg_assets.model.flatten import (
    FlattenError,
    flatten,
    flatten_both,
    flatten_tables,
    snapshot_columns,
)
from ctg_assets.model.tables import Table, staging_tables
from ctg_assets.model.tables.column_values import Lookup, tables_needed
from ctg_assets.model.tables.columns import (
    any_row,
    columns,
    constant,
    first,
    first_found,
    lookup,
    number,
    or_else,
    outer_position,
    parent,
    rows_counted,
    rows_summed,
    single_row,
    text,
    title_match,
)
from ctg_assets.model.tables.consistency import check
from ctg_assets.model.tables.declaration import RowFilter, Source
from ctg_assets_tests.model import reference
from ctg_assets_tests.model.snapshots import Study, real_studies, snapshot, snapshot_rows
from ctg_assets_tests.model.wild import wild_study
from ctg_assets_tests.soak import times

Rows = list[dict[str, Any]]


def rows_of(table: str, *studies: Study) -> Rows:
    """One table's rows of the studies, as plain objects."""
    rows: Rows = flatten(snapshot(*studies), [table])[table].to_pylist()
    return rows


def protocol(**modules: Any) -> Study:
    """A study with these modules of the protocol section."""
    return {"protocolSection": {f"{name}Module": module for name, module in modules.items()}}


def picked(rows: Rows, *names: str) -> list[tuple[Any, ...]]:
    """Chosen columns of rows."""
    return [tuple(row[name] for name in names) for row in rows]


# --- exact rows, table by table -------------------------------------------------------------------


def test_id_holds_nct_number_and_running_position() -> None:
    """An id is the NCT number times 10**9 plus the row's running position in its study."""
    first = protocol(conditions={"conditions": ["Asthma", "COPD"]})
    second = protocol(conditions={"conditions": ["Ärger", "Gout", "İ"]})
    assert rows_of("conditions", first, {}, second) == [
        {
            "id": number * 10**9 + position,
            "nct_id": f"NCT{number:08}",
            "position": position,
            "name": name,
            "downcase_name": lower,
        }
        for number, position, name, lower in [
            (1, 1, "Asthma", "asthma"),
            (1, 2, "COPD", "copd"),
            (3, 1, "Ärger", "ärger"),
            (3, 2, "Gout", "gout"),
            (3, 3, "İ", "i̇"),
        ]
    ]


def test_null_items_give_no_row_and_keep_positions() -> None:
    """A null in a list gives no row; the items behind it keep their position, ids stay gapless."""
    study = protocol(conditions={"conditions": [None, "Asthma", None, "COPD"]})
    rows = rows_of("conditions", study)
    assert picked(rows, "id", "position", "name") == [
        (1_000_000_001, 2, "Asthma"),
        (1_000_000_002, 4, "COPD"),
    ]


def test_sources_share_one_running_position() -> None:
    """Rows of one table from several places of a study follow one another, study by study."""
    one = protocol(
        identification={
            "nctIdAliases": ["NCT00000009"],
            "orgStudyIdInfo": {"id": "ORG-1", "type": "NIH", "link": "https://example.org"},
            "secondaryIdInfos": [
                {"id": "S1", "type": "EUDRACT_NUMBER", "domain": "EU"},
                {"id": "S2"},
            ],
        }
    )
    two = protocol(identification={"orgStudyIdInfo": {}, "secondaryIdInfos": []})
    rows = rows_of("id_information", one, two)
    names = ("id", "position", "id_source", "id_value", "id_type", "id_type_description", "id_link")
    assert picked(rows, *names) == [
        (1_000_000_001, 1, "nct_alias", "NCT00000009", None, None, None),
        (1_000_000_002, 1, "org_study_id", "ORG-1", "NIH", None, "https://example.org"),
        (1_000_000_003, 1, "secondary_id", "S1", "EUDRACT_NUMBER", "EU", None),
        (1_000_000_004, 2, "secondary_id", "S2", None, None, None),
        (2_000_000_001, 1, "org_study_id", None, None, None, None),
    ]


def test_sponsors_lead_first() -> None:
    """The lead sponsor is the study's first sponsor row, collaborators follow in their order."""
    study = protocol(
        sponsorCollaborators={
            "leadSponsor": {"name": "L", "class": "INDUSTRY"},
            "collaborators": [{"name": "C1", "class": "NIH"}, {"name": "C2"}],
        }
    )
    rows = rows_of("sponsors", study)
    assert picked(rows, "position", "lead_or_collaborator", "name", "agency_class") == [
        (1, "lead", "L", "INDUSTRY"),
        (1, "collaborator", "C1", "NIH"),
        (2, "collaborator", "C2", None),
    ]


ARMS = protocol(
    armsInterventions={
        "armGroups": [
            {"label": "A", "type": "EXPERIMENTAL", "description": "first"},
            {"label": "B"},
            {"label": "A", "description": "again"},
        ],
        "interventions": [
            {"name": "Drug X", "type": "DRUG", "armGroupLabels": ["A", "Gone"]},
            {"name": "Device Y", "otherNames": ["Y1", "Y2"], "armGroupLabels": ["B"]},
            {"name": "Sham", "otherNames": []},
        ],
    }
)


def test_design_group_is_found_by_label() -> None:
    """An intervention's label leads to the first arm of that label, and to NULL when no arm has it."""
    rows = rows_of("design_group_interventions", ARMS, ARMS)
    names = ("id", "position", "design_group_id", "intervention_id", "arm_group_label")
    assert picked(rows, *names) == [
        (
            number * 10**9 + running,
            position,
            arm and number * 10**9 + arm,
            number * 10**9 + by,
            label,
        )
        for number in (1, 2)
        for running, position, arm, by, label in [
            (1, 1, 1, 1, "A"),
            (2, 2, None, 1, "Gone"),
            (3, 1, 2, 2, "B"),
        ]
    ]


def test_other_names_refer_to_their_intervention() -> None:
    """Another name's reference is the id of the intervention that lists it."""
    rows = rows_of("intervention_other_names", {}, ARMS)
    assert picked(rows, "id", "intervention_id", "position", "name") == [
        (2_000_000_001, 2_000_000_002, 1, "Y1"),
        (2_000_000_002, 2_000_000_002, 2, "Y2"),
    ]
    assert picked(rows_of("interventions", {}, ARMS), "id", "intervention_type", "name") == [
        (2_000_000_001, "DRUG", "Drug X"),
        (2_000_000_002, None, "Device Y"),
        (2_000_000_003, None, "Sham"),
    ]


def test_parent_of_null_item_is_skipped() -> None:
    """References count rows, not items: a null intervention shifts ids, not references."""
    study = protocol(
        armsInterventions={"interventions": [None, {"name": "X", "otherNames": ["x"]}]}
    )
    (row,) = rows_of("intervention_other_names", study)
    (intervention,) = rows_of("interventions", study)
    assert row["intervention_id"] == intervention["id"] == 1_000_000_001
    assert intervention["position"] == 2


def test_countries_are_distinct_in_order_of_first_site() -> None:
    """Each country of a study's sites counts once, at its first site; removed countries follow."""
    one = protocol(
        contactsLocations={
            "locations": [
                {"country": "France"},
                {"city": "Nowhere"},
                {"country": "Chad"},
                {"country": "France"},
            ]
        }
    )
    one["derivedSection"] = {"miscInfoModule": {"removedCountries": ["Peru", "Chad"]}}
    two = protocol(contactsLocations={"locations": [{"country": "Chad"}]})
    rows = rows_of("countries", one, two)
    assert picked(rows, "id", "position", "name", "removed") == [
        (1_000_000_001, 1, "France", False),
        (1_000_000_002, 3, "Chad", False),
        (1_000_000_003, 1, "Peru", True),
        (1_000_000_004, 2, "Chad", True),
        (2_000_000_001, 1, "Chad", False),
    ]


def test_facilities_keep_coordinates() -> None:
    """A site's coordinates are NULL where it has none, or only half of them."""
    study = protocol(
        contactsLocations={
            "locations": [
                {"facility": "F", "city": "Paris", "geoPoint": {"lat": 48.85, "lon": 2.35}},
                {"facility": "G", "geoPoint": {"lat": 1.5}},
                {"facility": "H"},
            ]
        }
    )
    rows = rows_of("facilities", study)
    assert picked(rows, "name", "city", "latitude", "longitude") == [
        ("F", "Paris", 48.85, 2.35),
        ("G", None, 1.5, None),
        ("H", None, None, None),
    ]


def test_contacts_of_a_site_are_split_by_role() -> None:
    """A site's investigators are a table of their own; everyone else, without a role too, is a contact."""
    contacts = [
        {"name": "I", "role": "PRINCIPAL_INVESTIGATOR", "phone": "1"},
        {"name": "C", "role": "CONTACT", "email": "c@example.org"},
        None,
        {"name": "N"},
        {"name": "S", "role": "SUB_INVESTIGATOR"},
    ]
    study = protocol(
        contactsLocations={"locations": [{}, {"contacts": contacts}, {"contacts": []}]}
    )
    study["protocolSection"]["contactsLocationsModule"]["locations"][0]["contacts"] = [
        {"name": "D", "role": "STUDY_DIRECTOR"}
    ]
    rows = rows_of("facility_contacts", study)
    assert picked(rows, "facility_id", "position", "contact_type", "name", "role") == [
        (1_000_000_001, 1, "primary", "D", "STUDY_DIRECTOR"),
        (1_000_000_002, 2, "primary", "C", "CONTACT"),
        (1_000_000_002, 4, "backup", "N", None),
    ]
    rows = rows_of("facility_investigators", study)
    assert picked(rows, "id", "facility_id", "position", "name", "phone") == [
        (1_000_000_001, 1_000_000_002, 1, "I", "1"),
        (1_000_000_002, 1_000_000_002, 5, "S", None),
    ]


def test_first_central_contact_is_primary() -> None:
    """In each study the first contact that is there is primary, all others are backup."""
    study = protocol(contactsLocations={"centralContacts": [None, {"name": "A"}, {"name": "B"}]})
    rows = rows_of("central_contacts", study, study)
    assert picked(rows, "contact_type", "name") == [("primary", "A"), ("backup", "B")] * 2


def test_arm_lists_its_interventions() -> None:
    """An arm's label for an intervention leads to the one of that kind and name."""
    study = protocol(
        armsInterventions={
            "armGroups": [
                {"interventionNames": ["Drug: Placebo", "Other: Placebo"]},
                {"interventionNames": ["Dietary Supplement: Zinc: 5 mg", "Placebo"]},
            ],
            "interventions": [
                {"type": "OTHER", "name": "Placebo"},
                {"type": "DRUG", "name": "Placebo"},
                {"type": "DIETARY_SUPPLEMENT", "name": "Zinc: 5 mg"},
            ],
        }
    )
    rows = rows_of("design_group_intervention_names", study)
    assert picked(rows, "design_group_id", "position", "intervention_id", "name") == [
        (1_000_000_001, 1, 1_000_000_002, "Drug: Placebo"),
        (1_000_000_001, 2, 1_000_000_001, "Other: Placebo"),
        (1_000_000_002, 1, 1_000_000_003, "Dietary Supplement: Zinc: 5 mg"),
        (1_000_000_002, 2, None, "Placebo"),
    ]


def test_documents_keep_size_and_time() -> None:
    """A document comes with its size, the time of its upload as sent and read, and AACT's address."""
    document = {
        "typeAbbrev": "Prot",
        "label": "Study Protocol",
        "date": "2020-01-31",
        "uploadDate": "2020-09-29T21:40",
        "filename": "Prot_000.pdf",
        "size": 2**40,
    }
    study = {"documentSection": {"largeDocumentModule": {"largeDocs": [document, {}]}}}
    first, second = rows_of("provided_documents", study)
    expected = {
        "document_date": dt.date(2020, 1, 31),
        "upload_raw": "2020-09-29T21:40",
        "upload_date": dt.date(2020, 9, 29),
        "upload_timestamp": dt.datetime.fromisoformat("2020-09-29T21:40"),
        "filename": "Prot_000.pdf",
        "url": "https://ClinicalTrials.gov/ProvidedDocs/01/NCT00000001/Prot_000.pdf",
        "size": 2**40,
    }
    assert {name: first[name] for name in expected} == expected
    assert {second[name] for name in expected} == {None}


def test_calculated_values() -> None:
    """Values are calculated from a study's own rows and dates, and are 0 or false without any."""
    study = protocol(
        status={
            "startDateStruct": {"date": "2020-01-31"},
            "primaryCompletionDateStruct": {"date": "2021-02", "type": "ACTUAL"},
            "studyFirstSubmitDate": "2019-12-31",
            "resultsFirstSubmitDate": "2021-01-28",
        },
        eligibility={"minimumAge": "18 Years", "maximumAge": "N/A"},
        contactsLocations={"locations": [{"country": "Guam"}]},
        outcomes={"primaryOutcomes": [{}, {}], "otherOutcomes": [{}]},
    )
    groups = [
        {"seriousNumAffected": 3, "otherNumAffected": 1},
        {"seriousNumAffected": 4},
        {"seriousNumAffected": None},
    ]
    study["resultsSection"] = {"adverseEventsModule": {"eventGroups": groups}}
    study["hasResults"] = True
    estimated = protocol(
        status={
            "startDateStruct": {"date": "2020-01-31", "type": "ESTIMATED"},
            "primaryCompletionDateStruct": {"date": "2021-02", "type": "ACTUAL"},
            "resultsFirstSubmitDate": "2021-03-28",
        }
    )
    first, second = rows_of("calculated_values", study, estimated)
    assert {name: value for name, value in first.items() if name not in {"id", "nct_id"}} == {
        "number_of_facilities": 1,
        "has_us_facility": True,
        "has_single_facility": True,
        "number_of_primary_outcomes_to_measure": 2,
        "number_of_secondary_outcomes_to_measure": 0,
        "number_of_other_outcomes_to_measure": 1,
        "were_results_reported": True,
        "number_of_sae_subjects": 7,
        "number_of_nsae_subjects": 1,
        "registered_in_calendar_year": 2019,
        "actual_duration": 13,
        "actual_duration_days": 394,
        "months_to_report_results": -1,
        "days_to_report_results": -31,
        "minimum_age_num": 18,
        "minimum_age_unit": "year",
        "maximum_age_num": None,
        "maximum_age_unit": None,
    }
    names = ("number_of_facilities", "has_us_facility", "number_of_sae_subjects", "actual_duration")
    assert picked([second], *names) == [(0, False, None, None)]
    assert (second["has_single_facility"], second["days_to_report_results"]) == (False, 28)


def test_outcomes_by_rank() -> None:
    """Planned outcomes come primary, secondary, other, each with its own positions."""
    study = protocol(
        outcomes={
            "otherOutcomes": [{"measure": "o"}],
            "primaryOutcomes": [{"measure": "p", "timeFrame": "1 day", "description": "d"}],
            "secondaryOutcomes": [{"measure": "s1"}, {"measure": "s2"}],
        }
    )
    rows = rows_of("design_outcomes", study)
    assert picked(rows, "outcome_type", "position", "measure", "time_frame", "description") == [
        ("primary", 1, "p", "1 day", "d"),
        ("secondary", 1, "s1", None, None),
        ("secondary", 2, "s2", None, None),
        ("other", 1, "o", None, None),
    ]


@pytest.mark.parametrize(
    ("table", "module"),
    [
        ("browse_conditions", "conditionBrowseModule"),
        ("browse_interventions", "interventionBrowseModule"),
    ],
)
def test_mesh_terms_keep_ids(table: str, module: str) -> None:
    """MeSH terms come with their descriptor id, assigned terms before ancestors."""
    browse = {
        "meshes": [{"id": "D1", "term": "Asthma"}],
        "ancestors": [{"id": "D2", "term": "Lung Diseases"}, {"term": "Diseases"}],
    }
    rows = rows_of(table, {"derivedSection": {module: browse}})
    assert picked(rows, "mesh_id", "mesh_term", "downcase_mesh_term", "mesh_type") == [
        ("D1", "Asthma", "asthma", "mesh-list"),
        ("D2", "Lung Diseases", "lung diseases", "mesh-ancestor"),
        (None, "Diseases", "diseases", "mesh-ancestor"),
    ]


def test_single_objects_give_a_row_where_present() -> None:
    """An object gives its row even when empty; where it is missing or null there is none."""
    studies = [protocol(description={"briefSummary": "b"}), protocol(description={}), {}]
    studies.append(protocol(description=None))
    assert rows_of("brief_summaries", *studies) == [
        {"id": 1_000_000_001, "nct_id": "NCT00000001", "description": "b"},
        {"id": 2_000_000_001, "nct_id": "NCT00000002", "description": None},
    ]
    assert picked(rows_of("detailed_descriptions", *studies), "description") == [(None,), (None,)]


def test_designs_and_masking() -> None:
    """Masked parties become flags and, in their order, text; without a list all are NULL."""
    one = protocol(
        design={
            "designInfo": {
                "allocation": "RANDOMIZED",
                "maskingInfo": {"masking": "DOUBLE", "whoMasked": ["INVESTIGATOR", "PARTICIPANT"]},
            }
        }
    )
    two = protocol(design={"designInfo": {"maskingInfo": {"masking": "NONE"}}})
    flags = (
        "who_masked",
        "subject_masked",
        "caregiver_masked",
        "investigator_masked",
        "outcomes_assessor_masked",
    )
    rows = rows_of("designs", one, two, protocol(design={}))
    assert picked(rows, "nct_id", "allocation", "masking", *flags) == [
        (
            "NCT00000001",
            "RANDOMIZED",
            "DOUBLE",
            "INVESTIGATOR/PARTICIPANT",
            True,
            False,
            True,
            False,
        ),
        ("NCT00000002", None, "NONE", None, None, None, None, None),
    ]


def test_eligibility_ages() -> None:
    """Ages keep their text and become years; age groups become flags."""
    study = protocol(
        eligibility={
            "sex": "ALL",
            "minimumAge": "6 Months",
            "maximumAge": "N/A",
            "healthyVolunteers": False,
            "stdAges": ["CHILD", "ADULT"],
        }
    )
    (row,) = rows_of("eligibilities", study)
    expected = {
        "gender": "ALL",
        "minimum_age": "6 Months",
        "minimum_age_years": 0.5,
        "maximum_age": "N/A",
        "maximum_age_years": None,
        "healthy_volunteers": False,
        "std_ages": "CHILD/ADULT",
        "child": True,
        "adult": True,
        "older_adult": False,
        "criteria": None,
    }
    assert {name: row[name] for name in expected} == expected


def test_study_dates() -> None:
    """Partial dates keep text, last and first day and precision; full dates keep text that is no day."""
    study = protocol(
        status={
            "startDateStruct": {"date": "2020-02", "type": "ACTUAL"},
            "primaryCompletionDateStruct": {"date": "2021"},
            "completionDateStruct": {"date": "soon"},
            "statusVerifiedDate": "2022-07-01",
            "studyFirstSubmitDate": "2019-12-31",
            "resultsFirstSubmitDate": "2019",
            "lastUpdateSubmitDate": "tomorrow",
        }
    )
    (row,) = rows_of("studies", study)
    assert {name: value for name, value in row.items() if value is not None} == {
        "nct_id": "NCT00000001",
        "content_hash": "hash 1",
        "start_month_year": "2020-02",
        "start_date": dt.date(2020, 2, 29),
        "start_date_first": dt.date(2020, 2, 1),
        "start_date_precision": "month",
        "start_date_type": "ACTUAL",
        "primary_completion_month_year": "2021",
        "primary_completion_date": dt.date(2021, 12, 31),
        "primary_completion_date_first": dt.date(2021, 1, 1),
        "primary_completion_date_precision": "year",
        "completion_month_year": "soon",
        "verification_month_year": "2022-07-01",
        "verification_date": dt.date(2022, 7, 1),
        "verification_date_first": dt.date(2022, 7, 1),
        "verification_date_precision": "day",
        "study_first_submitted_date": dt.date(2019, 12, 31),
        "results_first_submitted_date": dt.date(2019, 12, 31),
        "results_first_submitted_date_as_sent": "2019",
        "last_update_submitted_date_as_sent": "tomorrow",
    }


@pytest.mark.parametrize(
    ("count", "unknown"),
    [
        (120, False),
        (0, False),
        (99_999_999, True),
        (2**31, False),
        (2**63 - 1, False),
        (None, None),
    ],
)
def test_enrollment_is_kept_as_sent(count: int | None, unknown: bool | None) -> None:
    """Enrollment stays the number sent, however large; the registry's mark for unknown is flagged."""
    (row,) = rows_of("studies", protocol(design={"enrollmentInfo": {"count": count}}))
    assert (row["enrollment"], row["enrollment_is_unknown"]) == (count, unknown)


@pytest.mark.parametrize(
    ("study_type", "arms", "groups"),
    [("INTERVENTIONAL", 2, None), ("OBSERVATIONAL", None, 2), (None, None, 2)],
)
def test_arms_are_counted_by_study_type(
    study_type: str | None, arms: int | None, groups: int | None
) -> None:
    """Arm groups count as arms in interventional studies and as groups in all others."""
    study = protocol(
        design={"studyType": study_type, "phases": ["PHASE1", "PHASE2"]},
        armsInterventions={"armGroups": [{"label": "A"}, None, {}]},
    )
    first, second = rows_of("studies", study, protocol(design={"studyType": study_type}))
    assert (first["number_of_arms"], first["number_of_groups"]) == (arms, groups)
    assert (second["number_of_arms"], second["number_of_groups"]) == (None, None)
    assert (first["phase"], second["phase"]) == ("PHASE1/PHASE2", None)


def test_study_keeps_what_aact_drops() -> None:
    """The study's own facts that AACT has no column for are there."""
    study: Study = {
        "hasResults": True,
        "protocolSection": {
            "statusModule": {"resultsWaived": True},
            "designModule": {"nPtrsToThisExpAccNctId": 3},
        },
        "documentSection": {"largeDocumentModule": {"noSap": False}},
    }
    (row,) = rows_of("studies", study)
    names = ("has_results", "results_waived", "n_ptrs_to_this_exp_acc_nct_id", "no_sap")
    assert picked([row], *names) == [(True, True, 3, False)]


def test_nul_characters_are_replaced_everywhere() -> None:
    """No text column holds U+0000, whichever way it was read, and labels still find their arm."""
    study = protocol(
        conditions={"conditions": ["A\0"]},
        design={"phases": ["P\0", "Q"]},
        armsInterventions={
            "armGroups": [{"label": "L\0"}],
            "interventions": [{"armGroupLabels": ["L\0"]}],
        },
    )
    (condition,) = rows_of("conditions", study)
    assert (condition["name"], condition["downcase_name"]) == ("A\ufffd", "a\ufffd")
    (row,) = rows_of("studies", study)
    assert row["phase"] == "P\ufffd/Q"
    (link,) = rows_of("design_group_interventions", study)
    assert (link["design_group_id"], link["arm_group_label"]) == (1_000_000_001, "L\ufffd")


# --- input as it may come -------------------------------------------------------------------------


@pytest.mark.parametrize("study", [{}, {"protocolSection": {}}, {"protocolSection": None}])
def test_study_without_content_gives_one_study_row(study: Study) -> None:
    """A study with nothing in it is a row where each study is one, and of no other table."""
    found = {name: table.num_rows for name, table in flatten(snapshot(study)).items()}
    one = {"studies", "calculated_values"}
    assert found == {table.name: int(table.name in one) for table in staging_tables()}


def test_no_studies_give_empty_tables() -> None:
    """Without studies every table is there, empty and typed."""
    for table, rows in zip(staging_tables(), flatten(snapshot()).values(), strict=True):
        assert rows.num_rows == 0
        assert rows.schema == table.shape.arrow_schema


def test_what_hides_behind_nulls_is_no_row() -> None:
    """Values that Arrow still holds behind a null list or a null object are not read."""
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 3, 4], pa.int32()),
        pa.array(["hidden", "hidden", "seen", "behind"]),
        mask=pa.array([True, False, False]),
    )
    module = pa.StructArray.from_arrays(
        [lists], ["conditions"], mask=pa.array([False, False, True])
    )
    section = pa.StructArray.from_arrays([module], ["conditionsModule"])
    studies = pa.table(
        {"nct_id": ["NCT00000001", "NCT00000002", "NCT00000003"], "protocolSection": section}
    )
    for cut in (studies, studies.slice(1)):
        rows = flatten(cut, ["conditions"])["conditions"].to_pylist()
        assert picked(rows, "id", "name") == [(2_000_000_001, "seen")]


def test_wrong_nct_id_is_named() -> None:
    """A row whose NCT id is no NCT id stops the work with its value in the message."""
    broken = snapshot({}).set_column(0, "nct_id", pa.array(["NCT123"]))
    with pytest.raises(FlattenError, match="'NCT123'"):
        flatten(broken, ["conditions"])


def test_missing_column_is_named() -> None:
    """Snapshot rows without a column that a table needs stop the work with its path."""
    with pytest.raises(FlattenError, match="'derivedSection'"):
        flatten(snapshot({}).drop_columns("derivedSection"), ["browse_conditions"])


def test_unknown_table_is_named() -> None:
    """Asking for a table that does not exist says which exist."""
    with pytest.raises(FlattenError, match=r"'condition'.*'conditions'"):
        flatten(snapshot({}), ["condition"])


@pytest.mark.parametrize("names", [None, *([table.name] for table in staging_tables())])
def test_snapshot_columns_suffice(names: list[str] | None) -> None:
    """A Parquet snapshot need be read only as far as snapshot_columns says, for any table."""
    whole = snapshot(ARMS, FULL_STUDY, {})
    file = io.BytesIO()
    pq.write_table(whole, file)
    part = pq.ParquetFile(file).read(list(snapshot_columns(names)))
    assert part.nbytes < whole.nbytes or names is None
    assert flatten(part, names) == flatten(whole, names)


# --- against the reference ------------------------------------------------------------------------

_TEXT = st.one_of(
    st.sampled_from(["A", "a", "B", "", "x\0y", "ÄÖÅ", "OG000", "OG001"]),
    st.sampled_from(["2021", "2021-02", "2020-02-29", "2021-02-31", "6 Months", "18 Years"]),
    st.sampled_from(["PARTICIPANT", "CHILD", "INTERVENTIONAL", "PRINCIPAL_INVESTIGATOR"]),
    st.sampled_from(["12", "1,234", "< 0.05", "NA", "50%", "2020-09-29T21:40"]),
    st.sampled_from(["DRUG", "Drug: A", "a.", "ESTIMATED", "United States", "Participants"]),
)
_SCALARS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int64(): st.sampled_from([0, 1, 99_999_999, 2**40]),
    pa.float64(): st.sampled_from([0.0, -1.5]),
    pa.string(): _TEXT,
}


def _study_part(node: FieldNode) -> st.SearchStrategy[Any]:
    """Any content of a node: missing, null, empty, short or repeated at every level."""
    if node.children:
        one = _object({child.name: _study_part(child) for child in node.children})
    else:
        scalar = node.arrow_type().value_type if node.is_list else node.arrow_type()
        if pa.types.is_struct(scalar):
            one = _object({field.name: _SCALARS[field.type] for field in scalar})
        else:
            one = _SCALARS[scalar]
    return st.lists(st.none() | one, max_size=3) if node.is_list else one


def _object(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {}, optional={name: st.none() | one for name, one in fields.items()}
    )


def _studies(*paths: str) -> st.SearchStrategy[list[Study]]:
    """Lists of studies that have content at these nodes of the field tree only."""
    tree: dict[str, Any] = {}
    for path in paths:
        below, names = tree, path.split(".")
        for name in names[:-1]:
            below = below.setdefault(name, {})
        below[names[-1].removesuffix("[]")] = _study_part(nodes_by_path()[path])

    def study(part: Any) -> st.SearchStrategy[Any]:
        if isinstance(part, dict):
            return _object({name: study(below) for name, below in part.items()})
        strategy: st.SearchStrategy[Any] = part
        return strategy

    return st.lists(study(tree), max_size=3)


def _own_sources(table: Table) -> set[str]:
    return {path for column in table.shape.columns for path in column.sources}


@cache
def _tables_of(paths: tuple[str, ...]) -> tuple[Table, ...]:
    """The tables with rows from these parts of a study, and those that they need."""
    wanted = {
        table.name
        for table in staging_tables()
        for source in table.sources
        for path in paths
        if source.path.startswith(path.removesuffix("[]"))
        or (not source.path and any(one.startswith(path) for one in _own_sources(table)))
    }
    for table in reversed(staging_tables()):
        if table.name in wanted:
            wanted.update(name for item in table.fields for name in tables_needed(item.value))
    return tuple(table for table in staging_tables() if table.name in wanted)


def _cut(table: pa.Table, at: int) -> pa.Table:
    return pa.concat_tables([table.slice(0, at), table.slice(at)])


_FEWER = settings(
    max_examples=times(8, 25),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize(
    "paths",
    [
        ("protocolSection.armsInterventionsModule", "protocolSection.designModule"),
        ("protocolSection.conditionsModule", "protocolSection.identificationModule"),
        (
            "protocolSection.contactsLocationsModule.locations[]",
            "derivedSection.miscInfoModule.removedCountries[]",
        ),
        ("protocolSection.outcomesModule", "protocolSection.sponsorCollaboratorsModule"),
        ("protocolSection.statusModule", "protocolSection.eligibilityModule", "hasResults"),
        ("derivedSection.conditionBrowseModule", "protocolSection.descriptionModule"),
        ("protocolSection.referencesModule", "protocolSection.ipdSharingStatementModule"),
        ("protocolSection.contactsLocationsModule",),
        ("documentSection", "annotationSection", "derivedSection.miscInfoModule"),
        ("resultsSection.adverseEventsModule", "protocolSection.armsInterventionsModule"),
        ("resultsSection.baselineCharacteristicsModule",),
        ("resultsSection.participantFlowModule", "resultsSection.moreInfoModule"),
    ],
    ids=lambda paths: paths[0].rpartition(".")[2],
)
@given(data=st.data())
@_FEWER
def test_flatten_agrees_with_reference(paths: tuple[str, ...], data: st.DataObject) -> None:
    """Whatever is missing, null, empty or repeated, the rows are those of the obvious way."""
    studies = data.draw(_studies(*paths))
    at = data.draw(st.integers(0, len(studies)))
    tables = _tables_of(paths)
    expected = reference.flatten(snapshot_rows(studies), tables)
    found = flatten_tables(_cut(snapshot(*studies), at), tables)
    for name, rows in expected.items():
        assert len(found[name]) == len(rows), name
        for row, wanted in zip(found[name].to_pylist(), rows, strict=True):
            assert all(_alike(row[one], wanted[one]) for one in wanted), (name, row, wanted)


_MEASURES = "resultsSection.outcomeMeasuresModule.outcomeMeasures[]"

_DENOMS = "resultsSection.baselineCharacteristicsModule.denoms[].counts[]"
_ARM_GROUPS = "protocolSection.armsInterventionsModule.armGroups[]"

NESTED_TABLES = (
    Table("studies", "Studies.", (Source(""),), ()),
    Table("arms", "Planned arms.", (Source(_ARM_GROUPS),), (text("title", "label", "Title."),)),
    Table(
        "outcomes", "Reported outcomes.", (Source(_MEASURES),), (text("title", "title", "Title."),)
    ),
    Table(
        "result_groups",
        "Groups for which results are reported.",
        (
            Source(
                "resultsSection.baselineCharacteristicsModule.groups[]",
                {"result_type": "Baseline"},
                {"^": None},
            ),
            Source(f"{_MEASURES}.groups[]", {"result_type": "Outcome"}),
        ),
        columns(
            constant("result_type", "Which part of the results the group belongs to."),
            text("ctgov_group_code", "id", "Code of the group."),
            text("title", "title", "Title of the group."),
            parent("outcome_id", "outcomes", "Outcome of the group.", optional=True),
            outer_position("outcome_position", "^", "Position of the outcome."),
            title_match("arm", "arms", {"title": "title"}, "Arm of the same title"),
        ),
    ),
    Table(
        "baseline_counts",
        "People counted at baseline.",
        (Source(_DENOMS, where=RowFilter("^.units", ("B",), negated=True)),),
        columns(
            text("ctgov_group_code", "groupId", "Code of the group."),
            or_else("units", "^.units", "Participants", "What is counted."),
            first("rank", "first", "other", "Whether the row is the first of its units."),
            number("count", "value", "Count", raw="count_raw", value="count", whole=True),
            lookup(
                "result_group_id",
                "result_groups",
                {"ctgov_group_code": "ctgov_group_code"},
                "Group counted.",
                where={"result_type": "Baseline"},
            ),
        ),
    ),
    Table(
        "outcome_measurements",
        "Measured values.",
        (Source(f"{_MEASURES}.classes[].categories[].measurements[]"),),
        columns(
            parent("outcome_id", "outcomes", "Outcome measured."),
            outer_position("class_position", "^^", "Position of the class."),
            outer_position("category_position", "^", "Position of the category."),
            text("ctgov_group_code", "groupId", "Code of the group."),
            lookup(
                "result_group_id",
                "result_groups",
                {"outcome_id": "outcome_id", "ctgov_group_code": "ctgov_group_code"},
                "Group measured.",
                where={"result_type": "Outcome"},
            ),
            text("title", "^^^.title", "Title of the outcome."),
            text("classification", "^^.title", "Title of the class."),
            text("category", "^.title", "Title of the category."),
            number("param", "value", "Value", raw="param_value", value="param_value_num"),
            first_found(
                "number_analyzed",
                (
                    Lookup(
                        "baseline_counts",
                        {"ctgov_group_code": "ctgov_group_code", "units": "category"},
                        column="count",
                    ),
                    Lookup(
                        "baseline_counts",
                        {"ctgov_group_code": "ctgov_group_code"},
                        {"units": "Participants"},
                        "count",
                    ),
                ),
                "Number of those counted.",
            ),
        ),
    ),
    Table(
        "totals",
        "Totals.",
        (Source(""),),
        columns(
            rows_counted("rows", "baseline_counts", "Rows.", {"units": "Participants"}),
            rows_summed("people", "baseline_counts", "count", "People."),
            any_row("any_a", "baseline_counts", "ctgov_group_code", ("A", "OG000"), "Any."),
            single_row("single", "outcomes", "Single."),
        ),
    ),
)
"""Results tables in small: lists four deep, and group codes that start anew in every outcome."""


@pytest.mark.soak
@pytest.mark.parametrize("places", [2**23, 1])
@given(
    studies=_studies(
        _MEASURES,
        _ARM_GROUPS,
        "resultsSection.baselineCharacteristicsModule.groups[]",
        "resultsSection.baselineCharacteristicsModule.denoms[]",
    )
)
@_FEWER
def test_deep_lists_agree_with_reference(places: int, studies: list[Study]) -> None:
    """Lists four deep, values of enclosing items, references by code per outcome and totals agree."""
    check(NESTED_TABLES)
    expected = reference.flatten(snapshot_rows(studies), NESTED_TABLES)
    with patch("ctg_assets.model.joins._PLACES", places):
        found = flatten_tables(snapshot(*studies), NESTED_TABLES)
    assert {name: table.to_pylist() for name, table in found.items()} == expected


@pytest.mark.parametrize(
    ("arms", "group", "arm", "quality"),
    [
        (["Drug A", "Drug B"], "Drug A", 1, "title"),
        (["drug a", "Drug A"], "Drug A", 2, "title"),
        (["Placebo", "drug-A."], "Drug  A", 2, "title ignoring case and punctuation"),
        (["Drug A", "Drug A"], "Drug A", None, "ambiguous"),
        (["drug a", "DRUG A"], "Drug A", None, "ambiguous"),
        (["Drug A"], "Drug B", None, "none"),
        (["+"], "-", None, "none"),
        (["Drug A"], None, None, "none"),
        ([None], None, None, "none"),
        ([], "Drug A", None, "none"),
    ],
)
def test_groups_are_matched_to_arms_by_title(
    arms: list[str | None], group: str | None, arm: int | None, quality: str
) -> None:
    """A group is tied to an arm only if one alone agrees with its title, and how is said."""
    study = protocol(armsInterventions={"armGroups": [{"label": label} for label in arms]})
    groups = [{"id": "BG000", "title": group}]
    study["resultsSection"] = {"baselineCharacteristicsModule": {"groups": groups}}
    # The study before has just the title wanted: studies are not mixed up.
    other = protocol(armsInterventions={"armGroups": [{"label": group}]})
    found = flatten_tables(snapshot(other, study), NESTED_TABLES)["result_groups"].to_pylist()
    assert picked(found, "arm_id", "arm_match") == [(arm and 2_000_000_000 + arm, quality)]


def test_long_text_becomes_several_chunks() -> None:
    """Text of more bytes than one Arrow array can count is cut, and is the same text."""
    study = protocol(conditions={"conditions": ["Asthma", None, "COPD", "Gout"]})
    whole = flatten(snapshot(study), ["conditions"])["conditions"]
    with patch("ctg_assets.model.flatten._CHUNK_BYTES", 6):
        cut = flatten(snapshot(study), ["conditions"])["conditions"]
    assert cut["name"].num_chunks > 1
    assert cut == whole


def test_group_codes_are_looked_up_within_their_outcome() -> None:
    """The same group code in two outcomes leads to each outcome's own group."""
    check(NESTED_TABLES)

    def outcome(title: str) -> Study:
        measurement = {"groupId": "OG000", "value": title}
        return {
            "title": title,
            "groups": [{"id": "OG000"}],
            "classes": [{"categories": [{"title": "cat", "measurements": [measurement]}]}],
        }

    results = {"outcomeMeasuresModule": {"outcomeMeasures": [outcome("x"), outcome("y")]}}
    counts = [{"groupId": "OG000"}, {"groupId": "BG000"}]
    results["baselineCharacteristicsModule"] = {
        "groups": [{"id": "BG000"}],
        "denoms": [{"counts": counts}],
    }
    found = flatten_tables(snapshot({"resultsSection": results}), NESTED_TABLES)
    rows = found["outcome_measurements"].to_pylist()
    assert picked(rows, "outcome_id", "result_group_id", "title", "category") == [
        (1_000_000_001, 1_000_000_002, "x", "cat"),
        (1_000_000_002, 1_000_000_003, "y", "cat"),
    ]
    rows = found["baseline_counts"].to_pylist()
    assert picked(rows, "ctgov_group_code", "result_group_id") == [
        ("OG000", None),
        ("BG000", 1_000_000_001),
    ]


FULL_STUDY = protocol(
    identification={"nctIdAliases": ["NCT00000007"], "orgStudyIdInfo": {"id": "O"}},
    status={"startDateStruct": {"date": "2020-02"}},
    conditions={"conditions": ["A", "B"], "keywords": ["k"]},
    design={"studyType": "OBSERVATIONAL", "designInfo": {"masking": "NONE"}},
    eligibility={"minimumAge": "2 Weeks"},
    sponsorCollaborators={"leadSponsor": {"name": "L"}},
    contactsLocations={"locations": [{"country": "Chad"}, {"country": "Mali"}]},
)


@pytest.mark.slow
@pytest.mark.parametrize("join_bytes", [1, 2**20])
def test_batches_do_not_show(join_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flattening the whole equals flattening its parts, joined or not, and twice is as once."""
    monkeypatch.setattr("ctg_assets.model.flatten._JOIN_BYTES", join_bytes)
    whole = snapshot(ARMS, {}, FULL_STUDY, ARMS, FULL_STUDY)
    expected = flatten(whole)
    assert flatten(whole) == expected
    # Nothing before the cut, nothing after it, and a study in two versions on either side.
    for at in (0, 3, whole.num_rows):
        assert flatten(_cut(whole, at)) == expected
        parts = [flatten(whole.slice(0, at)), flatten(whole.slice(at))]
        joined = {name: pa.concat_tables([part[name] for part in parts]) for name in expected}
        assert joined == expected


@pytest.mark.soak
@settings(max_examples=times(5, 15))
@given(seed=st.integers(0, 2**32), some=st.integers(0, 4), others=st.integers(0, 4))
def test_two_at_once_are_as_one_after_the_other(seed: int, some: int, others: int) -> None:
    """Studies flattened with other ones, or other versions of themselves, give the same rows."""
    one = snapshot(*(wild_study(seed, number + 1) for number in range(some)))
    other = snapshot(*(wild_study(seed + 1, number + 1) for number in range(others)))
    assert flatten_both(one, other) == (flatten(one), flatten(other))


@pytest.mark.slow
def test_subset_equals_the_whole() -> None:
    """A table computed alone, with what it refers to left out of the result, has the same rows."""
    studies = snapshot(ARMS, FULL_STUDY)
    whole = flatten(studies)
    for name, table in whole.items():
        assert flatten(studies, [name]) == {name: table}


# --- real studies ---------------------------------------------------------------------------------


def _alike(one: object, other: object) -> bool:
    """Whether two values are the same, numbers as nearly as they are computed."""
    return one == (pytest.approx(other) if isinstance(other, float) else other)


@pytest.mark.slow
def test_real_rows_agree_with_reference() -> None:
    """On every sixtieth recorded study each row of each table is that of the obvious way."""
    studies, rows = real_studies()
    chosen = list(range(0, len(studies), 60))
    expected = reference.flatten([studies[index] for index in chosen], staging_tables())
    found = flatten(rows.take(chosen))
    for name, table in found.items():
        assert (
            table.schema == next(t for t in staging_tables() if t.name == name).shape.arrow_schema
        )
        for row, wanted in zip(table.to_pylist(), expected[name], strict=True):
            assert all(_alike(row[one], wanted[one]) for one in wanted), (name, row, wanted)


@pytest.mark.slow
def test_real_keys_hold() -> None:
    """On the recorded studies keys are unique, references meet a row, and no required value is NULL."""
    _, rows = real_studies()
    found = flatten(rows)
    for table in staging_tables():
        shape = table.shape
        for column in shape.columns:
            if not column.nullable:
                assert found[table.name][column.name].null_count == 0, (table.name, column.name)
        key = found[table.name][shape.primary_key[0]]
        assert len(pc.unique(key)) == len(key), table.name
        for foreign in shape.foreign_keys:
            values = found[table.name][foreign.columns[0]].drop_null()
            target = next(t.shape for t in staging_tables() if t.name == foreign.table)
            keys = found[foreign.table][target.primary_key[0]].combine_chunks()
            assert pc.all(pc.is_in(values, value_set=keys), min_count=0).as_py(), (
                table.name,
                foreign,
            )
