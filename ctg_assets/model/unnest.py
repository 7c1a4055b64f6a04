"""The nested data of a batch of studies, list by list, and the rows that a table's source finds in it.

No step loops over rows. A nested list becomes a *level*: all its items in one array, with the index
of the item of the enclosing level that each lies in. Levels and the fields read from them are kept
for the whole batch, so that tables share them. Fields leave here as polars columns: text is then
passed on by reference, however many rows repeat it.

Indices are columns of UInt32, with which polars takes values at once: `gather`, an expression, costs 80 μs
for however few and four times as much for many.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.model import values
from ctg_assets.model.nct_ids import EXPECTED, NCT_ID_BYTES, are_nct_ids
from ctg_assets.model.tables.declaration import RowFilter, Source, enclosing_lists


class FlattenError(ValueError):
    """The snapshot rows given cannot be flattened; the message names the column and what is wrong."""


class Level:
    """All items of one list path in a batch, null items included; the studies are the root level."""

    def __init__(
        self,
        path: str,
        items: pa.Array,
        parent: Level | None,
        parent_index: pl.Series,
        position: pl.Series,
    ) -> None:
        self.path = path
        self.parent = parent
        self.parent_index = parent_index
        self.position = position
        self._fields: dict[str, pa.Array] = {"": items}
        self._texts: dict[str, pa.Array] = {}
        self._columns: dict[str, pl.Series] = {}

    @classmethod
    def of_studies(cls, batch: pa.RecordBatch) -> Level:
        """The root level: its items are the batch's rows."""
        each = row_numbers(batch.num_rows)
        position = each.cast(pl.Int64) + 1
        return cls("", batch.to_struct_array(), None, parent_index=each, position=position)

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
            found = self._fields[field] = pc.struct_field(holder, name)
        return found

    def text(self, field: str) -> pa.Array:
        """The same without U+0000, for which each text is looked at once."""
        found = self._texts.get(field)
        if found is None:
            found = self._texts[field] = values.without_nul(self.read(field))
        return found

    def column(self, field: str) -> pl.Series:
        """The same as a polars column; its text has no U+0000."""
        found = self._columns.get(field)
        if found is None:
            array = self.read(field)
            array = self.text(field) if array.type == pa.string() else array
            found = self._columns[field] = series(array)
        return found

    def list_below(self, path: str) -> Level:
        """The level of a list that lies in this level's items."""
        lists = self.read(self.relative(path))
        # Of a null list list_flatten leaves out what it may still hold.
        lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
        starts = np.cumsum(lengths, dtype=np.int64) - lengths
        parent_index = np.repeat(np.arange(len(lengths), dtype=np.uint32), lengths)
        position = np.arange(1, len(parent_index) + 1) - np.repeat(starts, lengths)
        items = pc.list_flatten(lists)
        return Level(path, items, self, pl.Series(parent_index), pl.Series(position))


class Levels:
    """The levels of one batch, made when they are first asked for."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.studies = Level.of_studies(batch)
        self._levels = {"": self.studies}
        self._decimal_commas: dict[tuple[str, tuple[str, ...]], pl.Series] = {}

    def level(self, path: str) -> Level:
        """The level of a list path; "" for the studies."""
        found = self._levels.get(path)
        if found is None:
            outer = self.level(enclosing_lists(path)[-2])
            found = self._levels[path] = outer.list_below(path)
        return found

    def with_decimal_commas(self, list_path: str, paths: tuple[str, ...]) -> pl.Series:
        """The indices of a list's items in which a number at one of these full paths has a decimal comma."""
        found = self._decimal_commas.get((list_path, paths))
        if found is None:
            parts = [pl.Series(dtype=pl.UInt32)]
            for path in paths:
                level = self.level(enclosing_lists(path)[-1])
                indices = values.decimal_commas(level.column(level.relative(path)))
                while level.path != list_path and level.parent is not None:
                    indices = level.parent_index[indices]
                    level = level.parent
                parts.append(indices)
            found = self._decimal_commas[list_path, paths] = pl.concat(parts).unique()
        return found

    @cached_property
    def nct_number(self) -> pl.Series:
        """The number of each study's NCT id."""
        nct_id = self.studies.read("nct_id")
        named = pl.DataFrame({"nct_id": nct_id}).select(are_nct_ids(pl.col("nct_id")))
        right = named["nct_id"].to_arrow()
        if not pc.all(right, min_count=0).as_py():
            example = nct_id.filter(pc.invert(right))[0].as_py()
            message = f"the snapshot has NCT id {example!r}; expected {EXPECTED}"
            raise FlattenError(message)
        return series(pc.utf8_slice_codeunits(nct_id, 3).cast(pa.int64()))

    @cached_property
    def _nct_ids(self) -> np.ndarray[Any, np.dtype[np.bytes_]]:
        assert len(self.nct_number) == len(self.studies)  # noqa: S101 - raises for impossible ids
        return np.array(self.studies.read("nct_id").to_pylist(), dtype=f"S{NCT_ID_BYTES}")

    def nct_ids_of(self, study: pl.Series) -> pa.Array:
        """The NCT ids of studies given by their index: all of one length, so that no text is looked at."""
        ids = self._nct_ids[study.to_numpy()]
        ends = np.arange(0, ids.nbytes + 1, NCT_ID_BYTES, dtype=np.int32)
        return pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(ids))


