"""Tables of the adverse events: how they were collected, terms, numbers by group, and totals."""

from __future__ import annotations

from dataclasses import replace

from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables import readings
from ctg_assets.model.tables.columns import columns, constant, integer, number, parent, text
from ctg_assets.model.tables.declaration import Field, Source, Table
from ctg_assets.model.tables.readings import Read
from ctg_assets.model.tables.result_groups import EVENT, group_of_section

_EVENTS = "resultsSection.adverseEventsModule"
_SERIOUS = f"{_EVENTS}.seriousEvents[]"
_OTHER = f"{_EVENTS}.otherEvents[]"

_THRESHOLD = "Percentage of a group that must have an event that is not serious for it to be listed"


def adverse_event_tables() -> tuple[Table, ...]:
    """The adverse events' tables."""
    return (
        _adverse_event_reports(),
        _reported_event_terms(),
        _reported_events(),
        _reported_event_totals(),
    )


def _adverse_event_reports() -> Table:
    return Table(
        name="adverse_event_reports",
        description="How adverse events were collected, one row per study that reports on them.",
        sources=(Source(_EVENTS),),
        declared=columns(
            text("time_frame", "timeFrame", "Period over which events were collected."),
            text("description", "description", "How events were collected."),
            number(
                "frequency_threshold",
                "frequencyThreshold",
                _THRESHOLD,
                raw="frequency_threshold_raw",
                value="frequency_threshold",
            ),
            text(
                "all_cause_mortality_comment",
                "allCauseMortalityComment",
                "More about the deaths reported.",
            ),
        ),
        in_aact=False,
    )


def _reported_event_terms() -> Table:
    return Table(
        name="reported_event_terms",
        description="Adverse events by term, whether or not a group has numbers for them.",
        sources=(
            Source(_SERIOUS, {"event_type": "serious"}),
            Source(_OTHER, {"event_type": "other"}),
        ),
        declared=(
            constant("event_type", "Whether the event is serious or other."),
            text("adverse_event_term", "term", "Term for the event."),
            text("organ_system", "organSystem", "Organ system that is affected."),
            text("vocab", "sourceVocabulary", "Vocabulary of the term."),
            text("assessment", "assessmentType", "How events were looked for."),
            text("notes", "notes", "More about the event."),
        ),
        indexes=(("adverse_event_term",),),
        in_aact=False,
    )


def _reported_events() -> Table:
    return Table(
        name="reported_events",
        description="How many participants of each group had each adverse event.",
        sources=(
            Source(f"{_SERIOUS}.stats[]", {"event_type": "serious"}),
            Source(f"{_OTHER}.stats[]", {"event_type": "other"}),
        ),
        declared=columns(
            parent(
                "reported_event_term_id",
                "reported_event_terms",
                "Event that is counted.",
                aact=None,
            ),
            group_of_section(EVENT),
            constant("event_type", "Whether the event is serious or other."),
            Field(
                "frequency_threshold",
                ColumnType.DOUBLE,
                f"{_THRESHOLD}.",
                Read(f"^^.{_EVENTS}.frequencyThreshold", readings.number),
            ),
            text("adverse_event_term", "^.term", "Term for the event."),
            text("organ_system", "^.organSystem", "Organ system that is affected."),
            text("vocab", "^.sourceVocabulary", "Vocabulary of the term, such as MedDRA 27.0."),
            text("assessment", "^.assessmentType", "How events were looked for."),
            integer("subjects_affected", "numAffected", "Participants who had the event."),
            integer("subjects_at_risk", "numAtRisk", "Participants who could have had it."),
            integer("event_count", "numEvents", "Number of times that the event occurred."),
        ),
    )


def _reported_event_totals() -> Table:
    return Table(
        name="reported_event_totals",
        description="Participants of each group with any serious event, any other event, or who died.",
        sources=(
            _totals("serious", "serious adverse events"),
            _totals("other", "other adverse events"),
            _totals("deaths", "all-cause mortality"),
        ),
        declared=columns(
            _group_of_totals(),
            constant("event_type", "What is counted: serious, other or deaths."),
            constant("classification", "The same in AACT's words."),
            integer("subjects_affected", "numAffected", "Participants who are counted."),
            integer("subjects_at_risk", "numAtRisk", "Participants who could have been counted."),
        ),
    )


def _group_of_totals() -> tuple[Field, ...]:
    """The group, to which AACT refers by its code alone."""
    reference, code = group_of_section(EVENT, "id")
    return replace(reference, aact=None), code


def _totals(kind: str, classification: str) -> Source:
    return Source(
        f"{_EVENTS}.eventGroups[]",
        {"event_type": kind, "classification": f"Total, {classification}"},
        paths={"numAffected": f"{kind}NumAffected", "numAtRisk": f"{kind}NumAtRisk"},
    )
