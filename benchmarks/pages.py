"""Reading a set of studies back, as every measurement does."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pyarrow as pa

from benchmarks.inputs import PAGE_SIZE, settings_of
from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.row_sources import row_sources
from ctg_assets.snapshot.compaction import ROW_GROUP_ROWS
from ctg_assets.snapshot.store import SnapshotManifest, SnapshotStore
from ctg_assets.snapshot.typed_contents import type_contents


def lake_of(data_dir: str) -> Lake:
    """The lake in a data folder."""
    return open_lake(settings_of(Path(data_dir)))


def extraction_of(lake: Lake) -> str:
    """The complete extraction of a set's lake."""
    plan = lake.extractions.latest(ExtractionState.COMPLETE)
    assert plan is not None  # noqa: S101 - sets are complete before anything is measured
    return plan.extraction_id


def page_numbers(data_dir: str) -> list[int]:
    """The numbers of a set's pages."""
    lake = lake_of(data_dir)
    return lake.shards.pages(extraction_of(lake))


def page_columns(data_dir: str, numbers: Sequence[int] | None = None) -> Iterator[pa.ChunkedArray]:
    """The studies of a set as columns of JSON, a page (or only some pages) at a time.

    All of them have an NCT id.
    """
    lake = lake_of(data_dir)
    extraction_id = extraction_of(lake)
    for number in lake.shards.pages(extraction_id) if numbers is None else numbers:
        yield lake.shards.read(extraction_id, number, ["study"])["study"]


def pages(data_dir: str, numbers: Sequence[int] | None = None) -> Iterator[list[bytes]]:
    """As `page_columns`, each study in bytes of its own."""
    for column in page_columns(data_dir, numbers):
        yield column.to_pylist()


def manifest_of(lake: Lake) -> SnapshotManifest:
    """The snapshot that was made of a set's shards."""
    manifest = lake.snapshots.manifest(extraction_of(lake))
    assert manifest is not None  # noqa: S101 - compaction is measured first
    return manifest


def row_batches(lake: Lake) -> Iterator[Mapping[str, pa.Table]]:
    """The rows of all staging tables from a set's snapshot, a batch at a time."""
    for source in row_sources():
        names = [shape.name for shape in source.shapes]
        yield from source.batches(lake, manifest_of(lake), names)


# One is read while the other is typed.
_PAGES_AT_ONCE = 2


class StraightFromShards(SnapshotStore):
    """Stands in for the snapshots of a lake: rows are typed from its shards as they are asked for.

    So the same load runs from JSON to tables, without sorting studies and without a file between. The
    next pages are parsed while what was gathered is flattened.
    """

    def __init__(self, lake: Lake) -> None:
        super().__init__(lake.storage)
        self._lake = lake
        self.studies = 0

    def batches(
        self,
        snapshot_id: str,
        columns: Sequence[str] | None = None,
        *,
        row_groups: int = 1,
        since: str | None = None,
    ) -> Iterator[pa.Table]:
        """The studies of the extraction of that id, as many at a time as a snapshot would give."""
        del columns, since
        most_rows = row_groups * ROW_GROUP_ROWS
        numbers = iter(self._lake.shards.pages(snapshot_id))
        with ThreadPoolExecutor(_PAGES_AT_ONCE) as ahead:
            # As much is parsed while a batch is flattened and sent as the next one takes.
            pending = deque(
                ahead.submit(self._typed, snapshot_id, page)
                for page in islice(numbers, most_rows // PAGE_SIZE)
            )
            gathered: list[pa.Table] = []
            rows = 0
            while pending:
                typed = pending.popleft().result()
                following = next(numbers, None)
                if following is not None:
                    pending.append(ahead.submit(self._typed, snapshot_id, following))
                gathered.append(typed)
                rows += typed.num_rows
                if not pending or rows + typed.num_rows > most_rows:
                    self.studies += rows
                    yield pa.concat_tables(gathered)
                    gathered, rows = [], 0

    def _typed(self, extraction_id: str, page: int) -> pa.Table:
        rows = self._lake.shards.read(extraction_id, page)
        found = {
            "extraction_id": pa.repeat(extraction_id, rows.num_rows),
            "page": pa.repeat(pa.scalar(page, pa.int32()), rows.num_rows),
        }
        for name, column in found.items():
            rows = rows.append_column(name, column)
        return type_contents(rows).studies