class Rows:
    """The rows that one source gives: items of a level, null and repeated ones left out."""

    def __init__(
        self, levels: Levels, source: Source, level: Level, kept: pl.Series | None
    ) -> None:
        self.source = source
        self._levels = levels
        self._level = level
        self._kept = kept

    @classmethod
    def of(cls, levels: Levels, source: Source) -> Rows:
        """The rows of a source in a batch."""
        level = levels.level(source.list_path)
        items = level.read("" if source.is_list else level.relative(source.path))
        rows = cls(
            levels, source, level, true(series(items.is_valid())) if items.null_count else None
        )
        if source.where is not None:
            rows = rows._chosen(rows._passing(source.where))
        if source.distinct_path is not None:
            keys = pl.DataFrame({"study": rows.study, "value": rows.read(source.distinct_path)})
            first = keys.select(
                pl.struct("study", "value").is_first_distinct() & pl.col("value").is_not_null()
            )
            rows = rows._chosen(first.to_series())
        return rows

    def _chosen(self, mask: pl.Series) -> Rows:
        """Only the rows at which a mask is true."""
        return Rows(
            self._levels,
            self.source,
            self._level,
            true(mask) if self._kept is None else self._kept.filter(mask),
        )

    def _passing(self, kept: RowFilter) -> pl.Series:
        """Whether each row passes a filter."""
        among = self.read(self.source.resolve(kept.path) or "").is_in(kept.values)
        among = among.fill_null(value=False)
        return ~among if kept.negated else among

    def __len__(self) -> int:
        return len(self._level) if self._kept is None else len(self._kept)

    @cached_property
    def study(self) -> pl.Series:
        """The index of each row's study in the batch, ascending."""
        indices = self.items_of("")
        return row_numbers(len(self)) if indices is None else indices

    @property
    def position(self) -> pl.Series:
        """The position of each row's item in its list, from 1."""
        if not self.source.is_list:
            return pl.Series([1]).new_from_index(0, len(self))
        return gathered(self._level.position, self._kept)

    def outer_position(self, list_path: str) -> pl.Series:
        """The position, from 1, in its list of each row's item of an enclosing level."""
        return gathered(self._levels.level(list_path).position, self.items_of(list_path))

    @property
    def is_first(self) -> pl.Series:
        """Whether each row is the first that its holder, an enclosing item or the study, has."""
        holder = self.items_of(self.source.outer_lists[-1])
        if holder is None:
            return pl.Series([True]).new_from_index(0, len(self))
        return holder.ne_missing(holder.shift())

    def items_of(self, list_path: str) -> pl.Series | None:
        """The index, per row, of the item of an enclosing level; None if rows and items coincide."""
        level = self._level
        indices = self._kept
        while level.path != list_path and level.parent is not None:
            indices = gathered(level.parent_index, indices)
            level = level.parent
        return indices

    def rows_of(self, items: pl.Series | None) -> pl.Series | None:
        """The indices of the rows that items of the level gave; None where rows and items coincide."""
        if self._kept is None:
            return items
        return self._kept.search_sorted(row_numbers(len(self._level)) if items is None else items)

    def read(self, path: str) -> pl.Series:
        """The value of each row at a full registry path; a list that is not the row's own stays one."""
        level = self._level_of(path)
        return self._at_rows(level, level.column(level.relative(path)))

    def text_in_place(self, path: str) -> pa.Array | None:
        """The text of each row at a full registry path as the snapshot has it; None if it is not one for each row."""
        level = self._level_of(path)
        return level.text(level.relative(path)) if self.items_of(level.path) is None else None

    def _level_of(self, path: str) -> Level:
        lists = enclosing_lists(path)
        is_own = lists[-1] in enclosing_lists(self.source.path)
        return self._levels.level(lists[-1] if is_own else lists[-2])

    def beside_decimal_commas(
        self, rows: pl.Series, list_path: str, paths: tuple[str, ...]
    ) -> pl.Series:
        """Those of the rows, by index, whose item of an enclosing list has decimal commas at the paths."""
        around = self._levels.with_decimal_commas(list_path, paths)
        items = self.items_of(list_path)
        own = rows if items is None else items[rows]
        return rows.filter(own.is_in(around.implode()))

    def count(self, path: str) -> pl.Series:
        """The number of items, null ones left out, of each row's list at a full registry path."""
        items = self._levels.level(path)
        outer = self._levels.level(enclosing_lists(path)[-2])
        counts = series(pc.list_value_length(outer.read(outer.relative(path))))
        if items.read("").null_count:
            nulls = items.parent_index.filter(series(items.read("").is_null()))
            per_list = nulls.rename("index").value_counts(name="nulls")
            all_lists = pl.DataFrame({"index": row_numbers(len(outer)), "count": counts})
            fewer = all_lists.join(per_list, on="index", how="left", maintain_order="left")
            counts = fewer.select(pl.col("count") - pl.col("nulls").fill_null(0)).to_series()
        return self._at_rows(outer, counts)

    def snapshot(self, column: str) -> pl.Series:
        """A column of the snapshot row that each row's study came in."""
        return self._at_rows(self._levels.studies, self._levels.studies.column(column))

    def _at_rows(self, level: Level, column: pl.Series) -> pl.Series:
        return gathered(column, self.items_of(level.path))


def gathered(column: pl.Series, indices: pl.Series | None) -> pl.Series:
    """The values at the indices; all of them where there are none."""
    return column if indices is None else column[indices]


def true(mask: pl.Series) -> pl.Series:
    """The indices at which a mask is true."""
    return row_numbers(len(mask)).filter(mask)


def row_numbers(count: int) -> pl.Series:
    """The indices of so many rows."""
    return pl.int_range(count, dtype=pl.UInt32, eager=True)


def series(array: pa.Array | pa.ChunkedArray) -> pl.Series:
    """An Arrow array as a polars column."""
    column = pl.from_arrow(array)
    assert isinstance(column, pl.Series)  # noqa: S101 - from_arrow gives frames for tables only
    return column
