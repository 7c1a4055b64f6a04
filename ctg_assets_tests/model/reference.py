"""Flattening done slowly and obviously: one study, one row, one value at a time, in plain Python."""

from __future__ import annotations

import calendar
import datetime as dt
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

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
    Position,
    RowId,
    Snapshot,
    Span,
    Total,
)
from ctg_assets.model.tables.declaration import Field, Source, Table, enclosing_lists
from ctg_assets.model.tables.readings import Beside, Condition, Read, Reading

MINUTES_PER_UNIT = {
    "year": 525_960,
    "month": 43_830,
    "week": 10_080,
    "day": 1440,
    "hour": 60,
    "minute": 1,
}

Row = dict[str, Any]


def partial_date(text: str | None) -> tuple[dt.date | None, dt.date | None, str | None]:
    """First day, last day and precision of a partial date."""
    nothing = (None, None, None)
    if text is None or not re.fullmatch(r"\d{4}(-\d\d(-\d\d)?)?", text, re.ASCII):
        return nothing
    year, month, day = (*(int(part) for part in text.split("-")), None, None)[:3]
    assert year is not None
    try:
        if month is None:
            return dt.date(year, 1, 1), dt.date(year, 12, 31), "year"
        if day is None:
            last = calendar.monthrange(year, month)[1]
            return dt.date(year, month, 1), dt.date(year, month, last), "month"
        return dt.date(year, month, day), dt.date(year, month, day), "day"
    except ValueError:
        return nothing


def years(text: str | None) -> float | None:
    """An age in years."""
    return _duration(text, MINUTES_PER_UNIT["year"])


def _duration(text: str | None, minutes: int) -> float | None:
    match = re.fullmatch(
        r"(\d{1,7})(?:\.(\d{1,7}))? ([a-z]+?)s?", text or "", re.ASCII | re.IGNORECASE
    )
    if not match or match[3].lower() not in MINUTES_PER_UNIT:
        return None
    decimals = match[2] or ""
    # Python rounds the quotient of two whole numbers once, however large they are.
    return (
        int(match[1] + decimals)
        * MINUTES_PER_UNIT[match[3].lower()]
        / (minutes * int("1" + "0" * len(decimals)))
    )


_SPELLINGS = {
    "<": "< &lt; &#60;",
    ">": "> &gt; &#62;",
    "<=": "<= =< &le; \u2264",
    ">=": ">= => &ge; \u2265",
    "=": "=",
    "~": "~ \u2248",
}
SIGNS = {one: sign for sign, spellings in _SPELLINGS.items() for one in spellings.split()}
"""What may stand before a number, and what it means."""

NO_NUMBER = """
    NA, N/A, N.A., NC, ND, NE, NR, NS, NOT APPLICABLE, NOT AVAILABLE, NOT CALCULABLE, NOT CALCULATED,
    NOT DETERMINED, NOT ESTIMABLE, NOT EVALUABLE, NOT REACHED, NOT REPORTED, NOT SIGNIFICANT
"""
WORDS = [" ".join(word.split()) for word in NO_NUMBER.split(",")]

Number = tuple[float | None, str | None, str | None]


