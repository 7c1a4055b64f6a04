"""The feed's events, made of a recorded history."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from ctg_assets.feed.errors import EventsUnreadableError
from ctg_assets.feed.events import ChangeEvent, Message
from ctg_assets.feed.history_events import HistoryEvents, about_study
from ctg_assets.history.recording import Recorder
from ctg_assets.history.schemas import CHANGES_FILE
from ctg_assets.lake import Lake
from ctg_assets.settings import Settings
from ctg_assets_tests.support.made_lakes import extraction, json_values

DAYS = [f"2026-11-{day}T09:00:05" for day in range(10, 30)]


def study(number: int, status: str = "RECRUITING", countries: tuple[str, ...] = ("Chad",)) -> bytes:
    """A study with what events tell of it."""
    content = {
        "protocolSection": {
            "identificationModule": {
                "nctId": f"NCT{number:08d}",
                "briefTitle": f"Study {number}",
            },
            "statusModule": {
                "overallStatus": status,
                "lastUpdatePostDateStruct": {"date": "2026-01-01"},
            },
            "sponsorCollaboratorsModule": {
                "leadSponsor": {"name": "Lead"},
                "collaborators": [{"name": "Helper"}, {"name": "Lead"}],
            },
            "conditionsModule": {"conditions": ["Uveal Melanoma"]},
            "contactsLocationsModule": {
                "locations": [
                    {"facility": f"Hospital {at}", "city": "Town", "country": country}
                    for at, country in enumerate(countries)
                ]
            },
        },
        "derivedSection": {
            "conditionBrowseModule": {
                "meshes": [{"id": "D008545", "term": "Melanoma"}],
                "ancestors": [{"id": "D009369", "term": "Neoplasms"}],
            }
        },
    }
    return json.dumps(content).encode()


def observe(lake: Lake, day: int, *studies: bytes) -> None:
    """Record a whole walk that saw these studies on a day."""
    stamp = DAYS[day].replace("-", "").replace(":", "")[:15]
    plan = extraction(
        lake.storage,
        [studies],
        extraction_id=f"{stamp}Z-full-aaaaaa",
        data_timestamp=DAYS[day],
        expected_studies=len(studies),
    )
    Recorder(lake.storage, lake.scratch).record(plan.extraction_id)


def all_events(source: HistoryEvents, limit: int = 1000, after: int = 0) -> list[ChangeEvent]:
    """All events after a number, asked for so many at a time."""
    found: list[ChangeEvent] = []
    while part := source.events(found[-1].change_seq if found else after, limit):
        assert len(part) <= limit
        found += part
    return found


@pytest.fixture
def moved(lake: Lake) -> Lake:
    """A history: two studies come, one changes, then it goes and comes back as it was at first."""
    observe(lake, 0, study(1), study(2))
    observe(lake, 1, study(1), study(2, "COMPLETED", ("Chad", "Peru")))
    observe(lake, 2, study(1))
    observe(lake, 3, study(1), study(2))
    return lake


def test_an_empty_history_has_no_events(lake: Lake) -> None:
    """Before the first refresh there is nothing, and the newest number is 0."""
    source = HistoryEvents(lake.history)
    assert (source.newest(), list(source.events(0, 10))) == (0, [])


def test_events_tell_what_happened(moved: Lake) -> None:
    """Kinds, versions, fields, meanings, and the study as it is then, or as it last was."""
    source = HistoryEvents(moved.history)
    found = all_events(source)
    assert source.newest() == 5
    assert [(event.change_seq, event.nct_id, event.kind) for event in found] == [
        (1, "NCT00000001", "insert"),
        (2, "NCT00000002", "insert"),
        (3, "NCT00000002", "update"),
        (4, "NCT00000002", "delete"),
        (5, "NCT00000002", "restore"),
    ]
    assert [(event.old_version_number, event.new_version_number) for event in found] == [
        (None, 1),
        (None, 1),
        (1, 2),
        (2, None),
        (found[4].old_version_number, 1),
    ]
    update, deletion, restored = found[2:]
    assert "protocolSection.statusModule.overallStatus" in update.fields_changed
    assert len(set(update.fields_changed)) == len(update.fields_changed)
    assert "status_changed" in [meaning.event_type for meaning in update.typed_events]
    assert update.countries == deletion.countries == ("Chad", "Peru")
    assert restored.countries == ("Chad",)
    assert restored.title == "Study 2"
    assert restored.sponsors == ("Lead", "Helper")
    assert restored.conditions == ("Uveal Melanoma",)
    assert restored.condition_terms == ("Melanoma", "Neoplasms")


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_events_can_be_asked_for_piece_by_piece(moved: Lake, limit: int) -> None:
    """However many at a time, and by whomever again, they are the same, down to the bytes sent."""
    whole = [Message.of(event) for event in all_events(HistoryEvents(moved.history))]
    source = HistoryEvents(moved.history)
    assert [Message.of(event) for event in all_events(source, limit)] == whole
    assert [Message.of(event) for event in all_events(source, limit, after=2)] == whole[2:]
    assert len({message.event_id for message in whole}) == len(whole)


def test_messages_hold_times_with_their_zone(moved: Lake) -> None:
    """The time of observation is UTC and says so."""
    body: dict[str, Any] = json.loads(Message.of(HistoryEvents(moved.history).events(2, 1)[0]).body)
    assert body["observed_at"] == "2026-11-11T09:00:05Z"


def test_a_damaged_history_is_told(moved: Lake, settings: Settings) -> None:
    """A file that cannot be read is an error of the source, which can be waited for."""
    path = settings.data_dir / "lake" / "history" / "000002" / CHANGES_FILE
    path.write_bytes(b"no Parquet")
    source = HistoryEvents(moved.history)
    assert len(source.events(0, 10)) == 2
    with pytest.raises(EventsUnreadableError, match=r"000002/changes\.parquet"):
        source.events(2, 10)


@given(json_values)
def test_any_json_can_be_told_of(content: Any) -> None:
    """Whatever a study holds, an event can be made of it."""
    shapes = (
        content,
        {"protocolSection": content},
        {"protocolSection": {"contactsLocationsModule": {"locations": content}}},
        {"protocolSection": {"identificationModule": {"briefTitle": content}}},
    )
    for shape in shapes:
        about = about_study(json.dumps(shape).encode())
        assert about["title"] is None or isinstance(about["title"], str)
        assert all(isinstance(text, str) for text in about["countries"])


def test_what_is_no_json_can_be_told_of() -> None:
    """A study that cannot be read is told of without its facts."""
    assert about_study(b"{") == {}
