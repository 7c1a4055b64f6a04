"""Edits of where a study stands: its status, enrollment and dates."""

from __future__ import annotations

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.edits.desk import (
    Desk,
    Edit,
    module_of,
    object_at,
    overall_status,
    set_value,
)
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.scales import first_and_last_day
from ctg_assets.simulator.sections.parts import Json, prose

_STOPPED = ("TERMINATED", "SUSPENDED", "WITHDRAWN")
_UNDER_WAY = (
    "NOT_YET_RECRUITING",
    "RECRUITING",
    "ENROLLING_BY_INVITATION",
    "ACTIVE_NOT_RECRUITING",
)

# What a study of this status usually becomes.
_NEXT_STATUS = {
    "NOT_YET_RECRUITING": "RECRUITING",
    "RECRUITING": "ACTIVE_NOT_RECRUITING",
    "ENROLLING_BY_INVITATION": "ACTIVE_NOT_RECRUITING",
    "ACTIVE_NOT_RECRUITING": "COMPLETED",
    "SUSPENDED": "RECRUITING",
    "UNKNOWN": "COMPLETED",
    "WITHDRAWN": "NOT_YET_RECRUITING",
    "AVAILABLE": "NO_LONGER_AVAILABLE",
    "TEMPORARILY_NOT_AVAILABLE": "AVAILABLE",
    "NO_LONGER_AVAILABLE": "APPROVED_FOR_MARKETING",
}


def status_moved(study: Json, desk: Desk) -> bool:
    """Give the study the status that usually follows its own."""
    status = module_of(study, "statusModule")
    following = _NEXT_STATUS.get(overall_status(study))
    if status is None or following is None:
        return False
    for key in ("whyStopped", "lastKnownStatus"):
        status.pop(key, None)
    if following == "COMPLETED" and "completionDateStruct" in status:
        status["completionDateStruct"] = {"date": iso(desk.day - 3), "type": "ACTUAL"}
    return set_value(status, "overallStatus", following)


def study_stopped(study: Json, desk: Desk) -> bool:
    """Stop a study that is under way, with a reason."""
    status = module_of(study, "statusModule")
    if status is None or overall_status(study) not in _UNDER_WAY:
        return False
    status["whyStopped"] = prose(desk.draw, 1)
    return set_value(status, "overallStatus", desk.draw.pick(_STOPPED))


def status_became_unknown(study: Json, desk: Desk) -> bool:
    """What the registry does when nobody has confirmed a status for two years."""
    del desk
    status = module_of(study, "statusModule")
    present = overall_status(study)
    if status is None or present not in _UNDER_WAY:
        return False
    status["lastKnownStatus"] = present
    return set_value(status, "overallStatus", "UNKNOWN")


def enrollment_changed(study: Json, desk: Desk) -> bool:
    """Raise the number of participants."""
    enrollment = object_at(study, "protocolSection", "designModule", "enrollmentInfo")
    if enrollment is None:
        return False
    count = enrollment.get("count")
    if not isinstance(count, int) or count == vocabulary.UNKNOWN_ENROLLMENT:
        count = 0
    return set_value(enrollment, "count", count + desk.draw.between(1, 200))


def enrollment_became_actual(study: Json, desk: Desk) -> bool:
    """Say that the number of participants is no estimate any more."""
    del desk
    enrollment = object_at(study, "protocolSection", "designModule", "enrollmentInfo")
    if enrollment is None or enrollment.get("type") == "ACTUAL":
        return False
    return set_value(enrollment, "type", "ACTUAL")


def moved_date(key: str) -> Edit:
    """An edit that moves a date by days up to years, either way; a month or a year stays one."""

    def edit(study: Json, desk: Desk) -> bool:
        struct = object_at(study, "protocolSection", "statusModule", key)
        present = str((struct or {}).get("date"))
        days = first_and_last_day(present)
        if struct is None or days is None or len(present) > len("2026-03-02"):
            return False
        by = desk.draw.between(1, 700) * (1 if desk.draw.random() < 0.75 else -1)
        moved = iso(days[0] + by)[: len(present)]
        if moved == present:
            moved = iso(days[1] + 1)[: len(present)]
        struct["type"] = "ACTUAL" if days[0] + by <= desk.day else "ESTIMATED"
        return set_value(struct, "date", moved)

    return edit


def primary_completion_made_exact(study: Json, desk: Desk) -> bool:
    """Name the day of a primary completion of which the month or year was known."""
    keys = ("protocolSection", "statusModule", "primaryCompletionDateStruct")
    struct = object_at(study, *keys)
    days = first_and_last_day(str((struct or {}).get("date")))
    if struct is None or days is None or days[0] == days[1]:
        return False
    return set_value(struct, "date", iso(desk.draw.between(*days)))


def primary_completion_withdrawn(study: Json, desk: Desk) -> bool:
    """Remove the date of primary completion."""
    del desk
    status = module_of(study, "statusModule")
    return status is not None and status.pop("primaryCompletionDateStruct", None) is not None
