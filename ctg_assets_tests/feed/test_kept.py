"""The feed's notes in a backup: written as they are, and brought back without skipping anything."""

from __future__ import annotations

import pytest

from ctg_assets.feed.kept import KeptFeed, bring_back, feed_notes
from ctg_assets.feed.positions import Refusal, dead_letters, open_progress, sink_states
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.feed.helpers import messages, some_events

EVENTS = messages(some_events(9).listed)


def delivered(address: PostgresAddress, sink: str, upto: int, refused: int | None = None) -> None:
    """Let a sink have taken everything up to a number, but for one event."""
    with open_progress(address, sink) as progress:
        progress.begin(0)
        aside = [Refusal(EVENTS[refused - 1], "no such study", 5)] if refused else []
        taken = [event.event_id for event in EVENTS[:upto] if event.change_seq != refused]
        assert progress.advance(0, upto, taken, aside)


def positions(address: PostgresAddress) -> dict[str, tuple[int, int]]:
    """Number and count of each sink."""
    return {state.sink: (state.change_seq, state.delivered) for state in sink_states(address)}


@pytest.fixture
def backup(address: PostgresAddress, storage: Storage) -> KeptFeed:
    """What a backup has of two sinks, one of which refused an event, written and read again."""
    delivered(address, "desk", 7, refused=3)
    delivered(address, "archive", 5)
    write_record(storage, "feed.json", feed_notes(address))
    return read_record(storage, "feed.json", KeptFeed)


def test_a_new_database_has_it_all(
    backup: KeptFeed, address: PostgresAddress, server: PostgresAddress
) -> None:
    """Positions, counts and dead letters are as they were, each event with its text; a second time changes nothing."""
    with new_database(server) as other:
        assert sorted(bring_back(other, backup, newest=7)) == ["archive", "desk"]
        assert positions(other) == {"desk": (7, 6), "archive": (5, 5)}
        assert dead_letters(other, "desk", 9) == dead_letters(address, "desk", 9)
        assert feed_notes(other) == backup
        assert bring_back(other, backup, newest=7) == []
        assert feed_notes(other) == backup


def test_a_database_that_lives_is_set_back_to_the_history(
    backup: KeptFeed, address: PostgresAddress
) -> None:
    """A sink beyond the restored history would miss the changes that get its numbers; one within it stays.

    What the database knows better (taken since, dead letters gone) is not overwritten.
    """
    with open_progress(address, "desk") as progress:
        assert progress.advance(7, 9, ["a", EVENTS[2].event_id], [])
    assert bring_back(address, backup, newest=8) == []
    assert positions(address) == {"desk": (8, 8), "archive": (5, 5)}
    assert dead_letters(address, "desk", 9) == []


def test_without_a_feed_there_is_nothing(address: PostgresAddress) -> None:
    """A database that never had a sink has no notes, and gets no tables for bringing none back."""
    assert feed_notes(address) == KeptFeed()
    assert bring_back(address, KeptFeed(), newest=7) == []
    assert sink_states(address) == []
