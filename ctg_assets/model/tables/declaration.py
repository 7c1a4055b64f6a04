"""The language in which staging tables are declared: where rows come from and how columns are read.

Belongs here: the declarative classes and the short functions that make columns. Does not belong
here: the tables themselves (`protocol.py`, `derived.py`), the check of a declaration against the
registry's field tree (`consistency.py`), and the computing of rows (`flatten.py`).

A table's rows come from one or more sources, each a node of the field tree: the study itself (path
""), an object (one row where it is present), or a list (one row per item). Columns name their value
relative to the row, so that several sources can share them:

    "measure"    a field of the row's object
    "a.b"        a field of an object inside it
    "."          the row's item itself (lists of plain values)
    "^.title"    a field of whatever holds the row: the enclosing list's item, or the study
    "^^.title"   one more level up

A source that spells a field differently, or lacks it, says so in `paths`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape

SAME_AS_AACT = "="
"""Default of `aact=`: AACT has the column under the same table and name."""


class DeclarationError(ValueError):
    """A table declaration contradicts the registry's field tree or another declaration."""


class Reading(Enum):
    """How a column's value is made from what the registry sent; a missing value always gives NULL."""

    AS_SENT = "as sent"
    LOWER = "lower case"
    FIRST_DAY = "first day that a partial date covers"
    LAST_DAY = "last day that a partial date covers"
    PRECISION = "precision of a partial date: day, month or year"
    YEARS = "an age or duration in years"
    EQUALS = "whether the value equals the argument"
    JOINED = "items of a list joined with '/'"
    CONTAINS = "whether a list contains the argument"
    COUNT = "number of items of a list"
    PART = "the part of a composite leaf (GeoPoint) that the argument names"


@dataclass(frozen=True)
class Condition:
    """Holds where the value at `path` is `value` (or, with `negated`, where it is not, NULL included)."""

    path: str
    value: str
    negated: bool = False


@dataclass(frozen=True)
class Read:
    """A value read from the study at `path`, relative to the row; NULL where `when` does not hold."""

    path: str
    reading: Reading = Reading.AS_SENT
    argument: str | int | None = None
    when: Condition | None = None


@dataclass(frozen=True)
class Constant:
    """A value that each source of the table states for all its rows."""


@dataclass(frozen=True)
class Snapshot:
    """A column of the snapshot row beside the study's own content, such as `content_hash`."""

    column: str


@dataclass(frozen=True)
class RowId:
    """NCT number * 10**9 + running position of the row in its table and study, from 1."""


@dataclass(frozen=True)
class Position:
    """Position of the row's item in its source list, from 1; always 1 where the source is no list."""


@dataclass(frozen=True)
class Parent:
    """The id of the row of `table` from whose source's item this row comes.

    `optional` says that some sources of this table lie in no such item; their rows get NULL.
    """

    table: str
    optional: bool = False


@dataclass(frozen=True)
class Lookup:
    """The id of the study's first row in `table` whose columns equal this row's, or NULL.

    `on` maps columns of `table` to columns of this table; `where` states values that columns of
    `table` must have besides. Values that are NULL match nothing.
    """

    table: str
    on: Mapping[str, str]
    where: Mapping[str, str] = field(default_factory=dict)


Value = Read | Constant | Snapshot | RowId | Position | Parent | Lookup


@dataclass(frozen=True)
class Field:
    """One column as declared: its name, type and meaning, and where its value comes from."""

    name: str
    type: ColumnType
    description: str
    value: Value
    aact: str | None = SAME_AS_AACT


@dataclass(frozen=True)
class Source:
    """One node of the field tree that gives rows.

    `constants` are this source's values for the table's `Constant` columns. `paths` maps paths used
    by the table's columns to this source's own spelling, or to None where it has no such field.
    `distinct`, a path, keeps only the first row of each study for each value, and none for NULL.
    """

    path: str
    constants: Mapping[str, str | bool] = field(default_factory=dict)
    paths: Mapping[str, str | None] = field(default_factory=dict)
    distinct: str | None = None

    @property
    def is_list(self) -> bool:
        """Whether the source gives one row per list item."""
        return self.path.endswith("[]")

    @property
    def list_path(self) -> str:
        """The innermost list that the rows are items of or lie in; "" for the study itself."""
        return enclosing_lists(self.path)[-1]

    @property
    def outer_lists(self) -> tuple[str, ...]:
        """The lists whose items hold the rows, outermost first, after "" for the study."""
        lists = enclosing_lists(self.path)
        return lists[:-1] if self.is_list else lists

    @property
    def certain_paths(self) -> frozenset[str | None]:
        """The full paths whose values are never NULL: plain items, and what rows are distinct by."""
        return frozenset({self.path if self.is_list else None, self.distinct_path} - {None})

    @property
    def distinct_path(self) -> str | None:
        """The full registry path of what rows are distinct by, if they are."""
        return None if self.distinct is None else self.resolve(self.distinct)

    def resolve(self, path: str) -> str | None:
        """The full registry path of a path relative to this source's rows; None where it has none."""
        own: str | None = self.paths.get(path, path)
        if own is None:
            return None
        steps = len(own) - len(own.lstrip("^"))
        base = self.path
        for _ in range(steps):
            if not base:
                message = f"path {own!r} climbs above the study from source {self.path!r}"
                raise DeclarationError(message)
            lists = enclosing_lists(base)
            base = lists[-2] if base.endswith("[]") else lists[-1]
        rest = own[steps:].removeprefix(".")
        return f"{base}.{rest}" if base and rest else base or rest


