"""Flattening done slowly and obviously: one study, one row, one value at a time, in plain Python.

Belongs here: what tests compare the vectorised flattening with. It reads the same declarations, so it
proves the computing of rows, not the declarations; those are proved by rows written out by hand.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ctg_assets.model.tables.declaration import (
    Constant,
    Field,
    Lookup,
    Parent,
    Position,
    Read,
    Reading,
    RowId,
    Snapshot,
    Source,
    Table,
    enclosing_lists,
)

DAYS_PER_UNIT = {
    "year": 365.25,
    "month": 365.25 / 12,
    "week": 7.0,
    "day": 1.0,
    "hour": 1 / 24,
    "minute": 1 / 24 / 60,
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
    match = re.fullmatch(
        r"(\d{1,7}(?:\.\d{1,7})?) ([a-z]+?)s?", text or "", re.ASCII | re.IGNORECASE
    )
    if not match or match[2].lower() not in DAYS_PER_UNIT:
        return None
    return float(match[1]) * DAYS_PER_UNIT[match[2].lower()] / 365.25


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


class _Study:
    def __init__(self, study: Row) -> None:
        self._study = study
        self._tables: dict[str, list[Row]] = {}
        self._row_of: dict[tuple[str, str, tuple[int, ...]], Row] = {}

    def rows(self, table: Table) -> list[Row]:
        rows = self._tables[table.name] = []
        for source in table.sources:
            seen: set[Any] = set()
            for item in self._items(source):
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
                if isinstance(column.value, Lookup) == late:
                    found = self._column(column, item, running, row)
                    clean = found.replace("\0", "\ufffd") if isinstance(found, str) else found
                    row[column.name] = clean
        return row

    def _column(self, column: Field, item: _Item, running: int, row: Row) -> Any:
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
            case Lookup() as lookup:
                return self._look_up(lookup, row)
            case Read() as read:
                found = _read(read, item.value(read.path))
                holds = read.when is None or (
                    (item.value(read.when.path) == read.when.value) != read.when.negated
                )
                return found if holds else None

    def _parent(self, table: str, item: _Item) -> int | None:
        for depth, path in enumerate(enclosing_lists(item.source.path)):
            found = self._row_of.get((table, path, item.indices[: depth + 1]))
            if found is not None and path != item.source.path:
                return int(found["id"])
        return None

    def _look_up(self, lookup: Lookup, row: Row) -> int | None:
        for other in self._tables[lookup.table]:
            stated = all(other[name] == wanted for name, wanted in lookup.where.items())
            pairs = [(other[theirs], row[ours]) for theirs, ours in lookup.on.items()]
            if stated and all(one is not None and one == two for one, two in pairs):
                return int(other["id"])
        return None


def _below(item: Any, path: str) -> Any:
    for name in filter(None, path.removesuffix("[]").split(".")):
        item = None if item is None else item.get(name)
    return item


_READINGS: dict[Reading, Callable[[Any, Any], Any]] = {
    Reading.AS_SENT: lambda sent, _: sent,
    Reading.LOWER: lambda sent, _: sent.lower(),
    Reading.FIRST_DAY: lambda sent, _: partial_date(sent)[0],
    Reading.LAST_DAY: lambda sent, _: partial_date(sent)[1],
    Reading.UNLESS_DAY: lambda sent, _: None if partial_date(sent)[2] == "day" else sent,
    Reading.PRECISION: lambda sent, _: partial_date(sent)[2],
    Reading.YEARS: lambda sent, _: years(sent),
    Reading.EQUALS: lambda sent, argument: sent == argument,
    Reading.PART: lambda sent, argument: sent.get(argument),
    Reading.JOINED: lambda sent, _: _joined([one for one in sent if one is not None]),
    Reading.CONTAINS: lambda sent, argument: argument in sent,
    Reading.COUNT: lambda sent, _: sum(1 for one in sent if one is not None),
}


def _joined(items: list[str]) -> str | None:
    return "/".join(items) if items else None


def _read(read: Read, sent: Any) -> Any:
    return None if sent is None else _READINGS[read.reading](sent, read.argument)
