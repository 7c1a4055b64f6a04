"""The duty to report through the history: eight trials on three days, followed day by day and asked for afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.lake import open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.marts.projects import TABLES, dbt_on, rows, values
from ctg_assets_tests.support.lakes import completed, planned

DAYS = ("2026-01-05", "2026-02-05", "2026-03-05")
LEAVES, VANISHES, MOVES, RETURNS, GOES, WAITS, CANCELS, LOSES_SITE = (
    f"NCT0000010{number}" for number in range(8)
)
MARTS = ("fct_results_reporting_period", "fct_results_reporting")


def trial(
    nct_id: str,
    *,
    phase: str = "PHASE3",
    completed_on: str = "2023-06-01",
    results: str | None = None,
    rounds: list[dict[str, str]] | None = None,
) -> dict[str, Any]:
    """An applicable trial, without results unless told."""
    status = {
        "overallStatus": "COMPLETED",
        "startDateStruct": {"date": "2018-01-01"},
        "primaryCompletionDateStruct": {"date": completed_on, "type": "ACTUAL"},
    }
    if results is not None:
        status["resultsFirstSubmitDate"] = results
    study: dict[str, Any] = {
        "protocolSection": {
            "identificationModule": {"nctId": nct_id, "briefTitle": "A trial"},
            "statusModule": status,
            "designModule": {"studyType": "INTERVENTIONAL", "phases": [phase]},
            "oversightModule": {"isFdaRegulatedDrug": True, "isFdaRegulatedDevice": False},
        }
    }
    if rounds is not None:
        tracking = {"firstMCPInfo": {}, "submissionInfos": rounds}
        study["derivedSection"] = {"miscInfoModule": {"submissionTracking": tracking}}
    return study


def probable(country: str) -> dict[str, Any]:
    """A trial that says nothing of regulation, with a drug and a site."""
    study = trial(LOSES_SITE, completed_on="2018-01-01")
    protocol = study["protocolSection"]
    del protocol["oversightModule"]
    protocol["statusModule"]["startDateStruct"] = {"date": "2016-05-01"}
    protocol["armsInterventionsModule"] = {"interventions": [{"type": "DRUG", "name": "A drug"}]}
    protocol["contactsLocationsModule"] = {"locations": [{"city": "A city", "country": country}]}
    study["derivedSection"] = {"miscInfoModule": {}}
    return study


def on_the_days() -> list[list[dict[str, Any]]]:
    """What the registry has on each day."""
    cancelled = [{"releaseDate": "2024-04-01", "unreleaseDate": "2024-04-02"}]
    # So many others that what changes is loaded as changes.
    others = [trial(f"NCT{number:08d}", phase="PHASE1") for number in range(200, 300)]
    kept = [trial(WAITS, completed_on="2024-12-20"), *others]
    late = trial(CANCELS, results="2024-06-10")
    first = [
        *(trial(LEAVES), trial(VANISHES, results="2024-05-01"), trial(MOVES), trial(RETURNS)),
        *(trial(GOES), trial(CANCELS, rounds=cancelled), probable("United States")),
    ]
    second = [
        *(trial(LEAVES, phase="PHASE1"), trial(VANISHES), trial(MOVES, completed_on="2025-06-01")),
        *(trial(GOES), late, probable("France")),
    ]
    third = [
        *(trial(LEAVES), trial(VANISHES, results="2024-05-01")),
        *(trial(MOVES, completed_on="2025-06-01"), trial(RETURNS), late, probable("France")),
    ]
    return [[*kept, *studies] for studies in (first, second, third)]


STATUSES = {
    LEAVES: ("overdue", "no-longer-act", "overdue"),
    VANISHES: ("reported", "overdue", "reported"),
    MOVES: ("overdue", "ongoing", "ongoing"),
    RETURNS: ("overdue", None, "overdue"),
    GOES: ("overdue", "overdue", None),
    # Due from 2026-01-20 on, without being edited.
    WAITS: ("ongoing", "overdue", "overdue"),
    CANCELS: ("overdue-cancelled", "reported-late", "reported-late"),
    LOSES_SITE: ("overdue", "no-longer-act", "no-longer-act"),
}


@dataclass
class Followed:
    """A database that followed the days, where dbt writes, and the present mart as of each of them."""

    address: PostgresAddress
    written: Path
    present: dict[str, list[dict[str, Any]]]

    def reporting(self) -> list[dict[str, Any]]:
        """The mart of the present as it stands."""
        return rows(self.address, "SELECT * FROM marts.fct_results_reporting ORDER BY nct_id")

    def periods(self) -> list[dict[str, Any]]:
        """The mart of periods."""
        return rows(
            self.address,
            "SELECT * FROM marts.fct_results_reporting_period ORDER BY nct_id, valid_from",
        )


@pytest.fixture(scope="module")
def followed(address: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """Each day's studies recorded, loaded and built upon, as a refresh does."""
    settings = load_settings(
        data_dir=tmp_path_factory.mktemp("data"), query="", postgres_url=address.url
    )
    lake = open_lake(settings)
    found = Followed(address, tmp_path_factory.mktemp("dbt"), {})
    for day, studies in zip(DAYS, on_the_days(), strict=True):
        plan = planned(lake, settings, studies=len(studies), data_timestamp=f"{day}T09:00:05")
        completed(lake, plan, [json.dumps(study).encode() for study in studies])
        load_staging(
            address, lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
        )
        models = ["+fct_results_reporting"] if day == DAYS[0] else MARTS
        dbt_on(address, found.written, *TABLES, "--select", *models)
        found.present[day] = found.reporting()
    return found


