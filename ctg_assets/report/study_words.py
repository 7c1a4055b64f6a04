"""The history of a study in words, as terminal and page both tell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ctg_assets.report.labels import coded, label
from ctg_assets.report.study_card import Change, Event

_LONGEST = 120

# Of two long texts this much of what they have in common is told.
_BEFORE_A_DIFFERENCE = 30

_PARTS = {"measure": "measure", "timeFrame": "time frame", "description": "description"}

_GONE = {"delete", "merge", "leave_scope"}


def is_end(change: Change) -> bool:
    """Whether the study is gone by it."""
    return change.kind in _GONE


def headline(change: Change) -> str:
    """What happened, in a few words."""
    if change.kind == "merge" and change.merged_into:
        said = f"Merged into {change.merged_into}"
    else:
        own = {"insert": "First seen", "update": "Updated"}
        said = own.get(change.kind) or label("what", change.kind)
    marks = [
        *(["without a new update date"] if change.is_silent else []),
        *(["found later, in an older copy"] if change.is_backfill else []),
    ]
    return f"{said} ({', '.join(marks)})" if marks else said


def details(change: Change) -> Iterator[str]:
    """Each event in a line; the changed fields, if no event tells of them."""
    yield from map(event_in_words, change.events)
    if change.fields:
        names = [path.rpartition(".")[2].removesuffix("[]") for path in change.fields]
        named = ", ".join(dict.fromkeys(names))
        count = len(change.fields)
        yield f"{count:,} field{'' if count == 1 else 's'} changed: {_short(named)}"


def event_in_words(event: Event) -> str:
    """What happened, to what, and the values before and after."""
    said = label("what", event.event_type)
    if event.subject:
        said += f", {_short(event.subject)}"
    said += _values(event.old_value, event.new_value)
    if event.days:
        direction = "later" if event.days > 0 else "earlier"
        said += f" ({abs(event.days):,} days {direction})"
    if event.after_primary_completion:
        said += " (after the primary completion)"
    return said


def _values(old: str | None, new: str | None) -> str:
    before, after = _record(old), _record(new)
    if before is not None and after is not None:
        # An outcome: what of it is another, its texts being long.
        parts = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return "".join(
            f"; {_PARTS.get(name, name)}{_values(*map(_text_of(name), (before, after)))}"
            for name in parts
        )
    if before is not None or after is not None or (old is None and new is None):
        return ""
    if old is None:
        return f": {_value(new or '')}"
    if new is None:
        return f": was {_value(old)}"
    skipped = _alike(old, new)
    return f": {_value(old[skipped:], skipped)} → {_value(new[skipped:], skipped)}"


def _alike(old: str, new: str) -> int:
    """How many of the first characters need not be told, two long texts having them in common."""
    pairs = enumerate(zip(old, new, strict=False))
    common = next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))
    if max(len(old), len(new)) <= _LONGEST or common <= _BEFORE_A_DIFFERENCE:
        return 0
    return common - _BEFORE_A_DIFFERENCE


def _text_of(name: str) -> Callable[[Mapping[str, Any]], str | None]:
    return lambda record: None if record.get(name) is None else str(record[name])


def _record(value: str | None) -> dict[str, Any] | None:
    """The fields of an outcome, which is JSON; None for a value that is none."""
    if value is None or not value.startswith("{"):
        return None
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _value(value: str, skipped: int = 0) -> str:
    return "…" * bool(skipped) + _short(coded(value))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
