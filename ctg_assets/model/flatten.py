"""Studies become rows: the declared tables computed over typed snapshot rows, column by column.

Belongs here: walking nested Arrow data along registry paths, keys and references. Does not belong
here: what the tables are (`tables`), how a single value is read (`values.py`), any input or output.

No step loops over rows. A nested list becomes a *level*: all its items in one array, with the index
of the item of the enclosing level that each lies in. Levels and the fields read from them are kept
for the whole batch, so that tables share them; only a table's own columns are ever copied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.model import values
from ctg_assets.model.tables import Table, staging_tables
from ctg_assets.model.tables.declaration import (
    Aggregate,
    Condition,
    Constant,
    Difference,
    Field,
    First,
    FirstFound,
    Lookup,
    Match,
    MatchPart,
    OuterPosition,
    Parent,
    Position,
    Read,
    Reading,
    RowFilter,
    RowId,
    Snapshot,
    Source,
    Span,
    Total,
    enclosing_lists,
    tables_needed,
)

ROWS_PER_STUDY = 10**9
"""Ids are NCT number times this, plus the running position: no study comes near as many rows."""

# Batches are joined up to this many bytes: enough to make the cost per batch (some 40 ms, whatever
# its size) small, little enough that 32-bit offsets of text never overflow.
_JOIN_BYTES = 256 * 2**20

_EXPRESSIONS: Mapping[Reading, Callable[[pl.Expr], pl.Expr]] = {
    Reading.LOWER: values.lower,
    Reading.FIRST_DAY: values.first_day,
    Reading.LAST_DAY: values.last_day,
    Reading.UNLESS_DAY: values.unless_day,
    Reading.PRECISION: values.precision,
    Reading.YEARS: values.years,
    Reading.DAYS: values.days,
    Reading.AGE_NUMBER: values.age_number,
    Reading.AGE_UNIT: values.age_unit,
    Reading.YEAR: values.year,
    Reading.TIMESTAMP: values.timestamp,
    Reading.DAY_OF_TIMESTAMP: values.day_of_timestamp,
    Reading.KIND_OF_LABEL: values.kind_of_label,
    Reading.NAME_OF_LABEL: values.name_of_label,
    Reading.JOINED: values.joined,
}

_NUMBERS = frozenset({Reading.NUMBER, Reading.WHOLE_NUMBER})

# What is computed from the columns of a table's rows, its own or others', once these are in order.
_LATE = Lookup | FirstFound | Match | Aggregate


_STUDY = "study of the row"  # no column name has spaces

# Lookups lead through a table with so many places at most: 64 MB, for a moment.
_DENSE_KEYS = 2**23


class FlattenError(ValueError):
    """The snapshot rows given cannot be flattened; the message names the column and what is wrong."""


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
    for column in table.shape.columns:
        yield from column.sources


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


class _Level:
    """All items of one list path in a batch, null items included; the studies are the root level."""

    def __init__(
        self,
        path: str,
        items: pa.Array,
        parent: _Level | None,
        parent_index: pl.Series,
        position: pl.Series,
    ) -> None:
        self.path = path
        self.parent = parent
        self.parent_index = parent_index
        self.position = position
        self._fields: dict[str, pa.Array] = {"": items}

    @classmethod
    def of_studies(cls, batch: pa.RecordBatch) -> _Level:
        """The root level: its items are the batch's rows."""
        each = _range(batch.num_rows)
        return cls("", batch.to_struct_array(), None, parent_index=each, position=each + 1)

    def __len__(self) -> int:
        return len(self.parent_index)

    def relative(self, path: str) -> str:
        """A full registry path as a dotted path below this level's items."""
        return path[len(self.path) :].removeprefix(".").removesuffix("[]")

    def read(self, field: str) -> pa.Array:
        """The field at a dotted path below each item; NULL where anything on the way is NULL."""
        found = self._fields.get(field)
        if found is None:
            outer, _, name = field.rpartition(".")
            holder = self.read(outer)
            if holder.type.get_field_index(name) < 0:
                where = ".".join(part for part in (self.path, field) if part)
                present = [one.name for one in holder.type]
                message = f"the snapshot rows have no {where!r}; present in its place: {present}"
                raise FlattenError(message)
            # struct_field applies the struct's own nulls and slice; StructArray.field does not.
            found = pc.struct_field(holder, name)
            # Here each text is looked at once, however many rows will repeat it.
            found = values.without_nul(found) if found.type == pa.string() else found
            self._fields[field] = found
        return found

    def list_below(self, path: str) -> _Level:
        """The level of a list that lies in this level's items."""
        lists = self.read(self.relative(path))
        lengths = _series(pc.fill_null(pc.list_value_length(lists), 0)).cast(pl.Int64)
        parent = pc.list_parent_indices(lists)
        if lists.null_count:
            # list_flatten leaves out what a null list may still hold, list_parent_indices does not.
            parent = parent.filter(lists.is_valid().take(parent))
        parent_index = _series(parent).cast(pl.Int64)
        starts = lengths.cum_sum() - lengths
        position = _range(len(parent_index)) - starts.gather(parent_index) + 1
        items = pc.list_flatten(lists)
        items = values.without_nul(items) if items.type == pa.string() else items
        return _Level(path, items, self, parent_index, position)


