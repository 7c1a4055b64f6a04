"""Studies become rows: the declared tables computed over typed snapshot rows, column by column.

No step loops over rows. Columns are computed in polars, where text is passed on by reference, and
become Arrow's at the end: only there is text copied, once for each row. Text that a table has as it lies
in the snapshot is handed on as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from ctg_assets.model.joins import Found, LookedUp, Resolver
from ctg_assets.model.source_reader import SourceReader, as_type, repeated
from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables import Table, readings, staging_tables
from ctg_assets.model.tables.column_values import (
    Constant,
    Difference,
    First,
    OuterPosition,
    Parent,
    Position,
    RowId,
    Snapshot,
    paths_beside,
    paths_read,
    tables_needed,
)
from ctg_assets.model.tables.declaration import Field
from ctg_assets.model.tables.readings import Read
from ctg_assets.model.unnest import (
    FlattenError,
    Levels,
    Rows,
    gathered,
    series,
)

__all__ = ["FlattenError", "flatten", "flatten_both", "flatten_tables", "snapshot_columns"]

ROWS_PER_STUDY = 10**9
"""Ids are NCT number times this, plus the running position: no study comes near as many rows."""

# Batches are joined up to this many bytes: enough to make the cost per batch (0.2 s, whatever
# its size) small, little enough that few texts are in memory at a time.
_JOIN_BYTES = 256 * 2**20

# Arrow counts the bytes of a text column in 31 bits; longer columns become several chunks.
_CHUNK_BYTES = 2**30


def flatten(studies: pa.Table, tables: Collection[str] | None = None) -> dict[str, pa.Table]:
    """The rows of the staging tables for these snapshot rows.

    `studies` has one row per study: `nct_id`, `content_hash` and the columns of
    `study_arrow_schema()`; of those, only what `snapshot_columns(tables)` names need be there. The
    result has one table per staging table (or per name in `tables`), in declaration order, with
    exactly the schema `table.shape.arrow_schema`, rows in the order of the studies and, within a
    study, of the document. The same studies give the same rows, however they are cut into batches.

    Raises FlattenError for an unknown table name, a missing column or an impossible NCT id.
    """
    return flatten_tables(studies, staging_tables(), tables)


def flatten_both(
    some: pa.Table, others: pa.Table
) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    """As `flatten` of each, but at once: a batch costs 0.2 s, however few studies it has.

    Both have the same columns, and may have studies of the same NCT id.
    """
    if some.nbytes + others.nbytes > _JOIN_BYTES or not (some.num_rows and others.num_rows):
        return flatten(some), flatten(others)
    by_name = {table.name: table for table in staging_tables()}
    batches = pa.concat_tables([some, others]).to_batches()
    flattener = _BatchFlattener(pa.concat_batches(batches), by_name)
    parts = {name: flattener.table_in_two(name, some.num_rows) for name in by_name}
    return (
        {name: first for name, (first, _) in parts.items()},
        {name: second for name, (_, second) in parts.items()},
    )


def flatten_tables(
    studies: pa.Table, declared: Sequence[Table], names: Collection[str] | None = None
) -> dict[str, pa.Table]:
    """As `flatten`, for any declared tables; `names` chooses among them, others serve lookups only."""
    by_name = {table.name: table for table in declared}
    wanted = _chosen(by_name, names)
    results: dict[str, list[pa.Table]] = {name: [] for name in wanted}
    for batch in _joined_batches(studies):
        flattener = _BatchFlattener(batch, by_name)
        for name in wanted:
            results[name].append(flattener.table(name))
    return {
        name: pa.concat_tables(parts) if parts else by_name[name].shape.arrow_schema.empty_table()
        for name, parts in results.items()
    }


def snapshot_columns(tables: Collection[str] | None = None) -> tuple[str, ...]:
    """The snapshot columns that flattening these staging tables (or all) reads, as Parquet names them.

    Dotted paths of leaves, objects and whole lists, for `columns=` of `pyarrow.parquet.ParquetFile`
    (`read_table` and datasets would give each nested column as one of its own): the first tables
    need little of `resultsSection`, which holds half of a snapshot's bytes.
    """
    by_name = {table.name: table for table in staging_tables()}
    paths: dict[str, None] = {"nct_id": None}
    for name in _with_referenced(_chosen(by_name, tables), by_name):
        for path in _paths_read(by_name[name]):
            paths.setdefault(path.partition("[]")[0])
    return tuple(path for path in paths if not any(path.startswith(f"{other}.") for other in paths))


def _chosen(by_name: dict[str, Table], names: Collection[str] | None) -> list[str]:
    if names is None:
        return list(by_name)
    if unknown := sorted(set(names) - set(by_name)):
        message = f"there are no staging tables {unknown}; there are {sorted(by_name)}"
        raise FlattenError(message)
    return [name for name in by_name if name in names]


def _with_referenced(names: Collection[str], by_name: dict[str, Table]) -> list[str]:
    # A table comes after those that it refers to, so one walk from the last to the first finds all.
    needed = set(names)
    for name in reversed(by_name):
        if name in needed:
            for item in by_name[name].fields:
                needed.update(tables_needed(item.value))
    return [name for name in by_name if name in needed]


def _paths_read(table: Table) -> Iterator[str]:
    for source in table.sources:
        if source.path:
            yield source.path
        if source.where is not None:
            yield source.resolve(source.where.path) or ""
    for item in table.fields:
        if isinstance(item.value, Snapshot):
            yield item.value.column
        for path in (*paths_read(item.value), *paths_beside(item.value)):
            yield from table.source_paths(path)


def _joined_batches(studies: pa.Table) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in studies.to_batches():
        if waiting and size + batch.nbytes > _JOIN_BYTES:
            yield pa.concat_batches(waiting)
            waiting, size = [], 0
        waiting.append(batch)
        size += batch.nbytes
    if waiting:
        yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)


class _BatchFlattener:
    """One record batch on its way into rows; keeps what several tables share."""

    def __init__(self, batch: pa.RecordBatch, by_name: Mapping[str, Table]) -> None:
        """Read columns of these rows."""
        self._by_name = by_name
        self._levels = Levels(batch)
        self._rows: dict[str, list[Rows]] = {}
        self._orders: dict[str, _Order] = {}
        self._found: dict[str, Found] = {}
        self._texts: dict[str, dict[str, pa.Array]] = {}

    def table(self, name: str) -> pa.Table:
        """The rows of one table, ordered by study, source and position."""
        shape = self._by_name[name].shape
        if len(self._order_of(self._by_name[name]).study) == 0:
            return shape.arrow_schema.empty_table()
        found = self._found_of(name).columns
        made = self._made_texts(self._by_name[name])
        arrays = [
            made[column.name] if column.name in made else _arrow(found[column.name], column.type)
            for column in shape.columns
        ]
        return pa.table(arrays, schema=shape.arrow_schema)

    def _made_texts(self, table: Table) -> Mapping[str, pa.Array]:
        """The columns that need no polars: text that lies in the snapshot as the table has it, and NCT ids."""
        made = self._texts.get(table.name)
        if made is None:
            made = self._texts[table.name] = {}
            rows, *others = self._rows_of(table)
            for item in table.fields:
                match item.value:
                    case Snapshot("nct_id"):
                        made[item.name] = self._levels.nct_ids_of(self._order_of(table).study)
                    case Read(path, readings.as_sent, when=None) if item.type is ColumnType.TEXT:
                        full_path = rows.source.resolve(path)
                        if not others and full_path is not None:
                            text = rows.text_in_place(full_path)
                            made |= {} if text is None else {item.name: text}
        return made

    def table_in_two(self, name: str, studies: int) -> tuple[pa.Table, pa.Table]:
        """The rows of one table for the first so many studies, and for the others."""
        rows = self.table(name)
        end = int(self._order_of(self._by_name[name]).study.search_sorted(studies, "left"))
        return rows.slice(0, end), rows.slice(end)

    def _found_of(self, name: str) -> Found:
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._compute(self._by_name[name])
        return found

    def _rows_of(self, table: Table) -> list[Rows]:
        found = self._rows.get(table.name)
        if found is None:
            found = [Rows.of(self._levels, source) for source in table.sources]
            self._rows[table.name] = found
        return found

    def _order_of(self, table: Table) -> _Order:
        found = self._orders.get(table.name)
        if found is None:
            studies = [rows.study for rows in self._rows_of(table)]
            found = self._orders[table.name] = _Order.of(studies, self._levels.nct_number)
        return found

    def _compute(self, table: Table) -> Found:
        order = self._order_of(table)
        if len(order.study) == 0:
            none = {item.name: repeated(None, item.type, 0) for item in table.fields}
            return Found(order.study, none)
        made = self._made_texts(table)
        own = [
            item
            for item in table.fields
            if not isinstance(item.value, LookedUp) and item.name not in made
        ]
        parts: list[dict[str, pl.Series]] = []
        for rows, ids in zip(self._rows_of(table), order.source_ids, strict=True):
            read = SourceReader(rows).read(own)
            parts.append({item.name: self._column(item, rows, ids, read) for item in own})
        columns = _Columns(made)
        for item in own:
            columns[item.name] = order.joined([part[item.name] for part in parts])
        found = Found(order.study, columns)
        finder = Resolver(found, self._found_of)
        for item in table.fields:
            if isinstance(item.value, LookedUp):
                columns[item.name] = as_type(finder.column(item.value), item.type)
        return found

    def _column(
        self, item: Field, rows: Rows, ids: pl.Series, read: Mapping[str, pl.Series]
    ) -> pl.Series:
        match item.value:
            case Read() | Difference():
                column = read[item.name]
            case RowId():
                column = ids
            case Position():
                column = rows.position
            case Snapshot(name):
                column = rows.snapshot(name)
            case Constant():
                column = repeated(rows.source.constants[item.name], item.type, len(rows))
            case OuterPosition(relative):
                path = rows.source.resolve(relative)
                none = repeated(None, item.type, len(rows))
                column = none if path is None else rows.outer_position(path)
            case First(first, others):
                choice = pl.when(rows.is_first).then(pl.lit(first)).otherwise(pl.lit(others))
                column = pl.select(choice).to_series()
            case Parent(name):
                column = self._parent_ids(self._by_name[name], rows)
            case _:
                message = f"column {item.name!r} cannot be computed from {item.value}"
                raise TypeError(message)
        return as_type(column, item.type)

    def _parent_ids(self, parent: Table, rows: Rows) -> pl.Series:
        source_ids = self._order_of(parent).source_ids
        for candidate, ids in zip(self._rows_of(parent), source_ids, strict=True):
            if candidate.source.path in rows.source.outer_lists:
                items = rows.items_of(candidate.source.path)
                return gathered(ids, candidate.rows_of(items))
        return repeated(None, ColumnType.BIGINT, len(rows))


class _Columns(dict[str, pl.Series]):
    """The columns of a table by name; one that was made as Arrow's becomes polars' when it is asked for."""

    def __init__(self, made: Mapping[str, pa.Array]) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, name: str) -> pl.Series:
        column = self[name] = series(self._made[name])
        return column


@dataclass(frozen=True)
class _Order:
    """How the rows of a table's sources become one table: by study, then source, then position.

    `permutation` takes the sources' rows, one source after the other, into that order (None where
    they are in it); `study` is each row's study then; `source_ids` are the ids of each source's rows.
    """

    permutation: pl.Series | None
    study: pl.Series
    source_ids: list[pl.Series]

    @classmethod
    def of(cls, studies: Sequence[pl.Series], nct_number: pl.Series) -> _Order:
        """The order of rows that lie in these studies, given source by source, each ascending."""
        study = np.concatenate([one.to_numpy() for one in studies])
        permutation = np.argsort(study, kind="stable") if len(studies) > 1 else None
        if permutation is not None:
            study = study[permutation]
        first_rows = np.searchsorted(study, np.arange(len(nct_number), dtype=study.dtype))
        running = np.arange(1, len(study) + 1) - first_rows[study]
        ids = nct_number.to_numpy()[study] * ROWS_PER_STUDY + running
        if permutation is not None:
            in_order, ids = ids, np.empty_like(ids)
            ids[permutation] = in_order
        ends = np.cumsum([len(one) for one in studies])
        return cls(
            None if permutation is None else pl.Series(permutation.astype(np.uint32)),
            pl.Series(study),
            [pl.Series(part) for part in np.split(ids, ends[:-1])],
        )

    def joined(self, parts: Sequence[pl.Series]) -> pl.Series:
        """One column of the sources' columns, in the table's order."""
        column = pl.concat(parts, rechunk=True) if len(parts) > 1 else parts[0]
        return gathered(column, self.permutation)


def _arrow(column: pl.Series, kind: ColumnType) -> pa.Array | pa.ChunkedArray:
    """A column as Arrow's, of the type that the table's schema has."""
    if kind is not ColumnType.TEXT:
        return column.to_arrow()
    return pa.chunked_array(list(_text_chunks(column)), pa.string())


def _text_chunks(text: pl.Series) -> Iterator[pa.Array]:
    # By way of large_string: polars copies the text in half of the time that Arrow takes for its views.
    copied = text.to_arrow()
    if len(text) > 1 and copied.nbytes > _CHUNK_BYTES:
        half = len(text) // 2
        yield from _text_chunks(text.slice(0, half))
        yield from _text_chunks(text.slice(half))
    else:
        yield copied.cast(pa.string())
