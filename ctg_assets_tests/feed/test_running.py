"""All sinks at once: none waits for another, and what goes wrong is tried again until it goes right."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import pytest

from ctg_assets.feed import positions
from ctg_assets.feed.config import SinkSettings
from ctg_assets.feed.delivery import Sink
from ctg_assets.feed.errors import SinkBusyError, SinkFileError, SinkUnavailableError
from ctg_assets.feed.positions import SinkState, open_progress, sink_states
from ctg_assets.feed.runner import Outcome, make_sink, run_feed
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.feed.broker import LARGEST_MESSAGE, Broker, amqp_settings
from ctg_assets_tests.feed.helpers import (
    PATIENCE_SECONDS,
    QUICK,
    SECRET,
    SECRET_ENV,
    ListedEvents,
    Request,
    ScriptedSink,
    event,
    receiver,
    some_events,
    webhook_settings,
)
from ctg_assets_tests.orchestration.workplace import wait_until

ENVIRONMENT = {SECRET_ENV: SECRET}


def once(
    address: PostgresAddress,
    source: ListedEvents,
    *sinks: tuple[SinkSettings, Sink],
) -> list[Outcome]:
    """Deliver what there is."""
    return run_feed(sinks, address, source, once=True, stop=threading.Event(), pauses=QUICK)


@contextlib.contextmanager
def running(
    address: PostgresAddress, source: ListedEvents, *sinks: tuple[SinkSettings, Sink]
) -> Iterator[None]:
    """A feed that runs while the block does."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_feed,
        args=(sinks, address, source),
        kwargs={"once": False, "stop": stop, "pauses": QUICK},
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def webhook(url: str, **given: object) -> tuple[SinkSettings, Sink]:
    """A webhook ready for use."""
    settings = webhook_settings(url, **given)
    return settings, make_sink(settings, ENVIRONMENT)


def state(address: PostgresAddress, name: str) -> SinkState:
    """How far a sink is."""
    return next(state for state in sink_states(address) if state.sink == name)


def reaches(address: PostgresAddress, name: str, change_seq: int) -> None:
    """Wait until a sink has everything up to a change."""
    wait_until(
        f"{name} is at {change_seq}",
        lambda: any(
            (found.sink, found.change_seq) == (name, change_seq) for found in sink_states(address)
        ),
        pause=0.02,
    )


def test_a_sink_that_is_down_delays_nobody(address: PostgresAddress) -> None:
    """The others get everything meanwhile; it gets everything when it is up again."""
    up = threading.Event()
    with (
        receiver(lambda _: 200 if up.is_set() else 503) as down,
        receiver() as there,
        running(
            address,
            some_events(40),
            webhook(down.url, name="down"),
            webhook(there.url, name="there"),
        ),
    ):
        reaches(address, "there", 40)
        wait_until("an error is noted", lambda: state(address, "down").failing_since, pause=0.02)
        held_up = state(address, "down")
        assert held_up.change_seq == 0
        assert "answered 503" in (held_up.last_error or "")
        up.set()
        reaches(address, "down", 40)
        assert state(address, "down").failing_since is None
    arrived = {number for request in down.requests for number in request.numbers}
    assert arrived == set(range(1, 41))


def test_once_says_what_could_not_be_delivered(address: PostgresAddress) -> None:
    """Each sink has its outcome; those that are up have everything."""
    with receiver(lambda _: 503) as down, receiver() as there:
        failed, done = once(
            address,
            some_events(10),
            webhook(down.url, name="down"),
            webhook(there.url, name="there"),
        )
    assert done == Outcome("there")
    assert failed.sink == "down"
    assert isinstance(failed.problem, SinkUnavailableError)
    assert [request.numbers for request in there.requests] == [
        [1, 2, 3, 4],
        [5, 6, 7, 8],
        [9, 10],
    ]


def test_webhook_and_queue_together(address: PostgresAddress, broker: Broker, queue: str) -> None:
    """The same events go to both, each with its own position."""
    settings = amqp_settings(broker.url, queue=queue)
    with receiver() as there:
        outcomes = once(
            address,
            some_events(120),
            webhook(there.url),
            (settings, make_sink(settings, ENVIRONMENT)),
        )
    assert [outcome.problem for outcome in outcomes] == [None, None]
    by_hook = [event["event_id"] for request in there.requests for event in request.events]
    by_queue = [message["event_id"] for message in broker.drain(queue)]
    assert by_hook == by_queue
    assert len(set(by_hook)) == 120