def enclosing_lists(path: str) -> tuple[str, ...]:
    """The lists that a path runs through, outermost first, after "" for the study itself.

    A path that ends with `[]` counts as running through its own list.
    """
    parts = path.split("[]")
    return ("", *("[]".join(parts[:depth]) + "[]" for depth in range(1, len(parts))))


@dataclass(frozen=True)
class Table:
    """A staging table: sources of rows, columns in order, and what follows from them.

    The key columns are added here, not declared: `id` and `nct_id` in front (for `studies` they are
    its own `nct_id`), and `position` behind them where rows come from a list.
    """

    name: str
    description: str
    sources: tuple[Source, ...]
    declared: tuple[Field, ...]
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def is_study_table(self) -> bool:
        """Whether this is the table with one row per study, which all others refer to."""
        return self.name == STUDY_TABLE

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """All columns with their values, key columns first."""
        nct_id = Field(
            "nct_id",
            ColumnType.TEXT,
            "Registry number of the study (NCT and eight digits).",
            Snapshot("nct_id"),
            f"{self.name}.nct_id",
        )
        if self.is_study_table:
            return (nct_id, *self.declared)
        row_id = Field(
            "id",
            ColumnType.BIGINT,
            "Stable key: NCT number * 10^9 + running position of the row within its study.",
            RowId(),
            None,
        )
        position = Field(
            "position",
            ColumnType.INTEGER,
            "Position in the registry's list, from 1 (1 where the registry has no list).",
            Position(),
            None,
        )
        if any(source.is_list for source in self.sources):
            return (row_id, nct_id, position, *self.declared)
        return (row_id, nct_id, *self.declared)

    @cached_property
    def shape(self) -> TableShape:
        """What a database needs to know of this table."""
        references = [item for item in self.fields if isinstance(item.value, Parent | Lookup)]
        foreign_keys = [ForeignKey((item.name,), item.value.table) for item in references]  # type: ignore[union-attr]
        indexes = [(item.name,) for item in references]
        if not self.is_study_table:
            foreign_keys.insert(0, ForeignKey(("nct_id",), STUDY_TABLE))
            indexes.insert(0, ("nct_id",))
        return TableShape(
            name=self.name,
            description=self.description,
            columns=tuple(self._column(item) for item in self.fields),
            primary_key=("nct_id",) if self.is_study_table else ("id",),
            foreign_keys=tuple(foreign_keys),
            indexes=(*indexes, *self.indexes),
        )

    def source_paths(self, path: str) -> Iterator[str]:
        """The full registry paths that a relative path stands for, source by source."""
        for source in self.sources:
            resolved = source.resolve(path)
            if resolved is not None:
                yield resolved

    def _column(self, item: Field) -> Column:
        value = item.value
        paths: list[str] = []
        if isinstance(value, Read):
            paths.extend(self.source_paths(value.path))
            if value.when:
                paths.extend(self.source_paths(value.when.path))
        return Column(
            name=item.name,
            type=item.type,
            description=item.description,
            nullable=self._nullable(value),
            sources=tuple(dict.fromkeys(paths)),
            aact=f"{self.name}.{item.name}" if item.aact == SAME_AS_AACT else item.aact,
        )

    def _nullable(self, value: Value) -> bool:
        if isinstance(value, Read):
            if value.reading not in {Reading.AS_SENT, Reading.LOWER}:
                return True
            return not all(
                source.resolve(value.path) in source.certain_paths for source in self.sources
            )
        return isinstance(value, Lookup) or (isinstance(value, Parent) and value.optional)


STUDY_TABLE = "studies"


