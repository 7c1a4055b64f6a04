"""The rows of an extraction, one a study, sorted by NCT id within bounded memory.

The registry hands studies out in no order. To sort 600,000 of them (10 GB of JSON) without holding
them, the shards are read once into sorted portions (`portions.py`), which are merged. Portions that were made
while pages came are taken as they are. A small extraction is sorted in memory and touches no scratch file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow as pa

from ctg_assets.extract.portions import (
    Merging,
    Portion,
    PortionStore,
    merging,
    write_portion,
)
from ctg_assets.extract.shards import SHARD_SCHEMA, ShardStore
from ctg_assets.model.nct_ids import UNIDENTIFIED, are_nct_ids
from ctg_assets.prefetch import Prefetch
from ctg_assets.storage.files import Storage

# JSON of a portion, held once while it is sorted and written; two are at work at a time.
_PORTION_JSON_BYTES = 128 << 20

# Of each portion so much is held while they are merged.
_BLOCK_JSON_BYTES = 1 << 20

# Copying JSON takes about a tenth of the time that reading it does.
_MOST_COPIED = 0.5

# Compressing takes twice as long as the reading beside it.
_WRITING_THREADS = 2

# Whole row groups of the history's contents. Larger pieces, here and above, do not find their memory at
# hand: of 60,000 studies 2.1 s instead of 0.5 s went into new pages with 4000 rows and 256 MB.
_ROWS_AT_A_TIME = 800

_HASH_DIGITS = 16

_SCRATCH_PREFIX = "compact-"

SORTED_SCHEMA = pa.schema([*SHARD_SCHEMA, pa.field("page", pa.int32())])
"""A shard's rows with their page; `nct_id` is never NULL, see `keys`."""

PORTION_SCHEMA = pa.schema([*SORTED_SCHEMA, pa.field("row", pa.uint32())])
"""The same as it lies in portions: with the row's place in its page."""

_FACTS = pa.schema(
    [SHARD_SCHEMA.field(name) for name in ("nct_id", "content_hash", "last_update_post_date")]
)


def keys(nct_id: pl.Expr, content_hash: pl.Expr) -> pl.Expr:
    """What rows of shards are known by: the NCT id, or where there is none a digest of the content."""
    digest = pl.lit(UNIDENTIFIED) + content_hash.str.head(_HASH_DIGITS)
    return pl.when(are_nct_ids(nct_id)).then(nct_id).otherwise(digest)


def page_keys(shards: ShardStore, extraction_id: str, page: int) -> list[str]:
    """What the rows of a page are known by, see `keys`."""
    rows = pl.DataFrame(shards.read(extraction_id, page, ["nct_id", "content_hash"]))
    return rows.select(keys(pl.col("nct_id"), pl.col("content_hash")))["nct_id"].to_list()


class SortedRows:
    """Sorts the rows of extractions."""

    def __init__(self, storage: Storage, scratch: Path) -> None:
        """Read shards of `storage`; `scratch` is a local folder for temporary files."""
        self._shards = ShardStore(storage)
        self._portions = PortionStore(scratch)
        self._scratch = scratch

    def clean(self) -> None:
        """Remove what killed processes left in the scratch folder."""
        for left in self._scratch.glob(f"{_SCRATCH_PREFIX}*"):
            shutil.rmtree(left)

    def facts(self, extraction_id: str, *, every_content: bool = False) -> pl.DataFrame:
        """What the shards hold: page, row, nct_id, content_hash, last_update_post_date; by NCT id.

        A study seen on two pages counts once; the one updated last wins, then the one seen last. With
        `every_content` each of its contents counts once. Rows without an NCT id cannot be told apart
        but by their content, so a digest of it stands for the id.
        """
        frames = [
            pl.DataFrame(self._shards.read(extraction_id, page, _FACTS.names))
            .with_row_index("row")
            .with_columns(pl.lit(page, pl.Int32).alias("page"))
            for page in self._shards.pages(extraction_id)
        ]
        none = pl.DataFrame(_FACTS.empty_table()).with_row_index("row")
        none = none.with_columns(pl.lit(None, pl.Int32).alias("page"))
        rows = pl.concat([none, *frames]).with_columns(
            nct_id=keys(pl.col("nct_id"), pl.col("content_hash"))
        )
        one = ["nct_id", "content_hash"] if every_content else ["nct_id"]
        return rows.sort("nct_id", "last_update_post_date", "page", "row", nulls_last=False).unique(
            one, keep="last", maintain_order=True
        )

    def rows(self, extraction_id: str, chosen: pl.DataFrame, json_bytes: int) -> Iterator[pa.Table]:
        """The chosen rows (of `facts`) in SORTED_SCHEMA, sorted by NCT id, some at a time.

        `json_bytes` is about how large they are together. Raises DamagedPortionError.
        """
        by_page = chosen.partition_by("page", as_dict=True)
        if json_bytes <= _PORTION_JSON_BYTES:
            yield from _in_order(list(self._chosen(extraction_id, by_page)))
            return
        self._scratch.mkdir(parents=True, exist_ok=True)
        made_before = self._portions.records(extraction_id, self._shards)
        for record in made_before:
            for info in record.pages:
                by_page.pop((info.page,), None)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=_SCRATCH_PREFIX) as folder:
            portions = [record.studies for record in made_before]
            portions += self._make_portions(extraction_id, by_page, Path(folder))
            with merging(portions, PORTION_SCHEMA) as merged:
                for some in _in_steps(chosen):
                    yield _as_sorted(_merged_rows(merged, some))

    def _make_portions(
        self, extraction_id: str, by_page: dict[tuple[object, ...], pl.DataFrame], folder: Path
    ) -> list[Portion]:
        """Portions of the chosen rows of these pages, in a folder."""
        made: list[Future[Portion]] = []
        gathered: list[pl.DataFrame] = []

        def write(number: int, rows: list[pl.DataFrame]) -> Portion:
            return _write_studies(folder / f"{number}.arrow", _sorted(rows))

        with (
            ThreadPoolExecutor(_WRITING_THREADS) as threads,
            # One page ahead of the writing: the reader's thread decompresses, the others compress.
            Prefetch(self._chosen(extraction_id, by_page)) as read,
        ):
            size = 0
            for rows in read:
                gathered.append(rows)
                size += _json_bytes(rows)
                if size >= _PORTION_JSON_BYTES:
                    if len(made) >= _WRITING_THREADS:
                        made[-_WRITING_THREADS].result()
                    made.append(threads.submit(write, len(made), gathered))
                    gathered, size = [], 0
            if gathered:
                made.append(threads.submit(write, len(made), gathered))
        return [each.result() for each in made]

    def _chosen(
        self, extraction_id: str, by_page: dict[tuple[object, ...], pl.DataFrame]
    ) -> Iterator[pl.DataFrame]:
        """The chosen rows of each page that has any, with their page and row."""
        for page in self._shards.pages(extraction_id):
            if (page,) in by_page:
                chosen = by_page[page,]
                rows = pl.DataFrame(self._shards.read(extraction_id, page))
                rows = without_neighbours(rows[chosen["row"]], rows.height)
                yield rows.with_columns(chosen["nct_id"], chosen["page"], chosen["row"])


