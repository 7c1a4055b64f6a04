"""What edits of a study are made of: dice, the registry's day, and careful ways to change a part that may be odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.sections.parts import Json, prose
from ctg_assets.simulator.vocabulary import enum


@dataclass(frozen=True)
class Desk:
    """What is at hand for an edit: dice and the registry's day (an ordinal)."""

    draw: Draw
    day: int


Edit = Callable[[Json, Desk], bool]


def object_at(study: Json, *keys: str) -> Json | None:
    """The object at the end of these keys; None where the study holds none there."""
    value: Any = study
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


def module_of(study: Json, name: str) -> Json | None:
    """A module of the protocol section; None where the study has none of that name."""
    return object_at(study, "protocolSection", name)


def items_of(study: Json, module: str, key: str) -> list[Any]:
    """The list under a key of a module, to be changed in place; empty where the study has none."""
    items = (module_of(study, module) or {}).get(key)
    return items if isinstance(items, list) else []


def objects_of(study: Json, module: str, key: str) -> list[Json]:
    """The objects of such a list."""
    return [item for item in items_of(study, module, key) if isinstance(item, dict)]


def add_item(study: Json, module: str, key: str, item: object) -> bool:
    """Append to a list of a module, or begin it."""
    found = module_of(study, module)
    if found is None or not isinstance(found.setdefault(key, []), list):
        return False
    found[key].append(item)
    return True


def remove_item(study: Json, desk: Desk, module: str, key: str, keep: int = 0) -> bool:
    """Take one item out of a list that has more than `keep`; a list left empty goes as a whole."""
    items = items_of(study, module, key)
    if len(items) <= keep:
        return False
    del items[desk.draw.below(len(items))]
    if not items:
        del study["protocolSection"][module][key]
    return True


def rotate_items(study: Json, desk: Desk, module: str, key: str) -> bool:
    """Put the items of a list into another order."""
    items = items_of(study, module, key)
    if len(items) < 2 or all(item == items[0] for item in items):
        return False
    by = desk.draw.between(1, len(items) - 1)
    turned = items[by:] + items[:by]
    # Of a list that repeats itself, a turn may be no change.
    if turned == items:
        turned = items[1:] + items[:1]
    items[:] = turned
    return True


def reword(holder: Json | None, key: str, desk: Desk) -> bool:
    """Add a sentence to a text."""
    if holder is None or not isinstance(holder.get(key), str):
        return False
    holder[key] = f"{holder[key]} {prose(desk.draw, 1)}"
    return True


def set_value(holder: Json | None, key: str, value: object) -> bool:
    """Set a value that differs from the one that is there."""
    if holder is None or holder.get(key) == value:
        return False
    holder[key] = value
    return True


def other_value(desk: Desk, type_name: str, present: object) -> str:
    """A value of the enumeration other than the present one."""
    return desk.draw.pick([item for item in enum(type_name).values if item != present])


def overall_status(study: Json) -> str:
    """The overall status as text."""
    return str((module_of(study, "statusModule") or {}).get("overallStatus"))
