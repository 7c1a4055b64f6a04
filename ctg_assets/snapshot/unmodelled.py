"""What studies have outside the data model: which paths, and the values there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.model.fields import study_arrow_schema
from ctg_assets.model.json_text import IN_ITEMS, Path

# One level of a document, with the text of what lies below.
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw] | None)


@dataclass(frozen=True)
class Extra:
    """A value that a study has outside the data model.

    `index` is the study's in the batch; `path` the field's in the registry's spelling (`[]` after
    lists); `positions` those of the items it lies in, from 1, outermost first; `json` the value's JSON
    as sent.
    """

    index: int
    path: str
    positions: tuple[int, ...]
    json: bytes


def unknown_in_table(inferred: pa.Table) -> dict[int, set[Path]]:
    """The paths of fields that studies have and the model has not, by row.

    `inferred` holds the studies with all their fields; what is null counts as not there.
    """
    known = pa.struct(list(study_arrow_schema()))
    found: dict[int, set[Path]] = {}
    for path in _unknown_in_type(pa.struct(list(inferred.schema)), known, ()):
        start = 0
        for chunk in inferred[path[0]].chunks:
            for row in _rows_with(chunk, path[1:]).to_pylist():
                found.setdefault(start + row, set()).add(path)
            start += len(chunk)
    return found


def unknown_in_json(studies: pa.ChunkedArray) -> dict[int, set[Path]]:
    """As `unknown_in_table`, of the studies' JSON."""
    decoded = enumerate(map(msgspec.json.decode, studies.to_pylist()))
    return {row: found for row, study in decoded if (found := set(_unknown_in_json(study)))}


def _unknown_in_type(found: pa.DataType, known: pa.DataType, path: Path) -> Iterator[Path]:
    """The paths of fields that a type has and the known one has not."""
    if pa.types.is_list(found):
        yield from _unknown_in_type(found.value_type, known.value_type, (*path, IN_ITEMS))
    elif pa.types.is_struct(found):
        for each in found:
            position = known.get_field_index(each.name)
            if position < 0:
                yield (*path, each.name)
            else:
                yield from _unknown_in_type(
                    each.type, known.field(position).type, (*path, each.name)
                )


def _rows_with(column: pa.Array, path: Path) -> pa.Array:
    """The rows that have something at a path within a column, each once for each such value."""
    rows = pa.array(range(len(column)), pa.int64())
    for step in path:
        if step is IN_ITEMS:
            rows = rows.take(pc.list_parent_indices(column))
            column = pc.list_flatten(column)
        else:
            # By its position: the name may be spelled like a path.
            column = pc.struct_field(column, [column.type.get_field_index(step)])
    return rows.filter(pc.is_valid(column))


def _unknown_in_json(study: dict[str, Any]) -> Iterator[Path]:
    """The paths of fields that a study has and the model has not."""
    pending: list[tuple[Any, pa.DataType | pa.Schema, Path]] = [(study, study_arrow_schema(), ())]
    while pending:
        value, known, path = pending.pop()
        if isinstance(value, list):
            pending += [(item, known.value_type, (*path, IN_ITEMS)) for item in value]
        elif isinstance(value, dict):
            for key, below in value.items():
                position = known.get_field_index(key)
                if position < 0:
                    yield (*path, key)
                else:
                    pending.append((below, known.field(position).type, (*path, key)))


class _Sought:
    """Paths of unknown fields that begin alike, as a tree: what lies at this one, and below it."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.below: dict[str | None, _Sought] = {}

    def add(self, path: Path) -> None:
        """Seek what is at a path, too."""
        node = self
        for step in path:
            node = node.below.setdefault(step, _Sought())
        node.name = _as_sent(path)

    def found_in(self, value: bytes | msgspec.Raw, positions: tuple[int, ...]) -> Iterator[_Found]:
        """What a value has of it; each of its levels is decoded once."""
        if self.name is not None:
            yield self.name, positions, bytes(value).strip()
        elif IN_ITEMS in self.below:
            inner = self.below[IN_ITEMS]
            for position, item in enumerate(_ITEMS.decode(value) or (), start=1):
                yield from inner.found_in(item, (*positions, position))
        else:
            members = _MEMBERS.decode(value) or {}
            for key in self.below.keys() & members.keys():
                yield from self.below[key].found_in(members[key], positions)


def _as_sent(path: Path) -> str:
    """A path in the registry's spelling, its keys as they are, however odd."""
    steps = ("[]" if step is IN_ITEMS else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


_Found = tuple[str, tuple[int, ...], bytes]
"""An unknown field's path as spelled, the positions of the items it lies in, its JSON."""


def extras_of(studies: pa.ChunkedArray, unknown: Mapping[int, Collection[Path]]) -> Iterator[Extra]:
    """What studies have at unknown paths, byte for byte; `studies` are their JSON, `unknown` as by row."""
    for row in sorted(unknown):
        sought = _Sought()
        for path in unknown[row]:
            sought.add(path)
        for name, positions, raw in sorted(sought.found_in(studies[row].as_py(), ())):
            if raw != b"null":
                yield Extra(row, name, positions, raw)
