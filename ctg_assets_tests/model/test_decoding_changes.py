"""Contents decoded as far as they differ: the same is found in them as in whole ones."""

from __future__ import annotations

from copy import deepcopy
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.model.changes.decoding import decode_differing
from ctg_assets.model.changes.field_changes import field_changes
from ctg_assets.model.changes.typed_events import typed_events
from ctg_assets.simulator import generate
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.edits.catalog import edit_at_random
from ctg_assets.simulator.edits.desk import Desk
from ctg_assets_tests.model.edits import edited
from ctg_assets_tests.model.wild import wild_study

OBSERVED = date(2026, 3, 13)

seeds = st.integers(0, 2**32)


def assert_the_same_is_found(old: Any, new: Any) -> None:
    """Changes and events are those between the whole contents."""
    decoded = decode_differing(msgspec.json.encode(old), msgspec.json.encode(new))
    assert decoded is not None
    changes = field_changes(old, new)
    assert field_changes(*decoded) == changes
    assert typed_events(*decoded, changes, OBSERVED) == typed_events(old, new, changes, OBSERVED)


@settings(max_examples=60)
@given(seed=seeds, edits=st.integers(0, 5))
def test_any_edits_of_wild_studies(seed: int, edits: int) -> None:
    """Whatever is done to whatever study, no change and no event is lost or made up."""
    study = wild_study(seed, 1)
    assert_the_same_is_found(study, edited(study, seed, edits))


@settings(max_examples=60)
@given(index=st.integers(0, 500), place=st.integers(0, 10_000), edits=st.integers(1, 4))
def test_edits_as_sponsors_make_them(index: int, place: int, edits: int) -> None:
    """Edits of the kinds that the registry sees give the same changes and events."""
    old = generate.study(7, index, 0)
    new = deepcopy(old)
    for number in range(edits):
        desk = Desk(Draw(place + number), OBSERVED.toordinal())
        edit_at_random(new, desk, by_registry=False)
    assert_the_same_is_found(old, new)


_SITES = [{"facility": "A", "city": "B"}, {"facility": "C", "status": "RECRUITING"}]


def _study(status: str, **more: Any) -> dict[str, Any]:
    protocol = {
        "statusModule": {
            "overallStatus": status,
            "primaryCompletionDateStruct": {"date": "2025-01"},
            "resultsFirstPostDateStruct": {"date": "2026-01-02"},
        },
        "outcomesModule": {
            "primaryOutcomes": [{"measure": "x", "timeFrame": more.pop("time", "")}]
        },
        "contactsLocationsModule": {"locations": _SITES},
    }
    return {"protocolSection": protocol, **more}


@pytest.mark.parametrize(
    ("old", "new", "event_types"),
    [
        # The sites did not change, and have their status from the study.
        (_study("RECRUITING"), _study("COMPLETED"), ["status_changed", "site_closed"]),
        # The completion date did not change, and tells that the outcome changed after it.
        (
            _study("COMPLETED"),
            _study("COMPLETED", time="1 year"),
            ["primary_outcome_time_frame_changed"],
        ),
        # The day of posting did not change.
        (
            _study("COMPLETED"),
            _study("COMPLETED", resultsSection={"moreInfoModule": {}}),
            ["results_posted"],
        ),
        # There are the same results in both.
        (
            _study("COMPLETED", hasResults=False, resultsSection={"moreInfoModule": {"a": 1}}),
            _study("COMPLETED", hasResults=True, resultsSection={"moreInfoModule": {"a": 1}}),
            [],
        ),
    ],
)
def test_events_told_from_modules_that_did_not_change(
    old: Any, new: Any, event_types: list[str]
) -> None:
    """What an event needs to know beside the change itself is decoded."""
    changes = field_changes(old, new)
    found = [str(event.event_type) for event in typed_events(old, new, changes, OBSERVED)]
    assert found == event_types
    assert_the_same_is_found(old, new)


def test_modules_that_are_the_same_are_left_out() -> None:
    """Of a module that is byte for byte the same nothing is decoded."""
    study = _study("COMPLETED", resultsSection={"outcomeMeasuresModule": {"a": [1]}})
    decoded = decode_differing(
        msgspec.json.encode(study), msgspec.json.encode({**study, "hasResults": True})
    )
    assert decoded is not None
    for each in decoded:
        assert each["resultsSection"] == {"outcomeMeasuresModule": None}
        assert each["protocolSection"]["outcomesModule"] is None
        assert each["protocolSection"]["statusModule"]["overallStatus"] == "COMPLETED"


def test_another_order_of_members_is_kept() -> None:
    """Changes come in the order in which the modules were sent."""
    old = {"b": {"x": {"y": 1}, "w": {"y": 1}}, "a": 1}
    new = {"b": {"x": {"y": 2}, "w": {"y": 2}}, "a": 2}
    assert [change.path for change in field_changes(old, new)] == ["b.x.y", "b.w.y", "a"]
    assert_the_same_is_found(old, new)


@pytest.mark.parametrize("other", [b"", b"[]", b"1", b'{"a":', b'{"a": "\xff"}', b"[" * 9000])
def test_what_is_no_object(other: bytes) -> None:
    """What is not a JSON object cannot be compared field by field."""
    study = b'{"a": {"b": 1}}'
    assert decode_differing(study, other) is None
    assert decode_differing(other, study) is None
