"""What the changes of a study mean to the people who follow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

import msgspec

from ctg_assets.model.changes.field_changes import ChangeKind, FieldChange
from ctg_assets.model.changes.outcomes import OutcomeChange, OutcomeList, outcome_changes
from ctg_assets.model.changes.partial_dates import days_moved, is_after
from ctg_assets.model.changes.sites import site_changes

_STATUS = ("protocolSection", "statusModule")
_ENROLLMENT = ("protocolSection", "designModule", "enrollmentInfo")
_OUTCOMES_MODULE = ("protocolSection", "outcomesModule")
_OUTCOMES = {name: (*_OUTCOMES_MODULE, f"{name}Outcomes") for name in OutcomeList}
_SITES = ("protocolSection", "contactsLocationsModule", "locations")
_LEAD_SPONSOR = ("protocolSection", "sponsorCollaboratorsModule", "leadSponsor", "name")
_COLLABORATORS = "protocolSection.sponsorCollaboratorsModule.collaborators[]"
_DATA_SETS = "protocolSection.referencesModule.availIpds[]"
_RETRACTIONS = "protocolSection.referencesModule.references[].retractions[]"


class EventType(StrEnum):
    """What can happen to a study; each type knows what it means, for documentation."""

    description: str

    def __new__(cls, value: str, description: str) -> EventType:
        """A type by its name, with what it means."""
        event_type = str.__new__(cls, value)
        event_type._value_ = value
        event_type.description = description
        return event_type

    STATUS_CHANGED = "status_changed", "The overall status is another one."
    ENROLLMENT_CHANGED = "enrollment_changed", "The number of participants is another one."
    ENROLLMENT_TYPE_CHANGED = (
        "enrollment_type_changed",
        "The number of participants became actual, or estimated again.",
    )
    START_MOVED = "start_moved", "The start date moved, was set or was withdrawn."
    PRIMARY_COMPLETION_MOVED = (
        "primary_completion_moved",
        "The primary completion date moved, was set or was withdrawn.",
    )
    COMPLETION_MOVED = "completion_moved", "The completion date moved, was set or was withdrawn."
    PRIMARY_OUTCOME_ADDED = "primary_outcome_added", "There is a new primary outcome."
    PRIMARY_OUTCOME_REMOVED = "primary_outcome_removed", "A primary outcome is gone."
    PRIMARY_OUTCOME_REWORDED = (
        "primary_outcome_reworded",
        "A primary outcome has a similar measure in other words, or another description and time frame.",
    )
    PRIMARY_OUTCOME_TIME_FRAME_CHANGED = (
        "primary_outcome_time_frame_changed",
        "A primary outcome has another time frame, and all else as it was.",
    )
    PRIMARY_OUTCOME_DESCRIPTION_CHANGED = (
        "primary_outcome_description_changed",
        "A primary outcome has another description, and all else as it was.",
    )
    PRIMARY_OUTCOME_MOVED_TO_SECONDARY = (
        "primary_outcome_moved_to_secondary",
        "A primary outcome is a secondary one now, in the same words or similar ones.",
    )
    SECONDARY_OUTCOME_MOVED_TO_PRIMARY = (
        "secondary_outcome_moved_to_primary",
        "A secondary outcome is a primary one now, in the same words or similar ones.",
    )
    SECONDARY_OUTCOME_ADDED = "secondary_outcome_added", "There is a new secondary outcome."
    SECONDARY_OUTCOME_REMOVED = "secondary_outcome_removed", "A secondary outcome is gone."
    SECONDARY_OUTCOME_REWORDED = (
        "secondary_outcome_reworded",
        "A secondary outcome has a similar measure in other words, or another description and time frame.",
    )
    SECONDARY_OUTCOME_TIME_FRAME_CHANGED = (
        "secondary_outcome_time_frame_changed",
        "A secondary outcome has another time frame, and all else as it was.",
    )
    SECONDARY_OUTCOME_DESCRIPTION_CHANGED = (
        "secondary_outcome_description_changed",
        "A secondary outcome has another description, and all else as it was.",
    )
    SITE_OPENED = (
        "site_opened",
        "People can join the study at a site where they could not: it is new, or its status changed.",
    )
    SITE_CLOSED = (
        "site_closed",
        "People cannot join the study any more at a site: it is gone, or its status changed.",
    )
    SPONSOR_CHANGED = "sponsor_changed", "The lead sponsor has another name."
    COLLABORATOR_ADDED = "collaborator_added", "There is a new collaborator."
    COLLABORATOR_REMOVED = "collaborator_removed", "A collaborator is gone."
    RESULTS_POSTED = "results_posted", "The study has results now."
    RESULTS_WITHDRAWN = "results_withdrawn", "The study had results and has none any more."
    IPD_POSTED = (
        "ipd_posted",
        "There is a new data set or document of individual participants' data.",
    )
    IPD_WITHDRAWN = "ipd_withdrawn", "A data set or document of participants' data is gone."
    REFERENCE_RETRACTED = "reference_retracted", "A publication that the study cites was retracted."


_DATES = (
    ("startDateStruct", EventType.START_MOVED),
    ("primaryCompletionDateStruct", EventType.PRIMARY_COMPLETION_MOVED),
    ("completionDateStruct", EventType.COMPLETION_MOVED),
)


@dataclass(frozen=True, slots=True)
class TypedEvent:
    """One event: what happened, to what part of the study, and the values before and after.

    Values are text as it is, everything else as JSON (as Postgres' `->>` gives them). `days` is set where
    a date moved. `after_primary_completion` is set for outcomes, where the date tells; `similarity` for
    those that were there before and are after: how similar their measures are, from 0 to 1.
    """

    event_type: EventType
    subject: str | None = None
    old_value: str | None = None
    new_value: str | None = None
    days: int | None = None
    after_primary_completion: bool | None = None
    similarity: float | None = None


def typed_events(
    old: Any, new: Any, changes: Sequence[FieldChange], observed_on: date
) -> list[TypedEvent]:
    """What happened to a study between two contents with these changes, in the order of `EventType`.

    `observed_on` is the day on which the new content was first seen. Whether that is after the primary
    completion is told by the date in the new content, or else in the old one.
    """
    return [
        *_status_and_enrollment(old, new),
        *_dates(old, new),
        *_outcomes(old, new, changes, observed_on),
        *_sites(old, new, changes),
        *_sponsors(old, new, changes),
        *_results(old, new),
        *_references(changes),
    ]


def _status_and_enrollment(old: Any, new: Any) -> Iterator[TypedEvent]:
    for path, event_type in (
        ((*_STATUS, "overallStatus"), EventType.STATUS_CHANGED),
        ((*_ENROLLMENT, "count"), EventType.ENROLLMENT_CHANGED),
        ((*_ENROLLMENT, "type"), EventType.ENROLLMENT_TYPE_CHANGED),
    ):
        yield from _changed(event_type, _at(old, path), _at(new, path))


def _dates(old: Any, new: Any) -> Iterator[TypedEvent]:
    for name, event_type in _DATES:
        before, after = (_at(study, (*_STATUS, name, "date")) for study in (old, new))
        days = days_moved(before, after)
        if before != after and days != 0:
            yield TypedEvent(event_type, None, _text(before), _text(after), days)


def _outcomes(
    old: Any, new: Any, changes: Sequence[FieldChange], observed_on: date
) -> Iterator[TypedEvent]:
    if not _touches(changes, _OUTCOMES_MODULE):
        return
    completion = (*_STATUS, "primaryCompletionDateStruct", "date")
    is_late = is_after(observed_on, _at(new, completion) or _at(old, completion))
    before, after = (
        {name: _items(study, path) for name, path in _OUTCOMES.items()} for study in (old, new)
    )
    events = [
        TypedEvent(
            _outcome_event_type(change),
            _text((change.new or change.old or {}).get("measure")),
            _text(change.old),
            _text(change.new),
            after_primary_completion=is_late,
            similarity=change.similarity,
        )
        for change in outcome_changes(before, after)
    ]
    yield from _in_order_of_types(events)


def _outcome_event_type(change: OutcomeChange) -> EventType:
    return EventType[f"{change.was_in or change.is_in}_outcome_{change.kind}".upper()]


def _sites(old: Any, new: Any, changes: Sequence[FieldChange]) -> Iterator[TypedEvent]:
    overall = (*_STATUS, "overallStatus")
    if not (_touches(changes, _SITES) or _touches(changes, overall)):
        return
    found = site_changes(
        _items(old, _SITES), _at(old, overall), _items(new, _SITES), _at(new, overall)
    )
    events = [
        TypedEvent(
            EventType.SITE_OPENED if change.is_open else EventType.SITE_CLOSED,
            change.site,
            change.old_status,
            change.new_status,
        )
        for change in found
    ]
    yield from _in_order_of_types(events)


def _sponsors(old: Any, new: Any, changes: Sequence[FieldChange]) -> Iterator[TypedEvent]:
    yield from _changed(EventType.SPONSOR_CHANGED, _at(old, _LEAD_SPONSOR), _at(new, _LEAD_SPONSOR))
    yield from _come_and_gone(
        changes, _COLLABORATORS, EventType.COLLABORATOR_ADDED, EventType.COLLABORATOR_REMOVED
    )


def _results(old: Any, new: Any) -> Iterator[TypedEvent]:
    had, has = _has_results(old), _has_results(new)
    posted = (*_STATUS, "resultsFirstPostDateStruct", "date")
    if has and not had:
        yield TypedEvent(EventType.RESULTS_POSTED, new_value=_text(_at(new, posted)))
    if had and not has:
        yield TypedEvent(EventType.RESULTS_WITHDRAWN, old_value=_text(_at(old, posted)))


def _references(changes: Sequence[FieldChange]) -> Iterator[TypedEvent]:
    yield from _come_and_gone(changes, _DATA_SETS, EventType.IPD_POSTED, EventType.IPD_WITHDRAWN)
    for change in changes:
        if change.path == _RETRACTIONS and change.change is ChangeKind.ADDED:
            yield TypedEvent(EventType.REFERENCE_RETRACTED, change.item, new_value=change.new_value)


def _come_and_gone(
    changes: Sequence[FieldChange], path: str, come: EventType, gone: EventType
) -> Iterator[TypedEvent]:
    for event_type, kind in ((come, ChangeKind.ADDED), (gone, ChangeKind.REMOVED)):
        for change in changes:
            if change.path == path and change.change is kind:
                yield TypedEvent(event_type, change.item, change.old_value, change.new_value)


def _changed(event_type: EventType, before: Any, after: Any) -> Iterator[TypedEvent]:
    if before != after:
        yield TypedEvent(event_type, None, _text(before), _text(after))


def _in_order_of_types(events: Sequence[TypedEvent]) -> list[TypedEvent]:
    order = list(EventType)
    return sorted(events, key=lambda event: order.index(event.event_type))


def _touches(changes: Sequence[FieldChange], names: tuple[str, ...]) -> bool:
    path = ".".join(names)
    return any(change.path.startswith(path) for change in changes)


def _has_results(study: Any) -> bool:
    return _at(study, ("hasResults",)) is True or bool(_at(study, ("resultsSection",)))


def _items(study: Any, names: tuple[str, ...]) -> list[Any]:
    found = _at(study, names)
    return found if isinstance(found, list) else []


def _at(study: Any, names: tuple[str, ...]) -> Any:
    found = study
    for name in names:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
