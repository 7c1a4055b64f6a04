"""A bulk download brought in through the same shards as a crawl.

Belongs here: turning a file's studies into an extraction of mode `import`. Does not belong here:
reading the file (`lake/bulk_file.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from ctg_assets.lake.bulk_file import read_studies
from ctg_assets.lake.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionState,
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
    dated_by_studies: bool = False,
    progress: Callable[[ShardInfo], None] | None = None,
) -> ExtractionPlan:
    """Bring in the studies of a file as one complete extraction; returns its plan.

    `data_timestamp` (aware) says as of when the file is; unset, the file's time of modification is
    taken. With `dated_by_studies` each study counts as observed on its own last update date, and a file
    may hold several contents of one. `progress` is called with every shard written. The file is
    streamed; one that turns out broken leaves nothing behind, and what a killed import left is removed
    by the next. Only one process may crawl or import at a time (the caller sees to it).

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
        dated_by_studies=dated_by_studies,
    )
    _remove_killed_imports(lake)
    plan = lake.extractions.create(plan)
    try:
        completion = _write_shards(lake, plan, _batches(first, studies, page_size), progress)
    except BaseException:
        lake.extractions.delete(plan.extraction_id)
        raise
    lake.extractions.complete(plan.extraction_id, completion)
    return plan


def _remove_killed_imports(lake: Lake) -> None:
    """Nobody can go on with an import that has no end, and it may be many gigabytes."""
    for plan in lake.extractions.plans():
        is_open = lake.extractions.state(plan.extraction_id) is ExtractionState.OPEN
        if plan.mode is ExtractionMode.IMPORT and is_open:
            lake.extractions.delete(plan.extraction_id)


def _write_shards(
    lake: Lake,
    plan: ExtractionPlan,
    batches: Iterable[list[bytes]],
    progress: Callable[[ShardInfo], None] | None,
) -> Completion:
    pages = rows = json_bytes = 0
    ids: set[str] = set()
    for page, batch in enumerate(batches, start=1):
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
    return Completion(
        pages=pages,
        rows=rows,
        distinct_studies=len(ids),
        json_bytes=json_bytes,
        completed_at=datetime.now(UTC),
    )


def _batches(first: bytes, rest: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    batch = [first, *islice(rest, size - 1)]
    while batch:
        yield batch
        batch = list(islice(rest, size))
