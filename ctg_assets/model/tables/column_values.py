"""Where the value of a column comes from: the study, the row itself, or rows of other tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Reading(Enum):
    """How a column's value is made from what the registry sent; a missing value always gives NULL."""

    AS_SENT = "as sent"
    LOWER = "lower case"
    FIRST_DAY = "first day that a partial date covers"
    LAST_DAY = "last day that a partial date covers"
    UNLESS_DAY = "as sent, unless it is a day such as 2021-03-15"
    PRECISION = "precision of a partial date: day, month or year"
    YEARS = "an age or duration in years"
    EQUALS = "whether the value equals the argument"
    JOINED = "items of a list joined with '/'"
    CONTAINS = "whether a list contains the argument"
    COUNT = "number of items of a list"
    PART = "the part of a composite leaf (GeoPoint) that the argument names"
    DAYS = "an age or duration in days"
    AGE_NUMBER = "the whole number of an age or duration"
    AGE_UNIT = "the unit of an age or duration, lower case, singular"
    OR_ELSE = "as sent, or the argument where nothing was sent"
    YEAR = "the year of a partial date"
    TIMESTAMP = "a day and time of no stated zone"
    DAY_OF_TIMESTAMP = "the day of a day and time"
    NUMBER = "the part of a number sent as text that the argument names"
    WHOLE_NUMBER = "the part of a whole number sent as text that the argument names"
    KIND_OF_LABEL = "the enumerated kind that stands before ': '"
    NAME_OF_LABEL = "the name that stands after ': '"
    DOCUMENT_URL = "the web address of a document by its file name"


@dataclass(frozen=True)
class Condition:
    """Holds where the value at `path` is `value` (or, with `negated`, where it is not, NULL included)."""

    path: str
    value: str
    negated: bool = False


@dataclass(frozen=True)
class Beside:
    """Values that were written together: at `paths` below the item that `item` (`^`, `^^` …) leads to."""

    item: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """A value read from the study at `path`, relative to the row; NULL where `when` does not hold.

    A number may be read in the light of those `beside` it: where they have decimal commas, a comma
    that may mean two things is not read as standing between thousands.
    """

    path: str
    reading: Reading = Reading.AS_SENT
    argument: str | int | None = None
    when: Condition | None = None
    beside: Beside | None = None


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
