"""Where the rows of the staging tables come from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.schemas import CHANGES_FILE, FIELD_CHANGES_FILE, TYPED_EVENTS_FILE
from ctg_assets.lake import Lake
from ctg_assets.load.delta import RowBatch
from ctg_assets.model.dependencies import row_digests
from ctg_assets.model.extras import EXTRAS, extras_rows
from ctg_assets.model.flatten import flatten, flatten_both, snapshot_columns
from ctg_assets.model.history_tables import (
    HISTORY_TABLES,
    STUDY_CHANGES,
    STUDY_EVENTS,
    STUDY_FIELD_CHANGES,
    STUDY_VERSIONS,
)
from ctg_assets.model.nct_ids import are_nct_ids
from ctg_assets.model.spec import TableShape
from ctg_assets.model.tables import staging_tables
from ctg_assets.snapshot.previous import FormerStudies
from ctg_assets.snapshot.store import Ancestor, SnapshotManifest
from ctg_assets.storage.prefetch import Prefetch

# Flattening a batch costs half a second however small it is. Three row groups, 12,000 studies, are about
# 200 MB of Arrow, and 400 MB of rows.
ROW_GROUPS_AT_A_TIME = 3

# Changed studies: some are read while others are flattened, compared, and taken by the database.
_CHANGED_AT_A_TIME = 2000

_VERSIONS_AT_A_TIME = 100_000

Rows = Iterator[Mapping[str, pa.Table]]
"""Batches of rows by table, as the loader takes them."""


@dataclass(frozen=True)
class RowSource:
    """Staging tables that are filled in one way.

    `content` gives a text that changes when the snapshot's rows may, `depends_on` one for each table,
    by name, that changes when the same content may give other rows. `batches` gives the rows of the
    tables named, `changes` what changed in all of them since an ancestor of the snapshot: the rows of
    studies that are not as they were then, with the old ones if tables are `compared`; of tables in
    `appended` (by what number their new rows begin) those that were added since.
    """

    shapes: tuple[TableShape, ...]
    content: Callable[[Ancestor], str]
    depends_on: Callable[[SnapshotManifest], Mapping[str, str]]
    batches: Callable[[Lake, SnapshotManifest, Collection[str]], Rows]
    changes: Callable[[Lake, SnapshotManifest, str], Iterator[RowBatch]]
    compared: bool = False
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

    def batches(lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        for studies in lake.snapshots.batches(
            manifest.snapshot_id, snapshot_columns(names), row_groups=ROW_GROUPS_AT_A_TIME
        ):
            yield flatten(studies, names)

    def changes(lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        with Prefetch(_now_and_then(lake, manifest, since)) as pairs:
            for now, then in pairs:
                new, old = flatten_both(now, then)
                yield RowBatch(new=new, old=old)

    return RowSource(
        shapes=tuple(table.shape for table in tables),
        content=_of_studies,
        depends_on=lambda _: row_digests(tables),
        batches=batches,
        changes=changes,
        compared=True,
    )


def _now_and_then(
    lake: Lake, manifest: SnapshotManifest, since: str
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Studies that changed since an ancestor: some as they are now, and those of them that were there then."""
    gone = set(lake.snapshots.replaced(manifest.snapshot_id, since))
    with FormerStudies.opened(lake.history, lake.snapshots, manifest, since, gone) as former:
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


def _extras() -> RowSource:
    def rows(lake: Lake, manifest: SnapshotManifest, since: str | None = None) -> Rows:
        for values in lake.snapshots.extras(manifest.snapshot_id, since=since):
            yield {EXTRAS.name: extras_rows(values)}

    return RowSource(
        shapes=(EXTRAS,),
        content=_of_studies,
        # What is outside the model depends on what is in it.
        depends_on=lambda manifest: {EXTRAS.name: manifest.model_fingerprint},
        batches=lambda lake, manifest, _: rows(lake, manifest),
        changes=lambda lake, manifest, since: map(RowBatch, rows(lake, manifest, since)),
    )


_FILES = {
    STUDY_CHANGES.name: CHANGES_FILE,
    STUDY_FIELD_CHANGES.name: FIELD_CHANGES_FILE,
    STUDY_EVENTS.name: TYPED_EVENTS_FILE,
}
"""The tables to which each entry of the history adds rows, and whence."""


def _history() -> RowSource:
    def batches(lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        if STUDY_VERSIONS.name in names:
            for rows in version_rows(lake.history.periods()):
                yield {STUDY_VERSIONS.name: rows}
        yield from _added_rows(lake, _entries(lake, manifest, 0), names)

    def changes(lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        entries = _entries(lake, manifest, manifest.lineage[since].history_sequence)
        touched = _touched(lake, entries)
        periods = lake.history.periods().filter(pl.col("nct_id").is_in(touched.implode()))
        for rows in version_rows(periods):
            yield RowBatch({STUDY_VERSIONS.name: rows})
        yield from map(RowBatch, _added_rows(lake, entries, _FILES))

    def appended(lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        later = lake.history.since(ancestor.history_sequence)
        # Where an undo had entries recorded once more, changes have kept their numbers.
        numbers = [first for entry in later for first, _ in entry.numbers]
        numbers += [entry.first_change_seq for entry in later]
        return dict.fromkeys(_FILES, min(numbers)) if later else {}

    return RowSource(
        shapes=HISTORY_TABLES,
        content=lambda ancestor: f"history {ancestor.history_revision}",
        depends_on=lambda _: {shape.name: "as in the lake" for shape in HISTORY_TABLES},
        batches=batches,
        changes=changes,
        appended=appended,
    )


def _entries(lake: Lake, manifest: SnapshotManifest, after: int) -> list[HistoryEntry]:
    """The entries of the history after one (0: all) that a snapshot has in it."""
    later = lake.history.since(after)
    return [entry for entry in later if entry.sequence <= manifest.history_sequence]


def _added_rows(lake: Lake, entries: Sequence[HistoryEntry], names: Collection[str]) -> Rows:
    for shape in HISTORY_TABLES:
        if shape.name in names and shape.name in _FILES:
            for entry in entries:
                for table in lake.history.tables(entry.sequence, _FILES[shape.name]):
                    yield {shape.name: _identified(table).select(shape.arrow_schema.names)}


def _touched(lake: Lake, entries: Sequence[HistoryEntry]) -> pl.Series:
    none = pl.Series("nct_id", [], pl.String)
    return pl.concat([none, *(lake.history.touched(entry.sequence) for entry in entries)]).unique()


def version_rows(periods: pl.DataFrame) -> Iterator[pa.Table]:
    """The rows of STUDY_VERSIONS for all periods (PERIODS_SCHEMA) of some studies."""
    is_current = pl.col("valid_to").is_null()
    rows = (
        periods.filter(are_nct_ids(pl.col("nct_id")))
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
    of_studies = pl.DataFrame(rows.select(["nct_id"])).select(are_nct_ids(pl.col("nct_id")))
    return rows.filter(of_studies["nct_id"].to_arrow())
