"""What the registry publishes about its own data: its field tree and its enumerations."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

import msgspec


class PublishedField(msgspec.Struct, frozen=True, rename="camel"):
    """A node of the registry's field tree, and what is below it; what else is said of it is left out."""

    name: str
    piece: str
    type: str
    source_type: str
    children: tuple[PublishedField, ...] = ()


class PublishedValue(msgspec.Struct, frozen=True, rename="camel"):
    """A value of an enumeration; `exceptions` are other legacy spellings, by piece name."""

    value: str
    legacy_value: str
    exceptions: dict[str, str] = {}


class PublishedEnum(msgspec.Struct, frozen=True):
    """An enumeration, by the name of its type."""

    type: str
    values: tuple[PublishedValue, ...]


class PublishedModel(msgspec.Struct, frozen=True):
    """Both answers together."""

    fields: tuple[PublishedField, ...]
    enums: tuple[PublishedEnum, ...]

    @classmethod
    def from_json(cls, metadata: bytes, enums: bytes) -> PublishedModel:
        """The two answers as the registry sends them; raises msgspec.DecodeError for anything else."""
        return cls(
            msgspec.json.decode(metadata, type=tuple[PublishedField, ...]),
            msgspec.json.decode(enums, type=tuple[PublishedEnum, ...]),
        )

    def paths(self) -> Iterator[tuple[str, PublishedField]]:
        """Every node with its path, `[]` after lists; parents before children."""
        yield from _paths("", self.fields)

    def fields_csv(self) -> str:
        """`fields.csv` as it would be if the model were this one."""
        header = ("path", "piece", "type", "source_type")
        return _csv(header, ((path, n.piece, n.type, n.source_type) for path, n in self.paths()))

    def enums_csv(self) -> str:
        """`enums.csv` as it would be if the model were this one."""
        rows = (
            (
                enum.type,
                item.value,
                item.legacy_value,
                ";".join(f"{piece}={legacy}" for piece, legacy in item.exceptions.items()),
            )
            for enum in self.enums
            for item in enum.values
        )
        return _csv(("type", "value", "legacy_value", "legacy_exceptions"), rows)


def _paths(above: str, nodes: Iterable[PublishedField]) -> Iterator[tuple[str, PublishedField]]:
    for node in nodes:
        path = above + node.name + ("[]" if node.type.endswith("[]") else "")
        yield path, node
        yield from _paths(f"{path}.", node.children)


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
