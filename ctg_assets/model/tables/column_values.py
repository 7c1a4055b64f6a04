"""Where the value of a column comes from: the study, the row itself, or rows of other tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ctg_assets.model.tables.readings import Beside, Condition, Read


@dataclass(frozen=True)
class Constant:
    """A value that each source of the table states for all its rows."""


@dataclass(frozen=True)
class Snapshot:
    """A column of the snapshot row beside the study's own content, such as `content_hash`.

    `path` is where the snapshot has it from, if it is from the study.
    """

    column: str
    path: str | None = None


@dataclass(frozen=True)
class RowId:
    """NCT number * 10**9 + running position of the row in its table and study, from 1."""


@dataclass(frozen=True)
class Position:
    """Position of the row's item in its source list, from 1; always 1 where the source is no list."""


@dataclass(frozen=True)
class OuterPosition:
    """Position, from 1, of the item of an enclosing list in that list; `path` is `^`, `^^` and so on."""

    path: str


@dataclass(frozen=True)
class First:
    """`first` for the first row that each holder (an enclosing item, or the study) has, else `others`."""

    first: str
    others: str


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
    `table` must have besides. Values that are NULL match nothing. `column` gives another column of
    the row found than its id.
    """

    table: str
    on: Mapping[str, str]
    where: Mapping[str, str] = field(default_factory=dict)
    column: str = "id"


@dataclass(frozen=True)
class FirstFound:
    """What the first of several lookups that finds anything finds."""

    lookups: tuple[Lookup, ...]


class MatchPart(Enum):
    """What a column tells of a match by text."""

    ID = "the id of the row matched"
    QUALITY = "how the row was matched"


@dataclass(frozen=True)
class Match:
    """Ties a row to the one row of the study in `table` whose text `theirs` agrees with its own `own`.

    Texts agree exactly or, where none does so, when case and punctuation are ignored. Where several
    rows agree none is chosen.
    """

    table: str
    theirs: str
    own: str
    part: MatchPart

    @property
    def qualities(self) -> tuple[str, str, str, str]:
        """What a match can be: exact, but for case and punctuation, with several rows, with none."""
        return (self.theirs, f"{self.theirs} ignoring case and punctuation", "ambiguous", "none")


class Total(Enum):
    """What is computed over some rows of a study."""

    COUNT = "number of rows; 0 where there are none"
    SUM = "sum of a column; NULL where it has no value"
    ANY = "whether any row's column is among the values; false where there are none"
    SINGLE = "whether there is exactly one row"


@dataclass(frozen=True)
class Aggregate:
    """A total over the study's rows in `table` whose columns have the values that `where` states."""

    table: str
    total: Total
    column: str | None = None
    values: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)


class Span(Enum):
    """The unit in which the time between two dates is counted."""

    DAYS = "days"
    MONTHS = "completed calendar months"


@dataclass(frozen=True)
class Difference:
    """The time from the partial date at `start` to that at `end`, each taken as its last day.

    Negative where `end` is earlier; NULL where one is missing or a condition of `unless` holds.
    """

    start: str
    end: str
    span: Span
    unless: tuple[Condition, ...] = ()


Value = (
    Read
    | Constant
    | Snapshot
    | RowId
    | Position
    | OuterPosition
    | First
    | Parent
    | Lookup
    | FirstFound
    | Match
    | Aggregate
    | Difference
)


def referenced_table(value: Value) -> str | None:
    """The table whose ids a column of this value holds, if it holds any."""
    match value:
        case Parent(table) | Lookup(table, column="id") | Match(table, part=MatchPart.ID):
            return table
        case _:
            return None


def tables_needed(value: Value) -> tuple[str, ...]:
    """The other tables whose rows must be known to compute a value."""
    match value:
        case Parent(table) | Lookup(table) | Match(table) | Aggregate(table):
            return (table,)
        case FirstFound(lookups):
            return tuple(one.table for one in lookups)
        case _:
            return ()


def paths_read(value: Value) -> tuple[str, ...]:
    """The paths, relative to the row, from which a value is read."""
    match value:
        case Read(path, when=when):
            return (path, when.path) if when else (path,)
        case Difference(start, end, unless=unless):
            return (start, end, *(condition.path for condition in unless))
        case _:
            return ()


def paths_beside(value: Value) -> tuple[str, ...]:
    """The paths, relative to the row, of the values in whose light a value is read."""
    match value:
        case Read(beside=Beside(item, paths)):
            return tuple(f"{item}.{path}" for path in paths)
        case _:
            return ()
