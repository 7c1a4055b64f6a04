"""Which item of a list is which item of the list as it was.

Whatever is done here is the same in both directions: exchange the lists, and the same items are
paired and bear the same names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import msgspec

from ctg_assets.model.changes.item_keys import Keys

_canonical = msgspec.json.Encoder(order="sorted").encode

_KeyFunction = Callable[[Any], Hashable | None]


@dataclass(frozen=True, slots=True)
class Matched:
    """What became of the items of a list, by their positions in both lists.

    `pairs` are in the old list's order, with all items of equal content among them.
    """

    pairs: Sequence[tuple[int, int]]
    removed: Sequence[int]
    added: Sequence[int]

    @property
    def is_reordered(self) -> bool:
        """Whether items that are in both lists follow each other differently."""
        return any(one[1] > following[1] for one, following in pairwise(self.pairs))


def matched(keys: Keys, old: Sequence[Any], new: Sequence[Any]) -> Matched:
    """Pair the items of two lists, by the strictest key first.

    Among items of one key those of equal content are paired first, then the others in their order.
    What is no object, and everything where there are no keys, is paired with its equals only.
    """
    # Most items did not change and stand where they stood; finding keys is what costs time.
    pairs = _unmoved(old, new)
    left_old = _without(range(len(old)), {position for position, _ in pairs})
    left_new = _without(range(len(new)), {position for _, position in pairs})
    for key in _key_functions(keys):
        if not (left_old and left_new):
            break
        found = _paired_by(key, old, left_old, new, left_new)
        pairs += found
        left_old = _without(left_old, {position for position, _ in found})
        left_new = _without(left_new, {position for _, position in found})
    return Matched(sorted(pairs), left_old, left_new)


def _unmoved(old: Sequence[Any], new: Sequence[Any]) -> list[tuple[int, int]]:
    """Equal items at the same position, or before the first and after the last difference."""
    if len(old) == len(new):
        return [(at, at) for at, item in enumerate(old) if item == new[at]]
    start = _equal_run(old, new)
    end = _equal_run(reversed(old[start:]), reversed(new[start:]))
    at_end = zip(range(len(old) - end, len(old)), range(len(new) - end, len(new)), strict=True)
    return [*((at, at) for at in range(start)), *at_end]


def _equal_run(old: Iterable[Any], new: Iterable[Any]) -> int:
    length = 0
    for before, after in zip(old, new, strict=False):
        if before != after:
            break
        length += 1
    return length


def _without(positions: Iterable[int], paired: Collection[int]) -> list[int]:
    return [position for position in positions if position not in paired]


def _paired_by(
    key: _KeyFunction,
    old: Sequence[Any],
    left_old: Iterable[int],
    new: Sequence[Any],
    left_new: Iterable[int],
) -> list[tuple[int, int]]:
    groups: dict[Hashable, tuple[list[int], list[int]]] = {}
    for side, (items, left) in enumerate(((old, left_old), (new, left_new))):
        for position in left:
            found = key(items[position])
            if found is not None:
                groups.setdefault(found, ([], []))[side].append(position)
    return [
        pair
        for old_group, new_group in groups.values()
        for pair in _paired(old, old_group, new, new_group)
    ]


def _paired(
    old: Sequence[Any], old_group: list[int], new: Sequence[Any], new_group: list[int]
) -> list[tuple[int, int]]:
    if len(old_group) <= 1 and len(new_group) <= 1:
        return list(zip(old_group, new_group, strict=False))
    equals: dict[bytes, list[int]] = {}
    for position in reversed(new_group):
        equals.setdefault(_canonical(new[position]), []).append(position)
    pairs, others = [], []
    for position in old_group:
        found = equals.get(_canonical(old[position]))
        if found:
            pairs.append((position, found.pop()))
        else:
            others.append(position)
    left = sorted(position for positions in equals.values() for position in positions)
    return [*pairs, *zip(others, left, strict=False)]


def _key_functions(keys: Keys) -> list[_KeyFunction]:
    """Functions from an item to a key, None if it has none: the strictest always gives one."""
    if not keys:
        return [_canonical]

    def strictest(item: Any) -> Hashable:
        return _key(item, keys[0]) if isinstance(item, dict) else _canonical(item)

    def looser(members: tuple[str, ...]) -> _KeyFunction:
        return lambda item: _whole_key(item, members)

    return [strictest, *(looser(members) for members in keys[1:])]


def _key(item: dict[str, Any], members: tuple[str, ...]) -> Hashable:
    return _hashable(tuple([item.get(member) for member in members]))


def _whole_key(item: Any, members: tuple[str, ...]) -> Hashable | None:
    if not isinstance(item, dict):
        return None
    key = tuple([item.get(member) for member in members])
    return None if None in key else _hashable(key)


def _hashable(key: tuple[Any, ...]) -> Hashable:
    try:
        hash(key)
    except TypeError:
        return _canonical(key)
    return key


class ItemNames:
    """Readable names of the items of two versions of a list: their keys, as short as is unambiguous."""

    def __init__(self, keys: Keys, old: Sequence[Any], new: Sequence[Any]) -> None:
        self._keys = keys
        self._lists = (old, new)

    def name(self, item: Any, other: Any = None) -> str | None:
        """The name of an item, or the common one of a pair; None if it has no key.

        It is the second key if no other item of either list has it, else the strictest; for a pair, the
        first of them that both have.
        """
        if not self._keys or not isinstance(item, dict):
            return None
        for short in self._keys[1:2]:
            key = _whole_key(item, short)
            is_common = other is None or key == _whole_key(other, short)
            if is_common and key in self._unique:
                return _text(item, short)
        shared = (
            members
            for members in self._keys
            if other is None or _key(item, members) == _key(other, members)
        )
        return _text(item, next(shared, self._keys[0]))

    @cached_property
    def _unique(self) -> frozenset[Hashable]:
        """The second keys that at most one item of each list has."""
        old, new = (
            Counter(_whole_key(item, self._keys[1]) for item in items) for items in self._lists
        )
        counts = (old | new).items()
        return frozenset(key for key, count in counts if key is not None and count == 1)


def _text(item: dict[str, Any], members: tuple[str, ...]) -> str:
    parts = (item.get(member) for member in members)
    return " / ".join(_part(part) for part in parts if part is not None) or "-"


def _part(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(_part(part) for part in value)
    return msgspec.json.encode(value).decode()
