"""Studies made by hand for what AACT's definitions say of cases that no recorded study is."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import msgspec

Json = dict[str, Any]


def _study(number: int, results: Json | None = None, **modules: Json) -> Json:
    """A study with these modules of its protocol, and results."""
    protocol: Json = {
        "identificationModule": {"nctId": f"NCT{number:08d}", "briefTitle": "A study"},
        "statusModule": {"overallStatus": "COMPLETED", "studyFirstSubmitDate": "2019-05-06"},
        "descriptionModule": {"briefSummary": "A summary."},
    }
    study: Json = {"protocolSection": protocol | modules, "hasResults": results is not None}
    return study if results is None else study | {"resultsSection": results}


def _dates(start: Json, completion: Json, submitted: str | None = None) -> Json:
    """A status module with a start, a primary completion and the submission of results."""
    module: Json = {"overallStatus": "COMPLETED", "studyFirstSubmitDate": "2019-05-06"}
    sent = {} if submitted is None else {"resultsFirstSubmitDate": submitted}
    return module | {"startDateStruct": start, "primaryCompletionDateStruct": completion} | sent


def _sites(*sites: Json) -> Json:
    return {"locations": list(sites)}


def _outcome(**more: Any) -> Json:
    """Results with one outcome of one group."""
    outcome = {
        "type": "PRIMARY",
        "title": "An outcome",
        "groups": [{"id": "OG000", "title": "All"}],
        **more,
    }
    return {"outcomeMeasuresModule": {"outcomeMeasures": [outcome]}}


def _values(*values: Json) -> list[Json]:
    """Classes, each with one value of the group."""
    return [
        {"title": str(place), "categories": [{"measurements": [{"groupId": "OG000", **value}]}]}
        for place, value in enumerate(values)
    ]


FLOW: Json = {
    "groups": [{"id": "FG000", "title": "All"}],
    "periods": [
        {
            "title": "Overall Study",
            "milestones": [
                {
                    "type": "STARTED",
                    "comment": "of the milestone",
                    "achievements": [
                        {"groupId": "FG000", "numSubjects": "12", "comment": "of the group"}
                    ],
                }
            ],
        }
    ],
}

BASELINE: Json = {
    "groups": [{"id": "BG000", "title": "All"}],
    "denoms": [{"units": "Participants", "counts": [{"groupId": "BG000", "value": "12,345"}]}],
    "measures": [
        {
            "title": "Sex: Female, Male",
            "paramType": "COUNT_OF_PARTICIPANTS",
            "unitOfMeasure": "Participants",
            "calculatePct": True,
            "classes": [
                {
                    "categories": [
                        {
                            "title": "Female",
                            "measurements": [
                                {
                                    "groupId": "BG000",
                                    "value": "80.",
                                    "spread": "1,234.5",
                                    "lowerLimit": "1,000",
                                    "upperLimit": "2,000,000",
                                }
                            ],
                        }
                    ]
                }
            ],
        }
    ],
}

EVENTS: Json = {
    "frequencyThreshold": "99.9",
    "eventGroups": [{"id": "EG000", "title": "All"}],
    "otherEvents": [{"term": "Headache", "stats": [{"groupId": "EG000", "numAffected": 1}]}],
}

MADE: list[Json] = [
    # It ended before it began, and results came before that.
    _study(
        1,
        statusModule=_dates(
            {"date": "2020-03-31", "type": "ACTUAL"},
            {"date": "2020-02-01", "type": "ACTUAL"},
            "2019-12-31",
        ),
    ),
    # Types of dates are missing.
    _study(2, statusModule=_dates({"date": "2020-01"}, {"date": "2020-12"})),
    # Results before the end, which is estimated.
    _study(
        3,
        statusModule=_dates(
            {"date": "2020-01-01", "type": "ACTUAL"},
            {"date": "2024-01", "type": "ESTIMATED"},
            "2024-06-30",
        ),
    ),
    # Results without an outcome, and a threshold with decimals.
    _study(4, {"adverseEventsModule": EVENTS}),
    # Sites in the territories of the United States.
    _study(5, contactsLocationsModule=_sites({"facility": "A", "country": "Puerto Rico"})),
    _study(
        6,
        contactsLocationsModule=_sites(
            {"facility": "A", "country": "Guam"}, {"facility": "B", "country": "Japan"}
        ),
    ),
    # Measures at baseline, and milestones.
    _study(7, {"baselineCharacteristicsModule": BASELINE, "participantFlowModule": FLOW}),
    # P values.
    _study(
        8,
        _outcome(
            analyses=[
                {"pValue": value} if value else {}
                for value in ("0.05", ">0.99", "0.04 (two-sided)", "&lt; 0.001", None)
            ]
        ),
    ),
    # Decimal commas beside what may be a separator of thousands or not.
    _study(9, _outcome(classes=_values({"value": "0,3139"}, {"value": "1,249"}))),
    # Signs before numbers.
    _study(
        13,
        _outcome(
            classes=_values(
                {"value": "<0.5", "spread": ">2", "lowerLimit": "~3", "upperLimit": "&gt; 4"},
                {"value": "= 7", "spread": "0.1"},
            ),
            analyses=[{"paramValue": "<0.5", "ciPctValue": "95", "ciUpperLimit": ">90"}],
        ),
    ),
    # Larger than AACT's column.
    _study(10, designModule={"enrollmentInfo": {"count": 3_000_000_000, "type": "ACTUAL"}}),
    # An invented role, and two groups of one name.
    _study(
        11,
        contactsLocationsModule=_sites(
            {
                "facility": "A",
                "country": "Chad",
                "contacts": [
                    {"name": "Ada", "role": "Investigator"},
                    {"name": "Bo", "role": "CONTACT"},
                ],
            }
        ),
        armsInterventionsModule={
            "armGroups": [
                {"label": "Arm", "type": "EXPERIMENTAL"},
                {"label": "Arm", "type": "NO_INTERVENTION"},
            ],
            "interventions": [{"type": "DRUG", "name": "A drug", "armGroupLabels": ["Arm"]}],
        },
    ),
    # Registered before anything else was known.
    _study(12, _outcome(anticipatedPostingDate="2027-02")),
]


def write_made_studies(path: Path) -> None:
    """Write them as a gzipped file of JSON lines."""
    path.write_bytes(gzip.compress(b"\n".join(map(msgspec.json.encode, MADE))))