def test_each_day_has_its_statuses(followed: Followed) -> None:
    """Trials that leave the population, lose results, move dates, go, or become due are told as such."""
    statuses = {
        nct_id: tuple(
            next((row["status"] for row in followed.present[day] if row["nct_id"] == nct_id), None)
            for day in DAYS
        )
        for nct_id in STATUSES
    }
    assert statuses == STATUSES
    loads = values(followed.address, "SELECT kind FROM ctg_meta.loads ORDER BY load_number")
    assert loads == [("full",), ("delta",), ("delta",)]


def test_periods_tell_what_changed(followed: Followed) -> None:
    """A study has a period for each state it was in; rounds are read back once results are posted."""
    by_study: dict[str, list[dict[str, Any]]] = {}
    for row in followed.periods():
        by_study.setdefault(row["nct_id"], []).append(row)
    assert {nct_id: len(by_study[nct_id]) for nct_id in STATUSES} == {
        LEAVES: 3,
        VANISHES: 3,
        MOVES: 2,
        RETURNS: 3,
        GOES: 2,
        WAITS: 1,
        CANCELS: 2,
        LOSES_SITE: 2,
    }
    assert [row["is_no_longer_act"] for row in by_study[LEAVES]] == [False, True, False]
    assert [row["have_results_vanished"] for row in by_study[VANISHES]] == [False, True, False]
    # From 2024-05-31 to 2026-06-01.
    assert [row["days_due_date_moved"] for row in by_study[MOVES]] == [None, 731]
    assert [row["is_deleted"] for row in by_study[RETURNS]] == [False, True, False]
    assert [(row["is_deleted"], row["is_current"]) for row in by_study[GOES]] == [
        (False, False),
        (True, True),
    ]
    assert [(row["submission_rounds"], row["cancelled_rounds"]) for row in by_study[CANCELS]] == [
        (1, 1),
        (1, 1),
    ]
    assert [(row["is_pact"], row["has_us_site"]) for row in by_study[LOSES_SITE]] == [
        (True, True),
        (False, False),
    ]


def test_any_observed_day_can_be_asked_for(followed: Followed) -> None:
    """As of an earlier day the mart is what it was that day; the periods are those of a whole build."""
    before = followed.periods()
    run = ("run", "--select", *MARTS)
    dbt_on(
        followed.address, followed.written, *run, "--full-refresh", "--vars", f"as_of: {DAYS[0]}"
    )
    assert followed.reporting() == followed.present[DAYS[0]]
    assert followed.periods() == before
    dbt_on(followed.address, followed.written, *run, "--vars", f"as_of: {DAYS[1]}")
    assert followed.reporting() == followed.present[DAYS[1]]
