"""Where the rows of the staging tables come from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import polars as pl
import pyarrow as pa

from ctg_assets.history.contents import SCATTERED_AT_A_TIME
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.schemas import CHANGES_FILE, FIELD_CHANGES_FILE, TYPED_EVENTS_FILE
from ctg_assets.history.store import IndexLostError
from ctg_assets.lake import Lake
from ctg_assets.load.delta import RowBatch
from ctg_assets.load.former_studies import CONTENT, FormerStudies
from ctg_assets.model.dependencies import staging_digests
from ctg_assets.model.extras import EXTRAS, extras_rows
from ctg_assets.model.flatten import ROWS_PER_STUDY, flatten, flatten_both, snapshot_columns
from ctg_assets.model.history_tables import (
    HISTORY_TABLES,
    STUDY_CHANGES,
    STUDY_EVENTS,
    STUDY_FIELD_CHANGES,
    STUDY_VERSION_REPORTING,
    STUDY_VERSIONS,
)
from ctg_assets.model.id_ranges import IdRanges
from ctg_assets.model.nct_ids import are_nct_ids
from ctg_assets.model.spec import TableShape
from ctg_assets.model.tables import staging_tables
from ctg_assets.model.version_reporting import reporting_digest, reporting_rows
from ctg_assets.postgres.errors import WholeLoadNeededError
from ctg_assets.prefetch import Prefetch
from ctg_assets.snapshot.previous import PreviousStudies
from ctg_assets.snapshot.store import Ancestor, SnapshotManifest
from ctg_assets.snapshot.typed_contents import CONTENT_COLUMNS, type_contents

# Flattening a batch costs half a second however small it is. Three row groups, 12,000 studies, are about
# 200 MB of Arrow, and 400 MB of rows.
ROW_GROUPS_AT_A_TIME = 3

# Changed studies: some are read while others are flattened, compared, and taken by the database.
_CHANGED_AT_A_TIME = 2000

_VERSIONS_AT_A_TIME = 100_000

Rows = Iterator[Mapping[str, pa.Table]]
"""Batches of rows by table, as the loader takes them."""

Groups = Iterable[IdRanges]
"""Studies that are taken together, some at a time."""


class MadeBy(Protocol):
    """By what code a snapshot was made: how it typed studies, and by which rules it told events."""

    @property
    def model_fingerprint(self) -> str:
        """A digest of the first."""

    @property
    def event_rules(self) -> str:
        """A digest of the second."""


class RowSource(Protocol):
    """Staging tables that are filled in one way.

    Where tables are `compared`, what changed comes with the rows that the studies had before.
    """

    @property
    def shapes(self) -> tuple[TableShape, ...]:
        """The tables, referenced ones first."""

    @property
    def compared(self) -> bool:
        """Whether changes bring the old rows, too."""

    def content(self, snapshot: Ancestor) -> str:
        """A text that changes when the snapshot's rows may."""

    def depends_on(self, manifest: MadeBy) -> Mapping[str, str]:
        """By table, a text that changes when the same content may give other rows."""

    def batches(self, lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        """The rows of the tables named."""

    def batches_within(
        self, lake: Lake, manifest: SnapshotManifest, names: Collection[str], groups: Groups
    ) -> Rows:
        """For each of some groups of studies a batch with their rows in the tables named, in no order.

        Only of tables that are by study: `appended_to` names the others.
        """

    @property
    def appended_to(self) -> Collection[str]:
        """The tables that rows are only added to, whatever becomes of studies."""

    def changes(self, lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        """What changed in all tables since an ancestor: the rows of studies that are not as they were then."""

    def appended(self, lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        """Of tables that rows are only added to, by name, the number with which new ones since then begin."""


def row_sources() -> tuple[RowSource, ...]:
    """All sources; a table comes after every table that it refers to."""
    former = FormerStudies()
    return (
        *(FlattenedStudies(former), UnmodelledValues()),
        *(HistoryOfStudies(), PastContents(former)),
    )


def staging_shapes() -> tuple[TableShape, ...]:
    """All tables of the data model as the database sees them; referenced ones first."""
    return tuple(shape for source in row_sources() for shape in source.shapes)


def study_shapes() -> tuple[TableShape, ...]:
    """The tables that say how studies are, not how they came to be; referenced ones first."""
    return (*FlattenedStudies().shapes, *UnmodelledValues.shapes)


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
        columns, some = snapshot_columns(names), ROW_GROUPS_AT_A_TIME
        read = lake.snapshots.batches(manifest.snapshot_id, columns, row_groups=some)
        with Prefetch(read) as ahead:
            yield from (flatten(studies, names) for studies in ahead)

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


_FILES = {
    STUDY_CHANGES.name: CHANGES_FILE,
    STUDY_FIELD_CHANGES.name: FIELD_CHANGES_FILE,
    STUDY_EVENTS.name: TYPED_EVENTS_FILE,
}
"""The tables to which each entry of the history adds rows, and whence."""


class HistoryOfStudies:
    """The tables of versions, changes and events, out of the history's entries."""

    compared = False
    shapes = (STUDY_VERSIONS, STUDY_CHANGES, STUDY_FIELD_CHANGES, STUDY_EVENTS)
    appended_to: Collection[str] = tuple(_FILES)

    def content(self, snapshot: Ancestor) -> str:
        """The last entry that changed anything."""
        return f"history {snapshot.history_revision}"

    def depends_on(self, manifest: MadeBy) -> Mapping[str, str]:
        """Of events the rules by which they were told; other rows are as in the lake, always."""
        as_in_lake = {shape.name: "as in the lake" for shape in self.shapes}
        return as_in_lake | {STUDY_EVENTS.name: manifest.event_rules}

    def batches(self, lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        """All versions, and what all entries say."""
        if STUDY_VERSIONS.name in names:
            for rows in version_rows(lake.history.periods()):
                yield {STUDY_VERSIONS.name: rows}
        yield from added_rows(lake, _entries(lake, manifest, 0), names)

    def batches_within(
        self, lake: Lake, manifest: SnapshotManifest, names: Collection[str], groups: Groups
    ) -> Rows:
        """The versions of the studies."""
        if STUDY_VERSIONS.name in names:
            periods = lake.history.periods_after(manifest.history_sequence)
            for ranges in groups:
                some = version_rows(periods.filter(ranges.cover(periods["nct_id"])))
                yield {STUDY_VERSIONS.name: _joined(STUDY_VERSIONS, some)}

    def changes(self, lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        """The versions of the studies that later entries touched, and what these entries say."""
        entries = _entries(lake, manifest, manifest.lineage[since].history_sequence)
        touched = _touched(lake, entries)
        periods = lake.history.periods().filter(pl.col("nct_id").is_in(touched.implode()))
        for rows in version_rows(periods):
            yield RowBatch({STUDY_VERSIONS.name: rows})
        yield from map(RowBatch, added_rows(lake, entries, _FILES))

    def appended(self, lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        """The first number of a change that came later."""
        later = lake.history.since(ancestor.history_sequence)
        # Where an undo had entries recorded once more, changes have kept their numbers.
        numbers = [first for entry in later for first, _ in entry.numbers]
        numbers += [entry.first_change_seq for entry in later]
        return dict.fromkeys(_FILES, min(numbers)) if later else {}


def _entries(lake: Lake, manifest: SnapshotManifest, after: int) -> list[HistoryEntry]:
    """The entries of the history after one (0: all) that a snapshot has in it."""
    later = lake.history.since(after)
    return [entry for entry in later if entry.sequence <= manifest.history_sequence]


class PastContents:
    """The table of what contents that are not current say of the duty to report results.

    A content never changes, so of changed studies only those are read that were current before.
    """

    compared = True
    shapes = (STUDY_VERSION_REPORTING,)
    appended_to: Collection[str] = ()

    def __init__(self, former: FormerStudies) -> None:
        """What `former` has heard of is not read again."""
        self._former_studies = former

    def content(self, snapshot: Ancestor) -> str:
        """The last entry that changed anything."""
        return f"history {snapshot.history_revision}"

    def depends_on(self, manifest: MadeBy) -> Mapping[str, str]:
        """The model, and what is taken of it."""
        digest = f"{manifest.model_fingerprint}/{reporting_digest()}"
        return {STUDY_VERSION_REPORTING.name: digest}

    def batches(self, lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        """The rows of all former contents."""
        del names
        former = _former(lake.history.periods_after(manifest.history_sequence))
        for rows in _reporting_rows(lake, former):
            yield {STUDY_VERSION_REPORTING.name: rows}

    def batches_within(
        self, lake: Lake, manifest: SnapshotManifest, names: Collection[str], groups: Groups
    ) -> Rows:
        """The rows of former contents of the studies."""
        del names
        former = _former(lake.history.periods_after(manifest.history_sequence))
        for ranges in groups:
            some = _reporting_rows(lake, former.filter(ranges.cover(former["nct_id"])))
            yield {STUDY_VERSION_REPORTING.name: _joined(STUDY_VERSION_REPORTING, some)}

    def changes(self, lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        """What contents say that have become former ones; the keys of those that are current again, or undone."""
        before = manifest.lineage[since].history_sequence
        touched = pl.col("nct_id").is_in(_touched(lake, _entries(lake, manifest, before)).implode())
        try:
            periods = lake.history.periods_after(before)
        except IndexLostError as error:
            message = f"what the table of former contents has cannot be told: {error}"
            raise WholeLoadNeededError(message) from error
        then = _former(periods.filter(touched))
        now = _former(lake.history.periods_after(manifest.history_sequence).filter(touched))
        # Older contents found later renumber the others.
        same = ["nct_id", "content_hash", "version_number"]
        yield RowBatch(new={}, old=_keys_of_past(then.join(now, on=same, how="anti")))
        new = now.join(then, on=same, how="anti")
        heard_of = self._former_studies.of(new)
        yield RowBatch({STUDY_VERSION_REPORTING.name: heard_of})
        left = new.join(pl.DataFrame(heard_of), on=CONTENT, how="anti")
        for rows in _reporting_rows(lake, left):
            yield RowBatch({STUDY_VERSION_REPORTING.name: rows})

    def appended(self, lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        """None: the table is by study."""
        del lake, ancestor
        return {}


def _joined(shape: TableShape, batches: Iterable[pa.Table]) -> pa.Table:
    return pa.concat_tables([shape.arrow_schema.empty_table(), *batches])


def _former(periods: pl.DataFrame) -> pl.DataFrame:
    """The contents of periods (PERIODS_SCHEMA) that are not current, by NCT id and number."""
    is_current = pl.col("valid_to").is_null().any().over(CONTENT)
    return (
        periods.filter(are_nct_ids(pl.col("nct_id")))
        .filter(~is_current)
        .unique(CONTENT)
        .sort("nct_id", "version_number")
    )


def _reporting_rows(lake: Lake, former: pl.DataFrame) -> Iterator[pa.Table]:
    numbers = former.select(*CONTENT, "version_number")
    with lake.history.open_contents() as contents:
        for some in former.select(CONTENT_COLUMNS).iter_slices(_CHANGED_AT_A_TIME):
            rows = pa.concat_tables(contents.rows(some, SCATTERED_AT_A_TIME))
            yield reporting_rows(type_contents(rows).studies, numbers)


def _keys_of_past(contents: pl.DataFrame) -> dict[str, pa.Table]:
    """Rows of which nothing is known but what names them."""
    number = pl.col("nct_id").str.slice(3).cast(pl.Int64)
    keys = contents.select(
        "nct_id", "content_hash", id=number * ROWS_PER_STUDY + pl.col("version_number")
    )
    schema = STUDY_VERSION_REPORTING.arrow_schema
    rows = [keys[name] if name in keys.columns else None for name in schema.names]
    return {
        STUDY_VERSION_REPORTING.name: pa.table(
            [
                pa.nulls(keys.height, field.type)
                if column is None
                else column.to_arrow().cast(field.type)
                for column, field in zip(rows, schema, strict=True)
            ],
            names=schema.names,
        )
    }


def added_rows(lake: Lake, entries: Sequence[HistoryEntry], names: Collection[str]) -> Rows:
    """What entries of the history say, of those of the tables named that rows are only added to."""
    for shape in HISTORY_TABLES:
        if shape.name in names and shape.name in _FILES:
            for entry in entries:
                for table in lake.history.tables(entry.sequence, _FILES[shape.name]):
                    yield {shape.name: _identified(table).select(shape.arrow_schema.names)}


def _touched(lake: Lake, entries: Sequence[HistoryEntry]) -> pl.Series:
    touched = [lake.history.touched(entry.sequence) for entry in entries]
    return pl.concat([pl.Series("nct_id", [], pl.String), *touched]).unique()


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
