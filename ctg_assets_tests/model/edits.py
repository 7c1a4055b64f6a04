"""Studies as they might have been a moment ago: copies with a few things done to them."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

_VALUES: tuple[Any, ...] = (None, True, 0, 1, 1.0, -0.0, "", "1", "A", [], {}, [[]], {"a": []})


def edited(study: Any, seed: int, count: int) -> Any:
    """A copy of a study with up to `count` random edits, among them some that change nothing."""
    copy = deepcopy(study)
    random = Random(seed)
    for _ in range(count):
        holders = list(_holders(copy))
        if holders:
            _edit(random.choice(holders), random)
    return copy


def _holders(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    if isinstance(value, dict | list):
        yield value
        for below in value.values() if isinstance(value, dict) else value:
            yield from _holders(below)


def _edit(holder: dict[str, Any] | list[Any], random: Random) -> None:
    if isinstance(holder, dict):
        name = random.choice([*holder, "notInTheModel"])
        if random.random() < 0.4:
            holder.pop(name, None)
        elif random.random() < 0.1:
            # To the end: another order of keys is the same content.
            holder[name] = holder.pop(name, None)
        else:
            holder[name] = deepcopy(random.choice(_VALUES))
        return
    match random.randrange(4):
        case 0:
            random.shuffle(holder)
        case 1 if holder:
            holder.pop(random.randrange(len(holder)))
        case 2 if holder:
            holder.insert(random.randrange(len(holder) + 1), deepcopy(random.choice(holder)))
        case _:
            holder.insert(random.randrange(len(holder) + 1), deepcopy(random.choice(_VALUES)))
