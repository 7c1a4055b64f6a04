"""Three studies for the marts: one that states everything, one little and oddly, one nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

MESH = {"meshes": [{"id": "D001249", "term": "Asthma"}], "ancestors": []}

FULL = {
    "protocolSection": {
        "identificationModule": {
            "briefTitle": "Insulin in asthma",
            "organization": {"fullName": "Acme", "class": "INDUSTRY"},
            "secondaryIdInfos": [{"id": "1", "type": "NIH"}, {"id": "2", "type": "MOON"}],
        },
        "statusModule": {
            "overallStatus": "COMPLETED",
            "startDateStruct": {"date": "2021-03", "type": "ACTUAL"},
            "completionDateStruct": {"date": "2999-12-31", "type": "ESTIMATED"},
            "lastUpdatePostDateStruct": {"date": "2024-05-06", "type": "ACTUAL"},
        },
        "sponsorCollaboratorsModule": {
            "leadSponsor": {"name": "Acme, Inc.", "class": "INDUSTRY"},
            "collaborators": [{"name": "National Institute", "class": "NIH"}],
        },
        "conditionsModule": {"conditions": ["asthma", "Wheezing"]},
        "designModule": {
            "studyType": "INTERVENTIONAL",
            "phases": ["PHASE1", "PHASE2"],
            "designInfo": {"allocation": "RANDOMIZED", "maskingInfo": {"masking": "DOUBLE"}},
            "enrollmentInfo": {"count": 120, "type": "ACTUAL"},
        },
        "armsInterventionsModule": {
            "interventions": [
                {"type": "DRUG", "name": "Insulin", "description": "10 units"},
                {"type": "DRUG", "name": "insulin", "description": "20 units"},
                {"type": "DEVICE", "name": "Insulin"},
            ]
        },
        "outcomesModule": {
            "primaryOutcomes": [{"measure": "Breath", "timeFrame": "1 day"}],
            "secondaryOutcomes": [{"measure": "Sleep"}, {"measure": "Mood"}],
        },
        "eligibilityModule": {
            "sex": "FEMALE",
            "minimumAge": "6 Months",
            "maximumAge": "18 Years",
            "stdAges": ["CHILD", "ADULT"],
        },
        "contactsLocationsModule": {
            "locations": [
                {
                    "facility": "Charité",
                    "status": "COMPLETED",
                    "city": "Berlin",
                    "zip": "10117",
                    "country": "Germany",
                    "geoPoint": {"lat": 52.52, "lon": 13.41},
                },
                {
                    "facility": "CHARITÉ",
                    "status": "WITHDRAWN",
                    "city": "Berlin",
                    "zip": "10117",
                    "country": "Germany",
                },
                {"city": "Paris", "country": "France"},
            ]
        },
    },
    "derivedSection": {
        "conditionBrowseModule": MESH,
        "miscInfoModule": {"removedCountries": ["Chile"]},
    },
    "hasResults": True,
}
SPARSE = {
    "protocolSection": {
        "statusModule": {
            "overallStatus": "UNKNOWN",
            "startDateStruct": {"date": "1900-01-01"},
            "lastUpdatePostDateStruct": {"date": "2023-01-02", "type": "ACTUAL"},
        },
        "sponsorCollaboratorsModule": {"leadSponsor": {"name": "ACME,  inc. ", "class": "OTHER"}},
        "conditionsModule": {"conditions": ["Asthma"]},
        "designModule": {
            "studyType": "OBSERVATIONAL",
            "phases": ["PHASE4", "PHASE5"],
            "enrollmentInfo": {"count": 99999999, "type": "ESTIMATED"},
        },
    },
    "hasResults": False,
}
WITHHELD = {
    "protocolSection": {
        "identificationModule": {"briefTitle": "[Trial of device that is not approved]"},
        "statusModule": {"overallStatus": "WITHHELD"},
    },
    "hasResults": False,
}


OLDER_VIEWS = """
CREATE SCHEMA staging_views;
CREATE VIEW staging_views.stg_conditions AS SELECT id, nct_id FROM staging.conditions;
CREATE VIEW public.conditions_counted AS SELECT count(*) FROM staging_views.stg_conditions;
CREATE VIEW staging_views.stg_keywords AS SELECT 'a column that is gone' AS mood;
"""
DATA_TIMESTAMP = datetime(2024, 5, 31, 23, 30, tzinfo=UTC)


@dataclass(frozen=True)
class ThreeStudies:
    """The name of a database with marts of them, what dbt said in building and testing these, and where it wrote."""

    database: str
    said: str
    target: Path
