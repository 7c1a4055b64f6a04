"""ExtractionDiff brought into what is known of a study, in whatever order they come."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.history.entries import StudyChangeKind
from ctg_assets.history.timeline import (
    Absence,
    Content,
    Period,
    Transition,
    insert_observation,
    lasting,
)

START = datetime(2020, 1, 1, tzinfo=UTC)


def content(name: str) -> Content:
    """A content with this hash."""
    return Content(name, None, 1, "x", 1, 1)


def at(day: int) -> datetime:
    """A day as a time."""
    return START + timedelta(days=day)


def observed(*seen: tuple[int, str]) -> tuple[list[Period], list[Transition]]:
    """The periods and all changes after these observations (day, hash), in this order."""
    periods: list[Period] = []
    transitions: list[Transition] = []
    walks: list[datetime] = []
    for day, name in seen:
        periods, more = insert_observation(periods, content(name), at(day), sorted(walks))
        walks.append(at(day))
        transitions += more
    return periods, transitions


def shown(periods: list[Period]) -> list[tuple[str, int, int | None]]:
    """Hash, first and last day of periods."""
    return [
        (
            period.content.content_hash,
            (period.valid_from - START).days,
            None if period.valid_to is None else (period.valid_to - START).days,
        )
        for period in periods
    ]


def _hash(content: Content | None) -> str | None:
    return content.content_hash if content else None


def steps(transitions: list[Transition]) -> list[tuple[str, int, str | None, str | None]]:
    """Kind, day, hash before and after of changes."""
    return [
        (
            str(each.kind),
            (each.observed_at - START).days,
            _hash(each.old),
            _hash(each.new),
        )
        for each in transitions
    ]


def test_an_older_content_comes_before() -> None:
    """A content observed before all others begins the study's life and is updated by the next one."""
    periods, transitions = observed((5, "b"), (2, "a"))
    assert shown(periods) == [("a", 2, 5), ("b", 5, None)]
    assert steps(transitions)[1:] == [("insert", 2, None, "a"), ("update", 5, "a", "b")]


def test_a_content_between_two() -> None:
    """Between two contents, the older lasts until it and the newer follows it."""
    periods, transitions = observed((1, "a"), (9, "c"), (5, "b"))
    assert shown(periods) == [("a", 1, 5), ("b", 5, 9), ("c", 9, None)]
    assert steps(transitions)[2:] == [("update", 5, "a", "b"), ("update", 9, "b", "c")]


def test_a_content_seen_before_and_after_comes_back() -> None:
    """What was observed on both sides of another content is a period on either side."""
    periods, transitions = observed((1, "a"), (9, "a"), (5, "b"))
    assert shown(periods) == [("a", 1, 5), ("b", 5, 9), ("a", 9, None)]
    assert steps(transitions)[1:] == [("update", 5, "a", "b"), ("update", 9, "b", "a")]


def test_the_same_content_earlier_only_lengthens_its_period() -> None:
    """That a content was there before it was first seen is no change."""
    periods, transitions = observed((5, "a"), (2, "a"))
    assert shown(periods) == [("a", 2, None)]
    assert steps(transitions) == [("insert", 5, None, "a")]


def test_a_content_after_a_removal_restores() -> None:
    """A study seen again after it was gone is restored."""
    gone = Period(content("a"), at(1), at(3), str(StudyChangeKind.DELETE), at(1))
    periods, transitions = insert_observation([gone], content("b"), at(7))
    assert shown(periods) == [("a", 1, 3), ("b", 7, None)]
    assert steps(transitions) == [("restore", 7, "a", "b")]


def test_a_content_ends_where_a_walk_did_not_see_it() -> None:
    """The first time afterwards at which all that was there was seen ends it, and the next one restores."""
    absences = [Absence(at(day), StudyChangeKind.LEAVE_SCOPE) for day in (2, 5, 7)]
    periods, transitions = insert_observation([], content("a"), at(3), (), absences)
    assert shown(periods) == [("a", 3, 5)]
    assert periods[0].ended_by == "leave_scope"
    assert steps(transitions) == [("insert", 3, None, "a"), ("leave_scope", 5, "a", None)]
    periods, transitions = insert_observation(periods, content("b"), at(1), (), absences)
    assert shown(periods) == [("b", 1, 2), ("a", 3, 5)]
    assert steps(transitions) == [
        ("insert", 1, None, "b"),
        ("leave_scope", 2, "b", None),
        ("restore", 3, "b", "a"),
    ]
    periods, _ = insert_observation(periods, content("c"), at(8), (), absences)
    assert shown(periods)[-1] == ("c", 8, None)


def test_what_was_seen_is_not_absent() -> None:
    """Where a period tells that the study was there, or another observation follows first, nothing ends."""
    absences = [Absence(at(5), StudyChangeKind.DELETE)]
    known = [Period(content("b"), at(4), None, None, at(9))]
    periods, _ = insert_observation(known, content("a"), at(3), (), absences)
    assert shown(periods) == [("a", 3, 4), ("b", 4, None)]
    periods, _ = insert_observation(periods, content("c"), at(6), (at(5), at(8)), absences)
    assert shown(periods)[1:] == [("b", 4, 6), ("c", 6, 8), ("b", 8, None)]


def test_a_change_overtaken_by_another_is_not_lasting() -> None:
    """Once a further content lies between two, the change from the one to the other is none."""
    periods, transitions = observed((1, "a"), (9, "c"), (5, "b"))
    assert steps(transitions)[1] == ("update", 9, "a", "c")
    assert steps(lasting(transitions, periods)) == [
        ("insert", 1, None, "a"),
        ("update", 5, "a", "b"),
        ("update", 9, "b", "c"),
    ]
    gone = Transition(StudyChangeKind.DELETE, at(9), content("c"), None)
    ended = Period(content("c"), at(5), at(9), "delete", at(5))
    assert lasting([gone], [ended]) == [gone]


def test_two_contents_of_one_moment() -> None:
    """The second one is put a moment later, so that both are kept."""
    periods, _ = observed((1, "a"), (1, "b"))
    assert [p.content.content_hash for p in periods] == ["a", "b"]
    assert periods[1].valid_from - periods[0].valid_from == timedelta(microseconds=1)


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from("abc")), max_size=9, unique_by=lambda t: t[0]
    )
)
def test_every_observation_stays_true(seen: list[tuple[int, str]]) -> None:
    """In whatever order observations come: periods never overlap, and at each time observed is its content."""
    periods, _ = observed(*seen)
    for one, next_one in itertools.pairwise(periods):
        assert one.valid_to is not None
        assert one.valid_from < one.valid_to <= next_one.valid_from
        assert one.content.content_hash != next_one.content.content_hash
    for day, name in seen:
        [holding] = [
            p
            for p in periods
            if p.valid_from <= at(day) and (p.valid_to is None or at(day) < p.valid_to)
        ]
        assert holding.content.content_hash == name


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from("abc")), max_size=9, unique_by=lambda t: t[0]
    )
)
def test_changes_lead_from_period_to_period(seen: list[tuple[int, str]]) -> None:
    """Each border between two contents was told as a change from the one to the other."""
    periods, transitions = observed(*seen)
    told = {(t.observed_at, _hash(t.old), _hash(t.new)) for t in transitions}
    for one, next_one in itertools.pairwise(periods):
        border = (next_one.valid_from, one.content.content_hash, next_one.content.content_hash)
        assert border in told
