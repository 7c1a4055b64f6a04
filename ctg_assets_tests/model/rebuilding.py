"""Rows become studies again: the way back from the staging tables to the registry's JSON.

No table but `studies` is known here by name. Where a row came from is told by its columns: constants
say from which source, references to parents and positions say in which item of each list. Several
columns may hold the same field. The one taken is in a table that has one row for each time that the
field can be there, and keeps text as sent where there is such a column; copies in tables of smaller
items are read only where there is no such table.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.tables import Table, readings, staging_tables
from ctg_assets.model.tables.column_values import OuterPosition, Parent, Position, Snapshot, Value
from ctg_assets.model.tables.declaration import STUDY_TABLE, Source, enclosing_lists
from ctg_assets.model.tables.readings import Read, Reading

Study = dict[str, Any]

# The snapshot's own column `nct_id` is this field of the study.
_NCT_ID = "protocolSection.identificationModule.nctId"


class RebuildError(ValueError):
    """The rows given are not those of whole studies; the message says what is missing."""


def rebuild(rows: Mapping[str, pa.Table]) -> Iterator[tuple[str, Study]]:
    """The studies that these rows of the staging tables came from, as NCT id and JSON object.

    `rows` has every staging table, as `flatten` gives it or with the same columns and types read from
    a database, in any order of rows, with all rows of the studies wanted. The studies come in the
    order of the rows of `studies`; all are built before the first is given.

    Each equals the study as sent, as a JSON value (objects have no order, 1 and 1.0 are one number),
    except that

    - nulls, empty objects and empty lists are left out, and what becomes empty by that;
    - `derivedSection.miscInfoModule.versionHolder` and fields that the model does not know are left
      out (the latter are in `extras`);
    - U+0000 in text has become U+FFFD, since Postgres cannot hold it;
    - a denominator (`denoms[]`) without a count is left out: its unit stands only in rows of its
      counts. None of 22,023 recorded denominators is without.

    It relies on one thing that the registry promises: values of its enumerations contain no `/`, which
    joins lists of phases, age groups and masked parties in their columns.

    Raises RebuildError if a table is missing, or the row of an item that another row lies in.
    """
    return rebuild_tables(rows, staging_tables())


def rebuild_tables(
    rows: Mapping[str, pa.Table], declared: Sequence[Table]
) -> Iterator[tuple[str, Study]]:
    """As `rebuild`, for any declared tables, with the fields that `rebuilt_paths(declared)` names."""
    if missing := {table.name for table in declared} - set(rows):
        message = f"studies cannot be rebuilt without their rows in {sorted(missing)}"
        raise RebuildError(message)
    studies: Study = {}
    nct_ids = rows[STUDY_TABLE]["nct_id"].to_pylist()
    places: _PlacesByTable = {STUDY_TABLE: {name: _Place(studies, name) for name in nct_ids}}
    for way in _ways_back(declared):
        _put_back(way, rows[way.table.name], places)
    for nct_id in nct_ids:
        yield nct_id, _without_empty(studies.get(nct_id)) or {}


def rebuilt_paths(declared: Sequence[Table]) -> dict[str, str]:
    """The leaf fields that can be rebuilt from these tables, each with the source whose rows hold it."""
    return {path: way.source.path for way in _ways_back(declared) for path in way.paths}


class _Items(dict[int, Any]):
    """The items of a JSON array by their position, from 1."""


class _Place(NamedTuple):
    """Where a value is, or will be: a key of an object, or a position in a list."""

    holder: dict[Any, Any]
    key: Any

    def below(self, keys: Sequence[str]) -> _Place:
        """The place at these keys of the object here; objects that are missing are made."""
        place = self
        for key in keys:
            place = _Place(place.holder.setdefault(place.key, {}), key)
        return place

    def item(self, keys: Sequence[str], position: int) -> _Place:
        """The place of an item of the list at these keys of the object here."""
        holder, key = self.below(keys)
        return _Place(holder.setdefault(key, _Items()), position)


_PlacesByTable = dict[str, dict[Any, _Place]]


@dataclass(frozen=True)
class _Step:
    """From an item into a list below it: the keys to the list, and the column with the position."""

    keys: tuple[str, ...]
    position: str


@dataclass(frozen=True)
class _Put:
    """A column whose values belong at `keys` of the rows' items, and how they were read from there.

    With `climbs` they belong to the items of a list that many lists further out.
    """

    column: str
    reading: Reading
    keys: tuple[str, ...]
    climbs: int = 0


@dataclass(frozen=True)
class _Way:
    """The way back of the rows that one source gives a table.

    `marks` tell these rows from those of the table's other sources: what a constant's column holds,
    and whether a parent's does. `anchor` is the column that refers to the row of
    `anchor_table` in whose item the rows lie; `steps` lead from there into `lists`, the last of which
    has their own items. `paths` are the fields that `puts` make whole.
    """

    table: Table
    source: Source
    marks: Mapping[str, _Mark]
    anchor: str
    anchor_table: str
    steps: tuple[_Step, ...]
    lists: tuple[str, ...]
    puts: tuple[_Put, ...] = ()
    paths: tuple[str, ...] = ()


class _Parent(Enum):
    """Whether rows of a source lie in rows of another table."""

    SOME = "not NULL"
    NONE = "NULL"


_Mark = str | bool | _Parent


def _put_back(way: _Way, rows: pa.Table, places: _PlacesByTable) -> None:
    """Put what a way's columns hold where it came from, and note the places of its rows."""
    for name, mark in way.marks.items():
        rows = rows.filter(_has(rows[name], mark))
    found = [_anchors(way, rows, places[way.anchor_table])]
    for step in way.steps:
        positions = rows[step.position].to_pylist()
        around = zip(found[-1], positions, strict=True)
        found.append([place.item(step.keys, position) for place, position in around])
    if way.table.name != STUDY_TABLE:
        own = places.setdefault(way.table.name, {})
        own.update(zip(rows["id"].to_pylist(), found[-1], strict=True))
    for put in way.puts:
        _put(put, rows[put.column].to_pylist(), found[-1 - put.climbs])


