"""What became of a study's primary outcomes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from ctg_assets.model.changes.item_keys import ITEM_KEYS
from ctg_assets.model.changes.matching import matched

# Two measures are the same one in other words if this part of their telling words is the same, in the same
# order. Of 8,737 pairs of different primary outcomes of one recorded study, 14 in 100 are that much alike
# (20 in 100 if all words count), mostly one measure in several groups or at several times. Only 33 pairs
# have a measure that continues the other, so that says more, however long the rest is.
SIMILAR = 0.6

_WORD = re.compile(r"\w+")

# Words of which measures are made whatever they measure.
_COMMON_WORDS = frozenset(
    {
        *(
            "a",
            "after",
            "an",
            "and",
            "as",
            "at",
            "between",
            "by",
            "during",
            "for",
            "from",
            "in",
            "of",
        ),
        *("on", "or", "over", "per", "the", "to", "up", "with"),
        *("baseline", "change", "changed", "changes", "mean", "number", "participants", "patients"),
        *("percent", "percentage", "proportion", "rate", "subjects"),
        *("day", "days", "month", "months", "week", "weeks", "year", "years"),
    }
)


@dataclass(frozen=True, slots=True)
class OutcomeChange:
    """An outcome before and after: None before if it was added, None after if it was removed."""

    old: dict[str, Any] | None
    new: dict[str, Any] | None


def outcome_changes(old: Sequence[Any], new: Sequence[Any]) -> Iterator[OutcomeChange]:
    """The outcomes that were reworded, then those removed, then those added.

    Reworded are outcomes of the same measure with another description or time frame, and of those without
    a match the ones whose measures are similar or continue each other, the most similar first.
    """
    before = [outcome for outcome in old if isinstance(outcome, dict)]
    after = [outcome for outcome in new if isinstance(outcome, dict)]
    match = matched(ITEM_KEYS["Outcome"], before, after)
    similar = _similar(before, match.removed, after, match.added)
    for one, other in sorted([*match.pairs, *similar]):
        if before[one] != after[other]:
            yield OutcomeChange(before[one], after[other])
    for one in match.removed:
        if all(one != reworded for reworded, _ in similar):
            yield OutcomeChange(before[one], None)
    for other in match.added:
        if all(other != reworded for _, reworded in similar):
            yield OutcomeChange(None, after[other])


def _similar(
    old: Sequence[dict[str, Any]],
    removed: Sequence[int],
    new: Sequence[dict[str, Any]],
    added: Sequence[int],
) -> list[tuple[int, int]]:
    old_words = {one: _words(old[one]) for one in removed}
    new_words = {other: _words(new[other]) for other in added}
    likely = sorted(
        (-similarity, one, other)
        for one in removed
        for other in added
        if (similarity := _similarity(old_words[one], new_words[other])) >= SIMILAR
    )
    pairs: list[tuple[int, int]] = []
    for _, one, other in likely:
        if all(one != paired and other != with_ for paired, with_ in pairs):
            pairs.append((one, other))
    return pairs


def _similarity(old: list[str], new: list[str]) -> float:
    # difflib's answer depends on which comes first; ours must not.
    shorter, longer = sorted((old, new), key=lambda words: (len(words), words))
    is_extended = bool(shorter) and longer[: len(shorter)] == shorter
    matcher = SequenceMatcher[str](None, _telling(shorter), _telling(longer), autojunk=False)
    if matcher.real_quick_ratio() < SIMILAR or matcher.quick_ratio() < SIMILAR:
        return SIMILAR if is_extended else 0
    return max(matcher.ratio(), SIMILAR if is_extended else 0)


def _words(outcome: dict[str, Any]) -> list[str]:
    return _WORD.findall(str(outcome.get("measure") or "").lower())


def _telling(words: list[str]) -> list[str]:
    return [word for word in words if word not in _COMMON_WORDS] or words