def without_neighbours(rows: pl.DataFrame, read: int) -> pl.DataFrame:
    """Rows chosen from `read` ones, in memory without most of the others.

    Chosen rows refer to the JSON that was read, and keep all of it; they are copied if they are few.
    """
    return pl.DataFrame(rows.to_arrow()) if rows.height < read * _MOST_COPIED else rows


def sorted_page_rows(shards: ShardStore, extraction_id: str, pages: Sequence[int]) -> pl.DataFrame:
    """All rows of some pages with page and row, sorted by what they are known by, `nct_id`."""
    read = (
        pl.DataFrame(shards.read(extraction_id, page))
        .with_row_index("row")
        .with_columns(pl.lit(page, pl.Int32).alias("page"))
        for page in pages
    )
    return _sorted(
        [rows.with_columns(nct_id=keys(pl.col("nct_id"), pl.col("content_hash"))) for rows in read]
    )


def study_blocks(rows: pl.DataFrame) -> Iterator[pa.RecordBatch]:
    """Sorted rows as blocks of a portion; here the JSON is copied."""
    for block in slices_of_bytes(rows, _BLOCK_JSON_BYTES):
        table = block.select(PORTION_SCHEMA.names).to_arrow().cast(PORTION_SCHEMA)
        yield from table.combine_chunks().to_batches()


def slices_of_bytes(rows: pl.DataFrame, json_bytes: int) -> Iterator[pl.DataFrame]:
    """Rows in slices of about so much JSON each."""
    numbers = rows["study"].bin.size().cum_sum() // json_bytes
    ends = numbers.rle().struct.field("len").cum_sum().to_list()
    for start, end in pairwise([0, *ends]):
        yield rows.slice(start, end - start)


def _json_bytes(rows: pl.DataFrame) -> int:
    return int(rows["study"].bin.size().sum())


def _sorted(rows: list[pl.DataFrame]) -> pl.DataFrame:
    """Rows by NCT id, and of one by page and row; of the JSON, only references are sorted."""
    return pl.concat(rows).sort("nct_id", "page", "row")


def _in_steps(chosen: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Chosen rows by NCT id, some at a time, all of one id in one."""
    step = (chosen["nct_id"].rank("min") - 1) // _ROWS_AT_A_TIME
    for start, end in pairwise([0, *step.rle().struct.field("len").cum_sum().to_list()]):
        yield chosen.slice(start, end - start)


def _merged_rows(merged: Merging, chosen: pl.DataFrame) -> pl.DataFrame:
    """The next chosen rows out of portions."""
    batches = merged.until(chosen["nct_id"][-1])
    rows = pl.DataFrame(pa.Table.from_batches(batches, PORTION_SCHEMA))
    found = chosen.select("page", "row").join(rows, on=["page", "row"], maintain_order="left")
    if found.height != chosen.height:
        message = (
            f"{chosen.height - found.height} rows of pages are not in the portions made of them"
        )
        raise pa.ArrowInvalid(message)
    return found


def _as_sorted(rows: pl.DataFrame) -> pa.Table:
    """Rows as a table of SORTED_SCHEMA; here the JSON is copied."""
    return rows.select(SORTED_SCHEMA.names).to_arrow().cast(SORTED_SCHEMA)


def _write_studies(file: Path, rows: pl.DataFrame) -> Portion:
    with write_portion(file, PORTION_SCHEMA) as writer:
        for block in study_blocks(rows):
            writer.write(block)
    return writer.portion


def _in_order(parts: list[pl.DataFrame]) -> Iterator[pa.Table]:
    """All rows, sorted, some at a time; `parts` is emptied."""
    rows = _sorted(parts) if parts else pl.DataFrame(SORTED_SCHEMA.empty_table())
    parts.clear()
    for some in rows.iter_slices(_ROWS_AT_A_TIME):
        yield _as_sorted(some)