def _anchors(way: _Way, rows: pa.Table, known: Mapping[Any, _Place]) -> list[_Place]:
    """The places, of those known by the keys of the anchor's rows, that the rows lie in."""
    anchors = rows[way.anchor].to_pylist()
    if unknown := set(anchors) - set(known):
        message = (
            f"rows of {way.table.name!r} lie in rows of {way.anchor_table!r} that are not there: "
            f"{way.anchor} is {min(unknown)!r}"
        )
        raise RebuildError(message)
    return [known[anchor] for anchor in anchors]


def _put(put: _Put, values: Iterable[Any], places: Iterable[_Place]) -> None:
    sent = _SENT.get(put.reading)
    for place, value in zip(places, values, strict=True):
        if value is not None:
            holder, key = place.below(put.keys)
            holder[key] = value if sent is None else sent(value)


def _has(column: pa.ChunkedArray, mark: _Mark) -> pa.ChunkedArray:
    match mark:
        case _Parent.SOME:
            return pc.is_valid(column)
        case _Parent.NONE:
            return pc.is_null(column)
        case _:
            return pc.equal(column, mark)


def _without_empty(value: Any) -> Any:
    """The value without nulls, empty objects and empty lists; None if nothing is left."""
    match value:
        case _Items():
            return _without_empty([value[position] for position in sorted(value)])
        case dict():
            kept = {key: _without_empty(one) for key, one in value.items()}
            return {key: one for key, one in kept.items() if one is not None} or None
        case list():
            return [one for one in map(_without_empty, value) if one is not None] or None
        case _:
            return value


# What was sent, by what a column of such a reading holds; others hold it as it was.
_SENT: Mapping[Reading, Callable[[Any], Any]] = {
    readings.joined: lambda joined: joined.split("/"),
    readings.last_day: dt.date.isoformat,
}


def _ways_back(declared: Sequence[Table]) -> list[_Way]:
    """The ways of all rows whose place can be told, rows that hold others first, with what each puts."""
    by_name = {table.name: table for table in declared}
    ways = [
        way
        for table in declared
        for source in table.sources
        if (way := _way(table, source, by_name)) is not None
    ]
    bearers: dict[str, list[tuple[int, list[_Put]]]] = {}
    for index, way in enumerate(ways):
        for path, puts in _puts_by_path(way).items():
            bearers.setdefault(path, []).append((index, puts))
    for path, found in bearers.items():
        for index, puts in _chosen(found, ways):
            way = ways[index]
            ways[index] = replace(way, puts=(*way.puts, *puts), paths=(*way.paths, path))
    needed = {way.anchor_table for way in ways if way.puts}
    for way in reversed(ways):
        if way.table.name in needed:
            needed.add(way.anchor_table)
    return [way for way in ways if way.puts or way.table.name in needed]


def _chosen(
    bearers: Sequence[tuple[int, list[_Put]]], ways: Sequence[_Way]
) -> Sequence[tuple[int, list[_Put]]]:
    """Of the ways that can put a field, by index, with what puts it, those that are to."""
    least = min(puts[0].climbs for _, puts in bearers)
    own = [one for one in bearers if one[1][0].climbs == least]
    whole = [one for one in own if ways[one[0]].source.where is None]
    if not whole:
        # The items of one list became rows of several tables, each of which has some of them.
        return own
    as_sent = [one for one in whole if one[1][0].reading is readings.as_sent]
    return (as_sent or whole)[:1]