class _Rows:
    """The rows that one source gives: items of a level, null and repeated ones left out."""

    def __init__(
        self, batch: _BatchFlattener, source: Source, level: _Level, kept: pl.Series | None
    ) -> None:
        self.source = source
        self._batch = batch
        self._level = level
        self._kept = kept

    @classmethod
    def of(cls, batch: _BatchFlattener, source: Source) -> _Rows:
        """The rows of a source in a batch."""
        level = batch.level(source.list_path)
        below = "" if source.is_list else level.relative(source.path)
        rows = cls(batch, source, level, _present(level.read(below)))
        if source.where is not None:
            rows = rows._chosen(_passes(source.where, rows))
        if source.distinct_path is not None:
            value = _series(rows.read(source.distinct_path))
            first = pl.DataFrame({"study": rows.study, "value": value}).select(
                pl.struct("study", "value").is_first_distinct() & pl.col("value").is_not_null()
            )
            rows = rows._chosen(first.to_series())
        return rows

    def _chosen(self, mask: pl.Series) -> _Rows:
        """Only the rows at which a mask is true."""
        chosen = _true(mask)
        kept = chosen if self._kept is None else self._kept.gather(chosen)
        return _Rows(self._batch, self.source, self._level, kept)

    def __len__(self) -> int:
        return len(self._level) if self._kept is None else len(self._kept)

    @cached_property
    def study(self) -> pl.Series:
        """The index of each row's study in the batch, ascending."""
        indices = self.items_of("")
        return _range(len(self)) if indices is None else indices

    @property
    def position(self) -> pl.Series:
        """The position of each row's item in its list, from 1."""
        if not self.source.is_list:
            return pl.repeat(1, len(self), dtype=pl.Int64, eager=True)
        return _gather(self._level.position, self._kept)

    def outer_position(self, list_path: str) -> pl.Series:
        """The position, from 1, in its list of each row's item of an enclosing level."""
        return _gather(self._batch.level(list_path).position, self.items_of(list_path))

    @property
    def is_first(self) -> pl.Series:
        """Whether each row is the first that its holder, an enclosing item or the study, has."""
        holder = self.items_of(self.source.outer_lists[-1])
        if holder is None:
            return pl.repeat(True, len(self), dtype=pl.Boolean, eager=True)
        return holder.ne_missing(holder.shift())

    def items_of(self, list_path: str) -> pl.Series | None:
        """The index, per row, of the item of an enclosing level; None if rows and items coincide."""
        level = self._level
        indices = self._kept
        while level.path != list_path and level.parent is not None:
            indices = _gather(level.parent_index, indices)
            level = level.parent
        return indices

    def rows_of(self, items: pl.Series | None) -> pl.Series | None:
        """The indices of the rows that items of the level gave; None where rows and items coincide."""
        if self._kept is None:
            return items
        return self._kept.search_sorted(_range(len(self._level)) if items is None else items)

    def read(self, path: str) -> pa.Array:
        """The value of each row at a full registry path; a list that is not the row's own stays one."""
        lists = enclosing_lists(path)
        is_own = lists[-1] in enclosing_lists(self.source.path)
        level = self._batch.level(lists[-1] if is_own else lists[-2])
        return self._at_rows(level, level.read(level.relative(path)))

    def count(self, path: str) -> pa.Array:
        """The number of items, null ones left out, of each row's list at a full registry path."""
        items = self._batch.level(path)
        outer = self._batch.level(enclosing_lists(path)[-2])
        counts = pc.list_value_length(outer.read(outer.relative(path)))
        if items.read("").null_count:
            nulls = _gather(items.parent_index, _true(_series(items.read("").is_null())))
            per_list = nulls.rename("index").value_counts(name="nulls")
            all_lists = pl.DataFrame({"index": _range(len(outer)), "count": _series(counts)})
            fewer = all_lists.join(per_list, on="index", how="left", maintain_order="left")
            counts = fewer.select(pl.col("count") - pl.col("nulls").fill_null(0))
            counts = counts.to_series().to_arrow()
        return self._at_rows(outer, counts)

    def snapshot(self, column: str) -> pa.Array:
        """A column of the snapshot row that each row's study came in."""
        studies = self._batch.level("")
        return self._at_rows(studies, studies.read(column))

    def _at_rows(self, level: _Level, array: pa.Array) -> pa.Array:
        indices = self.items_of(level.path)
        return array if indices is None else array.take(indices.to_arrow())


