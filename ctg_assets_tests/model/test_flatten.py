"""Flattening studies into rows: exact rows of small studies, a reference, and real studies."""

from __future__ import annotations

import datetime as dt
import io
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctg_assets.model.fields import FieldNode, nodes_by_path
from ctg_assets.model.flatten import FlattenError, flatten, flatten_tables, snapshot_columns
from ctg_assets.model.tables import Table, staging_tables
from ctg_assets.model.tables.consistency import check
from ctg_assets.model.tables.declaration import (
    Source,
    constant,
    lookup,
    parent,
    tables_needed,
    text,
)
from ctg_assets_tests.model import reference
from ctg_assets_tests.model.snapshots import Study, real_studies, snapshot, snapshot_rows

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
    """A study with nothing in it is a row of studies and of no other table."""
    found = {name: table.num_rows for name, table in flatten(snapshot(study)).items()}
    assert found == {table.name: int(table.name == "studies") for table in staging_tables()}


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
    assert part.nbytes < whole.nbytes
    assert flatten(part, names) == flatten(whole, names)


# --- against the reference ------------------------------------------------------------------------

_TEXT = st.one_of(
    st.sampled_from(["A", "a", "B", "", "x\0y", "ÄÖÅ", "OG000", "OG001"]),
    st.sampled_from(["2021", "2021-02", "2020-02-29", "2021-02-31", "6 Months", "18 Years"]),
    st.sampled_from(["PARTICIPANT", "CHILD", "INTERVENTIONAL"]),
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


@cache
def _tables_of(paths: tuple[str, ...]) -> tuple[Table, ...]:
    """The tables with rows from these parts of a study, and those that they need."""
    wanted = {
        table.name
        for table in staging_tables()
        for source in table.sources
        for path in paths
        if source.path.startswith(path) or table.name == "studies"
    }
    for table in reversed(staging_tables()):
        if table.name in wanted:
            wanted.update(name for item in table.fields for name in tables_needed(item.value))
    return tuple(table for table in staging_tables() if table.name in wanted)


def _cut(table: pa.Table, at: int) -> pa.Table:
    return pa.concat_tables([table.slice(0, at), table.slice(at)])


_FEWER = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


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
        assert found[name].to_pylist() == [pytest.approx(row) for row in rows], name


_MEASURES = "resultsSection.outcomeMeasuresModule.outcomeMeasures[]"

NESTED_TABLES = (
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
            ),
            Source(f"{_MEASURES}.groups[]", {"result_type": "Outcome"}),
        ),
        (
            constant("result_type", "Which part of the results the group belongs to."),
            text("ctgov_group_code", "id", "Code of the group."),
            parent("outcome_id", "outcomes", "Outcome of the group.", optional=True),
        ),
    ),
    Table(
        "baseline_counts",
        "People counted at baseline.",
        (Source("resultsSection.baselineCharacteristicsModule.denoms[].counts[]"),),
        (
            text("ctgov_group_code", "groupId", "Code of the group."),
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
        (
            parent("outcome_id", "outcomes", "Outcome measured."),
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
            text("param_value", "value", "Value as sent."),
        ),
    ),
)
"""Results tables in small: lists four deep, and group codes that start anew in every outcome."""


@given(
    _studies(
        _MEASURES,
        "resultsSection.baselineCharacteristicsModule.groups[]",
        "resultsSection.baselineCharacteristicsModule.denoms[]",
    )
)
@_FEWER
def test_deep_lists_agree_with_reference(studies: list[Study]) -> None:
    """Lists four deep, values of enclosing items and references by group code per outcome agree."""
    expected = reference.flatten(snapshot_rows(studies), NESTED_TABLES)
    found = flatten_tables(snapshot(*studies), NESTED_TABLES)
    assert {name: table.to_pylist() for name, table in found.items()} == expected


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


@pytest.mark.parametrize("join_bytes", [1, 2**20])
def test_batches_do_not_show(join_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flattening the whole equals flattening its parts, joined or not, and twice is as once."""
    monkeypatch.setattr("ctg_assets.model.flatten._JOIN_BYTES", join_bytes)
    whole = snapshot(ARMS, {}, FULL_STUDY, ARMS, FULL_STUDY)
    expected = flatten(whole)
    assert flatten(whole) == expected
    for at in range(whole.num_rows + 1):
        assert flatten(_cut(whole, at)) == expected
        parts = [flatten(whole.slice(0, at)), flatten(whole.slice(at))]
        joined = {name: pa.concat_tables([part[name] for part in parts]) for name in expected}
        assert joined == expected


def test_subset_equals_the_whole() -> None:
    """A table computed alone, with what it refers to left out of the result, has the same rows."""
    studies = snapshot(ARMS, FULL_STUDY)
    whole = flatten(studies)
    for name, table in whole.items():
        assert flatten(studies, [name]) == {name: table}


# --- real studies ---------------------------------------------------------------------------------


def _count(item: Any, path: str) -> int:
    """How many objects or list items a JSON study has at a path, found by walking it."""
    if not path:
        return 1
    name, _, rest = path.partition(".")
    below = item.get(name.removesuffix("[]"))
    if below is None:
        return 0
    return sum(_count(one, rest) for one in (below if name.endswith("[]") else [below]))


def test_real_row_counts() -> None:
    """On the recorded studies each table has as many rows as the JSON has objects or items."""
    studies, rows = real_studies()
    found = {name: table.num_rows for name, table in flatten(rows).items()}
    for table in staging_tables():
        if table.name == "countries":
            continue
        expected = sum(_count(study, source.path) for study in studies for source in table.sources)
        assert found[table.name] == expected, table.name
    countries = 0
    for study in studies:
        locations = study["protocolSection"].get("contactsLocationsModule", {}).get("locations", [])
        countries += len({one["country"] for one in locations})
        misc = study.get("derivedSection", {}).get("miscInfoModule", {})
        countries += len(misc.get("removedCountries", []))
    assert found["countries"] == countries


def test_real_rows_agree_with_reference() -> None:
    """On every thirtieth recorded study each row of each table is that of the obvious way."""
    studies, rows = real_studies()
    chosen = list(range(0, len(studies), 30))
    expected = reference.flatten([studies[index] for index in chosen], staging_tables())
    found = flatten(rows.take(chosen))
    for name, table in found.items():
        assert (
            table.schema == next(t for t in staging_tables() if t.name == name).shape.arrow_schema
        )
        for row, wanted in zip(table.to_pylist(), expected[name], strict=True):
            assert row == pytest.approx(wanted), name


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
