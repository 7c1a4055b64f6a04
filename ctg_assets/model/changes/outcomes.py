"""What became of a study's primary and secondary outcomes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import permutations
from typing import Any

from ctg_assets.model.changes.item_keys import ITEM_KEYS
from ctg_assets.model.changes.matching import matched

# Two measures are the same one in other words if this part of their telling words is the same, in the same
# order. Of 8,737 pairs of different primary outcomes of one recorded study, 14 in 100 are that much alike
# (20 in 100 if all words count), mostly one measure in several groups or at several times. Only 33 pairs
# have a measure that continues the other, so that says more, however long the rest is. Of secondary
# outcomes it is 7 in 100.
SIMILAR = 0.6

# An outcome that is reworded and moved to the other list at once has to be more alike: of 57,349 pairs of a
# primary and a secondary outcome of one recorded study 3.4 in 100 are by the measure above, and 1.0 by this
# one, while lists of secondary outcomes are long.
SIMILAR_ELSEWHERE = 0.8

# The longest recorded list has 303 outcomes. All pairs of such lists are compared within a second; of longer
# ones none is.
_MOST_PAIRS = 100_000

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


class OutcomeList(StrEnum):
    """The lists of outcomes that are compared, as tables call them; other outcomes are not."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


class OutcomeChangeKind(StrEnum):
    """What became of an outcome: one of these, whatever else is true."""

    ADDED = "added"
    REMOVED = "removed"
    REWORDED = "reworded"
    TIME_FRAME_CHANGED = "time_frame_changed"
    DESCRIPTION_CHANGED = "description_changed"
    MOVED_TO_PRIMARY = "moved_to_primary"
    MOVED_TO_SECONDARY = "moved_to_secondary"


@dataclass(frozen=True, slots=True)
class OutcomeChange:
    """An outcome before and after: None before if it was added, None after if it was removed.

    `was_in` and `is_in` are the lists that it was and is in. `similarity` is that of the two measures,
    from 0 to 1; None where there is one only.
    """

    was_in: OutcomeList | None
    is_in: OutcomeList | None
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    similarity: float | None = None

    @property
    def kind(self) -> OutcomeChangeKind:
        """What became of it."""
        if self.old is None or self.was_in is None:
            return OutcomeChangeKind.ADDED
        if self.new is None or self.is_in is None:
            return OutcomeChangeKind.REMOVED
        if self.was_in is not self.is_in:
            return OutcomeChangeKind(f"moved_to_{self.is_in}")
        old, new = self.old, self.new
        match [name for name in {**old, **new} if old.get(name) != new.get(name)]:
            case ["timeFrame"]:
                return OutcomeChangeKind.TIME_FRAME_CHANGED
            case ["description"]:
                return OutcomeChangeKind.DESCRIPTION_CHANGED
            case _:
                return OutcomeChangeKind.REWORDED


@dataclass
class _Compared:
    """One list before and after; `removed` and `added` are positions of what has no match yet."""

    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    pairs: list[tuple[int, int, float]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)
    added: list[int] = field(default_factory=list)


def outcome_changes(
    old: Mapping[OutcomeList, Sequence[Any]], new: Mapping[OutcomeList, Sequence[Any]]
) -> Iterator[OutcomeChange]:
    """What became of each outcome that is not as it was, once: those that stayed in their list, moved, went, came.

    An outcome is matched by its measure, in its own list and then in the other one. Of those without a
    match the most similar ones, by the words of their measures, are taken for the same, in their own list
    first (SIMILAR, or if one measure continues the other), then across lists (SIMILAR_ELSEWHERE).
    """
    lists = {name: _compared(old[name], new[name]) for name in OutcomeList}
    moved = _matched_across(lists)
    for name, each in lists.items():
        for one, other, similarity in sorted(each.pairs):
            if each.before[one] != each.after[other]:
                yield OutcomeChange(name, name, each.before[one], each.after[other], similarity)
    for (was_in, is_in), pairs in moved.items():
        before, after = lists[was_in].before, lists[is_in].after
        for one, other, similarity in sorted(pairs):
            yield OutcomeChange(was_in, is_in, before[one], after[other], similarity)
    for name, each in lists.items():
        for one in each.removed:
            yield OutcomeChange(name, None, each.before[one], None)
        for other in each.added:
            yield OutcomeChange(None, name, None, each.after[other])


