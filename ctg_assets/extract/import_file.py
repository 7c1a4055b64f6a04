"""A bulk download brought in through the same shards as a crawl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ctg_assets.extract.bulk_file import LeftOut, read_records
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionState,
    ExtractionStore,
    new_extraction_id,
)
from ctg_assets.extract.record_checks import RecordTally, checked_records
from ctg_assets.extract.shards import ShardInfo, ShardStore
from ctg_assets.times import ImpossibleTimeError, format_time, why_impossible

_MOST_NAMED = 5

# Of a content hash: enough to tell the few contents of one study apart.
_DIGEST_DIGITS = 16


class PageStores(Protocol):
    """Where an extraction lies: its plan and its pages."""

    @property
    def extractions(self) -> ExtractionStore:
        """Plans and what became of them."""

    @property
    def shards(self) -> ShardStore:
        """Pages."""


def import_file(
    lake: PageStores,
    path: Path,
    *,
    page_size: int,
    data_timestamp: datetime | None = None,
    dated_by_studies: bool = False,
    progress: Callable[[ShardInfo], None] | None = None,
    warn: Callable[[str], None] | None = None,
) -> ExtractionPlan:
    """Bring in the studies of a file as one complete extraction; returns its plan.

    `data_timestamp` (aware) says as of when the file is; unset, the file's time of modification is
    taken. With `dated_by_studies` each study counts as observed on its own last update date. A file may
    hold several contents of one study. `progress` is called with every shard written, `warn` with a
    sentence on each kind of thing in a file of studies that a person should know of: records that are
    no studies, members of a zip left out, studies with several contents. The file is streamed; one
    that turns out broken or to be no file of studies leaves nothing behind, and what a killed import
    left is removed by the next.

    Raises BulkFileError when the file cannot be read, or most of its records are no studies; and
    before anything is recorded, ImpossibleTimeError when its contents would count as of a time that
    cannot be, and BusyError when another process plans, crawls or imports.
    """
    with lake.extractions.lock():
        left_out, tally, contents = LeftOut(), RecordTally(), _Contents()
        studies = checked_records(path, read_records(path, left_out), tally)
        first = next(studies)  # fails before anything is recorded
        now = datetime.now(UTC)
        as_of = _possible_time(path, data_timestamp, now)
        plan = ExtractionPlan(
            extraction_id=new_extraction_id(ExtractionMode.IMPORT, now),
            mode=ExtractionMode.IMPORT,
            source=str(path),
            query="",
            page_size=page_size,
            data_timestamp=as_of.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
            planned_at=now,
            dated_by_studies=dated_by_studies,
        )
        _remove_killed_imports(lake)
        plan = lake.extractions.create(plan)
        try:
            completion = _write_shards(
                lake, plan, _batches(first, studies, page_size), contents, progress
            )
        except BaseException:
            lake.extractions.delete(plan.extraction_id)
            raise
        lake.extractions.complete(plan.extraction_id, completion)
        if warn is not None:
            for sentence in _warnings(tally, left_out, contents):
                warn(sentence)
        return plan


class _Contents:
    """Which studies a file holds, and how often with other contents."""

    def __init__(self) -> None:
        self._of_study: dict[str, bytes] = {}
        self._several: dict[str, None] = {}

    def add(self, page: pa.Table) -> None:
        """Note the studies of a page."""
        for nct_id, content_hash in zip(
            page["nct_id"].to_pylist(), page["content_hash"].to_pylist(), strict=True
        ):
            if nct_id is not None:
                digest = bytes.fromhex(content_hash[:_DIGEST_DIGITS])
                if self._of_study.setdefault(nct_id, digest) != digest:
                    self._several[nct_id] = None

    @property
    def studies(self) -> int:
        """How many studies there are."""
        return len(self._of_study)

    @property
    def several(self) -> list[str]:
        """The studies with more than one content."""
        return list(self._several)


def _warnings(tally: RecordTally, left_out: LeftOut, contents: _Contents) -> Iterator[str]:
    if tally.odd:
        places = _few(tally.odd_places, tally.odd)
        yield f"records that are no studies, set aside: {tally.odd:,} ({places})"
    if left_out.count:
        members = _few(left_out.examples, left_out.count)
        yield f"members of the zip that hold no readable JSON, left out: {left_out.count:,} ({members})"
    if several := contents.several:
        ids = _few(several[:_MOST_NAMED], len(several))
        yield (
            f"studies with several contents in the file: {len(several):,} ({ids}); the history has them "
            "all, and the one updated last, or else the last in the file, is current"
        )


def _few(examples: list[str], count: int) -> str:
    more = "" if count == len(examples) else f", and {count - len(examples):,} more"
    return ", ".join(examples) + more


def _possible_time(path: Path, said: datetime | None, now: datetime) -> datetime:
    """The time that a file counts for: what was said, else its time of modification, if it can be."""
    at = said or datetime.fromtimestamp(path.stat().st_mtime, UTC)
    reason = why_impossible(at, now)
    if reason is None:
        return at
    if said is not None:
        message = (
            f"{path} cannot hold what the registry had on {format_time(at)} UTC: that is {reason}. Nothing "
            "was recorded; give the time of the contents with --observed-at"
        )
    else:
        message = (
            f"{path} was modified, as its folder says, on {format_time(at)} UTC, and that cannot be the time "
            f"of its contents: it is {reason}. Nothing was recorded; say with --observed-at when the "
            "registry had them (or set the file's time of modification, by which studies without a last "
            "update date count)"
        )
    raise ImpossibleTimeError(message)


def _remove_killed_imports(lake: PageStores) -> None:
    """Nobody can go on with an import that has no end, and it may be many gigabytes."""
    for plan in lake.extractions.plans():
        is_open = lake.extractions.state(plan.extraction_id) is ExtractionState.OPEN
        if plan.mode is ExtractionMode.IMPORT and is_open:
            lake.extractions.delete(plan.extraction_id)


def _write_shards(
    lake: PageStores,
    plan: ExtractionPlan,
    batches: Iterable[list[bytes]],
    contents: _Contents,
    progress: Callable[[ShardInfo], None] | None,
) -> Completion:
    pages = rows = json_bytes = 0
    for page, batch in enumerate(batches, start=1):
        shard = ShardInfo(
            extraction_id=plan.extraction_id,
            page=page,
            data_timestamp=plan.data_timestamp,
            fetched_at=datetime.now(UTC),
        )
        shard = lake.shards.write(shard, batch)
        contents.add(lake.shards.read(plan.extraction_id, page, ["nct_id", "content_hash"]))
        pages, rows, json_bytes = page, rows + shard.studies, json_bytes + shard.json_bytes
        if progress is not None:
            progress(shard)
    return Completion(
        pages=pages,
        rows=rows,
        distinct_studies=contents.studies,
        json_bytes=json_bytes,
        completed_at=datetime.now(UTC),
    )


def _batches(first: bytes, rest: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    batch = [first, *islice(rest, size - 1)]
    while batch:
        yield batch
        batch = list(islice(rest, size))
