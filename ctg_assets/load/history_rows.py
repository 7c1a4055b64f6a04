"""The rows that say how studies came to be: versions, changes, events, and what past contents said."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import polars as pl
import pyarrow as pa

from ctg_assets.history.contents import SCATTERED_AT_A_TIME
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.schemas import CHANGES_FILE, FIELD_CHANGES_FILE, TYPED_EVENTS_FILE
from ctg_assets.history.store import IndexLostError
from ctg_assets.lake import Lake
from ctg_assets.load.delta import RowBatch
from ctg_assets.load.former_studies import CONTENT, FormerStudies
from ctg_assets.load.row_source_protocol import Groups, MadeBy, Rows
from ctg_assets.model.flatten import ROWS_PER_STUDY
from ctg_assets.model.history_tables import (
    HISTORY_TABLES,
    STUDY_CHANGES,
    STUDY_EVENTS,
    STUDY_FIELD_CHANGES,
    STUDY_VERSION_REPORTING,
    STUDY_VERSIONS,
)
from ctg_assets.model.nct_ids import are_nct_ids
from ctg_assets.model.spec import TableShape
from ctg_assets.model.version_reporting import reporting_digest, reporting_rows
from ctg_assets.postgres.errors import WholeLoadNeededError
from ctg_assets.snapshot.store import Ancestor, SnapshotManifest
from ctg_assets.snapshot.typed_contents import CONTENT_COLUMNS, type_contents

_VERSIONS_AT_A_TIME = 100_000

# Past contents that are typed together.
_CONTENTS_AT_A_TIME = 2000

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
        for some in former.select(CONTENT_COLUMNS).iter_slices(_CONTENTS_AT_A_TIME):
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
