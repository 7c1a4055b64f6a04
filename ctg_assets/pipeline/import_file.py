"""A bulk download brought in through the same shards as a crawl.

Belongs here: turning a file's studies into an extraction of mode `import`. Does not belong here:
reading the file (`lake/bulk_file.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from ctg_assets.lake.bulk_file import read_studies
from ctg_assets.lake.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    new_extraction_id,
)
from ctg_assets.lake.shards import ShardInfo
from ctg_assets.pipeline.services import Lake


def import_file(
    lake: Lake,
    path: Path,
    *,
    page_size: int,
    data_timestamp: datetime | None = None,
    progress: Callable[[ShardInfo], None] | None = None,
) -> ExtractionPlan:
    """Bring in the studies of a file as one complete extraction; returns its plan.

    `data_timestamp` says as of when the file is (UTC); unset, the file's time of modification is
    taken. `progress` is called with every shard written. The file is streamed; a file that turns out
    broken leaves nothing behind that counts.

    Raises BulkFileError when the file cannot be read.
    """
    studies = read_studies(path)
    first = next(studies)  # fails before anything is recorded
    now = datetime.now(UTC)
    as_of = data_timestamp or datetime.fromtimestamp(path.stat().st_mtime, UTC)
    plan = ExtractionPlan(
        extraction_id=new_extraction_id(ExtractionMode.IMPORT, now),
        mode=ExtractionMode.IMPORT,
        source=str(path),
        query="",
        page_size=page_size,
        data_timestamp=as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        planned_at=now,
    )
    lake.extractions.create(plan)
    pages = rows = json_bytes = 0
    ids: set[str] = set()
    for page, batch in enumerate(_batches(first, studies, page_size), start=1):
        shard = ShardInfo(
            extraction_id=plan.extraction_id,
            page=page,
            data_timestamp=plan.data_timestamp,
            fetched_at=datetime.now(UTC),
        )
        shard = lake.shards.write(shard, batch)
        page_ids = lake.shards.read(plan.extraction_id, page, ["nct_id"])["nct_id"]
        ids.update(page_ids.drop_null().to_pylist())
        pages, rows, json_bytes = page, rows + shard.studies, json_bytes + shard.json_bytes
        if progress is not None:
            progress(shard)
    completion = Completion(
        pages=pages,
        rows=rows,
        distinct_studies=len(ids),
        json_bytes=json_bytes,
        completed_at=datetime.now(UTC),
    )
    lake.extractions.complete(plan.extraction_id, completion)
    return plan


def _batches(first: bytes, rest: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    batch = [first, *islice(rest, size - 1)]
    while batch:
        yield batch
        batch = list(islice(rest, size))
