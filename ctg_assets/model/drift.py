"""How the registry's own account of its data differs from our model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ctg_assets.model.fields import enum_values, nodes_by_path
from ctg_assets.model.published import PublishedModel


class DriftKind(StrEnum):
    """What happened to a field or a value since our model was written."""

    FIELD_ADDED = "field added"
    FIELD_REMOVED = "field removed"
    FIELD_RETYPED = "field retyped"
    VALUE_ADDED = "value added"
    VALUE_REMOVED = "value removed"
    VALUE_RESPELLED = "legacy spelling changed"


@dataclass(frozen=True)
class Drift:
    """One difference: a field by its path, or a value by type and name, and what both sides say of it."""

    kind: DriftKind
    name: str
    in_model: str = ""
    in_registry: str = ""

    def __str__(self) -> str:
        """The difference in words."""
        sides = " → ".join(side for side in (self.in_model, self.in_registry) if side)
        return f"{self.kind}: {self.name} ({sides})" if sides else f"{self.kind}: {self.name}"


def drifts(published: PublishedModel) -> list[Drift]:
    """All differences; none exactly when learning from the registry would change nothing but order."""
    fields = _compared(_model_fields(), _published_fields(published))
    values = _compared(_model_values(), _published_values(published))
    return [
        *_named(fields, DriftKind.FIELD_ADDED, DriftKind.FIELD_REMOVED, DriftKind.FIELD_RETYPED),
        *_named(values, DriftKind.VALUE_ADDED, DriftKind.VALUE_REMOVED, DriftKind.VALUE_RESPELLED),
    ]


def _compared(
    ours: Mapping[str, str], theirs: Mapping[str, str]
) -> Iterator[tuple[str, str | None, str | None]]:
    for name in dict.fromkeys([*theirs, *ours]):
        if ours.get(name) != theirs.get(name):
            yield name, ours.get(name), theirs.get(name)


def _named(
    found: Iterator[tuple[str, str | None, str | None]],
    added: DriftKind,
    removed: DriftKind,
    changed: DriftKind,
) -> Iterator[Drift]:
    for name, ours, theirs in found:
        kind = added if ours is None else removed if theirs is None else changed
        yield Drift(kind, name, ours or "", theirs or "")


# A field that becomes a list gets `[]` into its path and those of all fields below: one change, not many.


def _model_fields() -> dict[str, str]:
    return {
        path.replace("[]", ""): _described(node.type, node.source_type, node.piece)
        for path, node in nodes_by_path().items()
    }


def _published_fields(published: PublishedModel) -> dict[str, str]:
    return {
        path.replace("[]", ""): _described(node.type, node.source_type, node.piece)
        for path, node in published.paths()
    }


def _described(type_name: str, source_type: str, piece: str) -> str:
    return f"{type_name} of {source_type}, piece {piece}"


def _model_values() -> dict[str, str]:
    return {
        f"{name} {item.value}": _format(item.legacy_value, item.legacy_exceptions)
        for name, items in enum_values().items()
        for item in items
    }


def _published_values(published: PublishedModel) -> dict[str, str]:
    return {
        f"{enum.type} {item.value}": _format(item.legacy_value, item.exceptions)
        for enum in published.enums
        for item in enum.values
    }


def _format(legacy: str, exceptions: Mapping[str, str]) -> str:
    return "; ".join(
        [legacy, *(f"{piece}: {other}" for piece, other in sorted(exceptions.items()))]
    )
