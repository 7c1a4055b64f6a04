"""The language in which staging tables are declared: where rows come from and how columns are read.

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
from functools import cached_property

from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape
from ctg_assets.model.tables.column_values import (
    Aggregate,
    Difference,
    FirstFound,
    Lookup,
    Match,
    MatchPart,
    OuterPosition,
    Parent,
    Position,
    RowId,
    Snapshot,
    Total,
    Value,
    paths_read,
    referenced_table,
)
from ctg_assets.model.tables.readings import Read

SAME_AS_AACT = "="
"""Default of `aact=`: AACT has the column under the same table and name."""


class DeclarationError(ValueError):
    """A table declaration contradicts the registry's field tree or another declaration."""


@dataclass(frozen=True)
class RowFilter:
    """Keeps the rows whose value at `path` is among `values` (or, with `negated`, is not, NULL included)."""

    path: str
    values: tuple[str, ...]
    negated: bool = False


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
    `where` keeps only some rows; their positions stay those in the registry's list.
    """

    path: str
    constants: Mapping[str, str | bool] = field(default_factory=dict)
    paths: Mapping[str, str | None] = field(default_factory=dict)
    distinct: str | None = None
    where: RowFilter | None = None

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
    its own `nct_id`), and `position` behind them where rows come from a list. `in_aact` says whether
    AACT has a table of this name; where it has none, no column is the same as AACT's.
    """

    name: str
    description: str
    sources: tuple[Source, ...]
    declared: tuple[Field, ...]
    indexes: tuple[tuple[str, ...], ...] = ()
    in_aact: bool = True

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
            Snapshot("nct_id", NCT_ID if self.is_study_table else None),
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
        references = [
            (item.name, table)
            for item in self.fields
            if (table := referenced_table(item.value)) is not None
        ]
        foreign_keys = [ForeignKey((name,), table) for name, table in references]
        # Rows come in the order of studies, and refer to rows of their own study.
        ordered = list(dict.fromkeys(name for name, _ in references))
        if not self.is_study_table:
            foreign_keys.insert(0, ForeignKey(("nct_id",), STUDY_TABLE))
            ordered.insert(0, "nct_id")
        return TableShape(
            name=self.name,
            description=self.description,
            columns=tuple(self._column(item) for item in self.fields),
            primary_key=("nct_id",) if self.is_study_table else ("id",),
            foreign_keys=tuple(foreign_keys),
            indexes=self.indexes,
            ordered_columns=tuple(ordered),
        )

    def source_paths(self, path: str) -> Iterator[str]:
        """The full registry paths that a relative path stands for, source by source."""
        for source in self.sources:
            resolved = source.resolve(path)
            if resolved is not None:
                yield resolved

    def _column(self, item: Field) -> Column:
        value = item.value
        paths = [path for read in paths_read(value) for path in self.source_paths(read)]
        if isinstance(value, Snapshot) and value.path is not None:
            paths.append(value.path)
        same = f"{self.name}.{item.name}" if self.in_aact else None
        return Column(
            name=item.name,
            type=item.type,
            description=item.description,
            nullable=self._nullable(value),
            sources=tuple(dict.fromkeys(paths)),
            aact=same if item.aact == SAME_AS_AACT else item.aact,
        )

    def _nullable(self, value: Value) -> bool:
        match value:
            case Read(path, reading) if reading.is_total:
                paths = [source.resolve(path) for source in self.sources]
                certain = [one.certain_paths for one in self.sources]
                answer = any(path not in known for path, known in zip(paths, certain, strict=True))
            case Read(reading=reading):
                answer = not reading.fills
            case OuterPosition(path):
                answer = any(source.resolve(path) is None for source in self.sources)
            case Parent(optional=optional):
                answer = optional
            case Match(part=part):
                answer = part is MatchPart.ID
            case Aggregate(total=total):
                answer = total is Total.SUM
            case _:
                answer = isinstance(value, Lookup | FirstFound | Difference)
        return answer


STUDY_TABLE = "studies"
NCT_ID = "protocolSection.identificationModule.nctId"
