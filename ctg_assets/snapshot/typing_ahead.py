"""Typing ahead: while a first crawl waits for the registry, its pages are sorted and typed.

A crawl at the registry's pace leaves the processor idle for minutes. What has come is made into portions
(`extract/portions.py`) meanwhile, so that after the last page only merging is left. No portion is ever
needed: pages without one are sorted and typed by the compaction.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.extract.external_sort import (
    PORTION_SCHEMA,
    slices_of_bytes,
    sorted_page_rows,
    study_blocks,
)
from ctg_assets.extract.extractions import ExtractionState, ExtractionStore
from ctg_assets.extract.portions import (
    Portion,
    PortionRecord,
    PortionStore,
    merging,
    portion_writer,
)
from ctg_assets.extract.shards import ShardInfo, ShardStore
from ctg_assets.history.store import HistoryStore
from ctg_assets.snapshot.store import (
    EXTRAS_SCHEMA,
    QUARANTINE_FILE_SCHEMA,
    SnapshotStore,
    snapshot_schema,
)
from ctg_assets.snapshot.typed_contents import (
    CONTENT_COLUMNS,
    TypedContents,
    model_fingerprint,
    type_contents,
)
from ctg_assets.storage.files import Storage

_log = logging.getLogger(__name__)

# JSON of a portion, which is held while it is written. 10 GB make 27 portions.
_PORTION_JSON_BYTES = 384 << 20

# JSON of a block of typed studies, which take about as much typed. A block of each portion is held while they
# are merged. Smaller ones take twice the time to read, for they have 500 columns all the same.
_BLOCK_JSON_BYTES = 12 << 20

_KEYS = ["nct_id", "content_hash", "extraction_id", "page"]


class TypingAhead:
    """Makes portions of an extraction's pages, in a thread of its own."""

    def __init__(self, portions: PortionStore, shards: ShardStore, extraction_id: str) -> None:
        """Make those that `portions` lacks."""
        self._portions = portions
        self._shards = shards
        self._extraction_id = extraction_id
        self._done = _pages(portions.records(extraction_id, shards))
        self._waiting: list[ShardInfo] = []
        self._thread = ThreadPoolExecutor(1)
        self._has_failed = False

    def add(self, shard: ShardInfo) -> None:
        """Tell of a page that is there; returns at once."""
        if shard.page in self._done or self._has_failed:
            return
        self._waiting.append(shard)
        if _json_bytes(self._waiting) >= _PORTION_JSON_BYTES:
            self._thread.submit(self._make, self._waiting)
            self._waiting = []

    def close(self, *, give_up: bool) -> None:
        """Wait for the portions that were begun; with `give_up`, only for the one that is being made."""
        self._thread.shutdown(cancel_futures=give_up)

    def _make(self, shards: list[ShardInfo]) -> None:
        if self._has_failed:
            return
        try:
            _make_portion(self._portions, self._shards, self._extraction_id, shards)
        except Exception as error:  # noqa: BLE001 - told; the compaction does the same work, and fails if it must
            self._has_failed = True
            _log.warning(
                "pages are no longer sorted and typed while others come (%s: %s); compaction will take longer",
                type(error).__name__,
                error,
            )


@contextmanager
def typing_ahead(
    storage: Storage, scratch: Path, extraction_id: str
) -> Iterator[TypingAhead | None]:
    """What is to be told of an extraction's pages as they come; None where it would not pay.

    It pays while there is no history: afterwards, only what changed is sorted and typed. Portions that
    nobody needs any more are removed first.
    """
    remove_needless_portions(storage, scratch)
    if HistoryStore(storage).latest() is not None:
        yield None
        return
    ahead = TypingAhead(PortionStore(scratch), ShardStore(storage), extraction_id)
    try:
        yield ahead
    except BaseException:
        ahead.close(give_up=True)
        raise
    ahead.close(give_up=False)


def remove_needless_portions(storage: Storage, scratch: Path) -> None:
    """Remove the portions of extractions that are gone, given up or overtaken, or have their snapshot."""
    entries = HistoryStore(storage).entries()
    latest = entries[-1].extraction_id if entries else None
    overtaken = {entry.extraction_id for entry in entries} - {latest}
    portions = PortionStore(scratch)
    for extraction_id in portions.extractions():
        if (
            extraction_id in overtaken
            or SnapshotStore(storage).manifest(extraction_id) is not None
            or not _may_be_compacted(ExtractionStore(storage), extraction_id)
        ):
            portions.remove(extraction_id)


