"""One observation more in the life of a study, wherever in time it lies.

Crawls observe in the order of time. An older content, found in somebody's archive, lies between
observations; nothing that was observed before may be contradicted by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from ctg_assets.history.entries import StudyChangeKind

SHORTEST = timedelta(microseconds=1)
"""Times are kept to the microsecond; two contents of one study cannot be observed at the same time."""


@dataclass(frozen=True)
class Content:
    """One content of a study, and where it lies."""

    content_hash: str
    last_update_post_date: date | None
    json_bytes: int
    extraction_id: str
    page: int
    contents_entry: int


@dataclass(frozen=True)
class Period:
    """A stretch of time in which a study had one content; columns as in PERIODS_SCHEMA."""

    content: Content
    valid_from: datetime
    valid_to: datetime | None
    ended_by: str | None
    last_observed_at: datetime


@dataclass(frozen=True)
class Transition:
    """A change of a study from one content (None: it was not there) to another (None: it is gone)."""

    kind: StudyChangeKind
    observed_at: datetime
    old: Content | None
    new: Content | None


@dataclass(frozen=True)
class Absence:
    """A time at which every study was there or gone; `kind` is what has become of one not seen."""

    at: datetime
    kind: StudyChangeKind


def insert_observation(
    periods: Sequence[Period],
    content: Content,
    observed_at: datetime,
    walks: Sequence[datetime] = (),
    absences: Sequence[Absence] = (),
) -> tuple[list[Period], list[Transition]]:
    """A study's periods, by time, after it was observed with a content; and the changes that shows.

    What is known of other times stays: between two observations, a content is taken to have lasted
    until another one was observed. `walks` are the times, ascending, at which the study was
    observed, by walks of everything or otherwise; they count where it `lies_between`. `absences`, ascending,
    end a content where no period tells that the study was there. If another content begins at the
    very same time, this one is put a microsecond later.
    """
    begins = {period.valid_from: period.content.content_hash for period in periods}
    while begins.get(observed_at, content.content_hash) != content.content_hash:
        observed_at += SHORTEST
    before = [p for p in periods if p.valid_from <= observed_at]
    after = [p for p in periods if p.valid_from > observed_at]
    following = after[0] if after else None
    current = before[-1] if before else None
    if current is not None and (current.valid_to is None or observed_at < current.valid_to):
        if current.content.content_hash == content.content_hash:
            seen = replace(current, last_observed_at=max(current.last_observed_at, observed_at))
            return [*before[:-1], seen, *after], []
        new, transitions = _within(current, following, content, observed_at, walks)
        return _joined([*before[:-1], *new, *after]), _real(transitions)

    observed = Period(content, observed_at, None, None, observed_at)
    if current is None:
        transitions = [Transition(StudyChangeKind.INSERT, observed_at, None, content)]
    else:
        transitions = [Transition(StudyChangeKind.RESTORE, observed_at, current.content, content)]
    gone = next((absence for absence in absences if absence.at > observed_at), None)
    if gone is not None and (following is None or gone.at < following.valid_from):
        observed = replace(observed, valid_to=gone.at, ended_by=str(gone.kind))
        transitions.append(Transition(gone.kind, gone.at, content, None))
        if following is not None:
            back = Transition(
                StudyChangeKind.RESTORE, following.valid_from, content, following.content
            )
            transitions.append(back)
    elif following is not None:
        if current is None and following.content.content_hash == content.content_hash:
            transitions = []  # only that it was there earlier than was known
        observed = replace(
            observed, valid_to=following.valid_from, ended_by=str(StudyChangeKind.UPDATE)
        )
        transitions.append(_update(following.valid_from, content, following.content))
    return _joined([*before, observed, *after]), _real(transitions)


def lies_between(periods: Sequence[Period], content: Content, observed_at: datetime) -> bool:
    """Whether at this time another content than this is known to have been there before and afterwards."""
    return any(
        period.valid_from <= observed_at < period.last_observed_at
        and period.content.content_hash != content.content_hash
        for period in periods
    )


def lasting(transitions: Sequence[Transition], periods: Sequence[Period]) -> list[Transition]:
    """Those transitions of a study that lead to or from its periods.

    Others were overtaken: a further content lies between the two.
    """
    borders: set[tuple[datetime | None, str | None, str | None]] = set()
    before = None
    for period in periods:
        content_hash = period.content.content_hash
        borders.add((period.valid_from, before, content_hash))
        borders.add((period.valid_to, content_hash, None))
        before = content_hash
    return [
        each
        for each in transitions
        if (
            each.observed_at,
            each.old.content_hash if each.old else None,
            each.new.content_hash if each.new else None,
        )
        in borders
    ]


def _within(
    period: Period,
    following: Period | None,
    content: Content,
    observed_at: datetime,
    walks: Sequence[datetime],
) -> tuple[list[Period], list[Transition]]:
    """A period in whose midst another content was observed."""
    seen_again = None
    last_before = period.last_observed_at
    if last_before > observed_at:
        seen_again = min([last_before, *(walk for walk in walks if walk > observed_at)])
        last_before = max(
            [period.valid_from, *(w for w in walks if period.valid_from < w <= observed_at)]
        )
    first = replace(
        period,
        valid_to=observed_at,
        ended_by=str(StudyChangeKind.UPDATE),
        last_observed_at=last_before,
    )
    transitions = [_update(observed_at, period.content, content)]
    if seen_again is not None:
        middle = Period(content, observed_at, seen_again, str(StudyChangeKind.UPDATE), observed_at)
        last = replace(period, valid_from=seen_again)
        transitions.append(_update(seen_again, content, period.content))
        return [first, middle, last], transitions
    middle = Period(content, observed_at, period.valid_to, period.ended_by, observed_at)
    if following is not None and following.valid_from == period.valid_to:
        transitions.append(_update(following.valid_from, content, following.content))
    elif period.valid_to is not None and period.ended_by is not None:
        # It was this content, as is known now, that went, and was there before the study came back.
        gone = StudyChangeKind(period.ended_by)
        transitions.append(Transition(gone, period.valid_to, content, None))
        if following is not None:
            transitions.append(
                Transition(
                    StudyChangeKind.RESTORE, following.valid_from, content, following.content
                )
            )
    return [first, middle], transitions


def _update(at: datetime, old: Content, new: Content) -> Transition:
    return Transition(StudyChangeKind.UPDATE, at, old, new)


def _joined(periods: Sequence[Period]) -> list[Period]:
    """The periods, those of one content that follow each other without a gap made one."""
    joined: list[Period] = []
    for period in periods:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.valid_to == period.valid_from
            and last.content.content_hash == period.content.content_hash
        ):
            joined[-1] = replace(period, content=last.content, valid_from=last.valid_from)
        else:
            joined.append(period)
    return joined


def _real(transitions: Sequence[Transition]) -> list[Transition]:
    return [
        transition
        for transition in transitions
        if transition.kind is not StudyChangeKind.UPDATE
        or transition.old is None
        or transition.new is None
        or transition.old.content_hash != transition.new.content_hash
    ]
