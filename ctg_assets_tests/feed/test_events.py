"""Events: their id, their JSON, and what the documentation says of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import (  # type: ignore[import-untyped] # ships no types
    ValidationError,
    validate,
)

from ctg_assets.feed.events import ChangeEvent, Message, TypedEvent, event_schema
from ctg_assets.feed.history_events import EVENT_NAMES
from ctg_assets_tests.feed.helpers import decoded, event

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "feed.md"


def test_the_id_is_that_of_the_change() -> None:
    """It depends on number, study, kind and contents, and on nothing that may be told otherwise later."""
    first = event(7, old_content_hash="a", new_content_hash="b", title="One title")
    assert (
        first.event_id
        == event(
            7, old_content_hash="a", new_content_hash="b", title="Another", countries=("Chad",)
        ).event_id
    )
    others = (
        event(8, nct_id=first.nct_id, old_content_hash="a", new_content_hash="b"),
        event(7, nct_id="NCT00000008", old_content_hash="a", new_content_hash="b"),
        event(7, kind="delete", old_content_hash="a", new_content_hash="b"),
        event(7, old_content_hash="b", new_content_hash="b"),
        event(7, old_content_hash="a", new_content_hash=None),
    )
    assert len({first.event_id, *(other.event_id for other in others)}) == 6


def test_the_id_never_changes() -> None:
    """Ids that were sent with an earlier release are those sent today."""
    assert event(7, new_content_hash="b").event_id == "2d4414f8565d0938c9f1f5fcad96d4e0"


def test_messages_are_of_the_schema() -> None:
    """What is sent validates, and what is not of the schema does not."""
    full = event(
        1,
        title="A study",
        typed_events=(TypedEvent(event_type="start_moved", days=-3),),
        fields_changed=("hasResults",),
        countries=("Chad",),
    )
    for sent in (full, event(2)):
        validate(decoded(Message.of(sent).body), event_schema())
    with pytest.raises(ValidationError):
        validate({**decoded(Message.of(full).body), "change_seq": "1"}, event_schema())


def test_the_documentation_lists_every_field() -> None:
    """The tables of docs/feed.md hold each field with its description, as declared."""
    text = DOCUMENTATION.read_text(encoding="utf-8")
    for name in (ChangeEvent.__name__, TypedEvent.__name__):
        for field, schema in event_schema()["$defs"][name]["properties"].items():
            assert f"| `{field}` | {schema['description']} |" in text


def test_the_documentation_lists_every_name_of_an_event() -> None:
    """What filters can call events is what the documentation says."""
    text = DOCUMENTATION.read_text(encoding="utf-8")
    assert [name for name in EVENT_NAMES if f"`{name}`" not in text] == []