def text(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """Text exactly as sent."""
    return Field(name, ColumnType.TEXT, description, Read(path), aact)


def lower(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """Text in lower case."""
    return Field(name, ColumnType.TEXT, description, Read(path, Reading.LOWER), aact)


def boolean(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """True or false as sent."""
    return Field(name, ColumnType.BOOLEAN, description, Read(path), aact)


def integer(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """A whole number as sent; bigint, since the registry states no bound and has sent odd numbers."""
    return Field(name, ColumnType.BIGINT, description, Read(path), aact)


def part(
    name: str, path: str, argument: str, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """One number of a composite leaf: `lat` or `lon` of a GeoPoint."""
    return Field(name, ColumnType.DOUBLE, description, Read(path, Reading.PART, argument), aact)


def equals(
    name: str, path: str, argument: int, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """Whether a number equals `argument`; NULL where there is no number."""
    return Field(name, ColumnType.BOOLEAN, description, Read(path, Reading.EQUALS, argument), aact)


def full_date(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """A date that the registry always gives to the day.

    NULL where it does not parse; were it partial, the last day it covers, as in AACT.
    """
    return Field(name, ColumnType.DATE, description, Read(path, Reading.LAST_DAY), aact)


def partial_date(prefix: str, path: str, meaning: str, raw: str | None = None) -> tuple[Field, ...]:
    """A date that may lack its day or month: raw text, last day, first day, precision.

    The columns are `<prefix>_month_year` (or `raw`, AACT's name for the text), `<prefix>_date`,
    `<prefix>_date_first` and `<prefix>_date_precision`; `meaning` is a noun phrase.
    """
    return (
        text(
            raw or f"{prefix}_month_year",
            path,
            f"{meaning}, as sent: a year, a month or a day.",
        ),
        full_date(f"{prefix}_date", path, f"{meaning}: the last day that the date sent covers."),
        Field(
            f"{prefix}_date_first",
            ColumnType.DATE,
            f"{meaning}: the first day that the date sent covers.",
            Read(path, Reading.FIRST_DAY),
            None,
        ),
        Field(
            f"{prefix}_date_precision",
            ColumnType.TEXT,
            f"{meaning}: whether it was given to the day, month or year.",
            Read(path, Reading.PRECISION),
            None,
        ),
    )


def age(name: str, path: str, meaning: str) -> tuple[Field, ...]:
    """An age or duration such as `18 Years` or `6 Months`: text as sent, and `<name>_years`."""
    return (
        text(name, path, f"{meaning}, as sent: a number and a unit."),
        Field(
            f"{name}_years",
            ColumnType.DOUBLE,
            f"{meaning}, in years (of 365.25 days or 12 months).",
            Read(path, Reading.YEARS),
            None,
        ),
    )


def joined(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The items of a list of text, joined with `/` in the order sent."""
    return Field(name, ColumnType.TEXT, description, Read(path, Reading.JOINED), aact)


def contains(
    name: str, path: str, argument: str, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """Whether a list of text contains `argument`; NULL where there is no list."""
    return Field(
        name, ColumnType.BOOLEAN, description, Read(path, Reading.CONTAINS, argument), aact
    )


def count(
    name: str,
    path: str,
    description: str,
    when: Condition | None = None,
    aact: str | None = SAME_AS_AACT,
) -> Field:
    """The number of items of a list; NULL where there is no list."""
    return Field(name, ColumnType.INTEGER, description, Read(path, Reading.COUNT, when=when), aact)


def constant(name: str, description: str, type: ColumnType = ColumnType.TEXT) -> Field:  # noqa: A002
    """A value that tells the table's sources apart."""
    return Field(name, type, description, Constant())


def snapshot(name: str, description: str, type: ColumnType = ColumnType.TEXT) -> Field:  # noqa: A002
    """A column of the snapshot that is not part of the study's content."""
    return Field(name, type, description, Snapshot(name), None)


def parent(name: str, table: str, description: str, *, optional: bool = False) -> Field:
    """A reference to the row that encloses this one; `optional` as in `Parent`."""
    return Field(name, ColumnType.BIGINT, description, Parent(table, optional))


def lookup(
    name: str,
    table: str,
    on: Mapping[str, str],
    description: str,
    where: Mapping[str, str] | None = None,
) -> Field:
    """A reference to the first row of the same study in `table` that agrees with this one."""
    return Field(name, ColumnType.BIGINT, description, Lookup(table, on, where or {}))


def columns(*items: Field | tuple[Field, ...]) -> tuple[Field, ...]:
    """One flat tuple of columns from single columns and groups of them."""
    return tuple(one for item in items for one in ((item,) if isinstance(item, Field) else item))
