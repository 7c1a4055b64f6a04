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
class RowFilter:
    """Keeps the rows whose value at `path` is among `values` (or, with `negated`, is not, NULL included)."""

    path: str
    values: tuple[str, ...]
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
            case Read(path, Reading.AS_SENT | Reading.LOWER):
                paths = [source.resolve(path) for source in self.sources]
                certain = [one.certain_paths for one in self.sources]
                answer = any(path not in known for path, known in zip(paths, certain, strict=True))
            case Read(reading=reading):
                answer = reading is not Reading.OR_ELSE
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


STUDY_TABLE = "studies"
NCT_ID = "protocolSection.identificationModule.nctId"


def text(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """Text exactly as sent."""
    return Field(name, ColumnType.TEXT, description, Read(path), aact)


def or_else(
    name: str, path: str, default: str, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """Text exactly as sent, or `default` where none was sent."""
    return Field(name, ColumnType.TEXT, description, Read(path, Reading.OR_ELSE, default), aact)


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


def full_date(
    name: str, path: str, description: str, aact: str | None = SAME_AS_AACT
) -> tuple[Field, ...]:
    """A date that the registry gives to the day, but for rare ones: the day, and `<name>_as_sent`.

    The day is NULL where the text does not parse; were it partial, the last day it covers, as in AACT.
    The text is kept only where the day does not tell it.
    """
    return (
        last_day(name, path, description, aact),
        Field(
            f"{name}_as_sent",
            ColumnType.TEXT,
            f"The text sent for {name} where it is not a day; NULL where it is.",
            Read(path, Reading.UNLESS_DAY),
            None,
        ),
    )


def last_day(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The last day that a date covers, for one whose text is kept in another column."""
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
        last_day(f"{prefix}_date", path, f"{meaning}: the last day that the date sent covers."),
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


def number(
    prefix: str,
    path: str,
    meaning: str,
    *,
    raw: str,
    value: str,
    qualifier: str | None = None,
    status: str | None = None,
    whole: bool = False,
    beyond_aact: tuple[str, ...] = (),
    beside: Beside | None = None,
) -> tuple[Field, ...]:
    """A number sent as text: the text, the number, what qualifies it and what the text is.

    The qualifier is one of `<`, `<=`, `>`, `>=`, `=`, `~`, or the word that stands for no number (NA,
    NE, NOT REACHED) in upper case; the status `number`, `qualified`, `not available` or `unparsed`,
    and with `beside` also `ambiguous comma`.
    `meaning` is a noun phrase. AACT has the columns named `raw`, `value` and, where it is stated,
    `qualifier`, but for those listed in `beyond_aact`.
    """
    kind = "whole number" if whole else "number"
    type_ = ColumnType.BIGINT if whole else ColumnType.DOUBLE
    reading = Reading.WHOLE_NUMBER if whole else Reading.NUMBER
    theirs = dict.fromkeys({raw, value, qualifier} - {None, *beyond_aact}, SAME_AS_AACT)
    sign = qualifier or f"{prefix}_qualifier"
    others = " or unparsed" if beside is None else ", unparsed or of an ambiguous comma"
    return (
        text(raw, path, f"{meaning}, as sent.", theirs.get(raw)),
        Field(
            value,
            type_,
            f"{meaning}: the {kind} sent, if it is one.",
            Read(path, reading, "value", beside=beside),
            theirs.get(value),
        ),
        Field(
            sign,
            ColumnType.TEXT,
            f"{meaning}: the sign before the number, or the word that stands for none.",
            Read(path, reading, "qualifier", beside=beside),
            theirs.get(sign),
        ),
        Field(
            status or f"{prefix}_status",
            ColumnType.TEXT,
            f"{meaning}: whether the text is a number, qualified, not available{others}.",
            Read(path, reading, "status", beside=beside),
            None,
        ),
    )


def date_time(prefix: str, path: str, meaning: str) -> tuple[Field, ...]:
    """A day and time such as `2020-09-29T21:40`, whose zone the registry does not state.

    The columns are `<prefix>_raw` (text as sent), `<prefix>_date` and `<prefix>_timestamp`.
    """
    return (
        text(f"{prefix}_raw", path, f"{meaning}, as sent.", None),
        Field(
            f"{prefix}_date",
            ColumnType.DATE,
            f"{meaning}: the day.",
            Read(path, Reading.DAY_OF_TIMESTAMP),
            None,
        ),
        Field(
            f"{prefix}_timestamp",
            ColumnType.LOCAL_TIMESTAMP,
            f"{meaning}: day and time, of no stated zone.",
            Read(path, Reading.TIMESTAMP),
            None,
        ),
    )


def document_url(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The web address of a document of the study, made from its file name as AACT makes it."""
    return Field(name, ColumnType.TEXT, description, Read(path, Reading.DOCUMENT_URL), aact)


def labelled(
    kind: str, name: str, path: str, kind_description: str, name_description: str
) -> tuple[Field, ...]:
    """A label such as `Dietary Supplement: Zinc` in its parts: `DIETARY_SUPPLEMENT` and `Zinc`."""
    return (
        Field(kind, ColumnType.TEXT, kind_description, Read(path, Reading.KIND_OF_LABEL), None),
        Field(name, ColumnType.TEXT, name_description, Read(path, Reading.NAME_OF_LABEL), None),
    )


def age_parts(prefix: str, path: str, meaning: str) -> tuple[Field, ...]:
    """An age in AACT's parts: `<prefix>_num`, the whole number, and `<prefix>_unit`, such as `year`."""
    return (
        Field(
            f"{prefix}_num",
            ColumnType.INTEGER,
            f"{meaning}: the number, in the unit that {prefix}_unit names.",
            Read(path, Reading.AGE_NUMBER),
        ),
        Field(
            f"{prefix}_unit",
            ColumnType.TEXT,
            f"{meaning}: the unit in lower case and singular, such as year.",
            Read(path, Reading.AGE_UNIT),
        ),
    )


def year(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The year of a partial date."""
    return Field(name, ColumnType.INTEGER, description, Read(path, Reading.YEAR), aact)


def age(name: str, path: str, meaning: str) -> tuple[Field, ...]:
    """An age or duration such as `18 Years` or `6 Months`: text, `<name>_years`, `<name>_days`."""
    return (
        text(name, path, f"{meaning}, as sent: a number and a unit."),
        Field(
            f"{name}_years",
            ColumnType.DOUBLE,
            f"{meaning}, in years (of 365.25 days or 12 months).",
            Read(path, Reading.YEARS),
            None,
        ),
        Field(
            f"{name}_days",
            ColumnType.DOUBLE,
            f"{meaning}, in days (a year has 365.25 days or 12 months).",
            Read(path, Reading.DAYS),
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


def parent(
    name: str,
    table: str,
    description: str,
    *,
    optional: bool = False,
    aact: str | None = SAME_AS_AACT,
) -> Field:
    """A reference to the row that encloses this one; `optional` as in `Parent`."""
    return Field(name, ColumnType.BIGINT, description, Parent(table, optional), aact)


def lookup(
    name: str,
    table: str,
    on: Mapping[str, str],
    description: str,
    where: Mapping[str, str] | None = None,
    *,
    aact: str | None = SAME_AS_AACT,
) -> Field:
    """A reference to the first row of the same study in `table` that agrees with this one."""
    return Field(name, ColumnType.BIGINT, description, Lookup(table, on, where or {}), aact)


def first_found(
    name: str,
    lookups: tuple[Lookup, ...],
    description: str,
    type: ColumnType = ColumnType.BIGINT,  # noqa: A002
    aact: str | None = SAME_AS_AACT,
) -> Field:
    """What the first of several lookups that finds anything finds."""
    return Field(name, type, description, FirstFound(lookups), aact)


def title_match(prefix: str, table: str, on: Mapping[str, str], meaning: str) -> tuple[Field, ...]:
    """A reference to the one row of the study in `table` whose text agrees, and how it does.

    The columns are `<prefix>_id` and `<prefix>_match`; `on` maps the one column of `table` to the one
    of this table that it is compared with; `meaning` is a noun phrase.
    """
    ((theirs, own),) = on.items()
    quality = Match(table, theirs, own, MatchPart.QUALITY)
    return (
        Field(
            f"{prefix}_id",
            ColumnType.BIGINT,
            f"{meaning}; NULL where none has, or several have.",
            Match(table, theirs, own, MatchPart.ID),
            None,
        ),
        Field(
            f"{prefix}_match",
            ColumnType.TEXT,
            f"{meaning}: by what it was found ({', '.join(quality.qualities)}).",
            quality,
            None,
        ),
    )


def outer_position(name: str, path: str, description: str) -> Field:
    """Position, from 1, of the enclosing list's item that holds the row: `path` is `^` or `^^`."""
    return Field(name, ColumnType.INTEGER, description, OuterPosition(path), None)


def first(
    name: str, first: str, others: str, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """`first` for the first row that each holder has, `others` for those behind it."""
    return Field(name, ColumnType.TEXT, description, First(first, others), aact)


def rows_counted(
    name: str,
    table: str,
    description: str,
    where: Mapping[str, str] | None = None,
) -> Field:
    """The number of the study's rows in `table`; 0 where there are none."""
    value = Aggregate(table, Total.COUNT, where=where or {})
    return Field(name, ColumnType.INTEGER, description, value)


def rows_summed(
    name: str,
    table: str,
    column: str,
    description: str,
    where: Mapping[str, str] | None = None,
) -> Field:
    """The sum of a column over the study's rows in `table`; NULL where it has no value."""
    value = Aggregate(table, Total.SUM, column, where=where or {})
    return Field(name, ColumnType.BIGINT, description, value)


def any_row(name: str, table: str, column: str, values: tuple[str, ...], description: str) -> Field:
    """Whether a column is among `values` in any of the study's rows in `table`."""
    value = Aggregate(table, Total.ANY, column, values)
    return Field(name, ColumnType.BOOLEAN, description, value)


def single_row(name: str, table: str, description: str) -> Field:
    """Whether the study has exactly one row in `table`."""
    return Field(name, ColumnType.BOOLEAN, description, Aggregate(table, Total.SINGLE))


def difference(
    name: str, value: Difference, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """Days or completed months from one date to another."""
    return Field(name, ColumnType.INTEGER, description, value, aact)


def columns(*items: Field | tuple[Field, ...]) -> tuple[Field, ...]:
    """One flat tuple of columns from single columns and groups of them."""
    return tuple(one for item in items for one in ((item,) if isinstance(item, Field) else item))