def _matched_across(
    lists: Mapping[OutcomeList, _Compared],
) -> dict[tuple[OutcomeList, OutcomeList], list[tuple[int, int, float]]]:
    """Match what has no match yet, in its own list and across them; returns the pairs from list to list."""
    moved = {
        (was_in, is_in): _same_measure(lists[was_in], lists[is_in])
        for was_in, is_in in permutations(OutcomeList, 2)
    }
    for each in lists.values():
        each.pairs += _similar(each, each, SIMILAR)
    for (was_in, is_in), pairs in moved.items():
        pairs.extend(_similar(lists[was_in], lists[is_in], SIMILAR_ELSEWHERE))
    return moved


def _compared(old: Sequence[Any], new: Sequence[Any]) -> _Compared:
    before = [outcome for outcome in old if isinstance(outcome, dict)]
    after = [outcome for outcome in new if isinstance(outcome, dict)]
    match = matched(ITEM_KEYS["Outcome"], before, after)
    pairs = [(one, other, 1.0) for one, other in match.pairs]
    return _Compared(before, after, pairs, [*match.removed], [*match.added])


def _same_measure(was_in: _Compared, is_in: _Compared) -> list[tuple[int, int, float]]:
    """Outcomes that left one list and are in another now, by their measure."""
    left, come = was_in.removed, is_in.added
    match = matched(
        ITEM_KEYS["Outcome"],
        [was_in.before[one] for one in left],
        [is_in.after[other] for other in come],
    )
    found = [(left[one], come[other], 1.0) for one, other in match.pairs]
    _take(found, was_in, is_in)
    return found


def _similar(was_in: _Compared, is_in: _Compared, least: float) -> list[tuple[int, int, float]]:
    """Outcomes whose measures are at least so similar, the most similar ones paired first."""
    if len(was_in.removed) * len(is_in.added) > _MOST_PAIRS:
        return []
    old = {one: _Measure(was_in.before[one]) for one in was_in.removed}
    new = {other: _Measure(is_in.after[other]) for other in is_in.added}
    likely = sorted(
        (-similarity, one, other)
        for one in old
        for other in new
        if (similarity := _similarity(old[one], new[other], least)) >= least
    )
    found: list[tuple[int, int, float]] = []
    for negative, one, other in likely:
        if one in old and other in new:
            del old[one], new[other]
            found.append((one, other, round(-negative, 3)))
    _take(found, was_in, is_in)
    return found


def _take(found: Sequence[tuple[int, int, float]], was_in: _Compared, is_in: _Compared) -> None:
    """Have what was found no longer among what has no match."""
    for one, other, _ in found:
        was_in.removed.remove(one)
        is_in.added.remove(other)


class _Measure:
    """The words of an outcome's measure, and those that tell it from others."""

    def __init__(self, outcome: Mapping[str, Any]) -> None:
        self.words = _WORD.findall(str(outcome.get("measure") or "").lower())
        self.telling = [word for word in self.words if word not in _COMMON_WORDS] or self.words
        self.counted = Counter(self.telling)


def _similarity(old: _Measure, new: _Measure, least: float) -> float:
    """How similar two measures are, if they are at least so similar; else that or any smaller number."""
    # difflib's answer depends on which comes first; ours must not.
    shorter, longer = sorted((old, new), key=lambda measure: (len(measure.words), measure.words))
    is_extended = bool(shorter.words) and longer.words[: len(shorter.words)] == shorter.words
    extended = SIMILAR if is_extended else 0
    # No order of words makes them more alike than this. It spares comparing most pairs.
    all_words = len(shorter.telling) + len(longer.telling)
    if 2 * (shorter.counted & longer.counted).total() < least * all_words:
        return extended
    matcher = SequenceMatcher[str](None, shorter.telling, longer.telling, autojunk=False)
    return max(matcher.ratio(), extended)
