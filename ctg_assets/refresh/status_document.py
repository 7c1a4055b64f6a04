"""All that `ctg-assets status` tells, as one document for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ctg_assets import __version__
from ctg_assets.extract.published_model import published_model_check, recorded_model
from ctg_assets.extract.search_file import saved_searches
from ctg_assets.extract.searches import recorded_search, searches_check
from ctg_assets.lake import Lake
from ctg_assets.refresh.planner import Idle, Step
from ctg_assets.refresh.status import (
    ExtractionStatus,
    WarehouseStatus,
    extraction_statuses,
    odd_times,
    quarantine_reasons,
    warehouse_and_next_step,
)
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings

# Of the studies in quarantine so many are named; the snapshot's file has all.
_MOST_NAMED = 100

_Document = dict[str, Any]


def status_document(settings: Settings, lake: Lake) -> _Document:
    """What is there, how fresh it is, and what is unfinished: JSON's types only, times in UTC.

    What cannot be read of the database is told under `problem`, and then `next` has the state `unknown`. Raises
    DamagedFileError and SearchFileError.
    """
    warehouse, upcoming = warehouse_and_next_step(settings, lake)
    document = {
        "version": __version__,
        "told_at": datetime.now(UTC),
        "data_folder": str(settings.data_dir),
        "registry": settings.api_url,
        "published_model": _published_model(settings, lake),
        "searches": _searches(settings, lake),
        "extractions": [_extraction(each) for each in extraction_statuses(lake)],
        "odd_times": odd_times(lake, datetime.now(UTC)),
        "snapshot": _snapshot(lake),
        "database": _database(warehouse),
        "next": _next(upcoming),
    }
    builtins: _Document = msgspec.to_builtins(document)
    return builtins


def _check(result: CheckResult) -> _Document:
    return {"passed": result.passed, "description": result.description}


def _published_model(settings: Settings, lake: Lake) -> _Document | None:
    record = recorded_model(lake.storage, settings.api_url)
    if record is None:
        return None
    return {**_check(published_model_check(record)), "asked_at": record.asked_at}


def _searches(settings: Settings, lake: Lake) -> _Document | None:
    searches = saved_searches(settings.searches_file) if settings.aact else ()
    if not any(recorded_search(lake.storage, settings.api_url, search) for search in searches):
        return None
    return _check(searches_check(lake.storage, settings.api_url, searches))


def _extraction(status: ExtractionStatus) -> _Document:
    plan, completion, supersession = status.plan, status.completion, status.supersession
    return {
        "extraction": plan.extraction_id,
        "state": str(status.state),
        "mode": str(plan.mode),
        "why": plan.reason,
        "source": plan.source,
        "query": plan.query,
        "data_timestamp": plan.data_timestamp,
        "planned_at": plan.planned_at,
        "pages": status.pages,
        "planned_pages": plan.planned_pages,
        "studies": None if completion is None else completion.distinct_studies,
        "given_up": None if supersession is None else supersession.reason,
    }


def _snapshot(lake: Lake) -> _Document | None:
    manifest = lake.snapshots.latest()
    if manifest is None:
        return None
    quarantined: Sequence[tuple[str, str]] = quarantine_reasons(lake, manifest)[:_MOST_NAMED]
    unknown: Mapping[str, int] = manifest.unknown_fields
    return {
        "snapshot": manifest.snapshot_id,
        "path": lake.snapshots.studies_path(manifest.snapshot_id),
        "data_timestamp": manifest.data_timestamp,
        "created_at": manifest.created_at,
        "studies": manifest.studies,
        "quarantined": manifest.quarantined,
        "quarantine": [{"nct_id": nct_id, "reason": reason} for nct_id, reason in quarantined],
        "unknown_fields": unknown,
        "parquet_bytes": manifest.file_bytes,
        "json_bytes": manifest.json_bytes,
    }


def _database(status: WarehouseStatus) -> _Document:
    info = status.info
    return {
        "address": status.address,
        "problem": status.problem,
        "loaded_at": None if info is None else _utc(info.loaded_at),
        "snapshot": None if info is None else info.snapshot_id,
        "data_timestamp": None if info is None else _utc(info.data_timestamp),
        "studies": None if info is None else info.studies,
        "staging_rows": status.staging_rows,
        "ctgov_rows": status.ctgov_rows,
        "marts_rows": status.marts_rows,
        "marts_left_over": status.marts_left_over,
    }


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def _next(upcoming: Step | Idle | None) -> _Document:
    if upcoming is None:
        return {"state": "unknown", "reason": None}
    if isinstance(upcoming, Step):
        return {"state": "to be done", "reason": upcoming.reason}
    return {"state": "held back" if upcoming.blocked else "nothing", "reason": upcoming.reason}
