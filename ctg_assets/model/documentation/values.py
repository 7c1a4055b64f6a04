"""Which values a column can have, where the declarations and the registry's enumerations say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctg_assets.model.fields import enum_values, nodes_by_path
from ctg_assets.model.tables.column_values import Constant, First
from ctg_assets.model.tables.declaration import Field, Table
from ctg_assets.model.tables.readings import Read


@dataclass(frozen=True)
class Enumeration:
    """The values that the registry's enumerations, as recorded, have for a column, in their order.

    `paths` are the enumerated fields that the column reads. `joined` says that it holds several values
    of them, joined with `/`; `repeated`, that the fields lie outside the row's own item, so that rows
    of one item repeat them.
    """

    values: tuple[str, ...]
    paths: frozenset[str]
    joined: bool
    repeated: bool


def enumerations(table: Table) -> Mapping[str, Enumeration]:
    """The columns that copy enumerated fields, by name."""
    found = {}
    for item in table.fields:
        if enumeration := _enumeration(table, item):
            found[item.name] = enumeration
    return found


def vocabularies(table: Table) -> Mapping[str, tuple[str, ...]]:
    """The columns whose few values the declarations themselves state, by name."""
    found = {}
    for item in table.fields:
        match item.value:
            case Constant():
                stated = (_format(one.constants[item.name]) for one in table.sources)
                found[item.name] = tuple(dict.fromkeys(stated))
            case First(first, others):
                found[item.name] = (first, others)
            case _:
                pass
    return found


def _enumeration(table: Table, item: Field) -> Enumeration | None:
    read = item.value
    if not isinstance(read, Read) or not read.reading.copies:
        return None
    known = {
        path: [entry.value for entry in enum_values().get(nodes_by_path()[path].base_type, ())]
        for path in table.source_paths(read.path)
    }
    values = tuple(dict.fromkeys(value for values in known.values() for value in values))
    if not values:
        return None
    return Enumeration(
        values=values,
        paths=frozenset(path for path, values in known.items() if values),
        joined=read.reading.of_list,
        repeated=read.path.startswith("^"),
    )


def _format(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value