class _BatchFlattener:
    """One record batch on its way into rows; keeps what several tables share."""

    def __init__(self, batch: pa.RecordBatch, by_name: Mapping[str, Table]) -> None:
        self._by_name = by_name
        self._levels = {"": _Level.of_studies(batch)}
        self._rows: dict[str, list[_Rows]] = {}
        self._orders: dict[str, _Order] = {}
        self._tables: dict[str, pa.Table] = {}

    def level(self, path: str) -> _Level:
        """The level of a list path; "" for the studies."""
        found = self._levels.get(path)
        if found is None:
            outer = self.level(enclosing_lists(path)[-2])
            found = self._levels[path] = outer.list_below(path)
        return found

    def table(self, name: str) -> pa.Table:
        """The rows of one table, ordered by study, source and position."""
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = self._compute(self._by_name[name])
        return found

    @cached_property
    def _nct_number(self) -> pl.Series:
        nct_id = self.level("").read("nct_id")
        right = pc.fill_null(pc.match_substring_regex(nct_id, "^NCT[0-9]{8}$"), False)
        if not pc.all(right, min_count=0).as_py():
            example = nct_id.filter(pc.invert(right))[0].as_py()
            message = f"the snapshot has NCT id {example!r}; expected NCT and eight digits"
            raise FlattenError(message)
        return _series(pc.utf8_slice_codeunits(nct_id, 3).cast(pa.int64()))

    def _rows_of(self, table: Table) -> list[_Rows]:
        found = self._rows.get(table.name)
        if found is None:
            found = [_Rows.of(self, source) for source in table.sources]
            self._rows[table.name] = found
        return found

    def _order_of(self, table: Table) -> _Order:
        found = self._orders.get(table.name)
        if found is None:
            found = _Order.of([rows.study for rows in self._rows_of(table)], self._nct_number)
            self._orders[table.name] = found
        return found

    def _compute(self, table: Table) -> pa.Table:
        own = [item for item in table.fields if not isinstance(item.value, _LATE)]
        names = [item.name for item in own]
        order = self._order_of(table)
        parts = []
        for rows, ids in zip(self._rows_of(table), order.source_ids, strict=True):
            read = _read_columns(own, rows)
            parts.append(pa.table([self._column(item, rows, ids, read) for item in own], names))
        whole = parts[0]
        if order.permutation is not None:
            whole = pa.concat_tables(parts).combine_chunks().take(order.permutation.to_arrow())
        found = {name: whole.column(name).combine_chunks() for name in names}
        late = _LateColumns(self, order, found)
        for item in table.fields:
            if isinstance(item.value, _LATE):
                found[item.name] = _typed(item, late.column(item.value))
        schema = table.shape.arrow_schema
        return pa.table([found[name] for name in schema.names], schema=schema)

    def target(self, name: str) -> tuple[pl.Series, pa.Table]:
        """The rows of a table that another looks into, and each row's study."""
        return self._order_of(self._by_name[name]).study, self.table(name)

    def _column(
        self, item: Field, rows: _Rows, ids: pl.Series, read: Mapping[str, pa.Array]
    ) -> pa.Array:
        match item.value:
            case Read():
                array = read[item.name]
            case RowId():
                array = ids.to_arrow()
            case Position():
                array = rows.position.to_arrow()
            case Snapshot(column):
                array = rows.snapshot(column)
            case Constant():
                array = pa.repeat(pa.scalar(rows.source.constants[item.name]), len(rows))
            case OuterPosition(relative):
                path = rows.source.resolve(relative)
                none = pa.nulls(len(rows), pa.int32())
                array = none if path is None else rows.outer_position(path).to_arrow()
            case First(first, others):
                array = pc.if_else(rows.is_first.to_arrow(), first, others)
            case Difference():
                array = _difference(item.value, rows)
            case Parent(name):
                array = self._parent_ids(self._by_name[name], rows)
            case _:
                message = f"column {item.name!r} cannot be computed from {item.value}"
                raise TypeError(message)
        return _typed(item, array)

    def _parent_ids(self, parent: Table, rows: _Rows) -> pa.Array:
        source_ids = self._order_of(parent).source_ids
        for candidate, ids in zip(self._rows_of(parent), source_ids, strict=True):
            if candidate.source.path in rows.source.outer_lists:
                items = rows.items_of(candidate.source.path)
                return _gather(ids, candidate.rows_of(items)).to_arrow()
        return pa.nulls(len(rows), pa.int64())


