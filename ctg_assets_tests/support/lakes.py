"""Lakes in a given state, and what is in them in a form that can be compared."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    new_extraction_id,
    planned_pages,
)
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.lake import Lake
from ctg_assets.settings import Settings
from ctg_assets_tests.simulator.in_memory import study

# What differs between two crawls of the same data.
_OF_THE_CRAWL = ("extraction_id", "fetched_at", "seconds")


def shard_contents(lake: Lake, extraction_id: str) -> dict[int, tuple[dict[str, Any], list[Any]]]:
    """Every shard of an extraction by page: its description, less what no two crawls share, and rows."""
    contents = {}
    for info in lake.shards.infos(extraction_id):
        facts = msgspec.structs.asdict(info)
        for name in _OF_THE_CRAWL:
            facts.pop(name)
        rows = lake.shards.read(extraction_id, info.page).to_pylist()
        contents[info.page] = (facts, rows)
    return contents


def studies_of(lake: Lake, extraction_id: str) -> list[bytes]:
    """The studies of an extraction's shards as JSON bytes, sorted."""
    return sorted(
        row
        for page in lake.shards.pages(extraction_id)
        for row in lake.shards.read(extraction_id, page, ["study"])["study"].to_pylist()
    )


FIRST_DATA = "2026-11-20T09:00:05"
NEXT_DATA = "2026-11-21T09:00:05"
_PAGE_SIZE = 10
_BEGINNING = datetime(2026, 11, 21, 10, tzinfo=UTC)
_minutes = itertools.count()


def json_of(*numbers: int, title: str = "A Study") -> list[bytes]:
    """Studies with these numbers as JSON bytes."""
    return [msgspec.json.encode(study(number, title=title)) for number in numbers]


def planned(
    lake: Lake,
    settings: Settings,
    *,
    studies: int = 25,
    data_timestamp: str = FIRST_DATA,
    query: str = "",
    mode: ExtractionMode = ExtractionMode.FULL,
) -> ExtractionPlan:
    """An open extraction in pages of ten, planned later than all before it."""
    planned_at = _BEGINNING + timedelta(minutes=next(_minutes))
    crawled = mode is not ExtractionMode.IMPORT
    plan = ExtractionPlan(
        extraction_id=new_extraction_id(mode, planned_at),
        mode=mode,
        source=settings.api_url if crawled else "/downloads/ctg-studies.json",
        query=query,
        page_size=_PAGE_SIZE,
        data_timestamp=data_timestamp,
        planned_at=planned_at,
        expected_studies=studies if crawled else None,
        planned_pages=planned_pages(studies, _PAGE_SIZE) if crawled else None,
    )
    return lake.extractions.create(plan)


def add_page(lake: Lake, plan: ExtractionPlan, page: int, studies: Sequence[bytes]) -> None:
    """Publish a shard of an extraction."""
    shard = ShardInfo(
        extraction_id=plan.extraction_id,
        page=page,
        data_timestamp=plan.data_timestamp,
        fetched_at=plan.planned_at,
    )
    lake.shards.write(shard, studies)


def add_pages(lake: Lake, plan: ExtractionPlan, studies: Sequence[bytes]) -> None:
    """Publish all pages of an extraction; planned ones that no study is left for are empty."""
    pages = max(plan.planned_pages or 0, planned_pages(len(studies), _PAGE_SIZE))
    for page in range(1, pages + 1):
        add_page(lake, plan, page, studies[(page - 1) * _PAGE_SIZE : page * _PAGE_SIZE])


def completed(lake: Lake, plan: ExtractionPlan, studies: Sequence[bytes]) -> ExtractionPlan:
    """Make an extraction complete with these studies, whatever it had planned."""
    add_pages(lake, plan, studies)
    completion = Completion(
        pages=len(lake.shards.pages(plan.extraction_id)),
        rows=len(studies),
        distinct_studies=len(set(studies)),
        json_bytes=sum(map(len, studies)),
        completed_at=plan.planned_at,
    )
    lake.extractions.complete(plan.extraction_id, completion)
    return plan
