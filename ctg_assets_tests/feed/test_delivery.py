"""Delivery to one sink: nothing is lost, what cannot be delivered is put aside, the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ctg_assets.feed import positions
from ctg_assets.feed.config import FilterSettings
from ctg_assets.feed.delivery import Delivery
from ctg_assets.feed.errors import (
    EventsRefusedError,
    EventsUnreadableError,
    FeedError,
    SinkBusyError,
    SinkUnavailableError,
)
from ctg_assets.feed.positions import (
    ask_for_dead_letters,
    dead_letters,
    move_back,
    open_progress,
    sink_states,
)
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.feed.helpers import (
    QUICK,
    ListedEvents,
    ScriptedSink,
    event,
    some_events,
    webhook_settings,
)

CheckResult = Callable[[Sequence[int]], object]


def wrong(*numbers: int) -> CheckResult:
    """Call batches with these events wrong."""

    def judge(batch: Sequence[int]) -> None:
        if set(batch) & set(numbers):
            message = f"{sorted(set(batch) & set(numbers))} cannot be read"
            raise EventsRefusedError(message, for_good=True)

    return judge


def breaking(*numbers: int) -> CheckResult:
    """Break over batches with these events, without calling them wrong."""

    def judge(batch: Sequence[int]) -> None:
        if set(batch) & set(numbers):
            message = "internal error"
            raise EventsRefusedError(message, for_good=False)

    return judge


def delivery(sink: ScriptedSink, source: ListedEvents, **given: Any) -> Delivery:
    """A delivery in a hurry."""
    settings = webhook_settings(**given)
    return Delivery(settings, sink, source, pauses=QUICK, stopped=lambda: False)


def deliver(
    address: PostgresAddress, sink: ScriptedSink, source: ListedEvents, **given: object
) -> None:
    """Deliver everything there is."""
    with open_progress(address, "hook") as progress:
        delivery(sink, source, **given).catch_up(progress)


def position(address: PostgresAddress) -> int:
    """How far the sink is."""
    (state,) = sink_states(address)
    return state.change_seq


def put_aside(address: PostgresAddress) -> list[int]:
    """The numbers of the dead letters."""
    return [letter.change_seq for letter in dead_letters(address, "hook", limit=1000)]


def test_everything_arrives_once_and_in_order(address: PostgresAddress) -> None:
    """With a sink that takes all, each event comes once, in batches, and never again."""
    sink = ScriptedSink()
    deliver(address, sink, some_events(10))
    assert sink.tries == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    deliver(address, sink, some_events(11))
    assert sink.taken == list(range(1, 12))
    (state,) = sink_states(address)
    assert (state.change_seq, state.delivered, state.dead_letters) == (11, 11, 0)


def test_a_new_sink_begins_with_what_is_new(address: PostgresAddress) -> None:
    """Unless it says otherwise, a sink gets what comes after it was set up."""
    sink = ScriptedSink()
    deliver(address, sink, some_events(10), start="newest")
    assert sink.taken == []
    deliver(address, sink, some_events(12), start="newest")
    assert sink.taken == [11, 12]


def test_events_filtered_out_are_passed_over(address: PostgresAddress) -> None:
    """The position moves over events that the sink does not want, also past the last wanted one."""
    sink = ScriptedSink()
    source = ListedEvents(
        [event(number, kind="delete" if number == 3 else "update") for number in range(1, 12_001)]
    )
    deliver(address, sink, source, filters=FilterSettings(events=("delete",)))
    assert sink.taken == [3]
    assert position(address) == 12_000


@pytest.mark.parametrize("place", range(1, 10))
def test_a_poison_event_is_put_aside_alone(address: PostgresAddress, place: int) -> None:
    """Wherever the event lies that a sink calls wrong: all others arrive, and it is listed with why."""
    sink = ScriptedSink(wrong(place))
    deliver(address, sink, some_events(9))
    assert sorted(set(sink.taken)) == [number for number in range(1, 10) if number != place]
    (letter,) = dead_letters(address, "hook", limit=10)
    assert letter.change_seq == place
    assert letter.event_id == event(place).event_id
    assert letter.nct_id == event(place).nct_id
    assert letter.reason == f"[{place}] cannot be read"
    assert letter.attempts == 2
    assert position(address) == 9


def test_an_event_that_breaks_the_sink_is_put_aside_once_a_later_one_is_taken(
    address: PostgresAddress,
) -> None:
    """Without a later event nobody can tell event from sink, and so nothing is put aside."""
    sink = ScriptedSink(breaking(3))
    with pytest.raises(SinkUnavailableError, match="internal error; held until"):
        deliver(address, sink, some_events(3))
    assert position(address) == 2
    assert put_aside(address) == []
    deliver(address, sink, some_events(4))
    assert sink.taken == [1, 2, 4]
    assert position(address) == 4
    assert put_aside(address) == [3]


def test_a_broken_sink_is_not_held_against_events(address: PostgresAddress) -> None:
    """A sink that breaks over everything loses nothing: the position stays."""
    sink = ScriptedSink(breaking(*range(3, 100)))
    source = some_events(60)
    given: Mapping[str, Any] = {"batch_size": 20, "refusals_in_a_row": 5}
    for _ in range(3):
        with pytest.raises(SinkUnavailableError, match="the sink itself"):
            deliver(address, sink, source, **given)
        assert position(address) == 2
    sink.verdict = ScriptedSink().verdict
    deliver(address, sink, source, **given)
    assert sorted(set(sink.taken)) == list(range(1, 61))
    assert put_aside(address) == []


def test_a_sink_that_calls_everything_wrong_is_at_fault(address: PostgresAddress) -> None:
    """After so many in a row nothing more is put aside, and a sink that recovers gets the rest."""
    sink = ScriptedSink(wrong(*range(1, 100)))
    source = some_events(60)
    with open_progress(address, "hook") as progress:
        work = delivery(sink, source, refusals_in_a_row=6)
        for _ in range(4):
            with pytest.raises(SinkUnavailableError, match="cannot be read"):
                work.catch_up(progress)
        assert position(address) == 6
        sink.verdict = wrong(7, 8)
        work.catch_up(progress)
    assert put_aside(address) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sink.taken == list(range(9, 61))


def test_many_poison_events_apart_from_each_other_stop_nothing(address: PostgresAddress) -> None:
    """The limit is on refusals in a row, not on their number."""
    bad = list(range(3, 100, 3))
    sink = ScriptedSink(wrong(*bad))
    deliver(address, sink, some_events(100), refusals_in_a_row=2)
    assert put_aside(address) == bad
    assert len(sink.taken) == 100 - len(bad)


def test_what_was_confirmed_before_an_outage_is_settled(address: PostgresAddress) -> None:
    """A sink that goes down in the middle of a refused batch keeps what it had."""

    def judge(batch: Sequence[int]) -> None:
        wrong(1)(batch)
        if 4 in batch and 1 not in batch:
            message = "gone"
            raise SinkUnavailableError(message)

    sink = ScriptedSink(judge)
    with pytest.raises(SinkUnavailableError, match="gone"):
        deliver(address, sink, some_events(8), batch_size=8)
    assert put_aside(address) == [1]
    assert position(address) == 2


def test_a_passing_fault_is_tried_again(address: PostgresAddress) -> None:
    """A delivery is repeated as it was before anything else is made of its failure."""
    sink = ScriptedSink()

    def judge(batch: Sequence[int]) -> None:
        if len(sink.tries) == 1:
            breaking(1)(batch)

    sink.verdict = judge
    deliver(address, sink, some_events(4))
    assert sink.tries == [[1, 2, 3, 4], [1, 2, 3, 4]]


def test_dead_letters_are_sent_again_when_asked_for(address: PostgresAddress) -> None:
    """Those that the sink takes then leave the list, the others stay with the newest reason."""
    sink = ScriptedSink(wrong(2, 5))
    deliver(address, sink, some_events(6))
    first = dead_letters(address, "hook", limit=10)
    assert ask_for_dead_letters(address, "hook") == 2
    assert all(letter.replay_asked for letter in dead_letters(address, "hook", limit=10))
    sink.verdict = wrong(5)
    deliver(address, sink, some_events(6))
    assert sink.taken[-1] == 2
    (letter,) = dead_letters(address, "hook", limit=10)
    assert (letter.change_seq, letter.replay_asked) == (5, False)
    assert letter.attempts == first[1].attempts + 1
    assert letter.first_failed_at == first[1].first_failed_at < letter.last_failed_at
    (state,) = sink_states(address)
    assert state.delivered == 5


def test_dead_letters_stay_asked_for_while_the_sink_is_down(address: PostgresAddress) -> None:
    """An outage during a replay loses none of them."""
    sink = ScriptedSink(wrong(2, 5))
    deliver(address, sink, some_events(6))
    ask_for_dead_letters(address, "hook")

    def down(_: Sequence[int]) -> None:
        message = "down"
        raise SinkUnavailableError(message)

    sink.verdict = down
    with pytest.raises(SinkUnavailableError, match="down"):
        deliver(address, sink, some_events(6))
    assert all(letter.replay_asked for letter in dead_letters(address, "hook", limit=10))
    sink.verdict = ScriptedSink().verdict
    deliver(address, sink, some_events(6))
    assert dead_letters(address, "hook", limit=10) == []


def test_a_refused_replay_does_not_hold_up_news(address: PostgresAddress) -> None:
    """Dead letters that break the sink again go back to the list, and new events arrive."""
    sink = ScriptedSink(wrong(1, 2))
    deliver(address, sink, some_events(3))
    ask_for_dead_letters(address, "hook")
    sink.verdict = breaking(1, 2)
    deliver(address, sink, some_events(5))
    assert sink.taken == [3, 4, 5]
    assert put_aside(address) == [1, 2]


def test_a_sink_can_be_sent_back(address: PostgresAddress) -> None:
    """From a number on everything is sent again, under the same ids; a taken dead letter is none."""
    sink = ScriptedSink(wrong(4))
    deliver(address, sink, some_events(6))
    assert move_back(address, "hook", 3) == 6
    sink.verdict = ScriptedSink().verdict
    deliver(address, sink, some_events(6))
    assert sink.taken[-4:] == [3, 4, 5, 6]
    assert put_aside(address) == []


def test_a_sink_can_be_sent_back_while_it_is_delivered_to(address: PostgresAddress) -> None:
    """The batch under way does not carry the position past what is to be sent again."""
    sink = ScriptedSink()

    def judge(batch: Sequence[int]) -> None:
        if batch[0] == 5 and len(sink.tries) == 2:
            move_back(address, "hook", 2)

    sink.verdict = judge
    deliver(address, sink, some_events(8))
    assert sink.tries == [[1, 2, 3, 4], [5, 6, 7, 8], [2, 3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("number", [0, 8, 100])
def test_a_sink_cannot_be_sent_past_events(address: PostgresAddress, number: int) -> None:
    """A number that would skip events, or is none, is refused with those that can be given."""
    deliver(address, ScriptedSink(), some_events(6))
    with pytest.raises(FeedError, match="from 1 to 7"):
        move_back(address, "hook", number)
    assert position(address) == 6


def test_an_unknown_sink_cannot_be_sent_back(address: PostgresAddress) -> None:
    """A sink without position has nothing to repeat."""
    with pytest.raises(FeedError, match="never delivered to"):
        move_back(address, "hook", 1)
    assert ask_for_dead_letters(address, "hook") == 0
    assert sink_states(address) == []


def test_a_history_that_was_made_anew_is_told(address: PostgresAddress) -> None:
    """Numbers that begin again would leave the sink waiting in silence."""
    deliver(address, ScriptedSink(), some_events(6))
    with pytest.raises(EventsUnreadableError, match="--from-seq 1"):
        deliver(address, ScriptedSink(), some_events(4))


def test_one_process_at_a_time_delivers_to_a_sink(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one is refused while the first is at it, and another sink is not in the way."""
    monkeypatch.setattr(positions, "DYING_MILLISECONDS", 100)
    with open_progress(address, "hook") as progress:
        progress.begin(0)
        with pytest.raises(SinkBusyError, match="'hook'"), open_progress(address, "hook"):
            pass
        with open_progress(address, "other") as other:
            other.begin(0)
        assert [(state.sink, state.is_held) for state in sink_states(address)] == [
            ("hook", True),
            ("other", False),
        ]
    with open_progress(address, "hook") as again:
        assert again.position() == 0


def test_a_stop_puts_nothing_aside(address: PostgresAddress) -> None:
    """An event that would be tried again is not checked_records by the tries made so far."""
    stopped = False

    def judge(batch: Sequence[int]) -> None:
        nonlocal stopped
        stopped = True
        wrong(1)(batch)

    work = Delivery(
        webhook_settings(batch_size=1),
        ScriptedSink(judge),
        some_events(3),
        pauses=QUICK,
        stopped=lambda: stopped,
    )
    with open_progress(address, "hook") as progress, pytest.raises(SinkUnavailableError):
        work.catch_up(progress)
    assert put_aside(address) == []
    assert position(address) == 0