class _LateColumns:
    """Columns of one table's rows that depend on columns already there, its own and other tables'."""

    def __init__(
        self, batch: _BatchFlattener, order: _Order, found: Mapping[str, pa.Array]
    ) -> None:
        self._batch = batch
        self._order = order
        self._found = found
        self._matches: dict[tuple[str, str, str], pl.DataFrame] = {}

    def column(self, value: _LATE) -> pa.Array:
        """The values of one column, in the order of the rows."""
        match value:
            case Lookup():
                return self._looked_up(value)
            case FirstFound(lookups):
                return pc.coalesce(*map(self._looked_up, lookups))
            case Match():
                part = "id" if value.part is MatchPart.ID else "quality"
                return self._matched(value).get_column(part).to_arrow()
            case Aggregate():
                return self._aggregated(value)

    def _looked_up(self, value: Lookup) -> pa.Array:
        study, target = self._batch.target(value.table)
        kept = None
        if value.where:
            equal = [pc.equal(target[name], wanted) for name, wanted in value.where.items()]
            kept = _true(_series(functools.reduce(pc.and_, equal)))
            target, study = target.take(kept.to_arrow()), study.gather(kept)
        theirs = [target[name].combine_chunks() for name in value.on]
        ours = [self._found[name] for name in value.on.values()]
        rows = _first_equal((study, theirs), (self._order.study, ours))
        return target[value.column].combine_chunks().take(rows)

    def _matched(self, value: Match) -> pl.DataFrame:
        """The id and the quality of the match of each row."""
        key = (value.table, value.theirs, value.own)
        if key not in self._matches:
            study, target = self._batch.target(value.table)
            texts = {"text": _series(target[value.theirs]), "id": _series(target["id"])}
            right = pl.DataFrame({"study": study, **texts})
            own = {"text": _series(self._found[value.own])}
            left = pl.DataFrame({"study": self._order.study, **own})
            self._matches[key] = _match(left, right, value.qualities)
        return self._matches[key]

    def _aggregated(self, value: Aggregate) -> pa.Array:
        study, target = self._batch.target(value.table)
        names = {*value.where, *([value.column] if value.column else [])}
        rows = pl.DataFrame({_STUDY: study, **{name: _series(target[name]) for name in names}})
        for name, wanted in value.where.items():
            rows = rows.filter(pl.col(name) == wanted)
        column = pl.col(value.column or _STUDY)
        match value.total:
            case Total.COUNT:
                total, none = pl.len(), 0
            case Total.SUM:
                total, none = pl.when(column.count() > 0).then(column.sum()), None
            case Total.ANY:
                total, none = column.is_in(value.values).fill_null(value=False).any(), False
            case Total.SINGLE:
                total, none = pl.len() == 1, False
        totals = rows.group_by(_STUDY).agg(total=total)
        studies = pl.DataFrame({_STUDY: self._order.study})
        found = studies.join(totals, on=_STUDY, how="left", maintain_order="left")
        return (
            found.get_column("total").fill_null(none).to_arrow()
            if none is not None
            else (found.get_column("total").to_arrow())
        )


