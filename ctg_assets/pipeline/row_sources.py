"""Where the rows of the staging tables come from.

Belongs here: which tables are filled from what part of a snapshot, and what their rows depend on beside
the studies' content. Does not belong here: computing the rows, and loading them (`load.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ctg_assets.lake.snapshots import SnapshotManifest
from ctg_assets.model.dependencies import row_digests
from ctg_assets.model.extras import EXTRAS, extras_rows
from ctg_assets.model.flatten import flatten, snapshot_columns
from ctg_assets.model.spec import TableShape
from ctg_assets.model.tables import staging_tables
from ctg_assets.pipeline.services import Lake

# Flattening a batch costs some 0.2 s however small it is. Three row groups, 12,000 studies, are about
# 200 MB of Arrow, and 400 MB of rows.
_ROW_GROUPS_AT_A_TIME = 3

Rows = Iterator[Mapping[str, pa.Table]]
"""Batches of rows by table, as the loader takes them."""


@dataclass(frozen=True)
class RowSource:
    """Staging tables that are filled in one way.

    `depends_on` gives for each table, by name, a text that changes when the same studies may give other
    rows. `batches` gives the rows of the tables named.
    """

    shapes: tuple[TableShape, ...]
    depends_on: Callable[[SnapshotManifest], Mapping[str, str]]
    batches: Callable[[Lake, SnapshotManifest, Collection[str]], Rows]


def row_sources() -> tuple[RowSource, ...]:
    """All sources; a table comes after every table that it refers to."""
    return (_flattened_studies(), _extras())


def staging_shapes() -> tuple[TableShape, ...]:
    """All tables of the data model as the database sees them; referenced ones first."""
    return tuple(shape for source in row_sources() for shape in source.shapes)


def _flattened_studies() -> RowSource:
    tables = staging_tables()

    def batches(lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        columns = snapshot_columns(names)
        for studies in lake.snapshots.batches(
            manifest.snapshot_id, columns, row_groups=_ROW_GROUPS_AT_A_TIME
        ):
            yield flatten(studies, names)

    return RowSource(
        shapes=tuple(table.shape for table in tables),
        depends_on=lambda _: row_digests(tables),
        batches=batches,
    )


def _extras() -> RowSource:
    def batches(lake: Lake, manifest: SnapshotManifest, _: Collection[str]) -> Rows:
        for values in lake.snapshots.extras(manifest.snapshot_id):
            yield {EXTRAS.name: extras_rows(values)}

    return RowSource(
        shapes=(EXTRAS,),
        # What is outside the model depends on what is in it.
        depends_on=lambda manifest: {EXTRAS.name: manifest.model_fingerprint},
        batches=batches,
    )
