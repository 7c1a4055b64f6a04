"""What became of a study's outcomes, and how similar the measures are."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.model.changes.field_changes import field_changes
from ctg_assets.model.changes.outcomes import OutcomeChangeKind, OutcomeList, outcome_changes
from ctg_assets.model.changes.typed_events import EventType, typed_events

P, S = OutcomeList.PRIMARY, OutcomeList.SECONDARY
OBSERVED = date(2024, 6, 15)


def outcome(measure: str, time_frame: str = "1 year", description: str | None = None) -> Any:
    """An outcome."""
    more = {} if description is None else {"description": description}
    return {"measure": measure, **more, "timeFrame": time_frame}


def told(old: tuple[list[Any], list[Any]], new: tuple[list[Any], list[Any]]) -> list[Any]:
    """The events between two pairs of lists, primary and secondary, as type, subject and similarity."""
    before, after = (
        {"protocolSection": {"outcomesModule": {"primaryOutcomes": p, "secondaryOutcomes": s}}}
        for p, s in (old, new)
    )
    found = typed_events(before, after, field_changes(before, after), OBSERVED)
    return [(str(event.event_type), event.subject, event.similarity) for event in found]


SURVIVAL, PAIN = outcome("Overall survival"), outcome("Pain score", "4 weeks", "0 to 10")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # New, and gone.
        (([SURVIVAL], []), ([SURVIVAL, PAIN], []), [("primary_outcome_added", "Pain score", None)]),
        (
            ([SURVIVAL, PAIN], []),
            ([PAIN], []),
            [("primary_outcome_removed", "Overall survival", None)],
        ),
        (
            ([], [SURVIVAL]),
            ([], [SURVIVAL, PAIN]),
            [("secondary_outcome_added", "Pain score", None)],
        ),
        (([], [SURVIVAL]), ([], []), [("secondary_outcome_removed", "Overall survival", None)]),
        # Moved as it is, and with another time frame.
        (
            ([SURVIVAL, PAIN], []),
            ([PAIN], [SURVIVAL]),
            [("primary_outcome_moved_to_secondary", "Overall survival", 1.0)],
        ),
        (
            ([SURVIVAL], [PAIN]),
            ([SURVIVAL, outcome("Pain score", "8 weeks")], []),
            [("secondary_outcome_moved_to_primary", "Pain score", 1.0)],
        ),
        # Both lists exchanged.
        (
            ([SURVIVAL], [PAIN]),
            ([PAIN], [SURVIVAL]),
            [
                ("primary_outcome_moved_to_secondary", "Overall survival", 1.0),
                ("secondary_outcome_moved_to_primary", "Pain score", 1.0),
            ],
        ),
        # Moved in other words: 4 of 5 telling words are 8 in 9 of both, "response" is not similar enough.
        (
            ([outcome("tumour response rate by RECIST 1")], []),
            ([SURVIVAL], [outcome("tumour response by RECIST 1 blinded")]),
            [
                ("primary_outcome_added", "Overall survival", None),
                (
                    "primary_outcome_moved_to_secondary",
                    "tumour response by RECIST 1 blinded",
                    0.889,
                ),
            ],
        ),
        (
            ([outcome("tumour response in blood")], []),
            ([], [outcome("tumour response in urine")]),
            [
                ("primary_outcome_removed", "tumour response in blood", None),
                ("secondary_outcome_added", "tumour response in urine", None),
            ],
        ),
        # In its own list that is similar enough: 2 of 3 telling words.
        (
            ([outcome("tumour response in blood")], []),
            ([outcome("tumour response in urine")], []),
            [("primary_outcome_reworded", "tumour response in urine", 0.667)],
        ),
        # The same measure in the other list goes before a similar one in the same list.
        (
            ([SURVIVAL], []),
            ([outcome("Overall survival in arm A")], [SURVIVAL]),
            [
                ("primary_outcome_added", "Overall survival in arm A", None),
                ("primary_outcome_moved_to_secondary", "Overall survival", 1.0),
            ],
        ),
        # One text alone, or more.
        (
            ([PAIN], []),
            ([outcome("Pain score", "8 weeks", "0 to 10")], []),
            [("primary_outcome_time_frame_changed", "Pain score", 1.0)],
        ),
        (
            ([PAIN], [SURVIVAL]),
            ([outcome("Pain score", "4 weeks")], [outcome("Overall survival", "5 years")]),
            [
                ("primary_outcome_description_changed", "Pain score", 1.0),
                ("secondary_outcome_time_frame_changed", "Overall survival", 1.0),
            ],
        ),
        (
            ([], [PAIN]),
            ([], [outcome("Pain score", "8 weeks", "0 to 100")]),
            [("secondary_outcome_reworded", "Pain score", 1.0)],
        ),
        # Only letters' case and signs differ: reworded, and as similar as can be.
        (
            ([outcome("Overall Survival.")], []),
            ([SURVIVAL], []),
            [("primary_outcome_reworded", "Overall survival", 1.0)],
        ),
        # A measure that continues another one, however long the rest.
        (
            ([], [outcome("Survival")]),
            ([], [outcome("Survival, told by families once a year after the end of therapy")]),
            [
                (
                    "secondary_outcome_reworded",
                    "Survival, told by families once a year after the end of therapy",
                    0.6,
                )
            ],
        ),
        # Another order is no change.
        (([SURVIVAL, PAIN], []), ([PAIN, SURVIVAL], []), []),
    ],
)
def test_kinds_of_changes_of_outcomes(old: Any, new: Any, expected: Any) -> None:
    """Each hand-worked pair of lists gives these events and no other."""
    assert told(old, new) == expected


def test_other_outcomes_are_not_looked_at() -> None:
    """A primary outcome made an "other" one is removed."""
    old = {"protocolSection": {"outcomesModule": {"primaryOutcomes": [SURVIVAL]}}}
    new = {"protocolSection": {"outcomesModule": {"otherOutcomes": [SURVIVAL]}}}
    [event] = typed_events(old, new, field_changes(old, new), OBSERVED)
    assert event.event_type is EventType.PRIMARY_OUTCOME_REMOVED


def test_lists_without_end_are_compared_by_measure_alone() -> None:
    """A thousand outcomes of which each changed come and go; no pair of them is compared by its words."""
    old = {P: [], S: [outcome(f"pain score {number}") for number in range(1000)]}
    new = {P: [], S: [outcome(f"pain score {number}a") for number in range(999)]}
    kinds = Counter(change.kind for change in outcome_changes(old, new))
    assert kinds == {OutcomeChangeKind.REMOVED: 1000, OutcomeChangeKind.ADDED: 999}


_WORDS = st.lists(st.sampled_from(["pain", "score", "week", "of", "arm", "A"]), max_size=4)
_OUTCOMES = st.builds(
    lambda words, time, text: {
        "measure": " ".join(words),
        **({"timeFrame": time} if time else {}),
        **({"description": text} if text else {}),
    },
    _WORDS,
    st.sampled_from(["", "1 day", "2 days"]),
    st.sampled_from(["", "long"]),
)
_LISTS = st.lists(_OUTCOMES, max_size=5)


def counted(lists: dict[OutcomeList, list[Any]]) -> Counter[tuple[str, bytes]]:
    """How often each list holds each outcome."""
    return Counter((name, msgspec.json.encode(it)) for name, items in lists.items() for it in items)


@pytest.mark.slow
@settings(max_examples=150)
@given(_LISTS, _LISTS, _LISTS, _LISTS)
def test_every_outcome_that_changed_is_told_once(
    old_p: list[Any], old_s: list[Any], new_p: list[Any], new_s: list[Any]
) -> None:
    """The new lists are the old ones without what events say was there, and with what they say is there now.

    So each outcome that came, went or moved is in exactly one event. The way back tells the same, the other way round.
    """
    old, new = {P: old_p, S: old_s}, {P: new_p, S: new_s}
    there, back = list(outcome_changes(old, new)), list(outcome_changes(new, old))
    gone = Counter(
        (str(it.was_in), msgspec.json.encode(it.old)) for it in there if it.was_in is not None
    )
    come = Counter(
        (str(it.is_in), msgspec.json.encode(it.new)) for it in there if it.is_in is not None
    )
    kept = counted(old)
    assert gone <= kept
    assert kept - gone + come == counted(new)
    for it in there:
        assert (it.similarity is None) == (it.kind in {"added", "removed"})
        assert (it.was_in, it.old) != (it.is_in, it.new)
    assert Counter(map(repr, map(_reversed, there))) == Counter(
        repr((it.was_in, it.is_in, it.old, it.new, it.similarity)) for it in back
    )


def _reversed(change: Any) -> tuple[Any, ...]:
    return (change.is_in, change.was_in, change.new, change.old, change.similarity)