def finished_portions(storage: Storage, scratch: Path, extraction_id: str) -> list[Portion]:
    """Typed portions of all of a complete extraction, if some were made by the present model while it was under way.

    Those that are missing are made. Raises OSError, and what reading shards raises.
    """
    portions, shards = PortionStore(scratch), ShardStore(storage)
    found = portions.records(extraction_id, shards)
    found = [record for record in found if record.typed_by == model_fingerprint()]
    if found:
        done = _pages(found)
        missing = [info for info in shards.infos(extraction_id) if info.page not in done]
        while missing:
            some = _first_of_bytes(missing, _PORTION_JSON_BYTES)
            found.append(_make_portion(portions, shards, extraction_id, some))
            missing = missing[len(some) :]
    return [record.typed for record in found]


def typed_contents(
    portions: Sequence[Portion], history: HistoryStore, wanted: pl.DataFrame, rows_at_a_time: int
) -> Iterator[TypedContents]:
    """Contents typed, from portions as far as they are in these, some rows at a time.

    `wanted` has CONTENT_COLUMNS, sorted by NCT id, each once. Raises DamagedPortionError.
    """
    with merging(portions, snapshot_schema()) as merged, history.open_contents() as contents:
        for some in wanted.iter_slices(rows_at_a_time):
            ahead = _chosen(merged.until(some["nct_id"][-1]), some)
            left = some.join(pl.DataFrame(ahead.select(["nct_id"])), on="nct_id", how="anti")
            if left.is_empty():
                yield TypedContents(
                    ahead,
                    EXTRAS_SCHEMA.empty_table(),
                    QUARANTINE_FILE_SCHEMA.empty_table(),
                    Counter(),
                )
                continue
            [rows] = contents.rows(left, left.height)
            typed = type_contents(rows)
            studies = pa.concat_tables([ahead, typed.studies]).combine_chunks()
            yield replace(typed, studies=studies.take(pc.sort_indices(studies["nct_id"])))


def _make_portion(
    portions: PortionStore, shards: ShardStore, extraction_id: str, infos: Sequence[ShardInfo]
) -> PortionRecord:
    """Make the portions of some pages; raises OSError, and what reading shards raises."""
    rows = sorted_page_rows(shards, extraction_id, [info.page for info in infos])
    number, studies_file, typed_file = portions.new_files(extraction_id)
    with (
        portion_writer(studies_file, PORTION_SCHEMA) as studies,
        portion_writer(typed_file, snapshot_schema()) as typed,
    ):
        for some in slices_of_bytes(rows, _BLOCK_JSON_BYTES):
            for block in study_blocks(some):
                studies.write(block)
            for block in _typed_rows(extraction_id, some).to_batches():
                typed.write(block)
    record = PortionRecord(
        pages=list(infos),
        studies=Portion(file=str(studies_file), blocks=studies.blocks),
        typed=Portion(file=str(typed_file), blocks=typed.blocks),
        typed_by=model_fingerprint(),
    )
    portions.publish(extraction_id, number, record)
    return record


def _typed_rows(extraction_id: str, rows: pl.DataFrame) -> pa.Table:
    """Studies as a snapshot has them; without those of which it has more to say."""
    # Of a content that was sent twice, the history has the page that it was on last.
    once = rows.filter(pl.struct("nct_id", "content_hash").is_last_distinct())
    facts = once.with_columns(
        extraction_id=pl.lit(extraction_id), contents_entry=pl.lit(None, pl.Int32)
    )
    typed = type_contents(facts.select(*CONTENT_COLUMNS, "study").to_arrow())
    if not typed.extras.num_rows:
        return typed.studies.combine_chunks()
    is_plain = pc.invert(pc.is_in(typed.studies["nct_id"], typed.extras["nct_id"]))
    return typed.studies.filter(is_plain).combine_chunks()


def _chosen(batches: Sequence[pa.RecordBatch], wanted: pl.DataFrame) -> pa.Table:
    """Those of the wanted contents that are in some rows of portions, in their order."""
    rows = pa.Table.from_batches(batches, snapshot_schema())
    found = pl.DataFrame(rows.select(_KEYS)).with_row_index("place")
    places = wanted.select(_KEYS).join(found, on=_KEYS, maintain_order="left")["place"]
    return rows.combine_chunks().take(places.to_arrow())


def _may_be_compacted(extractions: ExtractionStore, extraction_id: str) -> bool:
    try:
        extractions.plan(extraction_id)
    except KeyError:
        return False
    return extractions.state(extraction_id) is not ExtractionState.SUPERSEDED


def _first_of_bytes(infos: Sequence[ShardInfo], json_bytes: int) -> list[ShardInfo]:
    """As many pages as have so much JSON together, at least one."""
    ends = accumulate(info.json_bytes for info in infos)
    return [
        info for info, end in zip(infos, ends, strict=True) if end - info.json_bytes < json_bytes
    ]


def _pages(records: Sequence[PortionRecord]) -> set[int]:
    return {info.page for record in records for info in record.pages}


def _json_bytes(infos: Sequence[ShardInfo]) -> int:
    return sum(info.json_bytes for info in infos)
