"""Compaction: the page shards of a complete extraction become one snapshot.

Belongs here: choosing one row a study, sorting by NCT id within bounded memory, quarantine, and the
snapshot's facts. Does not belong here: parsing JSON (`parsing.py`) and judging the result (checks).

The registry hands studies out in no order. To sort 600,000 of them (10 GB of JSON) without holding
them, the shards are read once and their rows dealt out to bucket files by NCT id range; each bucket
is then sorted and parsed on its own. A small extraction is one bucket and touches no scratch file.
While one thread writes what was parsed, the next rows are parsed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctg_assets.lake.extractions import Completion, ExtractionPlan, ExtractionStore
from ctg_assets.lake.parsing import Extra, parse_studies, syntax_error
from ctg_assets.lake.shards import SHARD_SCHEMA, ShardStore
from ctg_assets.lake.snapshots import (
    EXTRAS_FILE,
    EXTRAS_SCHEMA,
    QUARANTINE_FILE,
    QUARANTINE_SCHEMA,
    STUDIES_FILE,
    SnapshotManifest,
    SnapshotStore,
    snapshot_path,
    snapshot_schema,
)
from ctg_assets.lake.storage import Storage

# JSON of a bucket, held twice while it is sorted. Parsing takes a row group of it at a time.
_BUCKET_JSON_BYTES = 128 << 20

# JSON gathered before it is dealt out: a single page would give each bucket a handful of rows.
_DEAL_JSON_BYTES = 256 << 20

# Flattening takes some row groups at a time; one is about 70 MB of Arrow at the registry's average size.
ROW_GROUP_ROWS = 4000

# Level 3 and dictionaries write in 1.8 times the time to 0.9 of the size (100 MB of real studies).
_COMPRESSION_LEVEL = 1

# Whom to look up in a file; bounds on the study's several hundred own columns cost a fifth of writing.
_STATISTICS = ["nct_id", "last_update_post_date"]
_NCT_ID = re.compile(r"NCT[0-9]{8}")
_NO_NCT_ID = "no NCT id of the form NCT followed by eight digits"

_SCRATCH_PREFIX = "compact-"

_BUCKET_SCHEMA = pa.schema([*SHARD_SCHEMA, pa.field("page", pa.int32())])


class IncompleteExtractionError(Exception):
    """The extraction has pages missing; compacting it would lose studies."""


@dataclass
class _Tally:
    """What is counted while the buckets go by."""

    studies: int = 0
    json_bytes: int = 0
    fingerprint: hashlib._Hash = field(default_factory=hashlib.sha256)
    quarantine_reasons: Counter[str] = field(default_factory=Counter)
    unknown_fields: Counter[str] = field(default_factory=Counter)


class Compactor:
    """Makes snapshots of extractions."""

    def __init__(self, storage: Storage, scratch: Path) -> None:
        """Compact within `storage`; `scratch` is a local folder for temporary files."""
        self._storage = storage
        self._scratch = scratch
        self._extractions = ExtractionStore(storage)
        self._shards = ShardStore(storage)
        self._snapshots = SnapshotStore(storage)

    def compact(
        self, extraction_id: str, progress: Callable[[int, int], None] | None = None
    ) -> SnapshotManifest:
        """Make the snapshot of a complete extraction; one that is there already is returned as it is.

        `progress` is called with the studies done and their total. Only one compaction of a lake may
        run at a time (the caller sees to it), so what a killed one left behind is removed first.

        Raises IncompleteExtractionError when the extraction is not complete, or no longer.
        """
        existing = self._snapshots.manifest(extraction_id)
        if existing is not None and existing.model_fingerprint == model_fingerprint():
            return existing
        plan = self._extractions.plan(extraction_id)
        completion = self._complete(plan)
        self._clean(extraction_id)
        chosen = self._choose_rows(extraction_id)
        buckets = max(1, -(-completion.json_bytes // _BUCKET_JSON_BYTES))
        tally = _Tally()
        previous = self._previous_studies(plan)
        with ExitStack() as stack:
            studies = stack.enter_context(
                self._storage.publish(snapshot_path(extraction_id, STUDIES_FILE))
            )
            quarantine = stack.enter_context(
                self._storage.publish(snapshot_path(extraction_id, QUARANTINE_FILE))
            )
            extras = stack.enter_context(
                self._storage.publish(snapshot_path(extraction_id, EXTRAS_FILE))
            )
            output = stack.enter_context(_Output(studies, extras, quarantine))
            for rows in self._sorted_rows(extraction_id, chosen, buckets):
                self._parse_rows(plan, rows, output, tally)
                if progress is not None:
                    progress(tally.studies, chosen.height)
                del rows  # else their bucket would stay in memory while the next one is read
        manifest = SnapshotManifest(
            snapshot_id=extraction_id,
            extraction_id=extraction_id,
            source=plan.source,
            query=plan.query,
            data_timestamp=plan.data_timestamp,
            content_fingerprint=tally.fingerprint.hexdigest(),
            model_fingerprint=model_fingerprint(),
            studies=tally.studies,
            distinct_ids=chosen["nct_id"].n_unique() - (chosen["nct_id"].null_count() > 0),
            duplicate_rows=completion.rows - chosen.height,
            quarantined=tally.quarantine_reasons.total(),
            quarantine_reasons=dict(tally.quarantine_reasons),
            unknown_fields=dict(sorted(tally.unknown_fields.items())),
            json_bytes=tally.json_bytes,
            file_bytes=self._storage.size(snapshot_path(extraction_id, STUDIES_FILE)),
            created_at=datetime.now(UTC),
            previous_studies=previous,
        )
        self._snapshots.write_manifest(manifest)
        return manifest

    def _complete(self, plan: ExtractionPlan) -> Completion:
        """What a complete extraction brought home, if it is all still there."""
        extraction_id = plan.extraction_id
        completion = self._extractions.completion(extraction_id)
        present = len(self._shards.pages(extraction_id))
        if completion is None:
            message = (
                f"extraction {extraction_id} has {present} of {plan.planned_pages} pages; materialize "
                "the missing page_shards first"
            )
            raise IncompleteExtractionError(message)
        if present != completion.pages:
            message = (
                f"extraction {extraction_id} was complete with {completion.pages} pages, but {present} "
                f"are in {self._storage.root} now; bring the files back, or begin a new extraction "
                "(`ctg-assets refresh --again`)"
            )
            raise IncompleteExtractionError(message)
        return completion

    def _clean(self, extraction_id: str) -> None:
        """Remove what a killed compaction left behind."""
        self._snapshots.clean(extraction_id)
        for left in self._scratch.glob(f"{_SCRATCH_PREFIX}*"):
            shutil.rmtree(left)

    def _previous_studies(self, plan: ExtractionPlan) -> int | None:
        """The number of studies in the newest other snapshot of the same source and query."""
        others = [
            manifest
            for manifest in self._snapshots.manifests()
            if manifest.snapshot_id != plan.extraction_id
            and (manifest.source, manifest.query) == (plan.source, plan.query)
        ]
        return others[-1].studies if others else None

    def _choose_rows(self, extraction_id: str) -> pl.DataFrame:
        """The rows to keep (page, row, nct_id), sorted by NCT id.

        A study seen on two pages counts once; the one updated last wins, then the one seen last.
        Rows without an NCT id cannot be told apart, so all of them are kept, for quarantine.
        """
        frames = []
        for page in self._shards.pages(extraction_id):
            facts = self._shards.read(extraction_id, page, ["nct_id", "last_update_post_date"])
            frames.append(
                pl.DataFrame(facts)
                .with_row_index("row")
                .with_columns(pl.lit(page, pl.Int32).alias("page"))
            )
        rows = pl.concat(frames)
        identified = (
            rows.filter(pl.col("nct_id").is_not_null())
            .sort("nct_id", "last_update_post_date", "page", "row", nulls_last=False)
            .unique("nct_id", keep="last", maintain_order=True)
        )
        nameless = rows.filter(pl.col("nct_id").is_null())
        return pl.concat([nameless, identified]).select("page", "row", "nct_id")

    def _sorted_rows(
        self, extraction_id: str, chosen: pl.DataFrame, buckets: int
    ) -> Iterator[pa.Table]:
        """The chosen rows in `_BUCKET_SCHEMA`, sorted by NCT id, a row group of them at a time."""
        per_bucket = max(1, -(-chosen.height // buckets))
        dealt = chosen.with_columns((pl.int_range(pl.len()) // per_bucket).alias("bucket"))
        by_page = dealt.partition_by("page", as_dict=True)
        if buckets == 1:
            yield from _row_groups(
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
                yield from _row_groups([_read_bucket(file)])
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
                        _BUCKET_SCHEMA,
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
        return rows.append_column("page", pages)

    def _parse_rows(
        self, plan: ExtractionPlan, rows: pa.Table, output: _Output, tally: _Tally
    ) -> None:
        """Parse some rows and hand them to the writers of the snapshot and its quarantine."""
        nct_ids = rows["nct_id"].to_pylist()
        named = [i for i, nct_id in enumerate(nct_ids) if nct_id and _NCT_ID.fullmatch(nct_id)]
        raw = rows["study"]
        parsed = parse_studies((raw[i].as_py() for i in named), identified=True)
        reasons = {named[rejection.index]: rejection.reason for rejection in parsed.rejections}
        for i in set(range(len(raw))) - set(named):
            reasons[i] = syntax_error(raw[i].as_py()) or _NO_NCT_ID

        accepted = pa.array([named[i] for i in parsed.accepted], pa.int64())
        kept = rows.drop_columns("study").take(accepted)
        extraction = pa.repeat(plan.extraction_id, kept.num_rows)
        facts = [kept["nct_id"], kept["content_hash"], kept["last_update_post_date"]]
        columns = [*facts, extraction, kept["page"], *parsed.studies.columns]
        output.add_studies(pa.Table.from_arrays(columns, schema=snapshot_schema()))
        output.add_extras(_extra_rows([nct_ids[i] for i in named], parsed.extras))

        if reasons:
            rejected = sorted(reasons)
            quarantined = rows.take(pa.array(rejected, pa.int64()))
            output.add_quarantined(
                pa.table(
                    [
                        quarantined["nct_id"],
                        pa.repeat(plan.extraction_id, len(rejected)),
                        quarantined["page"],
                        [reasons[i] for i in rejected],
                        quarantined["study"],
                    ],
                    schema=QUARANTINE_SCHEMA,
                )
            )

        tally.studies += kept.num_rows
        tally.json_bytes += pc.sum(pc.binary_length(raw).take(accepted)).as_py() or 0
        tally.quarantine_reasons.update(reasons.values())
        tally.unknown_fields.update(parsed.unknown_fields)
        for nct_id, content_hash in zip(
            kept["nct_id"].to_pylist(), kept["content_hash"].to_pylist(), strict=True
        ):
            tally.fingerprint.update(f"{nct_id} {content_hash}\n".encode())


class _Output:
    """The files of a snapshot being written; studies go to theirs in a thread, one table behind."""

    def __init__(self, studies: IO[bytes], extras: IO[bytes], quarantine: IO[bytes]) -> None:
        # Ended in reverse order, whatever fails: the last table, the thread, the writers.
        self._stack = ExitStack()
        self._studies = self._stack.enter_context(_writer(studies, snapshot_schema()))
        self._extras = self._stack.enter_context(_writer(extras, EXTRAS_SCHEMA))
        self._quarantine = self._stack.enter_context(_writer(quarantine, QUARANTINE_SCHEMA))
        self._thread = self._stack.enter_context(ThreadPoolExecutor(1))
        self._stack.callback(self._wait)
        self._pending: Future[None] | None = None

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add_studies(self, studies: pa.Table) -> None:
        """Write typed studies; raises what writing those before them raised."""
        self._wait()
        self._pending = self._thread.submit(
            self._studies.write_table, studies, row_group_size=ROW_GROUP_ROWS
        )

    def add_extras(self, extras: pa.Table) -> None:
        """Write values from outside the model."""
        if extras.num_rows:
            self._extras.write_table(extras)

    def add_quarantined(self, studies: pa.Table) -> None:
        """Write studies that cannot be typed."""
        self._quarantine.write_table(studies)

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _extra_rows(nct_ids: Sequence[str], extras: Sequence[Extra]) -> pa.Table:
    """Values from outside the model as rows of the snapshot's file."""
    return pa.table(
        [
            [nct_ids[extra.index] for extra in extras],
            [extra.path for extra in extras],
            ["/".join(map(str, extra.positions)) or None for extra in extras],
            [extra.json.decode() for extra in extras],
        ],
        schema=EXTRAS_SCHEMA,
    )


def model_fingerprint() -> str:
    """A digest of the schemas of a snapshot's files."""
    spelled = f"{snapshot_schema().to_string()}\n{EXTRAS_SCHEMA.to_string()}"
    return hashlib.sha256(spelled.encode()).hexdigest()


def _writer(stream: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        stream,
        schema,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=False,
        write_statistics=[name for name in _STATISTICS if name in schema.names],
    )


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


def _row_groups(parts: list[pa.Table]) -> Iterator[pa.Table]:
    """The rows of a bucket, sorted, in row groups; `parts` is emptied."""
    rows = pa.concat_tables(parts) if parts else _BUCKET_SCHEMA.empty_table()
    parts.clear()
    rows = rows.take(pc.sort_indices(rows, [("nct_id", "ascending", "at_start")]))
    for start in range(0, rows.num_rows, ROW_GROUP_ROWS):
        yield rows.slice(start, ROW_GROUP_ROWS)