def number(text: str | None, *, whole: bool = False) -> Number:
    """Value, qualifier and status of a number sent as text."""
    if text is None:
        return None, None, None
    rest = text.strip()
    word = " ".join(rest.upper().split())
    if word in WORDS:
        return None, word, "not available"
    sign = max((one for one in SIGNS if rest.startswith(one)), key=len, default=None)
    rest = rest if sign is None else rest.removeprefix(sign).strip()
    rest = rest.replace("\u2212", "-")
    if re.fullmatch(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?([eE][+-]?[0-9]+)?", rest):
        rest = rest.replace(",", "")
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", rest):
        return None, None, "unparsed"
    found = float(rest)
    if whole:
        exact = Fraction(rest)
        if exact.denominator != 1:
            return None, None, "unparsed"
        found = int(exact)
        if not -(2**63) <= found < 2**63:
            return None, None, "unparsed"
    if not math.isfinite(found):
        return None, None, "unparsed"
    return found, SIGNS[sign] if sign else None, "qualified" if sign else "number"


def comma(text: str | None) -> str | None:
    """`decimal` or `either`: what the one comma of a number can be; None where it is clear, or none."""
    rest = (text or "").strip()
    sign = max((one for one in SIGNS if rest.startswith(one)), key=len, default="")
    rest = rest.removeprefix(sign).strip().removesuffix("%").rstrip().replace("\u2212", "-")
    rest, *power = re.split("[eE]", rest)
    whole, found, decimals = rest.removeprefix("-" if rest[:1] == "-" else "+").partition(",")
    if not found or (power and not re.fullmatch("[+-]?[0-9]+", "e".join(power))):
        return None
    ascii_digits = set("0123456789")
    if set(whole) <= ascii_digits and 1 <= len(whole) <= 3 and whole[0] != "0":
        point = decimals.endswith(".")
        digits = decimals.removesuffix(".")
        if len(digits) == 3 and set(digits) <= ascii_digits:
            return None if (text or "").strip().endswith("%") else "either"
        if point:
            return None
    groups = re.split("[. ]", whole)
    is_grouped = len(groups) == 1 or (
        1 <= len(groups[0]) <= 3 and all(len(one) == 3 for one in groups[1:])
    )
    is_number = set("".join(groups)) | set(decimals) <= ascii_digits and decimals != ""
    return "decimal" if is_number and is_grouped else None


def timestamp(text: str) -> dt.datetime | None:
    """A day and time of no stated zone."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", text, re.ASCII):
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def days(text: str) -> float | None:
    """An age in days."""
    return _duration(text, MINUTES_PER_UNIT["day"])


def day_of_timestamp(text: str) -> dt.date | None:
    """The day of a day and time."""
    found = timestamp(text)
    return None if found is None else found.date()


def age(text: str) -> tuple[int | None, str | None]:
    """The whole number and the unit of an age."""
    if years(text) is None:
        return None, None
    found, unit = text.split(" ")
    whole, _, decimals = found.partition(".")
    return None if decimals.strip("0") else int(whole), unit.lower().removesuffix("s")


def label(text: str) -> tuple[str | None, str | None]:
    """Kind and name of a label such as `Drug: Aspirin`."""
    kind, colon, name = text.partition(": ")
    if not colon or not kind or ":" in kind:
        return None, None
    return kind.upper().replace(" ", "_"), name


def words(text: str | None) -> str | None:
    """Text for comparing titles: letters and digits in lower case, single blanks."""
    if text is None:
        return None
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text.lower())
    return " ".join(kept.split()) or None


def completed_months(start: dt.date, end: dt.date) -> int:
    """Calendar months from one day to another; the last day of a month completes it."""
    if end < start:
        return -completed_months(end, start)
    months = 12 * (end.year - start.year) + end.month - start.month
    is_last_day = (end + dt.timedelta(1)).day == 1 if end < dt.date.max else True
    return months if end.day >= start.day or is_last_day else months - 1


def flatten(studies: Sequence[Row], tables: Sequence[Table]) -> dict[str, list[Row]]:
    """The rows of the tables for snapshot rows given as plain Python objects."""
    result: dict[str, list[Row]] = {table.name: [] for table in tables}
    for study in studies:
        of_study = _Study(study)
        for table in tables:
            result[table.name].extend(of_study.rows(table))
    return result


@dataclass(frozen=True)
class _Item:
    """What a row comes from: its source, and index and content of each list item around it and it."""

    source: Source
    chain: tuple[tuple[int, Any], ...]

    @property
    def indices(self) -> tuple[int, ...]:
        return tuple(index for index, _ in self.chain)

    def value(self, relative: str) -> Any:
        path = self.source.resolve(relative)
        if path is None:
            return None
        own = enclosing_lists(self.source.path)
        depth = sum(1 for one in enclosing_lists(path) if one in own)
        return _below(self.chain[depth - 1][1], path.removeprefix(own[depth - 1]))

    def beside(self, beside: Beside) -> list[Any]:
        """All texts that were written together with the row's."""
        chain = self.chain[: len(self.chain) - len(beside.item)]
        found = []
        for path in beside.paths:
            holders = [chain[-1][1]]
            *lists, leaf = path.split("[].")
            for name in lists:
                holders = [one for item in holders if item for one in item.get(name) or []]
            found += [item.get(leaf) for item in holders if item]
        return found


class _Study:
    def __init__(self, study: Row) -> None:
        self._study = study
        self._table = ""
        self._tables: dict[str, list[Row]] = {}
        self._row_of: dict[tuple[str, str, tuple[int, ...]], Row] = {}

    def rows(self, table: Table) -> list[Row]:
        self._table = table.name
        rows = self._tables[table.name] = []
        for source in table.sources:
            seen: set[Any] = set()
            for item in self._items(source):
                if source.where is not None:
                    among = item.value(source.where.path) in source.where.values
                    if among == source.where.negated:
                        continue
                if source.distinct is not None:
                    key = item.value(source.distinct)
                    if key is None or key in seen:
                        continue
                    seen.add(key)
                rows.append(self._row(table, item, len(rows) + 1))
                self._row_of[table.name, source.path, item.indices] = rows[-1]
        return rows

    def _items(self, source: Source) -> Iterator[_Item]:
        chains: list[tuple[tuple[int, Any], ...]] = [((0, self._study),)]
        lists = enclosing_lists(source.path)
        for outer, inner in pairwise(lists):
            chains = [
                (*chain, (index, item))
                for chain in chains
                for index, item in enumerate(_below(chain[-1][1], inner.removeprefix(outer)) or [])
                if item is not None
            ]
        for chain in chains:
            if _below(chain[-1][1], source.path.removeprefix(lists[-1])) is not None:
                yield _Item(source, chain)

    def _row(self, table: Table, item: _Item, running: int) -> Row:
        row: Row = {}
        for late in (False, True):  # what is looked up is looked up by columns already there
            for column in table.fields:
                if isinstance(column.value, Lookup | FirstFound | Match | Aggregate) == late:
                    found = self._column(column, item, running, row)
                    clean = found.replace("\0", "\ufffd") if isinstance(found, str) else found
                    row[column.name] = clean
        return row

    def _column(self, column: Field, item: _Item, running: int, row: Row) -> Any:  # noqa: C901
        match column.value:
            case RowId():
                return int(self._study["nct_id"].removeprefix("NCT")) * 10**9 + running
            case Position():
                return item.indices[-1] + 1 if item.source.path.endswith("[]") else 1
            case Snapshot(name):
                return self._study[name]
            case Constant():
                return item.source.constants[column.name]
            case Parent(name):
                return self._parent(name, item)
            case OuterPosition(relative):
                path = item.source.resolve(relative)
                lists = enclosing_lists(item.source.path)
                return None if path is None else item.indices[lists.index(path)] + 1
            case First(first, others):
                return first if self._is_first(item) else others
            case Lookup() as lookup:
                return self._look_up(lookup, row)
            case FirstFound(lookups):
                found = [self._look_up(one, row) for one in lookups]
                return next((one for one in found if one is not None), None)
            case Match() as match:
                return self._match(match, row)
            case Aggregate() as aggregate:
                return self._total(aggregate)
            case Difference() as difference:
                return self._difference(difference, item)
            case Read() as read:
                sent = item.value(read.path)
                if read.reading is readings.document_url and sent is not None:
                    nct_id = self._study["nct_id"]
                    sent = f"https://ClinicalTrials.gov/ProvidedDocs/{nct_id[-2:]}/{nct_id}/{sent}"
                if read.reading is readings.or_else and sent is None:
                    sent = read.argument
                found = _read(read, sent)
                if (  # a comma that may mean two things, among decimal commas
                    read.beside is not None
                    and comma(sent) == "either"
                    and number(sent)[0] is not None
                    and any(comma(other) == "decimal" for other in item.beside(read.beside))
                ):
                    return "ambiguous comma" if read.argument == "status" else None
                return found if read.when is None or _holds(read.when, item) else None

    def _parent(self, table: str, item: _Item) -> int | None:
        for depth, path in enumerate(enclosing_lists(item.source.path)):
            found = self._row_of.get((table, path, item.indices[: depth + 1]))
            if found is not None and path != item.source.path:
                return int(found["id"])
        return None

    def _is_first(self, item: _Item) -> bool:
        """Whether no row of the same source and holder has been made before."""
        if not item.source.is_list:
            return True
        made = [key[2] for key in self._row_of if key[:2] == (self._table, item.source.path)]
        return all(indices[:-1] != item.indices[:-1] for indices in made)

    def _match(self, match: Match, row: Row) -> Any:
        exact, alike, ambiguous, quality = match.qualities
        id_ = None
        for same, how in ((lambda text: text, exact), (words, alike)):
            own = same(row[match.own])
            others = self._tables[match.table] if own is not None else []
            found = [one["id"] for one in others if same(one[match.theirs]) == own]
            if found:
                id_, quality = (found[0], how) if len(found) == 1 else (None, ambiguous)
                break
        return id_ if match.part is MatchPart.ID else quality

    def _total(self, value: Aggregate) -> Any:
        rows = [
            row
            for row in self._tables[value.table]
            if all(row[name] == wanted for name, wanted in value.where.items())
        ]
        cells = [row[value.column] for row in rows if value.column]
        match value.total:
            case Total.COUNT:
                return len(rows)
            case Total.SINGLE:
                return len(rows) == 1
            case Total.ANY:
                return any(cell in value.values for cell in cells)
            case Total.SUM:
                known = [cell for cell in cells if cell is not None]
                return sum(known) if known else None

    def _difference(self, value: Difference, item: _Item) -> int | None:
        start = partial_date(item.value(value.start))[1]
        end = partial_date(item.value(value.end))[1]
        if not start or not end or any(_holds(condition, item) for condition in value.unless):
            return None
        return (end - start).days if value.span is Span.DAYS else completed_months(start, end)

    def _look_up(self, lookup: Lookup, row: Row) -> Any:
        for other in self._tables[lookup.table]:
            stated = all(other[name] == wanted for name, wanted in lookup.where.items())
            pairs = [(other[theirs], row[ours]) for theirs, ours in lookup.on.items()]
            if stated and all(one is not None and one == two for one, two in pairs):
                return other[lookup.column]
        return None


def _holds(condition: Condition, item: _Item) -> bool:
    return bool((item.value(condition.path) == condition.value) != condition.negated)


def _below(item: Any, path: str) -> Any:
    for name in filter(None, path.removesuffix("[]").split(".")):
        item = None if item is None else item.get(name)
    return item


_PARTS = ("value", "qualifier", "status")

_READINGS: dict[Reading, Callable[[Any, Any], Any]] = {
    readings.as_sent: lambda sent, _: sent,
    readings.lower: lambda sent, _: sent.lower(),
    readings.first_day: lambda sent, _: partial_date(sent)[0],
    readings.last_day: lambda sent, _: partial_date(sent)[1],
    readings.unless_day: lambda sent, _: None if partial_date(sent)[2] == "day" else sent,
    readings.precision: lambda sent, _: partial_date(sent)[2],
    readings.years: lambda sent, _: years(sent),
    readings.days: lambda sent, _: days(sent),
    readings.age_number: lambda sent, _: age(sent)[0],
    readings.age_unit: lambda sent, _: age(sent)[1],
    readings.or_else: lambda sent, _: sent,
    readings.year: lambda sent, _: getattr(partial_date(sent)[0], "year", None),
    readings.timestamp: lambda sent, _: timestamp(sent),
    readings.day_of_timestamp: lambda sent, _: day_of_timestamp(sent),
    readings.number: lambda sent, part: number(sent)[_PARTS.index(part or "value")],
    readings.whole_number: lambda sent, part: number(sent, whole=True)[
        _PARTS.index(part or "value")
    ],
    readings.kind_of_label: lambda sent, _: label(sent)[0],
    readings.name_of_label: lambda sent, _: label(sent)[1],
    readings.document_url: lambda sent, _: sent,
    readings.equals: lambda sent, argument: sent == argument,
    readings.part: lambda sent, argument: sent.get(argument),
    readings.joined: lambda sent, _: _joined([one for one in sent if one is not None]),
    readings.contains: lambda sent, argument: argument in sent,
    readings.count: lambda sent, _: sum(1 for one in sent if one is not None),
}


def _joined(items: list[str]) -> str | None:
    return "/".join(items) if items else None


def _read(read: Read, sent: Any) -> Any:
    return None if sent is None else _READINGS[read.reading](sent, read.argument)
