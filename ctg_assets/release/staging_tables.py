"""The lake's tables in a release: flattened from snapshot and history, and of those only what changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.lake import Lake
from ctg_assets.load.row_source_protocol import RowSource
from ctg_assets.load.row_sources import row_sources, staging_shapes
from ctg_assets.load.staging import tables_at, wanted_tables
from ctg_assets.load.study_rows import FlattenedStudies
from ctg_assets.model.id_ranges import IdRanges, numbers_of
from ctg_assets.postgres.copy_format import storable
from ctg_assets.prefetch import Prefetch
from ctg_assets.release.edits import Edits, differing
from ctg_assets.release.leaves import LEAF_NUMBERS, LeafSize
from ctg_assets.release.manifest import ReleasedTable, ReleaseManifest
from ctg_assets.release.spool import Spool, sort_rows
from ctg_assets.release.table_files import ReleasedRows, ReleasedShape, TableWriter, shape_of
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.storage.files import Storage

STAGING = "staging"

# Flattening a batch costs 0.2 s however small it is.
_STUDIES_AT_A_TIME = 12_000
_ALL_NUMBERS = 100_000_000
_TABLES_AT_ONCE = 2
_SOURCES_AT_ONCE = 2


@dataclass(frozen=True)
class ReleaseBefore:
    """The release that a new one can take over from, if there is one, and by table the sizes of its leaves."""

    manifest: ReleaseManifest | None = None
    leaves: Mapping[str, Mapping[int, LeafSize]] = field(default_factory=dict)


@dataclass
class Made:
    """Tables that were made: what the manifest says of them, their declarations, and the sizes of their leaves."""

    tables: list[ReleasedTable] = field(default_factory=list)
    shapes: list[ReleasedShape] = field(default_factory=list)
    leaves: dict[str, Mapping[int, LeafSize]] = field(default_factory=dict)

    def add(
        self, shape: ReleasedShape, table: ReleasedTable, leaves: Mapping[int, LeafSize]
    ) -> None:
        """Take one more."""
        self.tables.append(table)
        self.shapes.append(shape)
        self.leaves[table.qualified] = leaves

    def extend(self, other: Made) -> None:
        """Take others."""
        self.tables += other.tables
        self.shapes += other.shapes
        self.leaves |= other.leaves


@dataclass(frozen=True)
class _Plan:
    """What of a table is to be made: the rows of leaves that are not `kept` from `previous`.

    A table that rows are only added to gets those with numbers from `first_new` on. Of an edited one all leaves are
    kept but for the rows of studies that changed.
    """

    shape: ReleasedShape
    made_from: str
    previous: ReleasedTable | None = None
    kept: Mapping[int, LeafSize] = field(default_factory=dict)
    is_whole: bool = True
    is_as_before: bool = False
    first_new: int | None = None
    is_edited: bool = False


def released_shapes() -> dict[str, ReleasedShape]:
    """The lake's tables as they are released, by name."""
    keys = {shape.name: shape.primary_key for shape in staging_shapes()}
    return {shape.name: shape_of(STAGING, shape, keys) for shape in staging_shapes()}


def make_staging_tables(
    lake: Lake,
    manifest: SnapshotManifest,
    writer: TableWriter,
    before: ReleaseBefore,
    show: Callable[[str], None],
) -> Made:
    """Put the files of all tables of the lake in place.

    A table that would be as it was keeps its files. If the previous release is of a snapshot that this one builds on,
    only the rows of studies that changed since are made anew. Raises DamagedReleaseError for a file of the
    previous release that is not as it was.
    """
    touched = _touched(lake, manifest, before.manifest)
    plans = _plans(lake, manifest, writer, before, touched)
    reading = _Reading(lake, manifest, writer.storage, before.manifest, touched, show)
    made = Made()
    # Each of these has much that runs on one core: a source's first batch, and the encoding of a file.
    with (
        ThreadPoolExecutor(_TABLES_AT_ONCE) as writing,
        ThreadPoolExecutor(_SOURCES_AT_ONCE) as filling,
    ):

        def begun(source: RowSource) -> dict[str, Future[_Written]]:
            own = [plans[shape.name] for shape in source.shapes]
            spools = _Spools(writer, plans)
            edits = reading.fill(spools, source, own)
            # The largest first, so that no core waits for it in the end.
            return {
                plan.shape.name: writing.submit(
                    _written, plan, writer, spools, edits.get(plan.shape.name), show
                )
                for plan in sorted(own, key=_weight, reverse=True)
            }

        try:
            for source, tables in zip(
                row_sources(), filling.map(begun, row_sources()), strict=True
            ):
                for shape in source.shapes:
                    table, sizes = tables[shape.name].result()
                    made.add(plans[shape.name].shape, table, sizes)
        except BaseException:
            for pool in (filling, writing):
                pool.shutdown(cancel_futures=True)
            raise
    return made


_Written = tuple[ReleasedTable, Mapping[int, LeafSize]]


