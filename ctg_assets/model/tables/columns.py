"""Columns as tables declare them: one function for each kind, which gives one column or those that belong together."""

from __future__ import annotations

from collections.abc import Mapping

from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables import readings
from ctg_assets.model.tables.column_values import (
    Aggregate,
    Constant,
    Difference,
    First,
    FirstFound,
    Lookup,
    Match,
    MatchPart,
    OuterPosition,
    Parent,
    Snapshot,
    Total,
)
from ctg_assets.model.tables.declaration import SAME_AS_AACT, DeclarationError, Field
from ctg_assets.model.tables.readings import Beside, Condition, Read


def _read(name: str, description: str, value: Read, aact: str | None = SAME_AS_AACT) -> Field:
    """A column of the type that its reading has."""
    if value.reading.type is None:
        message = f"column {name!r}: reading {value.reading.name!r} has no type of its own"
        raise DeclarationError(message)
    return Field(name, value.reading.type, description, value, aact)


def text(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """Text exactly as sent."""
    return Field(name, ColumnType.TEXT, description, Read(path), aact)


def or_else(
    name: str, path: str, default: str, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """Text exactly as sent, or `default` where none was sent."""
    return _read(name, description, Read(path, readings.or_else, default), aact)


def lower(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """Text in lower case."""
    return _read(name, description, Read(path, readings.lower), aact)


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
    return _read(name, description, Read(path, readings.part, argument), aact)


def equals(
    name: str, path: str, argument: int, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """Whether a number equals `argument`; NULL where there is no number."""
    return _read(name, description, Read(path, readings.equals, argument), aact)


def full_date(
    name: str, path: str, description: str, aact: str | None = SAME_AS_AACT
) -> tuple[Field, ...]:
    """A date that the registry gives to the day, but for rare ones: the day, and `<name>_as_sent`.

    The day is NULL where the text does not parse; were it partial, the last day it covers, as in AACT.
    The text is kept only where the day does not tell it.
    """
    return (
        last_day(name, path, description, aact),
        _read(
            f"{name}_as_sent",
            f"The text sent for {name} where it is not a day; NULL where it is.",
            Read(path, readings.unless_day),
            None,
        ),
    )


def last_day(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The last day that a date covers, for one whose text is kept in another column."""
    return _read(name, description, Read(path, readings.last_day), aact)


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
        _read(
            f"{prefix}_date_first",
            f"{meaning}: the first day that the date sent covers.",
            Read(path, readings.first_day),
            None,
        ),
        _read(
            f"{prefix}_date_precision",
            f"{meaning}: whether it was given to the day, month or year.",
            Read(path, readings.precision),
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
    reading = readings.whole_number if whole else readings.number
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
        _read(
            f"{prefix}_date",
            f"{meaning}: the day.",
            Read(path, readings.day_of_timestamp),
            None,
        ),
        _read(
            f"{prefix}_timestamp",
            f"{meaning}: day and time, of no stated zone.",
            Read(path, readings.timestamp),
            None,
        ),
    )


def document_url(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The web address of a document of the study, made from its file name as AACT makes it."""
    return _read(name, description, Read(path, readings.document_url), aact)


def labelled(
    kind: str, name: str, path: str, kind_description: str, name_description: str
) -> tuple[Field, ...]:
    """A label such as `Dietary Supplement: Zinc` in its parts: `DIETARY_SUPPLEMENT` and `Zinc`."""
    return (
        _read(kind, kind_description, Read(path, readings.kind_of_label), None),
        _read(name, name_description, Read(path, readings.name_of_label), None),
    )


def age_parts(prefix: str, path: str, meaning: str) -> tuple[Field, ...]:
    """An age in AACT's parts: `<prefix>_num`, the whole number, and `<prefix>_unit`, such as `year`."""
    return (
        _read(
            f"{prefix}_num",
            f"{meaning}: the number, in the unit that {prefix}_unit names.",
            Read(path, readings.age_number),
        ),
        _read(
            f"{prefix}_unit",
            f"{meaning}: the unit in lower case and singular, such as year.",
            Read(path, readings.age_unit),
        ),
    )


def year(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The year of a partial date."""
    return _read(name, description, Read(path, readings.year), aact)


def age(name: str, path: str, meaning: str) -> tuple[Field, ...]:
    """An age or duration such as `18 Years` or `6 Months`: text, `<name>_years`, `<name>_days`."""
    return (
        text(name, path, f"{meaning}, as sent: a number and a unit."),
        _read(
            f"{name}_years",
            f"{meaning}, in years (of 365.25 days or 12 months).",
            Read(path, readings.years),
            None,
        ),
        _read(
            f"{name}_days",
            f"{meaning}, in days (a year has 365.25 days or 12 months).",
            Read(path, readings.days),
            None,
        ),
    )


def joined(name: str, path: str, description: str, aact: str | None = SAME_AS_AACT) -> Field:
    """The items of a list of text, joined with `/` in the order sent."""
    return _read(name, description, Read(path, readings.joined), aact)


def contains(
    name: str, path: str, argument: str, description: str, aact: str | None = SAME_AS_AACT
) -> Field:
    """Whether a list of text contains `argument`; NULL where there is no list."""
    return _read(name, description, Read(path, readings.contains, argument), aact)


def count(
    name: str,
    path: str,
    description: str,
    when: Condition | None = None,
    aact: str | None = SAME_AS_AACT,
) -> Field:
    """The number of items of a list; NULL where there is no list."""
    return _read(name, description, Read(path, readings.count, when=when), aact)


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
