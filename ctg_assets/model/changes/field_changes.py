"""The differences between two contents of a study, field by field.

What is compared is what the content hash is made of: there are changes exactly where the hashes
differ. Each row is about one value:

- a field outside lists, or one of a list item that is in both contents, was added, removed or changed;
- an item of a list, whole, was added or removed;
- items that are in both contents stand in another order (`moved`, once for a list, without values).

Objects that come or go are told by their fields. An empty object or list is a value of its own where there
was nothing or something else; the path of such a list has no `[]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import msgspec
from msgspec import UNSET

from ctg_assets.model.changes.item_keys import keys_by_path
from ctg_assets.model.changes.matching import ItemNames, matched
from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.volatile import without_volatile


class ChangeKind(StrEnum):
    """What happened to a value."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One value that differs between two contents of a study.

    `module` is the second part of the path (the first, where there is one only). `path` is the registry's,
    with `[]` after lists, in the model or not. `item` names the list items that the value lies in, and
    itself if it is one, from the outermost to the innermost; None where there are none, or none
    with a key. The values are JSON; None where there is none.
    """

    module: str
    path: str
    item: str | None
    change: ChangeKind
    old_value: str | None
    new_value: str | None


def field_changes(old: Any, new: Any) -> list[FieldChange]:
    """All differences between two contents of a study, as decoded from JSON, mostly in the registry's order.

    Exchanging `old` and `new` exchanges added with removed and old values with new ones, nothing else.
    """
    comparison = _Comparison()
    comparison.values("", None, without_volatile(old), without_volatile(new))
    return comparison.found


class _Comparison:
    def __init__(self) -> None:
        self.found: list[FieldChange] = []

    def values(self, path: str, item: str | None, old: Any, new: Any) -> None:
        """Compare what is at a path; UNSET stands for nothing."""
        if _is_same(old, new):
            return
        old_members, old_items, old_leaf = _parts(path, old, new)
        new_members, new_items, new_leaf = _parts(path, new, old)
        for name in {**old_members, **new_members}:
            below = f"{path}.{name}" if path else name
            self.values(below, item, old_members.get(name, UNSET), new_members.get(name, UNSET))
        if old_items or new_items:
            self._items(f"{path}[]", item, old_items, new_items)
        if old_leaf is not UNSET and new_leaf is not UNSET:
            self._report(path, item, ChangeKind.CHANGED, old_leaf, new_leaf)
        elif old_leaf is not UNSET:
            self._report(path, item, ChangeKind.REMOVED, old_leaf, UNSET)
        elif new_leaf is not UNSET:
            self._report(path, item, ChangeKind.ADDED, UNSET, new_leaf)

    def _items(self, path: str, outer: str | None, old: Sequence[Any], new: Sequence[Any]) -> None:
        keys = keys_by_path().get(path, ())
        match = matched(keys, old, new)
        names = ItemNames(keys, old, new)
        for old_position, new_position in match.pairs:
            before, after = old[old_position], new[new_position]
            if not _is_same(before, after):
                self.values(path, _joined(outer, names.name(before, after)), before, after)
        for position in match.removed:
            named = _joined(outer, names.name(old[position]))
            self._report(path, named, ChangeKind.REMOVED, old[position], UNSET)
        for position in match.added:
            named = _joined(outer, names.name(new[position]))
            self._report(path, named, ChangeKind.ADDED, UNSET, new[position])
        if match.is_reordered:
            self._report(path, outer, ChangeKind.MOVED, UNSET, UNSET)

    def _report(self, path: str, item: str | None, change: ChangeKind, old: Any, new: Any) -> None:
        parts = path.split(".", 2)
        self.found.append(
            FieldChange(
                module=parts[min(1, len(parts) - 1)],
                path=path,
                item=item,
                change=change,
                old_value=_json(old),
                new_value=_json(new),
            )
        )


def _is_same(old: Any, new: Any) -> bool:
    # Python holds 1, 1.0 and True for equal. Where keys stand in another order, members are compared one by one.
    return bool(old == new) and msgspec.json.encode(old) == msgspec.json.encode(new)


def _parts(path: str, value: Any, other: Any) -> tuple[Mapping[str, Any], Sequence[Any], Any]:
    """A value as members of an object, or items of a list, or a leaf; the other two are empty.

    An empty object or list is a leaf, unless the other side has something in it to be told.
    """
    if path not in _whole_values():
        if isinstance(value, dict) and (value or (other and isinstance(other, dict))):
            return value, (), UNSET
        if isinstance(value, list) and (value or (other and isinstance(other, list))):
            return {}, value, UNSET
    return {}, (), value


@cache
def _whole_values() -> frozenset[str]:
    """The paths of fields without further fields: what is there is one value, also where it is a point."""
    return frozenset(
        path for path, node in nodes_by_path().items() if node.is_leaf and not node.is_list
    )


def _json(value: Any) -> str | None:
    return None if value is UNSET else msgspec.json.encode(value).decode()


def _joined(outer: str | None, name: str | None) -> str | None:
    return f"{outer} > {name}" if outer and name else outer or name
