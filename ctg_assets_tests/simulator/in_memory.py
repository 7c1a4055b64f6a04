"""Small studies and a source that holds them, for tests that care what exactly is served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


def nct_id(number: int) -> str:
    """The NCT id with this number."""
    return f"NCT{number:08d}"


def study(
    number: int,
    *,
    title: str = "A Study",
    conditions: Iterable[str] = (),
    phases: Iterable[str] = (),
    status: str = "COMPLETED",
    posted: str = "2024-01-01",
    start: str | None = None,
    enrollment: int | None = None,
    minimum_age: str | None = None,
    locations: Iterable[Mapping[str, str]] = (),
    aliases: Iterable[str] = (),
) -> dict[str, Any]:
    """A study record with what the tests query; parts not given are absent from it."""
    status_module: dict[str, Any] = {
        "overallStatus": status,
        "lastUpdatePostDateStruct": {"date": posted, "type": "ACTUAL"},
    }
    if start is not None:
        status_module["startDateStruct"] = {"date": start}
    identification: dict[str, Any] = {"nctId": nct_id(number), "briefTitle": title}
    if aliases:
        identification["nctIdAliases"] = list(aliases)
    design: dict[str, Any] = {"studyType": "INTERVENTIONAL"}
    if phases:
        design["phases"] = list(phases)
    if enrollment is not None:
        design["enrollmentInfo"] = {"count": enrollment}
    protocol: dict[str, Any] = {
        "identificationModule": identification,
        "statusModule": status_module,
        "conditionsModule": {"conditions": list(conditions)},
        "designModule": design,
    }
    if minimum_age is not None:
        protocol["eligibilityModule"] = {"minimumAge": minimum_age}
    if locations:
        protocol["contactsLocationsModule"] = {"locations": [dict(item) for item in locations]}
    return {"protocolSection": protocol, "hasResults": False}


class InMemorySource:
    """A study source over given records; counts how often a study's JSON was asked for."""

    def __init__(self, studies: Iterable[Mapping[str, Any]]) -> None:
        self._studies = list(studies)
        identifications = [
            item["protocolSection"]["identificationModule"] for item in self._studies
        ]
        self._ids = [item["nctId"] for item in identifications]
        self._targets = {
            alias: item["nctId"]
            for item in identifications
            for alias in item.get("nctIdAliases", ())
        }
        self.read = 0

    def __len__(self) -> int:
        """How many studies there are."""
        return len(self._studies)

    def nct_id(self, index: int) -> str:
        """The NCT id of the study at this place."""
        return str(self._ids[index])

    def last_update_post_date(self, index: int) -> str:
        """When the study's latest change was posted; empty if it does not say."""
        status = self._studies[index]["protocolSection"].get("statusModule", {})
        return str(status.get("lastUpdatePostDateStruct", {}).get("date", ""))

    def raw(self, index: int) -> bytes:
        """The study's JSON."""
        self.read += 1
        return msgspec.json.encode(self._studies[index])

    def index_of(self, nct_id: str) -> int | None:
        """The place of the study with this NCT id, or None."""
        return self._ids.index(nct_id) if nct_id in self._ids else None

    def alias_target(self, nct_id: str) -> str | None:
        """The NCT id that survives in place of this obsolete one, or None."""
        return self._targets.get(nct_id)


def numbered_studies(count: int) -> InMemorySource:
    """A source of `count` studies, numbered from 1."""
    return InMemorySource(study(number) for number in range(1, count + 1))