def _weight(plan: _Plan) -> int:
    """About how much of a table there is to write: what the release before had of it, if it is to be another."""
    return 0 if plan.is_as_before else sum(size.weight for size in plan.kept.values())


def _written(
    plan: _Plan,
    writer: TableWriter,
    spools: _Spools,
    edits: Edits | None,
    show: Callable[[str], None],
) -> _Written:
    """Put the files of a table in place whose new rows are spooled."""
    name = plan.shape.name
    if plan.is_as_before and plan.previous is not None:
        return plan.previous, plan.kept
    show(f"writing {name}")
    files, sizes = writer.write(plan.shape, spools.of(name), plan.previous, plan.kept, edits)
    spools.drop(name)
    return plan.shape.released(plan.made_from, files), sizes


def _touched(
    lake: Lake, manifest: SnapshotManifest, previous: ReleaseManifest | None
) -> frozenset[int] | None:
    """The numbers of studies that changed since the previous release; None where that cannot be told."""
    if previous is None or previous.snapshot_id not in manifest.lineage:
        return None
    changed = lake.snapshots.replaced(manifest.snapshot_id, previous.snapshot_id)
    return frozenset(numbers_of(pl.Series(changed, dtype=pl.String)).drop_nulls().to_list())


def _plans(
    lake: Lake,
    manifest: SnapshotManifest,
    writer: TableWriter,
    before: ReleaseBefore,
    touched: frozenset[int] | None,
) -> dict[str, _Plan]:
    wanted = wanted_tables(manifest)
    previous = before.manifest
    then = None if previous is None else tables_at(manifest, previous.snapshot_id)
    held = {} if previous is None else {table.qualified: table for table in previous.tables}
    first_new: dict[str, int] = {}
    appended: set[str] = set()
    for source in row_sources():
        appended.update(source.appended_to)
        if touched is not None and previous is not None:
            first_new |= source.appended(lake, manifest.lineage[previous.snapshot_id])
    plans = {}
    for name, shape in released_shapes().items():
        old, sizes = held.get(shape.qualified), before.leaves.get(shape.qualified)
        plan = _Plan(shape, wanted[name])
        if old is not None and sizes is not None and _is_there(old, writer):
            if old.made_from == wanted[name]:
                plan = _Plan(shape, wanted[name], old, sizes, is_whole=False, is_as_before=True)
            elif touched is None or then is None or then[name] != old.made_from:
                pass  # made by other code, or of a snapshot that this one does not build on
            elif name in first_new:
                first = first_new[name]
                kept = {leaf: size for leaf, size in sizes.items() if leaf < first // LEAF_NUMBERS}
                plan = _Plan(shape, wanted[name], old, kept, is_whole=False, first_new=first)
            elif name not in appended:
                plan = _Plan(shape, wanted[name], old, sizes, is_whole=False, is_edited=True)
        plans[name] = plan
    return plans


def _is_there(table: ReleasedTable, writer: TableWriter) -> bool:
    return all(file.path in writer.there for file in table.files)


class _Spools:
    """The spools of some tables."""

    def __init__(self, writer: TableWriter, plans: Mapping[str, _Plan]) -> None:
        self._folder = writer.scratch / "rows"
        self._plans = plans
        self._spools: dict[str, Spool] = {}

    def of(self, name: str) -> Spool:
        if name not in self._spools:
            shape = self._plans[name].shape
            self._spools[name] = Spool(self._folder / name, shape.arrow_schema, shape.sorted_by)
        return self._spools[name]

    def add(self, batch: Mapping[str, pa.Table]) -> None:
        for name, rows in batch.items():
            self.of(name).add(storable(rows))

    def drop(self, name: str) -> None:
        self._spools.pop(name, None)
        shutil.rmtree(self._folder / name, ignore_errors=True)


@dataclass(frozen=True)
class _Reading:
    """Where rows come from, and which studies have changed."""

    lake: Lake
    manifest: SnapshotManifest
    released: Storage
    before: ReleaseManifest | None
    touched: Collection[int] | None
    show: Callable[[str], None]

    def fill(
        self, spools: _Spools, source: RowSource, plans: Sequence[_Plan]
    ) -> Mapping[str, Edits]:
        """Bring the rows that are to be made of tables of one source; returns by name what is edited."""
        todo = [plan for plan in plans if not plan.is_as_before]
        self._append(
            spools, source, [plan for plan in todo if plan.shape.name in source.appended_to]
        )
        rest = [plan for plan in todo if plan.shape.name not in source.appended_to]
        self._fill(spools, source, [plan for plan in rest if plan.is_whole])
        edited = {plan.shape.name: plan for plan in rest if plan.is_edited}
        if not edited or self.before is None:
            return {}
        if isinstance(source, FlattenedStudies):
            return self._compare(spools, source, edited, self.before.snapshot_id)
        return self._replace(spools, source, edited)

    def _compare(
        self, spools: _Spools, source: RowSource, plans: Mapping[str, _Plan], since: str
    ) -> dict[str, Edits]:
        """Bring the rows that are not as they were: most of what belongs to a changed study is."""
        gone: dict[str, list[pa.Table]] = {name: [spools.of(name).empty] for name in plans}
        edits = {}
        for changed in source.changes(self.lake, self.manifest, since):
            self.show("comparing rows")
            for name, plan in plans.items():
                new, old = differing(
                    storable(changed.new[name]),
                    storable(changed.old[name]),
                    plan.shape.sorted_by[0],
                )
                spools.of(name).add(new)
                schema = plan.shape.arrow_schema
                gone[name].append(old.select(schema.names).cast(schema))
        for name, plan in plans.items():
            key = plan.shape.sorted_by[0]
            went = sort_rows(pa.concat_tables(gone.pop(name)), plan.shape.sorted_by)
            edits[name] = Edits(key == "id", key, np.empty(0, np.int64), spools.of(name))
            edits[name].gone = np.unique(edits[name].units(went))
            edits[name].take_stock(plan.kept, went)
        return edits

    def _replace(
        self, spools: _Spools, source: RowSource, plans: Mapping[str, _Plan]
    ) -> dict[str, Edits]:
        """Bring all rows of changed studies; those that they had are looked up in the release before."""
        studies = np.array(sorted(self.touched or ()), np.int64)
        groups = [IdRanges.joined((number, number + 1) for number in studies.tolist())]
        for batch in source.batches_within(self.lake, self.manifest, list(plans), groups):
            spools.add(batch)
        edits = {}
        for name, plan in plans.items():
            edits[name] = Edits(False, plan.shape.sorted_by[0], studies, spools.of(name))
            gone = [spools.of(name).empty]
            if plan.previous is not None and plan.kept:
                before = ReleasedRows(self.released, plan.previous)
                for rows, _ in before.rows(sorted(plan.kept)):
                    went = np.isin(edits[name].units(rows), studies)
                    gone.append(rows.filter(pa.array(went)))
            edits[name].take_stock(plan.kept, pa.concat_tables(gone))
        return edits

    def _append(self, spools: _Spools, source: RowSource, plans: Sequence[_Plan]) -> None:
        """Bring all rows of tables that are only added to, or the new ones and those of the leaf they begin in."""
        if plans:
            self.show("reading changes")
        whole = [plan.shape.name for plan in plans if plan.is_whole]
        if whole:
            for batch in source.batches(self.lake, self.manifest, whole):
                spools.add(batch)
        added = {plan.shape.name: plan for plan in plans if not plan.is_whole}
        if added and self.before is not None:
            for plan in added.values():
                for rows in self._before_first(plan):
                    spools.add({plan.shape.name: rows})
            for changed in source.changes(self.lake, self.manifest, self.before.snapshot_id):
                spools.add({name: rows for name, rows in changed.new.items() if name in added})

    def _before_first(self, plan: _Plan) -> Iterator[pa.Table]:
        """Of the leaf in which the new rows of a table begin, those that stay."""
        first = plan.first_new
        if first is not None and plan.previous is not None:
            released = ReleasedRows(self.released, plan.previous)
            for rows, _ in released.rows([first // LEAF_NUMBERS]):
                yield rows.filter(pc.less(rows[plan.shape.sorted_by[0]], first))

    def _fill(
        self,
        spools: _Spools,
        source: RowSource,
        plans: Sequence[_Plan],
    ) -> None:
        """Bring all rows."""
        names = [plan.shape.name for plan in plans]
        if not names:
            return
        groups = list(_groups(self.lake, self.manifest))
        made = source.batches_within(self.lake, self.manifest, names, groups)
        with Prefetch(made) as batches:
            for number, batch in enumerate(batches, start=1):
                self.show(f"making rows: part {number} of {len(groups)}")
                spools.add(batch)


def _groups(lake: Lake, manifest: SnapshotManifest) -> Iterator[IdRanges]:
    """All leaves that can be, in groups of so many studies as are made into rows at a time."""
    counts: dict[int, int] = {}
    for batch in lake.snapshots.batches(manifest.snapshot_id, ["nct_id"]):
        numbers = numbers_of(pl.Series(batch["nct_id"])).drop_nulls().to_numpy()
        found, times = np.unique(numbers // LEAF_NUMBERS, return_counts=True)
        for leaf, count in zip(found.tolist(), times.tolist(), strict=True):
            counts[leaf] = counts.get(leaf, 0) + count
    group: list[tuple[int, int]] = []
    studies = 0
    for leaf in range(_ALL_NUMBERS // LEAF_NUMBERS):
        if group and studies + counts.get(leaf, 0) > _STUDIES_AT_A_TIME:
            yield IdRanges.joined(group)
            group, studies = [], 0
        group.append((leaf * LEAF_NUMBERS, (leaf + 1) * LEAF_NUMBERS))
        studies += counts.get(leaf, 0)
    if group:
        yield IdRanges.joined(group)
