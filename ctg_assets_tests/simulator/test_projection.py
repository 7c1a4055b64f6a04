"""The `fields` parameter."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from ctg_assets.simulator.errors import ApiError
from ctg_assets.simulator.projection import (
    ID_AND_DATE,
    id_and_date,
    parse_fields,
    project,
    projected,
)
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.simulator.in_memory import study

RECORD = study(
    7,
    title="T",
    phases=["PHASE1"],
    enrollment=5,
    locations=[{"city": "Boston", "country": "United States"}, {"country": "France"}],
)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("NCTId", {"protocolSection": {"identificationModule": {"nctId": "NCT00000007"}}}),
        ("hasResults", {"hasResults": False}),
        (
            "protocolSection.designModule.phases|HasResults",
            {"protocolSection": {"designModule": {"phases": ["PHASE1"]}}, "hasResults": False},
        ),
        (
            "EnrollmentInfo, EnrollmentCount",
            {"protocolSection": {"designModule": {"enrollmentInfo": {"count": 5}}}},
        ),
        (
            "LocationCity",
            {
                "protocolSection": {
                    "contactsLocationsModule": {"locations": [{"city": "Boston"}, {}]}
                }
            },
        ),
        (
            "TitleSearch",
            {"protocolSection": {"identificationModule": {"briefTitle": "T"}}},
        ),
        ("OfficialTitle", {"protocolSection": {"identificationModule": {}}}),
        ("ResultsSection", {}),
        ("ProtocolSection|NCTId", {"protocolSection": RECORD["protocolSection"]}),
        ("NCTId|ProtocolSection", {"protocolSection": RECORD["protocolSection"]}),
    ],
)
def test_fields_are_cut_out_of_a_study(fields: str, expected: dict[str, Any]) -> None:
    """Pieces, paths, field names and areas select; branches bring all below; parents stay."""
    assert project(RECORD, parse_fields(fields)) == expected


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ("BadField", 400, "Unknown piece name of field path: BadField"),
        ("type", 400, "Unknown piece name of field path: type"),
        ("NCTId,,Phase", 400, "Item 2 in parameter `fields` has incorrect format"),
        ("", 400, "Item 1 in parameter `fields` has incorrect format"),
        ("ConditionList", 500, "Internal Server Error"),
        ("@query", 501, "The simulator does not expand `@query`"),
    ],
)
def test_unusable_fields_are_refused(fields: str, status: int, message: str) -> None:
    """Unknown and ambiguous names are refused; the retired list names fail as in the real API."""
    with pytest.raises(ApiError) as refusal:
        parse_fields(fields)
    assert refusal.value.status == status
    assert refusal.value.message.startswith(message)


def test_values_survive_projection_exactly() -> None:
    """Numbers and texts of a projected study are those of the study."""
    raw = '{"protocolSection":{"designModule":{"enrollmentInfo":{"count":99999999999999999999}},"x":"é"}}'
    assert projected(raw.encode(), parse_fields("DesignModule")) == (
        b'{"protocolSection":{"designModule":{"enrollmentInfo":{"count":99999999999999999999}}}}'
    )


def test_ids_and_dates_need_no_study() -> None:
    """What a census is given without generating a study is exactly what its projection would leave."""
    projection = parse_fields("NCTId,LastUpdatePostDate")
    assert projection == ID_AND_DATE
    source = GeneratedSource(50, seed=1)
    for index in range(50):
        told = id_and_date(source.nct_id(index), source.last_update_post_date(index))
        assert told == projected(source.raw(index), projection)


RECORDED_FIELDS = (
    "NCTId,BriefTitle,OverallStatus,Phase,StudyType,Condition,InterventionName,LeadSponsorName,"
    "EnrollmentCount,BriefSummary,StartDate,CompletionDate,MinimumAge,MaximumAge"
)


@pytest.mark.parametrize(
    "page",
    ["18bc3f59", "224af3bf", "4ad4e74b", "4f9e719e", "82feba10", "c06ee27b", "de1a0e21"],
)
def test_recorded_projections_have_our_shape(page: str) -> None:
    """What the real API returned for these fields is exactly what we would keep of it."""
    path = shared_path(f"ctg/pages/page__genomoncology+biomcp__{page}.json.gz")
    with gzip.open(path) as recorded:
        studies = json.load(recorded)["studies"]
    kept = [project(recorded_study, parse_fields(RECORDED_FIELDS)) for recorded_study in studies]
    assert studies
    assert kept == studies
