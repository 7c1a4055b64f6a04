"""Typing ahead: while a first crawl waits for the registry, its pages are sorted and typed.

A crawl at the registry's pace leaves the processor idle for minutes. What has come is made into portions
(`extract/portions.py`) meanwhile, so that after the last page only merging is left. No portion is ever
needed: pages without one are sorted and typed by the compaction.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.external_sort import (
    PORTION_SCHEMA,
    slices_of_bytes,
    sorted_page_rows,
    study_blocks,
)
from ctg_assets.extract.extractions import ExtractionState, ExtractionStore
from ctg_assets.extract.portions import (
    PortionRecord,
    PortionStore,
    merging,
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

# JSON of a portion, which is held while it is written. 10 GB make 40 portions.
_PORTION_JSON_BYTES = 256 << 20

# JSON of a block of typed studies, which take about as much typed. A block of each portion is held while they
# are merged. Smaller ones take twice the time to read, for they have 500 columns all the same.
_BLOCK_JSON_BYTES = 12 << 20

_KEYS = ["nct_id", "content_hash", "extraction_id", "page"]

# Extras as they lie in portions, with the content that they belong to.
_EXTRAS_SCHEMA = pa.schema(
    [*EXTRAS_SCHEMA, *(snapshot_schema().field(name) for name in _KEYS if name != "nct_id")]
)


class _StoppedError(CtgAssetsError):
    """Nobody waits for the portion any more."""


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
        self._stopped = False

    def add(self, shard: ShardInfo) -> None:
        """Tell of a page that is there; returns at once."""
        if shard.page in self._done or self._stopped:
            return
        self._waiting.append(shard)
        if _json_bytes(self._waiting) >= _PORTION_JSON_BYTES:
            self._thread.submit(self._make, self._waiting)
            self._waiting = []

    def finish(self) -> None:
        """Wait for the portions that were begun."""
        self._thread.shutdown()

    def stop(self) -> None:
        """Give up the portion that is being made, and those after it."""
        self._stopped = True
        self._thread.shutdown(cancel_futures=True)

    def _make(self, shards: list[ShardInfo]) -> None:
        if self._stopped:
            return
        try:
            _make_portion(
                self._portions, self._shards, self._extraction_id, shards, lambda: self._stopped
            )
        except _StoppedError:
            return
        except Exception as error:  # noqa: BLE001 - told; the compaction does the same work, and fails if it must
            self._stopped = True
            _tell_it_is_left(error)


@contextmanager
def typing_ahead(
    storage: Storage, scratch: Path, extraction_id: str
) -> Iterator[TypingAhead | None]:
    """What is to be told of an extraction's pages as they come; None where it would not pay.

    It pays while there is no history: afterwards, only what changed is sorted and typed. Portions that
    nobody needs any more are removed first. What fails here is told and does not stop the crawl.
    """
    ahead = _begun(storage, scratch, extraction_id)
    if ahead is None:
        yield None
        return
    try:
        yield ahead
    except BaseException:
        ahead.stop()
        raise
    ahead.finish()


def _begun(storage: Storage, scratch: Path, extraction_id: str) -> TypingAhead | None:
    try:
        remove_needless_portions(storage, scratch)
        if HistoryStore(storage).latest() is not None:
            return None
        return TypingAhead(PortionStore(scratch), ShardStore(storage), extraction_id)
    except Exception as error:  # noqa: BLE001 - told; the compaction does the same work, and fails if it must
        _tell_it_is_left(error)
        return None


def _tell_it_is_left(error: Exception) -> None:
    _log.warning(
        "pages are not sorted and typed while others come (%s: %s); compaction will take longer",
        type(error).__name__,
        error,
    )


def remove_needless_portions(storage: Storage, scratch: Path) -> None:
    """Remove the portions of extractions that are gone, given up or overtaken, or have their snapshot."""
    portions = PortionStore(scratch)
    known = portions.extractions()
    if not known:
        return
    entries = [entry.extraction_id for entry in HistoryStore(storage).entries()]
    for extraction_id in known:
        if (
            extraction_id in entries[:-1]
            or SnapshotStore(storage).manifest(extraction_id) is not None
            or not _may_be_compacted(ExtractionStore(storage), extraction_id)
        ):
            portions.remove(extraction_id)


def finished_portions(storage: Storage, scratch: Path, extraction_id: str) -> list[PortionRecord]:
    """Portions of all of a complete extraction, if some were made by the present model while it was under way.

    Those that are missing are made. Raises OSError, and what reading shards raises.
    """
    portions, shards = PortionStore(scratch), ShardStore(storage)
    found = portions.records(extraction_id, shards)
    found = [record for record in found if record.typed_by == model_fingerprint()]
    if found:
        done = _pages(found)
        pages = [page for page in shards.pages(extraction_id) if page not in done]
        missing = [shards.info(extraction_id, page) for page in pages]
        while missing:
            some = _first_of_bytes(missing, _PORTION_JSON_BYTES)
            found.append(_make_portion(portions, shards, extraction_id, some))
            missing = missing[len(some) :]
    return found


def typed_contents(
    records: Sequence[PortionRecord],
    history: HistoryStore,
    wanted: pl.DataFrame,
    rows_at_a_time: int,
) -> Iterator[TypedContents]:
    """Contents typed, out of portions as far as they are in these, some rows at a time.

    `wanted` has CONTENT_COLUMNS, sorted by NCT id, each once. Raises DamagedPortionError.
    """
    with (
        merging([record.typed for record in records], snapshot_schema()) as typed,
        merging([record.extras for record in records], _EXTRAS_SCHEMA) as extras,
        history.open_contents() as contents,
    ):
        for some in wanted.iter_slices(rows_at_a_time):
            last_id = some["nct_id"][-1]
            found = _found(typed.until(last_id), extras.until(last_id), some)
            left = some.join(
                pl.DataFrame(found.studies.select(["nct_id"])), on="nct_id", how="anti"
            )
            if left.is_empty():
                yield found
            else:
                [rows] = contents.rows(left, left.height)
                yield _together(found, type_contents(rows))


def _make_portion(
    portions: PortionStore,
    shards: ShardStore,
    extraction_id: str,
    infos: Sequence[ShardInfo],
    is_stopped: Callable[[], bool] = lambda: False,
) -> PortionRecord:
    """Make the portions of some pages; raises OSError, _StoppedError, and what reading shards raises."""
    rows = sorted_page_rows(shards, extraction_id, [info.page for info in infos])
    with portions.new(extraction_id) as new:
        with (
            new.write("studies", PORTION_SCHEMA) as studies,
            new.write("typed", snapshot_schema()) as typed,
            new.write("extras", _EXTRAS_SCHEMA) as extras,
        ):
            for some in slices_of_bytes(rows, _BLOCK_JSON_BYTES):
                if is_stopped():
                    raise _StoppedError
                for block in study_blocks(some):
                    studies.write(block)
                found = _typed_rows(extraction_id, some)
                for target, table in ((typed, found.studies), (extras, _with_keys(found))):
                    for block in table.combine_chunks().to_batches():
                        target.write(block)
        record = PortionRecord(
            pages=list(infos),
            studies=studies.portion,
            typed=typed.portion,
            extras=extras.portion,
            typed_by=model_fingerprint(),
        )
        new.publish(record)
    return record


def _typed_rows(extraction_id: str, rows: pl.DataFrame) -> TypedContents:
    """Sorted studies as a snapshot has them; what is set aside is left to the compaction."""
    # Of a content that was sent twice, the history has the page that it was on last.
    once = rows.filter(pl.struct("nct_id", "content_hash").is_last_distinct())
    # Extras say whose they are by the id alone; a study with two contents is left to the compaction, too.
    once = once.filter(pl.col("nct_id").is_unique())
    facts = once.with_columns(
        extraction_id=pl.lit(extraction_id), contents_entry=pl.lit(None, pl.Int32)
    )
    return type_contents(facts.select(*CONTENT_COLUMNS, "study").to_arrow())


def _with_keys(typed: TypedContents) -> pa.Table:
    """The extras of typed studies, with what names the content that each belongs to."""
    keys = pl.DataFrame(typed.studies.select(_KEYS))
    extras = pl.DataFrame(typed.extras).join(keys, on="nct_id", maintain_order="left")
    return extras.select(_EXTRAS_SCHEMA.names).to_arrow().cast(_EXTRAS_SCHEMA)


def _found(
    typed: Sequence[pa.RecordBatch], extras: Sequence[pa.RecordBatch], wanted: pl.DataFrame
) -> TypedContents:
    """Those of the wanted contents that are in some rows of portions, in their order."""
    rows = pa.Table.from_batches(typed, snapshot_schema())
    keys = pl.DataFrame(rows.select(_KEYS)).with_row_index("place")
    chosen = wanted.select(_KEYS).join(keys, on=_KEYS, maintain_order="left")
    studies = rows.combine_chunks().take(chosen["place"].to_arrow())
    found = pl.DataFrame(pa.Table.from_batches(extras, _EXTRAS_SCHEMA))
    found = chosen.select(_KEYS).join(found, on=_KEYS, maintain_order="left_right")
    return TypedContents(
        studies=studies,
        extras=found.select(EXTRAS_SCHEMA.names).to_arrow().cast(EXTRAS_SCHEMA),
        quarantined=QUARANTINE_FILE_SCHEMA.empty_table(),
        unknown_fields=Counter(found["path"].to_list()),
    )


def _together(found: TypedContents, typed: TypedContents) -> TypedContents:
    """Contents out of portions and others, by NCT id."""
    studies, extras = (
        pa.concat_tables(tables).combine_chunks()
        for tables in ((found.studies, typed.studies), (found.extras, typed.extras))
    )
    places = pl.DataFrame(extras.select(["nct_id"])).with_row_index("place").sort("nct_id", "place")
    return TypedContents(
        studies=studies.take(pc.sort_indices(studies["nct_id"])),
        extras=extras.take(places["place"].to_arrow()),
        quarantined=typed.quarantined,
        unknown_fields=found.unknown_fields + typed.unknown_fields,
    )


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
