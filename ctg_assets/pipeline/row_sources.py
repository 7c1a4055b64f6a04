"""Where the rows of the staging tables come from.

Belongs here: which tables are filled from what part of a snapshot, and what their rows depend on beside
the studies' content. Does not belong here: computing the rows, and loading them (`load.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.lake.history import (
    CHANGES_FILE,
    FIELD_CHANGES_FILE,
    TYPED_EVENTS_FILE,
    UNIDENTIFIED,
    HistoryEntry,
)
from ctg_assets.lake.snapshots import Ancestor, SnapshotManifest
from ctg_assets.model.dependencies import row_digests
from ctg_assets.model.extras import EXTRAS, extras_rows
from ctg_assets.model.flatten import flatten, snapshot_columns
from ctg_assets.model.history_tables import (
    HISTORY_TABLES,
    STUDY_CHANGES,
    STUDY_EVENTS,
    STUDY_FIELD_CHANGES,
    STUDY_VERSIONS,
)
from ctg_assets.model.spec import TableShape
from ctg_assets.model.tables import staging_tables
from ctg_assets.pipeline.services import Lake

# Flattening a batch costs some 0.2 s however small it is. Three row groups, 12,000 studies, are about
# 200 MB of Arrow, and 400 MB of rows.
ROW_GROUPS_AT_A_TIME = 3

_VERSIONS_AT_A_TIME = 100_000

Rows = Iterator[Mapping[str, pa.Table]]
"""Batches of rows by table, as the loader takes them."""


@dataclass(frozen=True)
class RowSource:
    """Staging tables that are filled in one way.

    `content` gives a text that changes when the snapshot's rows may, `depends_on` one for each table,
    by name, that changes when the same content may give other rows. `batches` gives the rows of the
    tables named; with an ancestor of the snapshot only those of studies that changed since, and of
    tables in `appended` (by what number their new rows begin) those that were added since.
    """

    shapes: tuple[TableShape, ...]
    content: Callable[[Ancestor], str]
    depends_on: Callable[[SnapshotManifest], Mapping[str, str]]
    batches: Callable[[Lake, SnapshotManifest, Collection[str], str | None], Rows]
    appended: Callable[[Lake, Ancestor], Mapping[str, int]] = lambda _lake, _ancestor: {}


def row_sources() -> tuple[RowSource, ...]:
    """All sources; a table comes after every table that it refers to."""
    return (_flattened_studies(), _extras(), _history())


def staging_shapes() -> tuple[TableShape, ...]:
    """All tables of the data model as the database sees them; referenced ones first."""
    return tuple(shape for source in row_sources() for shape in source.shapes)


def study_shapes() -> tuple[TableShape, ...]:
    """The tables that say how studies are, not how they came to be; referenced ones first."""
    return tuple(shape for source in (_flattened_studies(), _extras()) for shape in source.shapes)


def _of_studies(ancestor: Ancestor) -> str:
    return ancestor.content_fingerprint


def _flattened_studies() -> RowSource:
    tables = staging_tables()

    def batches(
        lake: Lake, manifest: SnapshotManifest, names: Collection[str], since: str | None
    ) -> Rows:
        columns = snapshot_columns(names)
        for studies in lake.snapshots.batches(
            manifest.snapshot_id, columns, row_groups=ROW_GROUPS_AT_A_TIME, since=since
        ):
            yield flatten(studies, names)

    return RowSource(
        shapes=tuple(table.shape for table in tables),
        content=_of_studies,
        depends_on=lambda _: row_digests(tables),
        batches=batches,
    )


def _extras() -> RowSource:
    def batches(
        lake: Lake, manifest: SnapshotManifest, _: Collection[str], since: str | None
    ) -> Rows:
        for values in lake.snapshots.extras(manifest.snapshot_id, since=since):
            yield {EXTRAS.name: extras_rows(values)}

    return RowSource(
        shapes=(EXTRAS,),
        content=_of_studies,
        # What is outside the model depends on what is in it.
        depends_on=lambda manifest: {EXTRAS.name: manifest.model_fingerprint},
        batches=batches,
    )


def _history() -> RowSource:
    files = {
        STUDY_CHANGES.name: CHANGES_FILE,
        STUDY_FIELD_CHANGES.name: FIELD_CHANGES_FILE,
        STUDY_EVENTS.name: TYPED_EVENTS_FILE,
    }

    def batches(
        lake: Lake, manifest: SnapshotManifest, names: Collection[str], since: str | None
    ) -> Rows:
        after = 0 if since is None else manifest.lineage[since].history_sequence
        entries = [
            entry
            for entry in lake.history.since(after)
            if entry.sequence <= manifest.history_sequence
        ]
        if STUDY_VERSIONS.name in names:
            changed = None if since is None else _touched(lake, entries)
            for rows in _version_rows(lake, changed):
                yield {STUDY_VERSIONS.name: rows}
        for shape in HISTORY_TABLES:
            if shape.name in names and shape.name in files:
                for entry in entries:
                    for table in lake.history.tables(entry.sequence, files[shape.name]):
                        yield {shape.name: _identified(table).select(shape.arrow_schema.names)}

    def appended(lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        later = lake.history.since(ancestor.history_sequence)
        return dict.fromkeys(files, later[0].first_change_seq) if later else {}

    return RowSource(
        shapes=HISTORY_TABLES,
        content=lambda ancestor: f"history {ancestor.history_revision}",
        depends_on=lambda _: {shape.name: "as in the lake" for shape in HISTORY_TABLES},
        batches=batches,
        appended=appended,
    )


def _touched(lake: Lake, entries: Sequence[HistoryEntry]) -> pl.Series:
    none = pl.Series("nct_id", [], pl.String)
    return pl.concat([none, *(lake.history.touched(entry.sequence) for entry in entries)]).unique()


def _version_rows(lake: Lake, changed: pl.Series | None) -> Iterator[pa.Table]:
    periods = lake.history.periods()
    if changed is not None:
        periods = periods.filter(pl.col("nct_id").is_in(changed.implode()))
    is_current = pl.col("valid_to").is_null()
    rows = (
        periods.filter(~pl.col("nct_id").str.starts_with(UNIDENTIFIED))
        .with_columns(
            is_current=is_current,
            first_observed_at=pl.col("valid_from").min().over("nct_id", "content_hash"),
            last_observed_at=pl.when(~is_current).then("last_observed_at"),
        )
        .select(STUDY_VERSIONS.arrow_schema.names)
    )
    for some in rows.iter_slices(_VERSIONS_AT_A_TIME):
        yield some.to_arrow().cast(STUDY_VERSIONS.arrow_schema)


def _identified(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.invert(pc.starts_with(rows["nct_id"], UNIDENTIFIED)))
