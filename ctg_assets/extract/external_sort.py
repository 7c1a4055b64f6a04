"""The rows of an extraction, one a study, sorted by NCT id within bounded memory.

The registry hands studies out in no order. To sort 600,000 of them (10 GB of JSON) without holding
them, the shards are read once and their rows dealt out to bucket files by NCT id range; each bucket
is then sorted on its own. A small extraction is one bucket and touches no scratch file.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pyarrow as pa

from ctg_assets.extract.shards import SHARD_SCHEMA, ShardStore
from ctg_assets.model.nct_ids import UNIDENTIFIED, are_nct_ids
from ctg_assets.prefetch import Prefetch
from ctg_assets.storage.files import Storage

# JSON of a bucket, held twice while it is sorted. Parsing takes a row group of it at a time.
_BUCKET_JSON_BYTES = 128 << 20

# JSON gathered before it is dealt out: a single page would give each bucket a handful of rows.
_DEAL_JSON_BYTES = 64 << 20

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
            yield from _in_order(list(self._chosen(extraction_id, by_page)))
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
            threads = stack.enter_context(ThreadPoolExecutor(_WRITING_THREADS))
            # One page ahead of the writing: the reader's thread decompresses, the others compress.
            read = stack.enter_context(Prefetch(self._chosen(extraction_id, by_page)))
            gathered: list[pl.DataFrame] = []
            size = 0
            for rows in read:
                gathered.append(rows)
                size += _json_bytes(rows)
                if size >= _DEAL_JSON_BYTES:
                    _deal(gathered, writers, threads)
                    size = 0
            _deal(gathered, writers, threads)

    def _chosen(
        self, extraction_id: str, by_page: dict[tuple[object, ...], pl.DataFrame]
    ) -> Iterator[pl.DataFrame]:
        """The chosen rows of each page that has any, with their page and bucket."""
        for page in self._shards.pages(extraction_id):
            if (page,) in by_page:
                chosen = by_page[page,]
                rows = pl.DataFrame(self._shards.read(extraction_id, page))
                rows = without_neighbours(rows[chosen["row"]], rows.height)
                yield rows.with_columns(chosen["nct_id"], chosen["page"], chosen["bucket"])


def without_neighbours(rows: pl.DataFrame, read: int) -> pl.DataFrame:
    """Rows chosen from `read` ones, in memory without most of the others.

    Chosen rows refer to the JSON that was read, and keep all of it; they are copied if they are few.
    """
    return pl.DataFrame(rows.to_arrow()) if rows.height < read * _MOST_COPIED else rows


def _json_bytes(rows: pl.DataFrame) -> int:
    return int(rows["study"].bin.size().sum())


def _deal(
    gathered: list[pl.DataFrame],
    writers: Sequence[pa.RecordBatchStreamWriter],
    threads: ThreadPoolExecutor,
) -> None:
    """Append rows to the files of their buckets; `gathered` is emptied."""
    if not gathered:
        return
    by_bucket = pl.concat(gathered).partition_by("bucket", as_dict=True)
    gathered.clear()

    def write(bucket: int, rows: pl.DataFrame) -> None:
        writers[bucket].write_table(_as_sorted(rows))

    written = [threads.submit(write, bucket, rows) for (bucket,), rows in by_bucket.items()]
    for each in written:
        each.result()


def _as_sorted(rows: pl.DataFrame) -> pa.Table:
    """Rows as a table of SORTED_SCHEMA; here the JSON is copied."""
    return rows.select(SORTED_SCHEMA.names).to_arrow().cast(SORTED_SCHEMA)


def _read_bucket(file: Path) -> pl.DataFrame:
    with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as reader:
        return pl.DataFrame(reader.read_all())


def _in_order(parts: list[pl.DataFrame]) -> Iterator[pa.Table]:
    """The rows of a bucket, sorted, some at a time; `parts` is emptied."""
    rows = pl.concat(parts) if parts else pl.DataFrame(SORTED_SCHEMA.empty_table())
    parts.clear()
    # Of the JSON, only references are sorted.
    rows = rows.sort("nct_id", maintain_order=True)
    for some in rows.iter_slices(_ROWS_AT_A_TIME):
        yield _as_sorted(some)
