"""Columns that are read from studies: one source's rows, with what several columns need read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from ctg_assets.model import values
from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables import readings
from ctg_assets.model.tables.column_values import Difference, Span
from ctg_assets.model.tables.declaration import Field
from ctg_assets.model.tables.readings import Beside, Condition, Read
from ctg_assets.model.unnest import Rows

DTYPES: Mapping[ColumnType, pl.DataType] = {
    ColumnType.TEXT: pl.String(),
    ColumnType.BOOLEAN: pl.Boolean(),
    ColumnType.INTEGER: pl.Int32(),
    ColumnType.BIGINT: pl.Int64(),
    ColumnType.DOUBLE: pl.Float64(),
    ColumnType.DATE: pl.Date(),
    ColumnType.TIMESTAMP: pl.Datetime("us", "UTC"),
    ColumnType.LOCAL_TIMESTAMP: pl.Datetime("us"),
}


class SourceReader:
    """Reads columns of one source's rows; what several of them need is read once."""

    def __init__(self, rows: Rows) -> None:
        """Read columns of these rows."""
        self._rows = rows
        self._inputs: dict[str, pl.Series] = {}

    def read(self, fields: Sequence[Field]) -> dict[str, pl.Series]:
        """The columns among these that are read from the studies, by name."""
        found: dict[str, pl.Series] = {}
        expressions: list[pl.Expr] = []
        for item in fields:
            match item.value:
                case Read() | Difference() if not len(self._rows):
                    found[item.name] = repeated(None, item.type, 0)
                case Read(path, readings.as_sent, when=None) if self._rows.source.resolve(path):
                    found[item.name] = self._read_at(self._rows.source.resolve(path) or "")
                case Read() | Difference():
                    expressions.append(self._expression(item).alias(item.name))
        if expressions:
            # Lazy, since only the lazy engine computes once what several expressions share.
            query = pl.DataFrame(self._inputs).lazy().select(expressions)
            computed = query.collect(optimizations=values.ONLY_SHARED)
            found |= {column.name: column for column in computed}
        return found

    def _expression(self, item: Field) -> pl.Expr:
        value = item.value
        if isinstance(value, Difference):
            return self._difference(value)
        assert isinstance(value, Read)  # noqa: S101 - read() passes no others
        path = self._rows.source.resolve(value.path)
        if path is None:
            default = value.argument if value.reading.fills else None
            return self._input(
                f"column {item.name}", lambda: repeated(default, item.type, len(self._rows))
            )
        found = value.reading.compute(self, path, value)
        return found if value.when is None else pl.when(self._holds(value.when)).then(found)

    # what readings ask for

    def at(self, path: str) -> pl.Expr:
        """The values at a full path."""
        return self._input(path, lambda: self._rows.read(path))

    def count(self, path: str) -> pl.Expr:
        """The numbers of items that the lists at a path have."""
        return self._input(f"count {path}", lambda: self._rows.count(path))

    def nct_id(self) -> pl.Expr:
        """The NCT ids of the studies."""
        return self._input("nct_id", lambda: self._rows.snapshot("nct_id"))

    def number(self, path: str, part: str, beside: Beside | None, *, whole: bool) -> pl.Expr:
        """A part of the numbers at a path."""
        key = f"{'whole ' if whole else ''}number {path} {beside}"
        if f"{key} value" not in self._inputs:
            text = self._read_at(path)
            numbers = values.numbers(text, whole=whole)
            if beside is not None:
                numbers = values.without_ambiguous(numbers, self._ambiguous(text, beside))
            self._inputs |= {f"{key} {name}": column for name, column in numbers.items()}
        return pl.col(f"{key} {part}")

    def _ambiguous(self, text: pl.Series, beside: Beside) -> pl.Series:
        """The rows whose number has a comma that may mean two things, among decimal commas."""
        resolve = self._rows.source.resolve
        item = resolve(beside.item) or ""
        paths = tuple(resolve(f"{beside.item}.{path}") or "" for path in beside.paths)
        either = values.either_commas(text)
        # The values beside are looked at only if there is something to decide.
        return self._rows.beside_decimal_commas(either, item, paths) if len(either) else either

    def _difference(self, value: Difference) -> pl.Expr:
        paths = [self._rows.source.resolve(path) or "" for path in (value.start, value.end)]
        start, end = (values.last_day(self.at(path)) for path in paths)
        days = (end - start).dt.total_days()
        found = days if value.span is Span.DAYS else values.months_between(start, end)
        unless = [self._holds(condition) for condition in value.unless]
        return pl.when(~pl.any_horizontal(unless)).then(found) if unless else found

    def _holds(self, condition: Condition) -> pl.Expr:
        path = self._rows.source.resolve(condition.path)
        if path is None:
            return pl.lit(condition.negated)
        equal = (self.at(path) == condition.value).fill_null(value=False)
        return ~equal if condition.negated else equal

    def _read_at(self, path: str) -> pl.Series:
        self.at(path)
        return self._inputs[path]

    def _input(self, key: str, read: Callable[[], pl.Series]) -> pl.Expr:
        if key not in self._inputs:
            self._inputs[key] = read()
        return pl.col(key)


def as_type(column: pl.Series, kind: ColumnType) -> pl.Series:
    """The column as one of this type."""
    wanted = DTYPES[kind]
    # A cast that has nothing to do costs 8 μs, of which there are 900 in a batch.
    return column if column.dtype == wanted else column.cast(wanted)


def repeated(value: object, kind: ColumnType, count: int) -> pl.Series:
    """One value so many times."""
    return pl.Series([value], dtype=DTYPES[kind]).new_from_index(0, count)
