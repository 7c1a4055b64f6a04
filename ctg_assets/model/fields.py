"""The registry's field tree: every node of a study record, with its piece name and type.

`fields.csv` holds one row per node of `/studies/metadata` (API 2.0.5: 454 nodes, 342 leaves), in the
order the registry lists them. A path spells list nodes with `[]`, as in
`protocolSection.contactsLocationsModule.locations[].city`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

import pyarrow as pa

# How a leaf arrives in JSON. Everything else (text, markup, dates, ages, enums) arrives as a string,
# and stays one until flattening, so that nothing the registry sent is lost in parsing.
_SCALAR_ARROW_TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "long": pa.int64(),
    "number": pa.float64(),
    "GeoPoint": pa.struct([pa.field("lat", pa.float64()), pa.field("lon", pa.float64())]),
}


@dataclass(frozen=True)
class FieldNode:
    """One node of the registry's field tree.

    `path` is the full path with `[]` after list nodes; `piece` the registry's unique short name
    (usable in `fields=` and `AREA[]`); `type` the registry's type name, with `[]` when it is a list.
    """

    path: str
    piece: str
    type: str
    source_type: str
    children: tuple[FieldNode, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The JSON key of this node."""
        return self.path.rpartition(".")[2].removesuffix("[]")

    @property
    def is_list(self) -> bool:
        """Whether the node holds a JSON array."""
        return self.type.endswith("[]")

    @property
    def is_leaf(self) -> bool:
        """Whether the node holds values rather than further fields."""
        return not self.children

    @property
    def base_type(self) -> str:
        """The registry's type name without the list mark."""
        return self.type.removesuffix("[]")

    @property
    def is_enum(self) -> bool:
        """Whether the node's values come from one of the registry's enumerations."""
        return self.base_type in enum_values()

    def arrow_type(self) -> pa.DataType:
        """The Arrow type in which this node is parsed from JSON."""
        if self.children:
            item = pa.struct([pa.field(child.name, child.arrow_type()) for child in self.children])
        else:
            item = _SCALAR_ARROW_TYPES.get(self.base_type, pa.string())
        return pa.list_(item) if self.is_list else item

    def walk(self) -> Iterator[FieldNode]:
        """This node and all nodes below it, parents before children."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class EnumValue:
    """One value of a registry enumeration, with the spelling the retired classic API used.

    `legacy_exceptions` maps piece names to the legacy spelling where it differs for that piece.
    """

    value: str
    legacy_value: str
    legacy_exceptions: dict[str, str]


def _rows(file_name: str) -> list[dict[str, str]]:
    text = files(__package__).joinpath(file_name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def enum_values() -> dict[str, tuple[EnumValue, ...]]:
    """The registry's enumerations: type name to its values, in the registry's order."""
    enums: dict[str, list[EnumValue]] = {}
    for row in _rows("enums.csv"):
        pairs = (pair.partition("=") for pair in row["legacy_exceptions"].split(";") if pair)
        exceptions = {piece: legacy for piece, _, legacy in pairs}
        enums.setdefault(row["type"], []).append(
            EnumValue(row["value"], row["legacy_value"], exceptions)
        )
    return {name: tuple(values) for name, values in enums.items()}


@cache
def field_tree() -> tuple[FieldNode, ...]:
    """The top-level nodes of a study record, each with its whole subtree."""
    rows = _rows("fields.csv")
    children: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        children.setdefault(row["path"].rpartition(".")[0], []).append(row)

    def node(row: dict[str, str]) -> FieldNode:
        below = tuple(node(child) for child in children.get(row["path"], ()))
        return FieldNode(row["path"], row["piece"], row["type"], row["source_type"], below)

    return tuple(node(row) for row in children[""])


@cache
def nodes_by_path() -> dict[str, FieldNode]:
    """Every node of the field tree by its path."""
    return {node.path: node for top in field_tree() for node in top.walk()}


@cache
def leaf_paths() -> tuple[str, ...]:
    """The paths of all leaf fields, in the registry's order."""
    return tuple(path for path, node in nodes_by_path().items() if node.is_leaf)


@cache
def study_arrow_schema() -> pa.Schema:
    """The Arrow schema of one parsed study: one column per top-level section, nested by the field tree."""
    return pa.schema([pa.field(node.name, node.arrow_type()) for node in field_tree()])