def _first_equal(
    theirs: tuple[pl.Series, Sequence[pa.Array]], ours: tuple[pl.Series, Sequence[pa.Array]]
) -> pa.Array:
    """For each of our rows the first of their rows that has the same study and equal columns.

    Every column becomes small whole numbers, and these one number for each row, so that a table of
    all numbers leads from one row to the other; no row is hashed twice.
    """
    their_key, our_key = theirs[0], ours[0]
    count = max(their_key.max() or 0, our_key.max() or 0) + 1  # type: ignore[type-var, operator]
    for their, our in zip(theirs[1], ours[1], strict=True):
        encoded = their.dictionary_encode()
        known = encoded.dictionary
        if count * len(known) > _DENSE_KEYS:
            # Only the keys that they have count, so there are at most as many as rows.
            their_key, our_key, count = _dense(their_key, our_key)
        codes = _series(pc.index_in(our, value_set=known)).cast(pl.Int64)
        their_key = their_key * len(known) + _series(encoded.indices).cast(pl.Int64)
        our_key = our_key * len(known) + codes
        count *= len(known)
    if count > _DENSE_KEYS:
        their_key, our_key, count = _dense(their_key, our_key)
    first = _true(their_key.is_first_distinct() & their_key.is_not_null())
    rows = pl.repeat(None, count, dtype=pl.Int64, eager=True).scatter(
        their_key.gather(first), first
    )
    return rows.gather(our_key).to_arrow()


def _dense(theirs: pl.Series, ours: pl.Series) -> tuple[pl.Series, pl.Series, int]:
    """The same keys as numbers below the number of different ones of theirs."""
    encoded = theirs.to_arrow().dictionary_encode()
    found = pc.index_in(ours.to_arrow(), value_set=encoded.dictionary)
    keys = (_series(encoded.indices).cast(pl.Int64), _series(found).cast(pl.Int64))
    return *keys, len(encoded.dictionary)


def _match(
    left: pl.DataFrame, right: pl.DataFrame, qualities: tuple[str, str, str, str]
) -> pl.DataFrame:
    """For each row of `left` the id of the only row of `right` that agrees, and how it does."""

    def agreeing(text: pl.Expr) -> pl.LazyFrame:
        keyed = right.lazy().select("study", "id", text=text).filter(pl.col("text").is_not_null())
        found = keyed.group_by("study", "text").agg(pl.col("id").first(), several=pl.len() > 1)
        ours = left.lazy().select("study", text=text)
        return ours.join(found, on=["study", "text"], how="left", maintain_order="left")

    exact, alike, ambiguous, none = map(pl.lit, qualities)
    text = pl.col("text")
    by_text = agreeing(text).select("id", "several")
    by_words = agreeing(values.normalized(text)).select(id_alike="id", several_alike="several")
    return (
        pl.concat([by_text, by_words], how="horizontal")
        .select(
            id=pl.when("several")
            .then(None)
            .when(pl.col("id").is_not_null())
            .then("id")
            .when(~pl.col("several_alike"))
            .then("id_alike"),
            quality=pl.when("several")
            .then(ambiguous)
            .when(pl.col("id").is_not_null())
            .then(exact)
            .when("several_alike")
            .then(ambiguous)
            .when(pl.col("id_alike").is_not_null())
            .then(alike)
            .otherwise(none),
        )
        .collect()
    )


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
        study = pl.concat(studies) if len(studies) > 1 else studies[0]
        permutation = None
        if len(studies) > 1:
            rows = pl.DataFrame({"study": study, "row": _range(len(study))})
            study, permutation = rows.sort("study", maintain_order=True).get_columns()
        row = _range(len(study))
        first = pl.DataFrame({"study": study, "row": row}).select(
            pl.when(pl.col("study").ne_missing(pl.col("study").shift()))
            .then(pl.col("row"))
            .forward_fill()
        )
        ids = nct_number.gather(study) * ROWS_PER_STUDY + (row - first.to_series() + 1)
        if permutation is not None:
            ids = ids.gather(permutation.arg_sort())
        starts = [sum(map(len, studies[:index])) for index in range(len(studies))]
        parts = [ids.slice(at, len(one)) for at, one in zip(starts, studies, strict=True)]
        return cls(permutation, study, parts)