def test_a_sink_that_another_process_serves_is_left_to_it(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, that is an outcome; running, the sink is taken over when the other is gone."""
    monkeypatch.setattr(positions, "DYING_MILLISECONDS", 100)
    sink = ScriptedSink()
    settings = webhook_settings()
    with open_progress(address, "hook"):
        (outcome,) = once(address, some_events(5), (settings, sink))
        assert isinstance(outcome.problem, SinkBusyError)
        assert sink.taken == []
        with running(address, some_events(5), (settings, sink)):
            pass
        assert sink.taken == []
    with running(address, some_events(5), (settings, sink)):
        reaches(address, "hook", 5)


def test_a_lost_database_connection_is_made_again(address: PostgresAddress) -> None:
    """What was sent and not noted is sent again, and delivery goes on."""
    cut = threading.Event()

    def judge(numbers: Sequence[int]) -> None:
        if numbers[0] == 5 and not cut.is_set():
            cut.set()
            with connect(address) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE application_name = 'ctg_assets feed' AND datname = current_database()"
                )

    sink = ScriptedSink(judge)
    with running(address, some_events(12), (webhook_settings(), sink)):
        reaches(address, "hook", 12)
    assert sink.tries == [[1, 2, 3, 4], [5, 6, 7, 8], [5, 6, 7, 8], [9, 10, 11, 12]]


def test_a_defect_ends_nothing(address: PostgresAddress, caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody thought of is logged with its traceback, and the delivery tried again."""
    sink = ScriptedSink()

    def judge(_: Sequence[int]) -> None:
        if len(sink.tries) == 1:
            message = "nobody thought of this"
            raise RuntimeError(message)

    sink.verdict = judge
    with running(address, some_events(4), (webhook_settings(), sink)):
        reaches(address, "hook", 4)
    assert "nobody thought of this" in caplog.text
    assert "Traceback" in caplog.text


def test_new_events_are_found_while_running(address: PostgresAddress) -> None:
    """Events that come later are delivered without a restart."""
    source = ListedEvents(list(some_events(2).listed))
    sink = ScriptedSink()
    with running(address, source, (webhook_settings(), sink)):
        reaches(address, "hook", 2)
        assert isinstance(source.listed, list)
        source.listed.extend(some_events(6).listed[2:])
        reaches(address, "hook", 6)
    assert sink.taken == [1, 2, 3, 4, 5, 6]


def test_poison_is_put_aside_by_status(address: PostgresAddress) -> None:
    """A receiver that answers 400 to one event gets all others; the dead letter says why."""

    def picky(request: Request) -> int:
        return 400 if 7 in request.numbers else 200

    with receiver(picky) as there:
        (outcome,) = once(address, some_events(20), webhook(there.url))
    assert outcome.problem is None
    taken = [request.numbers for request in there.requests if 7 not in request.numbers]
    assert sorted(number for numbers in taken for number in numbers) == [
        number for number in range(1, 21) if number != 7
    ]
    found = state(address, "hook")
    assert (found.change_seq, found.delivered, found.dead_letters) == (20, 19, 1)


def test_poison_for_a_broker_is_put_aside(
    address: PostgresAddress, broker: Broker, queue: str
) -> None:
    """A message too large for the broker is put aside, and all others are in the queue."""
    events = [
        event(number, title="x" * LARGEST_MESSAGE if number == 33 else None)
        for number in range(1, 101)
    ]
    settings = amqp_settings(broker.url, queue=queue)
    (outcome,) = once(address, ListedEvents(events), (settings, make_sink(settings, ENVIRONMENT)))
    assert outcome.problem is None
    arrived = {message["change_seq"] for message in broker.drain(queue)}
    assert arrived == set(range(1, 101)) - {33}
    assert state(address, "queue").dead_letters == 1


def test_a_sink_without_secret_is_refused_before_anything_is_sent() -> None:
    """A missing secret is told at the start, not by the receiver."""
    with pytest.raises(SinkFileError, match=SECRET_ENV):
        make_sink(webhook_settings(), {})
