"""The rows that say how studies are: flattened from a snapshot, and what it has outside the data model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial

import pyarrow as pa

from ctg_assets.lake import Lake
from ctg_assets.load.delta import RowBatch
from ctg_assets.load.former_studies import FormerStudies
from ctg_assets.load.row_source_protocol import Groups, MadeBy, Rows
from ctg_assets.model.dependencies import staging_digests
from ctg_assets.model.extras import EXTRAS, extras_rows
from ctg_assets.model.flatten import flatten, flatten_both, snapshot_columns
from ctg_assets.model.tables import staging_tables
from ctg_assets.prefetch import Prefetch, map_ahead
from ctg_assets.snapshot.compaction import ROW_GROUP_ROWS
from ctg_assets.snapshot.previous import PreviousStudies
from ctg_assets.snapshot.store import Ancestor, SnapshotManifest

# Flattening a batch costs 0.2 s however small it is. Two row groups, 8,000 studies, are about 130 MB of Arrow,
# and 270 MB of rows.
ROW_GROUPS_AT_A_TIME = 2

# Where there are few studies, batches are smaller: some are flattened while others are read or sent.
_LEAST_BATCHES = 4

# One at a time leaves a sixth of two cores idle: 13,572 real studies took 9.7 s by the clock instead of 8.0.
_FLATTENED_AT_ONCE = 2

# Changed studies: some are read while others are flattened, compared, and taken by the database.
_CHANGED_AT_A_TIME = 2000


class FlattenedStudies:
    """The tables that are declared over the field tree, flattened from a snapshot's studies."""

    compared = True
    appended_to: Collection[str] = ()

    def __init__(self, former: FormerStudies | None = None) -> None:
        """`former` hears of each study as it was before a change."""
        self._former = former
        self._tables = staging_tables()
        self.shapes = tuple(table.shape for table in self._tables)

    def content(self, snapshot: Ancestor) -> str:
        """The studies' contents."""
        return snapshot.content_fingerprint

    def depends_on(self, manifest: MadeBy) -> Mapping[str, str]:
        """The declarations, and the code that makes rows."""
        del manifest
        return staging_digests()

    def batches(self, lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        """The rows of all studies."""
        columns, some = snapshot_columns(names), _row_groups_at_a_time(manifest.studies)
        read = lake.snapshots.batches(manifest.snapshot_id, columns, row_groups=some)
        with Prefetch(read) as ahead:
            yield from map_ahead(partial(flatten, tables=names), ahead, at_once=_FLATTENED_AT_ONCE)

    def batches_within(
        self, lake: Lake, manifest: SnapshotManifest, names: Collection[str], groups: Groups
    ) -> Rows:
        """The rows of the studies."""
        parts = lake.snapshots.parts(manifest.parts)
        columns = snapshot_columns(names)
        for ranges in groups:
            yield flatten(parts.within(ranges, columns), names)

    def changes(self, lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        """The rows of changed studies, as they are and as they were."""
        with Prefetch(_now_and_then(lake, manifest, since)) as pairs:
            for now, then in pairs:
                if self._former is not None:
                    self._former.keep(then)
                new, old = flatten_both(now, then)
                yield RowBatch(new=new, old=old)

    def appended(self, lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        """None: all tables are by study."""
        del lake, ancestor
        return {}


def _row_groups_at_a_time(studies: int) -> int:
    row_groups = studies // ROW_GROUP_ROWS + 1
    return min(max(row_groups // _LEAST_BATCHES, 1), ROW_GROUPS_AT_A_TIME)


def _now_and_then(
    lake: Lake, manifest: SnapshotManifest, since: str
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Studies that changed since an ancestor: some as they are now, and those of them that were there then."""
    gone = set(lake.snapshots.replaced(manifest.snapshot_id, since))
    with PreviousStudies.opened(lake.history, lake.snapshots, manifest, since, gone) as former:
        for group in lake.snapshots.batches(manifest.snapshot_id, since=since):
            for start in range(0, group.num_rows, _CHANGED_AT_A_TIME):
                now = group.slice(start, _CHANGED_AT_A_TIME)
                nct_ids = now["nct_id"].to_pylist()
                gone.difference_update(nct_ids)
                yield now, former.studies(nct_ids)
        left = sorted(gone)
        for start in range(0, len(left), _CHANGED_AT_A_TIME):
            then = former.studies(left[start : start + _CHANGED_AT_A_TIME])
            yield then.slice(0, 0), then


class UnmodelledValues:
    """The table of what studies have outside the data model."""

    compared = False
    shapes = (EXTRAS,)
    appended_to: Collection[str] = ()

    def content(self, snapshot: Ancestor) -> str:
        """The studies' contents."""
        return snapshot.content_fingerprint

    def depends_on(self, manifest: MadeBy) -> Mapping[str, str]:
        """The model: what is outside of it depends on what is in it."""
        return {EXTRAS.name: manifest.model_fingerprint}

    def batches(self, lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        """The values of all studies."""
        del names
        return self._rows(lake, manifest)

    def batches_within(
        self, lake: Lake, manifest: SnapshotManifest, names: Collection[str], groups: Groups
    ) -> Rows:
        """The values of the studies."""
        del names
        parts = lake.snapshots.parts(manifest.parts)
        for ranges in groups:
            yield {EXTRAS.name: extras_rows(parts.extras_within(ranges))}

    def changes(self, lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        """The values of changed studies, as they are."""
        return map(RowBatch, self._rows(lake, manifest, since))

    def appended(self, lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        """None: the table is by study."""
        del lake, ancestor
        return {}

    def _rows(self, lake: Lake, manifest: SnapshotManifest, since: str | None = None) -> Rows:
        for found in lake.snapshots.extras(manifest.snapshot_id, since=since):
            yield {EXTRAS.name: extras_rows(found)}
