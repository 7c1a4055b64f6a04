"""What the changes of a study mean to the people who follow it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.model.changes.field_changes import field_changes
from ctg_assets.model.changes.partial_dates import days_moved, first_and_last_day, is_after
from ctg_assets.model.changes.typed_events import EventType, TypedEvent, typed_events
from ctg_assets.simulator import generate
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.edits.catalog import EDITS
from ctg_assets.simulator.edits.desk import Desk
from ctg_assets.simulator.identity import FIRST_DATA_DAY
from ctg_assets_tests.model.edits import edited
from ctg_assets_tests.model.wild import wild_study

# Each kind of event is tried on generated studies.
pytestmark = pytest.mark.slow

OBSERVED = date(2024, 6, 15)
DOCUMENT = Path(__file__).parents[2] / "docs" / "changes.md"


def events(old: Any, new: Any, observed_on: date = OBSERVED) -> list[TypedEvent]:
    """The events from an old to a new study."""
    return typed_events(old, new, field_changes(old, new), observed_on)


def protocol(**modules: Any) -> dict[str, Any]:
    """A study of these modules."""
    return {"protocolSection": modules}


def dated(start: str | None, primary: str | None = None, completion: str | None = None) -> Any:
    """A study of these dates."""
    dates = {"startDate": start, "primaryCompletionDate": primary, "completionDate": completion}
    return protocol(
        statusModule={f"{name}Struct": {"date": value} for name, value in dates.items() if value}
    )


def outcome(measure: str, time_frame: str = "1 year") -> dict[str, str]:
    """An outcome."""
    return {"measure": measure, "timeFrame": time_frame}


def aiming(*outcomes: dict[str, str], completion: str | None = None) -> Any:
    """A study of these primary outcomes."""
    study = dated(None, completion)
    study["protocolSection"]["outcomesModule"] = {"primaryOutcomes": list(outcomes)}
    return study


def sited(overall: str | None, **statuses: str | None) -> Any:
    """A study of this status with sites by the names of their facilities."""
    sites = [
        {"facility": name, "city": "X", "country": "Y"} | ({"status": status} if status else {})
        for name, status in statuses.items()
    ]
    return protocol(
        statusModule={"overallStatus": overall}, contactsLocationsModule={"locations": sites}
    )


def test_a_changed_status_is_told_with_both() -> None:
    """The event has the status before and after as they are spelled in the registry."""
    old, new = (protocol(statusModule={"overallStatus": it}) for it in ("RECRUITING", "COMPLETED"))
    assert events(old, new) == [
        TypedEvent(EventType.STATUS_CHANGED, None, "RECRUITING", "COMPLETED")
    ]


def test_number_and_type_of_enrollment_are_told_apart() -> None:
    """A number that becomes actual and another one gives two events."""
    old = protocol(designModule={"enrollmentInfo": {"count": 100, "type": "ESTIMATED"}})
    new = protocol(designModule={"enrollmentInfo": {"count": 90, "type": "ACTUAL"}})
    assert events(old, new) == [
        TypedEvent(EventType.ENROLLMENT_CHANGED, None, "100", "90"),
        TypedEvent(EventType.ENROLLMENT_TYPE_CHANGED, None, "ESTIMATED", "ACTUAL"),
    ]


def test_moved_dates_are_told_with_days_and_made_exact_ones_not_at_all() -> None:
    """Each date that moved is an event; a day within the month that was known is none."""
    assert events(
        dated("2024-01", "2025-01-31", "2025-06"), dated("2024-01-20", "2024-12-31", "2025-08-01")
    ) == [
        TypedEvent(EventType.PRIMARY_COMPLETION_MOVED, None, "2025-01-31", "2024-12-31", -31),
        TypedEvent(EventType.COMPLETION_MOVED, None, "2025-06", "2025-08-01", 61),
    ]


def test_a_date_set_or_withdrawn_moved_by_no_number_of_days() -> None:
    """Where there is one date only, days are unknown."""
    assert events(dated("2024-01"), dated(None, "2025-01")) == [
        TypedEvent(EventType.START_MOVED, None, "2024-01", None),
        TypedEvent(EventType.PRIMARY_COMPLETION_MOVED, None, None, "2025-01"),
    ]


def test_outcomes_are_added_removed_and_reworded() -> None:
    """A similar measure is the same one in other words; one of another thing is another one."""
    old = aiming(outcome("Change in pain score at week 4"), outcome("Survival"))
    new = aiming(outcome("Pain score after 4 weeks"), outcome("Change in weight at week 4"))
    told = [(event.event_type, event.subject) for event in events(old, new)]
    assert told == [
        (EventType.PRIMARY_OUTCOME_ADDED, "Change in weight at week 4"),
        (EventType.PRIMARY_OUTCOME_REMOVED, "Survival"),
        (EventType.PRIMARY_OUTCOME_REWORDED, "Pain score after 4 weeks"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "is_reworded"),
    [
        ("Change in HbA1c", "Change in BMI", False),
        ("Overall survival", "Progression-free survival", False),
        ("tumour response in blood", "tumour response in urine", True),
        # By difflib 0.6 one way, 0.2 the other.
        ("tumour node blood urine stage", "stage tumour blood node urine", None),
        ("Weeks", "Months", False),
        ("Survival", "Survival, told by the families once a year after the end of therapy", True),
        ("Survival", "Progression-free survival", False),
        ("", "Survival", False),
    ],
)
def test_similarity_is_that_of_telling_words_in_both_directions(
    old: str, new: str, is_reworded: bool | None
) -> None:
    """Words of every measure count only where there are no others, and the direction never does."""
    there, back = (
        [event.event_type for event in events(aiming(outcome(one)), aiming(outcome(other)))]
        for one, other in ((old, new), (new, old))
    )
    assert there == back
    assert is_reworded in {None, there == [EventType.PRIMARY_OUTCOME_REWORDED]}


def test_of_several_candidates_the_most_similar_are_paired() -> None:
    """An outcome is not taken for the rewording of one that has a better match."""
    old = aiming(outcome("tumour response in arm A"), outcome("tumour response in arm B"))
    new = aiming(outcome("tumour response in arm B (RECIST)"), outcome("tumour response, arm A"))
    pairs = [
        (msgspec.json.decode(str(it.old_value)), msgspec.json.decode(str(it.new_value)))
        for it in events(old, new)
    ]
    assert [(one["measure"][-1], "arm A" in other["measure"]) for one, other in pairs] == [
        ("A", True),
        ("B", False),
    ]


def test_reordered_outcomes_are_no_event() -> None:
    """Outcomes in another order are the same outcomes."""
    assert events(aiming(outcome("a"), outcome("b")), aiming(outcome("b"), outcome("a"))) == []


@pytest.mark.parametrize(
    ("completion", "after"),
    [
        ("2024-06-14", True),
        ("2024-06-15", False),
        ("2024-05", True),
        ("2024-06", None),
        ("2024-07", False),
        ("2023", True),
        ("2024", None),
        ("soon", None),
        (None, None),
    ],
)
def test_outcome_events_say_whether_the_study_had_its_primary_completion(
    completion: str | None, after: bool | None
) -> None:
    """It is after all days that the date covers, or not, or the date does not tell."""
    old, new = aiming(outcome("a"), completion=completion), aiming(completion=completion)
    assert [event.after_primary_completion for event in events(old, new)] == [after]


def test_the_newer_primary_completion_date_counts() -> None:
    """The date of the new content is better known; that of the old one counts where it is gone."""
    old = aiming(outcome("a"), completion="2024-12-31")
    assert [
        [
            event.after_primary_completion
            for event in events(old, new)
            if event.event_type is EventType.PRIMARY_OUTCOME_REMOVED
        ]
        for new in (aiming(completion="2024-01-31"), aiming())
    ] == [[True], [False]]


def test_sites_open_and_close_by_who_can_join_there() -> None:
    """What counts is whether people could join at a site and can now, however that came about."""
    old = sited("RECRUITING", A="RECRUITING", B="NOT_YET_RECRUITING", C="RECRUITING", D="WITHDRAWN")
    new = sited("RECRUITING", A="COMPLETED", B="RECRUITING", E="RECRUITING", F="SUSPENDED")
    assert events(old, new) == [
        TypedEvent(EventType.SITE_OPENED, "B / X / Y", "NOT_YET_RECRUITING", "RECRUITING"),
        TypedEvent(EventType.SITE_OPENED, "E / X / Y", None, "RECRUITING"),
        TypedEvent(EventType.SITE_CLOSED, "A / X / Y", "RECRUITING", "COMPLETED"),
        TypedEvent(EventType.SITE_CLOSED, "C / X / Y", "RECRUITING", None),
    ]


def test_a_site_without_a_status_has_that_of_its_study() -> None:
    """The registry takes the statuses of sites away when a study ends: those that were open close."""
    closed = events(
        sited("RECRUITING", A="RECRUITING", B="WITHDRAWN"), sited("COMPLETED", A=None, B=None)
    )
    assert closed[1:] == [TypedEvent(EventType.SITE_CLOSED, "A / X / Y", "RECRUITING", "COMPLETED")]
    assert events(sited("COMPLETED", A=None), sited("COMPLETED", A=None, B=None)) == []
    opened = events(sited("NOT_YET_RECRUITING", A=None), sited("ENROLLING_BY_INVITATION", A=None))
    assert [event.event_type for event in opened] == [
        EventType.STATUS_CHANGED,
        EventType.SITE_OPENED,
    ]


def test_sponsor_and_collaborators_are_told_by_name() -> None:
    """Another lead sponsor is one event, each collaborator who comes or goes another."""

    def sponsored(lead: str, *others: str) -> Any:
        collaborators = [{"name": other} for other in others]
        return protocol(
            sponsorCollaboratorsModule={
                "leadSponsor": {"name": lead},
                "collaborators": collaborators,
            }
        )

    assert events(sponsored("A", "B", "C"), sponsored("D", "C", "E")) == [
        TypedEvent(EventType.SPONSOR_CHANGED, None, "A", "D"),
        TypedEvent(EventType.COLLABORATOR_ADDED, "E", None, '{"name":"E"}'),
        TypedEvent(EventType.COLLABORATOR_REMOVED, "B", '{"name":"B"}', None),
    ]


def test_results_are_posted_and_withdrawn_with_their_date() -> None:
    """Results that come are posted, results that go withdrawn; the date is that of their posting."""
    without = {**dated("2020"), "hasResults": False}
    with_ = protocol(
        statusModule={
            "startDateStruct": {"date": "2020"},
            "resultsFirstPostDateStruct": {"date": "2024-06-14"},
        }
    ) | {"resultsSection": {"moreInfoModule": {}}, "hasResults": True}
    assert events(without, with_) == [
        TypedEvent(EventType.RESULTS_POSTED, None, None, "2024-06-14")
    ]
    assert events(with_, without) == [
        TypedEvent(EventType.RESULTS_WITHDRAWN, None, "2024-06-14", None)
    ]


def test_data_sets_and_retractions_are_told() -> None:
    """Data of participants that come or go, and retractions of cited publications, are events."""
    reference = {"pmid": "1", "citation": "A"}
    data_set = {"type": "Data Set", "id": "2"}
    old = protocol(referencesModule={"references": [reference]})
    new = protocol(
        referencesModule={
            "references": [{**reference, "retractions": [{"pmid": "9", "source": "J"}]}],
            "availIpds": [data_set],
        }
    )
    assert [(event.event_type, event.subject) for event in events(old, new)] == [
        (EventType.IPD_POSTED, "Data Set / 2"),
        (EventType.REFERENCE_RETRACTED, "1 > 9"),
    ]
    assert [event.event_type for event in events(new, old)] == [EventType.IPD_WITHDRAWN]


# What an edit of the simulator can mean; all others mean nothing to those who follow typed events.
MEANINGS = {
    "status_moved": {EventType.STATUS_CHANGED},
    "study_stopped": {EventType.STATUS_CHANGED},
    "status_became_unknown": {EventType.STATUS_CHANGED},
    "enrollment_changed": {EventType.ENROLLMENT_CHANGED},
    "enrollment_became_actual": {EventType.ENROLLMENT_TYPE_CHANGED},
    "start_moved": {EventType.START_MOVED},
    "primary_completion_moved": {EventType.PRIMARY_COMPLETION_MOVED},
    "primary_completion_withdrawn": {EventType.PRIMARY_COMPLETION_MOVED},
    "completion_moved": {EventType.COMPLETION_MOVED},
    "primary_outcome_added": {EventType.PRIMARY_OUTCOME_ADDED},
    "primary_outcome_removed": {EventType.PRIMARY_OUTCOME_REMOVED},
    # The edit changes the measure, the description or the time frame.
    "primary_outcome_reworded": {
        EventType.PRIMARY_OUTCOME_REWORDED,
        EventType.PRIMARY_OUTCOME_DESCRIPTION_CHANGED,
        EventType.PRIMARY_OUTCOME_TIME_FRAME_CHANGED,
    },
    "secondary_outcome_added": {EventType.SECONDARY_OUTCOME_ADDED},
    "secondary_outcome_removed": {EventType.SECONDARY_OUTCOME_REMOVED},
    "secondary_outcome_reworded": {
        EventType.SECONDARY_OUTCOME_REWORDED,
        EventType.SECONDARY_OUTCOME_DESCRIPTION_CHANGED,
        EventType.SECONDARY_OUTCOME_TIME_FRAME_CHANGED,
    },
    "site_added": {EventType.SITE_OPENED},
    "site_removed": {EventType.SITE_CLOSED},
    "site_status_changed": {EventType.SITE_OPENED, EventType.SITE_CLOSED},
    "sponsor_changed": {EventType.SPONSOR_CHANGED},
    "collaborator_added": {EventType.COLLABORATOR_ADDED},
    "collaborator_removed": {EventType.COLLABORATOR_REMOVED},
    "results_posted": {EventType.RESULTS_POSTED},
    "results_withdrawn": {EventType.RESULTS_WITHDRAWN},
    "reference_retracted": {EventType.REFERENCE_RETRACTED},
}
# A study that moves on also closes its sites and gets its dates; not every site is open, nor every move one.
FOLLOW = {EventType.SITE_OPENED, EventType.SITE_CLOSED, EventType.COMPLETION_MOVED}
MAYBE_NONE = {"site_added", "site_removed", "site_status_changed", "start_moved"} | {
    "primary_completion_moved",
    "completion_moved",
}


@pytest.mark.parametrize("name", EDITS)
def test_each_edit_of_the_simulator_means_what_it_is_called(name: str) -> None:
    """An edit gives fields that changed, and the events that its name says, on whatever study."""
    possible = 0
    for index in range(25):
        old = generate.study(7, index)
        new = deepcopy(old)
        if not EDITS[name](new, Desk(Draw(index), FIRST_DATA_DAY + 3)):
            continue
        possible += 1
        assert field_changes(old, new)
        found = {event.event_type for event in events(old, new)}
        meant = MEANINGS.get(name, set())
        if name in {"status_moved", "study_stopped", "status_became_unknown"}:
            found -= FOLLOW
        assert found <= meant
        assert found or not meant or name in MAYBE_NONE
    assert possible


# What an event is when it is undone. A retraction that is taken back is none.
UNDONE = {
    EventType.PRIMARY_OUTCOME_ADDED: EventType.PRIMARY_OUTCOME_REMOVED,
    EventType.SECONDARY_OUTCOME_ADDED: EventType.SECONDARY_OUTCOME_REMOVED,
    EventType.PRIMARY_OUTCOME_MOVED_TO_SECONDARY: EventType.SECONDARY_OUTCOME_MOVED_TO_PRIMARY,
    EventType.SITE_OPENED: EventType.SITE_CLOSED,
    EventType.COLLABORATOR_ADDED: EventType.COLLABORATOR_REMOVED,
    EventType.RESULTS_POSTED: EventType.RESULTS_WITHDRAWN,
    EventType.IPD_POSTED: EventType.IPD_WITHDRAWN,
}
UNDONE |= {gone: come for come, gone in UNDONE.items()}


def undone(found: list[TypedEvent]) -> list[tuple[Any, ...]]:
    """Events as they are when the change is undone, without what depends on the direction."""
    return sorted(
        (UNDONE.get(event.event_type, event.event_type), str(event.new_value), str(event.old_value))
        for event in found
        if event.event_type is not EventType.REFERENCE_RETRACTED
    )


def plain(found: list[TypedEvent]) -> list[tuple[Any, ...]]:
    """Events to be compared with undone ones."""
    return sorted(
        (event.event_type, str(event.old_value), str(event.new_value))
        for event in found
        if event.event_type is not EventType.REFERENCE_RETRACTED
    )


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), edits=st.integers(0, 12) | st.none())
def test_undoing_whatever_was_done_undoes_its_events(seed: int, edits: int | None) -> None:
    """Any two studies, related or not, give the same events in both directions; equal ones give none."""
    old = wild_study(seed, 1)
    new = wild_study(seed + 1, 1) if edits is None else edited(old, seed, edits)
    assert plain(events(new, old)) == undone(events(old, new))
    assert events(old, old) == []


@given(index=st.integers(0, 300))
def test_events_come_in_the_order_of_their_types(index: int) -> None:
    """A consumer finds the events of a change in the order in which their types are listed."""
    order = list(EventType)
    found = events(generate.study(7, index), generate.study(7, index, 3))
    assert found == sorted(found, key=lambda event: order.index(event.event_type))


@given(st.dates(), st.dates())
def test_full_dates_move_by_the_days_between_them(old: date, new: date) -> None:
    """Days moved are those of the calendar, with their sign."""
    assert days_moved(str(old), str(new)) == (new - old).days
    assert is_after(old, str(new)) == (old > new)


@pytest.mark.parametrize(
    "text", ["", "2021-13", "2021-02-31", "0000", "21-02", "2021-2", "٢٠٢١", 5, None]
)
def test_what_is_no_date_covers_no_days(text: Any) -> None:
    """Anything but a partial date of the calendar is no date, and never an error."""
    assert first_and_last_day(text) is None
    assert days_moved(text, "2021") is None
    assert is_after(OBSERVED, text) is None


def test_partial_dates_cover_all_their_days() -> None:
    """A month has its own last day, a year its last of December."""
    assert first_and_last_day("2024-02") == (date(2024, 2, 1), date(2024, 2, 29))
    assert first_and_last_day("2023") == (date(2023, 1, 1), date(2023, 12, 31))


def documented() -> Iterator[str]:
    """The rows of the document's table of event types."""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `") and line.split("`")[1] in set(EventType):
            yield line


def test_every_type_is_documented_as_it_describes_itself() -> None:
    """The document lists all types in their order, with the descriptions that they have in code."""
    assert list(documented()) == [f"| `{it}` | {it.description} |" for it in EventType]
