"""The rows of an extraction, one a study, sorted by NCT id within bounded memory.

The registry hands studies out in no order. To sort 600,000 of them (10 GB of JSON) without holding
them, the shards are read once and their rows dealt out to bucket files by NCT id range; each bucket
is then sorted on its own. A small extraction is one bucket and touches no scratch file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.extract.shards import SHARD_SCHEMA, ShardStore
from ctg_assets.model.nct_ids import UNIDENTIFIED, are_nct_ids
from ctg_assets.storage.files import Storage

# JSON of a bucket, held twice while it is sorted. Parsing takes a row group of it at a time.
_BUCKET_JSON_BYTES = 128 << 20

# JSON gathered before it is dealt out: a single page would give each bucket a handful of rows.
_DEAL_JSON_BYTES = 256 << 20

_ROWS_AT_A_TIME = 4000

_HASH_DIGITS = 16

_SCRATCH_PREFIX = "compact-"

SORTED_SCHEMA = pa.schema([*SHARD_SCHEMA, pa.field("page", pa.int32())])
"""A shard's rows with their page; `nct_id` is never NULL, see `keys`."""


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

        `json_bytes` is about how large they are together.
        """
        buckets = max(1, -(-json_bytes // _BUCKET_JSON_BYTES))
        per_bucket = max(1, -(-chosen.height // buckets))
        dealt = chosen.with_columns((pl.int_range(pl.len()) // per_bucket).alias("bucket"))
        by_page = dealt.partition_by("page", as_dict=True)
        if buckets == 1:
            yield from _in_order(
                [
                    self._chosen_of_page(extraction_id, page, by_page[page,])
                    for page in self._shards.pages(extraction_id)
                    if (page,) in by_page
                ]
            )
            return
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix=_SCRATCH_PREFIX) as folder:
            files = [Path(folder) / f"{bucket}.arrow" for bucket in range(buckets)]
            self._deal_out(extraction_id, by_page, files)
            for file in files:
                yield from _in_order([_read_bucket(file)])
                file.unlink()

    def _deal_out(
        self, extraction_id: str, by_page: dict[tuple[object, ...], pl.DataFrame], files: list[Path]
    ) -> None:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        pages = [page for page in self._shards.pages(extraction_id) if (page,) in by_page]
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    pa.ipc.new_stream(
                        stack.enter_context(pa.OSFile(str(file), "wb")),
                        SORTED_SCHEMA,
                        options=options,
                    )
                )
                for file in files
            ]
            reader = stack.enter_context(ThreadPoolExecutor(1))

            def read(page: int) -> pa.Table:
                return self._chosen_of_page(extraction_id, page, by_page[page,])

            gathered: list[pa.Table] = []
            buckets: list[pl.Series] = []
            # One page ahead of the writing: the reader's thread decompresses, this one compresses.
            ahead: Future[pa.Table] | None = reader.submit(read, pages[0]) if pages else None
            for page, following in zip(pages, [*pages[1:], None], strict=True):
                assert ahead is not None  # noqa: S101  there is one for each page
                gathered.append(ahead.result())
                buckets.append(by_page[page,]["bucket"])
                ahead = None if following is None else reader.submit(read, following)
                if following is None or sum(map(_size, gathered)) >= _DEAL_JSON_BYTES:
                    _deal(pa.concat_tables(gathered), pl.concat(buckets), writers)
                    gathered, buckets = [], []

    def _chosen_of_page(self, extraction_id: str, page: int, chosen: pl.DataFrame) -> pa.Table:
        """The chosen rows of one shard, with their page."""
        rows = self._shards.read(extraction_id, page).take(chosen["row"].to_arrow())
        pages = pa.repeat(pa.scalar(page, pa.int32()), rows.num_rows)
        named = chosen["nct_id"].to_arrow().cast(pa.string())
        return rows.set_column(0, SHARD_SCHEMA.field("nct_id"), named).append_column("page", pages)


def _size(rows: pa.Table) -> int:
    return int(rows.nbytes)


def _deal(rows: pa.Table, bucket: pl.Series, writers: Sequence[pa.RecordBatchStreamWriter]) -> None:
    """Append rows to the files of their buckets."""
    order = bucket.arg_sort()
    rows = rows.take(order.to_arrow())
    start = 0
    for number, length in bucket.gather(order).rle().struct.unnest()[["value", "len"]].rows():
        writers[number].write_table(rows.slice(start, length).combine_chunks())
        start += length


def _read_bucket(file: Path) -> pa.Table:
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
        return reader.read_all()


def _in_order(parts: list[pa.Table]) -> Iterator[pa.Table]:
    """The rows of a bucket, sorted, some at a time; `parts` is emptied."""
    rows = pa.concat_tables(parts) if parts else SORTED_SCHEMA.empty_table()
    parts.clear()
    rows = rows.take(pc.sort_indices(rows, [("nct_id", "ascending", "at_start")]))
    for start in range(0, rows.num_rows, _ROWS_AT_A_TIME):
        yield rows.slice(start, _ROWS_AT_A_TIME)