def _way(table: Table, source: Source, by_name: Mapping[str, Table]) -> _Way | None:
    """The way of a source's rows, without what it puts; None if their place cannot be told."""
    marks = [_marks(table, one, by_name) for one in table.sources]
    own = _marks(table, source, by_name)
    if source.distinct is not None or marks.count(own) > 1:
        return None
    anchor, anchor_table, known = "nct_id", STUDY_TABLE, ""
    for item in table.fields:
        if isinstance(item.value, Parent):
            path = _list_of_parent(by_name[item.value.table], source)
            if path is not None and len(path) > len(known):
                anchor, anchor_table, known = item.name, item.value.table, path
    positions = _position_columns(table, source)
    lists = enclosing_lists(source.path)
    steps = list(pairwise(lists[lists.index(known) :]))
    if any(inner not in positions for _, inner in steps):
        return None
    return _Way(
        table,
        source,
        # The rows of a table with one source need no telling apart.
        marks=own if len(table.sources) > 1 else {},
        anchor=anchor,
        anchor_table=anchor_table,
        steps=tuple(_Step(_keys(inner, outer), positions[inner]) for outer, inner in steps),
        lists=tuple(inner for _, inner in steps),
    )


def _marks(table: Table, source: Source, by_name: Mapping[str, Table]) -> dict[str, _Mark]:
    marks: dict[str, _Mark] = dict(source.constants)
    for item in table.fields:
        if isinstance(item.value, Parent):
            path = _list_of_parent(by_name[item.value.table], source)
            marks[item.name] = _Parent.NONE if path is None else _Parent.SOME
    return marks


def _list_of_parent(parent: Table, source: Source) -> str | None:
    """The list whose items, as rows of `parent`, hold a source's rows; None if there is none."""
    return next((one.path for one in parent.sources if one.path in source.outer_lists), None)


def _position_columns(table: Table, source: Source) -> dict[str, str]:
    """The columns with the positions of a source's rows and of what holds them, by list."""
    found: dict[str, str] = {}
    for item in table.fields:
        match item.value:
            case Position():
                found[source.path] = item.name
            case OuterPosition(path):
                found[source.resolve(path) or ""] = item.name
            case _:
                pass
    return found


def _puts_by_path(way: _Way) -> dict[str, list[_Put]]:
    """The leaf fields that the columns of a way hold whole, with what puts each back."""
    read: dict[str, list[_Put]] = {}
    for item in way.table.fields:
        path, reading, part = _field_read(item.value, way.source)
        climbs = None if path is None else _climbs(path, way)
        if path is not None and climbs is not None:
            base = way.lists[-1 - climbs] if climbs else way.source.list_path
            put = _Put(item.name, reading, (*_keys(path, base), *part), climbs)
            read.setdefault(path, []).append(put)
    found = {path: _whole(path, puts) for path, puts in read.items()}
    return {path: puts for path, puts in found.items() if puts}


def _field_read(value: Value, source: Source) -> tuple[str | None, Reading, tuple[str, ...]]:
    """The field that a column reads always, if it reads one; how; and which part of it."""
    match value:
        case Snapshot("nct_id"):
            return _NCT_ID, readings.as_sent, ()
        case Read(path, readings.part, part, None):
            return source.resolve(path), readings.part, (str(part),)
        case Read(path, reading, _, None):
            return source.resolve(path), reading, ()
        case _:
            return None, readings.as_sent, ()


def _climbs(path: str, way: _Way) -> int | None:
    """How many lists out from a row's item a field is one value, or list, of an item; None: not at all.

    0 for what belongs to the item. Values of items further out are copies, one to each row.
    """
    source = way.source
    if path == source.path:
        return 0
    holder = enclosing_lists(path.removesuffix("[]"))[-1]
    if holder == source.list_path:
        return 0 if not source.path or path.startswith(f"{source.path}.") else None
    outer = way.lists[:-1]
    return len(outer) - outer.index(holder) if holder in outer else None


def _whole(path: str, puts: Sequence[_Put]) -> list[_Put]:
    """Of the columns that read a field, those that together hold it whole; later ones prevail."""
    by_reading: dict[Reading, list[_Put]] = {}
    for put in puts:
        by_reading.setdefault(put.reading, []).append(put)
    node = nodes_by_path()[path]
    if as_sent := by_reading.get(readings.as_sent):
        return as_sent[:1]
    parts = by_reading.get(readings.part, [])
    if parts and len(parts) == node.arrow_type().num_fields:
        return parts
    if node.is_enum and readings.joined in by_reading:
        return by_reading[readings.joined][:1]
    if readings.unless_day in by_reading:
        return [*by_reading.get(readings.last_day, [])[:1], *by_reading[readings.unless_day][:1]]
    return []


def _keys(path: str, base: str) -> tuple[str, ...]:
    """The keys that lead from an item of the list `base` to what lies at a path."""
    return tuple(filter(None, path[len(base) :].removesuffix("[]").split(".")))
