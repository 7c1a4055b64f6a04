"""The flat tables in ClickHouse follow the lake: loaded whole once, then study by study.

What is written of a study does not depend on what happened to it, but on what the newest snapshot has of it, and
on which rows of it are there: the same change twice, or an older one after a newer, leaves the same rows.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import polars as pl
import pyarrow as pa

from ctg_assets.arrow_memory import memory_for_tables
from ctg_assets.lake import Lake
from ctg_assets.load.clickhouse.marts import CopiedMarts
from ctg_assets.load.clickhouse.notes import Base, Notes, rows_database
from ctg_assets.load.clickhouse.server import (
    ClickHouse,
    ClickHouseUnavailableError,
    literal,
    quoted,
)
from ctg_assets.load.clickhouse.tables import (
    NEXT,
    declaration,
    key,
    made_by,
    versioned,
    view,
)
from ctg_assets.load.history_rows import added_rows
from ctg_assets.load.row_sources import row_sources, staging_shapes
from ctg_assets.model.history_tables import STUDY_CHANGES
from ctg_assets.model.id_ranges import IdRanges
from ctg_assets.postgres.copy_format import storable
from ctg_assets.prefetch import Prefetch
from ctg_assets.snapshot.store import SnapshotManifest

_LAST_WRITTEN = STUDY_CHANGES.name
"""The table that gets its rows last: a change that is in it is in all others."""


@dataclass(frozen=True)
class ChangedStudy:
    """A study that changed with some number; `undoes` is the number of a change that is taken back."""

    nct_id: str
    change_seq: int
    undoes: int | None = None


@dataclass(frozen=True)
class Reflected:
    """The newest snapshot, and the number of the last change that is in it."""

    manifest: SnapshotManifest
    change_seq: int


def reflected(lake: Lake) -> Reflected | None:
    """What the newest snapshot has in it; None where there is none, or the history is ahead of it."""
    # In this order: what comes in between makes the snapshot look older, not newer.
    newest = lake.history.next_change_seq() - 1
    manifest, entry = lake.snapshots.latest(), lake.history.latest()
    if manifest is None or entry is None or entry.revision != manifest.history_revision:
        return None
    return Reflected(manifest, newest)


class FollowedTables:
    """The flat tables in one database of a ClickHouse; one process at a time brings them anything."""

    def __init__(self, server: ClickHouse, lake: Lake, show: Callable[[str], None]) -> None:
        """Bring the rows of `lake`; `show` is told what takes long."""
        self._server = server
        self._lake = lake
        self._show = show
        self._database = server.address.database
        self._rows = rows_database(server.address)
        self.notes = Notes(server, self._rows)
        self.marts = CopiedMarts(server, self.notes, show)
        self._shapes = {shape.name: shape for shape in staging_shapes()}
        self._prepared: str | None = None

    def prepare(self) -> Base:
        """Load the tables that are not there, or not as the model has them now; returns up to where all are whole.

        A table is made beside the one that is read, and exchanged with it. Raises ClickHouseUnavailableError, also
        when the lake has no snapshot of all that it knows yet.
        """
        base = self.notes.base() if self._prepared is not None else self._first_notes()
        state = reflected(self._lake)
        if base is not None and (state is None or self._prepared == state.manifest.snapshot_id):
            # While the next snapshot is being made nothing can be loaded, and nothing is to be brought.
            return base
        state = state or self._state()
        begins = self._history()
        wanted = self._wanted(state.manifest)
        whole = base is None or base.history != begins or base.change_seq > state.change_seq
        held = {} if whole else self.notes.made_by()
        there = self._there()
        todo = [
            name for name, digest in wanted.items() if held.get(name) != digest or name not in there
        ]
        if _LAST_WRITTEN in todo and not whole:
            # Its rows say which changes the other tables have.
            whole, todo = True, [*wanted]
        self._load(state, todo, wanted)
        for name in sorted(there - wanted.keys()):
            self._server.do(f"DROP VIEW IF EXISTS {quoted(self._database)}.{quoted(name)}")
            self._server.do(f"DROP TABLE IF EXISTS {quoted(self._rows)}.{quoted(name)}")
            self.notes.forgotten(name)
        if base is None or whole:
            base = Base(state.change_seq, state.manifest.snapshot_id, begins)
            self.notes.rebase(base)
        self._prepared = state.manifest.snapshot_id
        return base

    def bring(self, changes: Sequence[ChangedStudy]) -> None:
        """Have the rows of these studies, and of these changes, be what the newest snapshot says.

        Raises RowsRefusedError and ClickHouseUnavailableError: the latter, too, for a change that the newest
        snapshot does not have yet. Some rows may be there then; the next try brings all.
        """
        state = self._state()
        newest = max(change.change_seq for change in changes)
        if newest > state.change_seq:
            message = (
                f"change {newest} is not in the lake's newest snapshot, which ends with {state.change_seq}; "
                "it follows when `ctg-assets refresh` has made the next"
            )
            raise ClickHouseUnavailableError(message)
        ids = sorted({change.nct_id for change in changes})
        for name, rows in self._by_study(state.manifest, ids):
            self._replace(name, rows, state.change_seq, f"nct_id IN ({_listed(ids)})")
        numbers = {change.change_seq for change in changes}
        numbers |= {change.undoes for change in changes if change.undoes is not None}
        listed = ", ".join(map(str, sorted(numbers)))
        where = f"nct_id IN ({_listed(ids)}) AND change_seq IN ({listed})"
        for name, rows in self._by_number(state.manifest, numbers):
            self._replace(name, rows, state.change_seq, where)

    def whole_up_to(self, change_seq: int) -> None:
        """Note that all changes up to this one were brought, if the newest snapshot ends with it."""
        state = reflected(self._lake)
        if state is not None and state.change_seq == change_seq:
            self.notes.rebase(Base(change_seq, state.manifest.snapshot_id, self._history()))

    def brought_since(self, change_seq: int) -> set[int]:
        """The numbers after one of changes that were brought: their rows are there in all tables."""
        found = self._server.ask(
            f"SELECT change_seq FROM {quoted(self._rows)}.{quoted(_LAST_WRITTEN)} FINAL "
            f"WHERE change_seq > {change_seq}"
        )
        return set(found["change_seq"].to_pylist())

    def newest(self) -> int:
        """The number of the last change that the lake's history has."""
        return self._lake.history.next_change_seq() - 1

    # what is wanted, and what is there

    def _state(self) -> Reflected:
        state = reflected(self._lake)
        if state is None:
            message = (
                "the lake has no snapshot of everything that its history knows; it follows when "
                "`ctg-assets refresh` has made one"
            )
            raise ClickHouseUnavailableError(message)
        return state

    def _history(self) -> str:
        """What tells the lake's history from another: numbers of changes say nothing in another."""
        entries = self._lake.history.entries()
        return entries[0].extraction_id if entries else ""

    def _first_notes(self) -> Base | None:
        self._server.do(f"CREATE DATABASE IF NOT EXISTS {quoted(self._database)}")
        self.notes.prepare()
        for name in self._names(NEXT):
            self._server.do(f"DROP TABLE IF EXISTS {quoted(self._rows)}.{quoted(name)}")
        return self.notes.base()

    def _there(self) -> set[str]:
        return {name for name in self._names() if not name.startswith(("ctg_", NEXT))}

    def _names(self, prefix: str = "") -> list[str]:
        found = self._server.ask(
            f"SELECT name FROM system.tables WHERE database = {literal(self._rows)}"
        )
        return [name for name in found["name"].to_pylist() if name.startswith(prefix)]

    def _wanted(self, manifest: SnapshotManifest) -> dict[str, str]:
        return {
            shape.name: made_by(shape, depends_on[shape.name])
            for source in row_sources()
            for depends_on in [source.depends_on(manifest)]
            for shape in source.shapes
        }

    # whole tables

    def _load(self, state: Reflected, todo: Sequence[str], wanted: Mapping[str, str]) -> None:
        for source in row_sources():
            names = [shape.name for shape in source.shapes if shape.name in todo]
            if not names:
                continue
            beside = {name: f"{NEXT}{name} {uuid.uuid4().hex[:8]}" for name in names}
            for name in names:
                self._server.do(declaration(self._shapes[name], self._rows, beside[name]))
            count = 0
            read = source.batches(self._lake, state.manifest, names)
            with memory_for_tables(), Prefetch(read) as batches:
                for batch in batches:
                    for name, rows in batch.items():
                        if name in beside:
                            own = versioned(storable(rows), state.change_seq)
                            self._server.insert(self._rows, beside[name], own)
                            count += rows.num_rows
                    self._show(f"loading {names[0]} and others: {count:,} rows")
            there = self._there()
            for name in names:
                self._put_in_place(name, beside[name], is_there=name in there)
            self.notes.made({name: wanted[name] for name in names})

    def _put_in_place(self, name: str, beside: str, *, is_there: bool) -> None:
        rows, table, other = map(quoted, (self._rows, name, beside))
        if is_there:
            self._server.do(f"EXCHANGE TABLES {rows}.{table} AND {rows}.{other}")
            self._server.do(f"DROP TABLE {rows}.{other}")
        else:
            self._server.do(f"RENAME TABLE {rows}.{other} TO {rows}.{table}")
        self._server.do(view(self._shapes[name], self._database, self._rows))

    # studies

    def _by_study(
        self, manifest: SnapshotManifest, ids: Sequence[str]
    ) -> Iterator[tuple[str, pa.Table]]:
        """The rows of studies in each table that is by study."""
        groups = list(self._groups(manifest, ids))
        for source in row_sources():
            names = [shape.name for shape in source.shapes if shape.name not in source.appended_to]
            found: dict[str, list[pa.Table]] = {name: [] for name in names}
            for some, parts in groups:
                for batch in source.batches_within(self._lake, parts, names, [_ranges(some)]):
                    for name, rows in batch.items():
                        found[name].append(rows)
            for name, tables in found.items():
                schema = self._shapes[name].arrow_schema
                yield name, pa.concat_tables([schema.empty_table(), *tables])

    def _groups(
        self, manifest: SnapshotManifest, ids: Sequence[str]
    ) -> Iterator[tuple[Sequence[str], SnapshotManifest]]:
        """Studies, with the parts of the snapshot that have them.

        Those that changed since all tables were whole are in parts made since, and only these need be read.
        """
        base = self.notes.base()
        since = manifest.lineage.get(base.snapshot_id) if base is not None else None
        late: Collection[str] = ()
        if base is not None and since is not None:
            late = set(self._lake.snapshots.replaced(manifest.snapshot_id, base.snapshot_id))
            if some := [nct_id for nct_id in ids if nct_id in late]:
                yield some, msgspec.structs.replace(manifest, parts=manifest.parts[since.parts :])
        if others := [nct_id for nct_id in ids if nct_id not in late]:
            yield others, manifest

    def _by_number(
        self, manifest: SnapshotManifest, numbers: Collection[int]
    ) -> Iterator[tuple[str, pa.Table]]:
        """The rows of changes in each table that rows are only added to."""
        entries = [
            entry
            for entry in self._lake.history.entries()
            if entry.sequence <= manifest.history_sequence
            and any(first <= number < after for first, after in entry.numbers for number in numbers)
        ]
        names = [name for source in row_sources() for name in source.appended_to]
        names.sort(key=lambda name: name == _LAST_WRITTEN)
        found: dict[str, list[pa.Table]] = {name: [] for name in names}
        wanted = pl.Series(sorted(numbers), dtype=pl.Int64)
        for batch in added_rows(self._lake, entries, names):
            for name, rows in batch.items():
                mask = pl.Series(rows["change_seq"]).is_in(wanted.implode())
                found[name].append(rows.filter(mask.to_arrow()))
        for name, tables in found.items():
            schema = self._shapes[name].arrow_schema
            yield name, pa.concat_tables([schema.empty_table(), *tables])

    def _replace(self, name: str, rows: pa.Table, version: int, where: str) -> None:
        """Have these be the rows of a table for which a condition holds: others of them are marked as deleted."""
        columns = list(key(self._shapes[name]))
        held = self._server.ask(
            f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(self._rows)}.{quoted(name)} FINAL"
            f" WHERE {where}"
        )
        own = pl.DataFrame(rows.select(columns))
        then = pl.DataFrame(held.select(columns).cast(rows.select(columns).schema))
        gone = then.join(own, on=columns, how="anti").to_arrow()
        gone = gone.cast(
            pa.schema([(field.name, field.type) for field in rows.select(columns).schema])
        )
        new = versioned(_nullable(storable(rows)), version)
        old = versioned(gone, version, deleted=True)
        both = pa.concat_tables([new, old], promote_options="default")
        if both.num_rows:
            self._server.insert(self._rows, name, both)


def _nullable(rows: pa.Table) -> pa.Table:
    """The same with every column declared to take nulls, as rows marked as deleted have them."""
    return pa.table(rows.columns, names=rows.column_names)


def _ranges(ids: Sequence[str]) -> IdRanges:
    numbers = [int(nct_id[3:]) for nct_id in ids]
    return IdRanges.joined((number, number + 1) for number in numbers)


def _listed(ids: Sequence[str]) -> str:
    return ", ".join(map(literal, ids))
