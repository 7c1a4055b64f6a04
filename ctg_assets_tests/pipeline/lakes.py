"""What tests ask of a lake after a crawl.

Belongs here: reading lakes in a form that can be compared. Does not belong here: expectations.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ctg_assets.pipeline.services import Lake

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
