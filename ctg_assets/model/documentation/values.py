"""Which values a column can have, where the declarations and the registry's enumerations say so.

Belongs here: reading that off a table's columns. Does not belong here: comparing it with data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ctg_assets.model.fields import enum_values, nodes_by_path
from ctg_assets.model.tables.declaration import Constant, Field, Read, Reading, Table


@dataclass(frozen=True)
class Enumeration:
    """The values that the registry's enumerations, as recorded, have for a column, in their order.

    `joined` says that the column holds several of them, joined with `/`.
    """

    values: tuple[str, ...]
    joined: bool


def enumerations(table: Table) -> Mapping[str, Enumeration]:
    """The columns that copy enumerated fields, by name."""
    found = {}
    for item in table.fields:
        values = tuple(dict.fromkeys(_enumerated(table, item)))
        if values and isinstance(item.value, Read):
            found[item.name] = Enumeration(values, item.value.reading is Reading.JOINED)
    return found


def constants(table: Table) -> Mapping[str, tuple[str, ...]]:
    """The columns by which the table's sources are told apart, and the values they state."""
    return {
        item.name: tuple(dict.fromkeys(_spelled(one.constants[item.name]) for one in table.sources))
        for item in table.fields
        if isinstance(item.value, Constant)
    }


def _enumerated(table: Table, item: Field) -> Iterator[str]:
    if not isinstance(item.value, Read):
        return
    if item.value.reading not in {Reading.AS_SENT, Reading.JOINED}:
        return
    for path in table.source_paths(item.value.path):
        for entry in enum_values().get(nodes_by_path()[path].base_type, ()):
            yield entry.value


def _spelled(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value