def _read_columns(fields: Sequence[Field], rows: _Rows) -> dict[str, pa.Array]:
    """The columns of one source's rows that are read from the studies, by name."""
    found: dict[str, pa.Array] = {}
    expressions: list[pl.Expr] = []
    inputs: dict[str, pl.Series] = {}
    numbers: dict[tuple[str, bool], values.Numbers] = {}
    for item in fields:
        value = item.value
        if not isinstance(value, Read):
            continue
        path = rows.source.resolve(value.path)
        if path is None:
            found[item.name] = pa.nulls(len(rows), item.type.arrow)
        elif value.reading in _NUMBERS:
            whole = value.reading is Reading.WHOLE_NUMBER
            if (path, whole) not in numbers:
                numbers[path, whole] = values.numbers(rows.read(path), whole=whole)
            found[item.name] = getattr(numbers[path, whole], str(value.argument or "value"))
        elif (expression := _expression(value, path)) is not None:
            inputs.setdefault(path, _series(rows.read(path)))
            expressions.append(expression.alias(item.name))
        else:
            found[item.name] = _kernel(value, path, rows)
    if expressions:
        # Lazy, since only the lazy engine computes once what several expressions share.
        computed = pl.DataFrame(inputs).lazy().select(expressions).collect()
        found |= {series.name: _clean(series) for series in computed}
    return found


def _expression(value: Read, path: str) -> pl.Expr | None:
    """How polars computes the value from the column named `path`, for readings that are left to it."""
    if value.reading is Reading.CONTAINS:
        return values.contains(pl.col(path), str(value.argument or "value"))
    read = _EXPRESSIONS.get(value.reading)
    return read(pl.col(path)) if read else None


def _kernel(value: Read, path: str, rows: _Rows) -> pa.Array:
    """The value by Arrow's own kernels, which need no conversion of text."""
    match value.reading:
        case Reading.COUNT:
            array = rows.count(path)
        case Reading.EQUALS:
            array = pc.equal(rows.read(path), value.argument)
        case Reading.PART:
            array = pc.struct_field(rows.read(path), value.argument)
        case Reading.OR_ELSE:
            array = pc.fill_null(rows.read(path), value.argument)
        case Reading.DOCUMENT_URL:
            array = values.document_url(rows.snapshot("nct_id"), rows.read(path))
        case _:
            array = rows.read(path)
    if value.when is None:
        return array
    return pc.if_else(_holds(value.when, rows), array, pa.scalar(None, array.type))


def _holds(condition: Condition, rows: _Rows) -> pa.Array:
    path = rows.source.resolve(condition.path)
    if path is None:
        return pa.repeat(pa.scalar(condition.negated), len(rows))
    equal = pc.fill_null(pc.equal(rows.read(path), condition.value), False)
    return pc.invert(equal) if condition.negated else equal


def _difference(value: Difference, rows: _Rows) -> pa.Array:
    """The time between two dates of each row."""
    paths = {name: rows.source.resolve(getattr(value, name)) for name in ("start", "end")}
    texts = {name: _series(rows.read(path or "")) for name, path in paths.items()}
    start, end = (values.last_day(pl.col(name)) for name in texts)
    days = (end - start).dt.total_days()
    span = days if value.span is Span.DAYS else values.months_between(start, end)
    array = pl.DataFrame(texts).lazy().select(span).collect().to_series().to_arrow()
    for condition in value.unless:
        array = pc.if_else(_holds(condition, rows), pa.scalar(None, array.type), array)
    return array


def _passes(kept: RowFilter, rows: _Rows) -> pl.Series:
    """Whether each row passes a filter."""
    value = rows.read(rows.source.resolve(kept.path) or "")
    among = pc.is_in(value, value_set=pa.array(kept.values))
    return _series(pc.invert(among) if kept.negated else among)


def _clean(series: pl.Series) -> pa.Array:
    """A computed column; text may have been made of lists, which are not looked at before."""
    if series.dtype != pl.String:
        return series.to_arrow()
    return values.without_nul(series.to_arrow().cast(pa.string()))


def _typed(item: Field, array: pa.Array) -> pa.Array:
    """The values of a column in its own type."""
    return array if array.type == item.type.arrow else array.cast(item.type.arrow)


def _present(items: pa.Array) -> pl.Series | None:
    """The indices of items that are not null; None where all are."""
    return _true(_series(items.is_valid())) if items.null_count else None


def _gather(series: pl.Series, indices: pl.Series | None) -> pl.Series:
    """The values at the indices; all of them where there are none."""
    return series if indices is None else series.gather(indices)


def _true(mask: pl.Series) -> pl.Series:
    """The indices at which a mask is true."""
    return mask.arg_true().cast(pl.Int64)


def _range(count: int) -> pl.Series:
    return pl.int_range(count, dtype=pl.Int64, eager=True)


def _series(array: pa.Array | pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(array)
    assert isinstance(series, pl.Series)  # noqa: S101 - from_arrow gives frames for tables only
    return series
