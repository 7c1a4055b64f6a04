"""The facts that `ctg-assets status` shows."""

from __future__ import annotations

import json
from datetime import datetime

import msgspec

from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.lake import Lake
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh.status import (
    extraction_statuses,
    quarantine_reasons,
    warehouse_status,
)
from ctg_assets.refresh.status_document import status_document
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.support.lakes import add_page, completed, json_of, planned


def test_every_extraction_is_listed_with_how_far_it_is(lake: Lake, settings: Settings) -> None:
    """Complete, given up and unfinished extractions are told apart, oldest first."""
    assert extraction_statuses(lake) == []
    complete = completed(lake, planned(lake, settings, studies=3), json_of(1, 2, 3))
    given_up = planned(lake, settings)
    lake.extractions.supersede(given_up.extraction_id, "the data moved")
    unfinished = planned(lake, settings)
    add_page(lake, unfinished, 1, json_of(1))

    statuses = extraction_statuses(lake)
    assert [(status.plan, status.state, status.pages) for status in statuses] == [
        (complete, ExtractionState.COMPLETE, 1),
        (given_up, ExtractionState.SUPERSEDED, 0),
        (unfinished, ExtractionState.OPEN, 1),
    ]
    ends = [(status.completion is not None, status.supersession) for status in statuses]
    assert [end[0] for end in ends] == [True, False, False]
    assert ends[1][1] is not None
    assert ends[1][1].reason == "the data moved"


def test_studies_in_quarantine_are_named_with_the_reason(lake: Lake, settings: Settings) -> None:
    """A study without an NCT id is listed under a dash."""
    nct_id = {"identificationModule": {"nctId": "NCT00000007"}}
    mistyped = {"protocolSection": nct_id, "hasResults": "perhaps"}
    studies = [*json_of(1), msgspec.json.encode(mistyped), b"{}"]
    plan = completed(lake, planned(lake, settings, studies=3), studies)
    reasons = dict(
        quarantine_reasons(lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id))
    )
    assert reasons.keys() == {"NCT00000007", "-"}
    assert "hasResults" in reasons["NCT00000007"]
    assert "nctId: expected NCT and eight digits" in reasons["-"]


def test_a_database_that_cannot_be_reached_is_a_finding(settings: Settings) -> None:
    """Status never fails; it says what is wrong with the database."""
    unreachable = "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1"
    status = warehouse_status(settings.model_copy(update={"postgres_url": unreachable}))
    assert status.problem is not None
    assert "127.0.0.1" in status.problem
    assert (status.address, status.info, status.staging_rows) == (None, None, None)


def test_a_loaded_database_says_what_it_holds(
    lake: Lake, settings: Settings, address: PostgresAddress
) -> None:
    """Snapshot, data version and rows of the tables are there; marts that were never built are not."""
    plan = completed(lake, planned(lake, settings, studies=3), json_of(1, 2, 3))
    load_staging(address, lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id))
    status = warehouse_status(settings.model_copy(update={"postgres_url": address.url}))
    assert status.problem is None
    assert status.info is not None
    assert (status.info.snapshot_id, status.info.studies) == (plan.extraction_id, 3)
    assert status.staging_rows is not None
    assert status.staging_rows["studies"] == 3
    assert status.marts_rows == {}


def test_the_document_tells_what_is_there_in_the_types_of_json(
    lake: Lake, settings: Settings, address: PostgresAddress
) -> None:
    """Extractions, snapshot, tables and what is to be done, as a program can read them again."""
    mistyped = {"protocolSection": {"identificationModule": {"nctId": 7}}, "novel": 1}
    studies = [*json_of(1, 2, 3), msgspec.json.encode(mistyped)]
    plan = completed(lake, planned(lake, settings, studies=4), studies)
    load_staging(address, lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id))
    unfinished = planned(lake, settings, studies=25)
    add_page(lake, unfinished, 1, json_of(1))
    on_it = settings.model_copy(update={"postgres_url": address.url})
    told = json.loads(json.dumps(status_document(on_it, lake)))

    assert [(each["extraction"], each["state"]) for each in told["extractions"]] == [
        (plan.extraction_id, "complete"),
        (unfinished.extraction_id, "open"),
    ]
    assert [(each["pages"], each["planned_pages"]) for each in told["extractions"]] == [
        (1, 1),
        (1, 3),
    ]
    snapshot, database = told["snapshot"], told["database"]
    assert (snapshot["studies"], snapshot["quarantined"]) == (3, 1)
    assert len(snapshot["quarantine"]) == 1
    assert database["problem"] is None
    assert (database["snapshot"], database["studies"]) == (plan.extraction_id, 3)
    assert database["staging_rows"]["studies"] == 3
    assert datetime.fromisoformat(database["loaded_at"]).tzinfo is not None
    assert told["next"]["state"] == "to be done"
    assert told["next"]["reason"]


def test_the_document_tells_of_a_database_that_cannot_be_reached(
    lake: Lake, settings: Settings
) -> None:
    """What is known of the lake is told all the same, without the password, and nothing of what is next."""
    unreachable = "postgresql://me:canary-91c4@127.0.0.1:1/nothing"
    told = status_document(settings.model_copy(update={"postgres_url": unreachable}), lake)
    assert "127.0.0.1" in told["database"]["problem"]
    assert told["next"] == {"state": "unknown", "reason": None}
    assert told["extractions"] == []
    assert "canary-91c4" not in json.dumps(told)
