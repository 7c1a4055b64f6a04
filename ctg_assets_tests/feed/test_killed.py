"""`kill -9` of publisher, consumer and broker: every event arrives, and repeats carry the same id."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from ctg_assets.feed.positions import sink_states
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.feed.broker import Broker, amqp_settings, unused_ports
from ctg_assets_tests.feed.helpers import Request, receiver, some_events, webhook_settings
from ctg_assets_tests.feed.processes import (
    kill_consumer,
    publishing,
    receiving,
    written_down,
)
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.soak import only_in_soaks

pytestmark = [pytest.mark.process, pytest.mark.soak, only_in_soaks]

EVENTS = 60


def position(address: PostgresAddress) -> int:
    """How far the only sink is, -1 before it begins."""
    return next((state.change_seq for state in sink_states(address)), -1)


def all_arrived(arrived: Iterable[tuple[int, str]], events: int = EVENTS) -> None:
    """Check that every event arrived, with one id however often it came."""
    assert set(arrived) == {
        (event.change_seq, event.event_id) for event in some_events(events).listed
    }


@pytest.mark.parametrize("killed_at", [1, 2, 9])
def test_killed_publisher(address: PostgresAddress, killed_at: int) -> None:
    """Killed while a batch is out: it goes on where it was, with that batch once more."""
    asked, gone = threading.Event(), threading.Event()

    def answer(_: Request) -> int:
        if len(there.requests) == killed_at:
            asked.set()
            gone.wait()
        return 200

    with receiver(answer) as there:
        settings = webhook_settings(there.url)
        with publishing(settings, address, EVENTS) as publisher:
            assert asked.wait(60)
            publisher.kill()
            publisher.join()
        gone.set()
        with publishing(settings, address, EVENTS):
            wait_until("all is settled", lambda: position(address) == EVENTS, pause=0.02)
    arrived = [
        (event["change_seq"], event["event_id"])
        for request in there.requests
        for event in request.events
    ]
    all_arrived(arrived)
    repeated = there.requests[killed_at - 1]
    assert there.requests[killed_at].body == repeated.body
    assert there.requests[killed_at].headers["webhook-id"] == repeated.headers["webhook-id"]


def test_killed_publisher_of_a_queue(address: PostgresAddress, broker: Broker, queue: str) -> None:
    """Killed again and again while it publishes: the queue has every event."""
    events = 2000
    settings = amqp_settings(broker.url, queue=queue, batch_size=20)
    for reached in (100, 500, 900):
        with publishing(settings, address, events) as publisher:
            wait_until("it publishes", lambda: position(address) >= reached, pause=0.005)  # noqa: B023
            publisher.kill()
            publisher.join()
        assert position(address) < events
    with publishing(settings, address, events):
        wait_until("all is settled", lambda: position(address) == events, pause=0.02)
    all_arrived(
        ((message["change_seq"], message["event_id"]) for message in broker.drain(queue)), events
    )


@pytest.mark.parametrize("killed_at", [1, 5])
def test_killed_consumer(address: PostgresAddress, tmp_path: Path, killed_at: int) -> None:
    """A receiver that dies before it answers gets the same events when it is back."""
    (port,) = unused_ports(1)
    file = tmp_path / "received"
    settings = webhook_settings(f"http://127.0.0.1:{port}/")
    with (
        publishing(settings, address, EVENTS),
        receiving(port, file, killed_at) as consumer,
    ):
        consumer.join(60)
        assert consumer.exitcode is not None
        before = written_down(file)
        with receiving(port, file, None):
            wait_until("all is settled", lambda: position(address) == EVENTS, pause=0.02)
    assert len(before) == 4 * killed_at
    arrived = written_down(file)
    all_arrived(arrived)
    assert arrived[len(before) :][:4] == before[-4:]


def test_killed_consumer_of_a_queue(
    address: PostgresAddress, broker: Broker, queue: str, tmp_path: Path
) -> None:
    """Messages that a dead consumer did not acknowledge come again, with the same ids."""
    file = tmp_path / "received"
    with publishing(amqp_settings(broker.url, queue=queue), address, EVENTS):
        wait_until("all is settled", lambda: position(address) == EVENTS, pause=0.02)
    kill_consumer(broker.port, queue, file, 25)
    taken = written_down(file)
    assert len(taken) == 25
    with broker.channel() as channel:
        wait_until(
            "the messages are back",
            lambda: channel.queue_declare(queue, passive=True).method.message_count == EVENTS,
        )
    again = [(message["change_seq"], message["event_id"]) for message in broker.drain(queue)]
    assert again[:25] == taken
    all_arrived(again)


def test_killed_broker(address: PostgresAddress, broker: Broker, queue: str) -> None:
    """What it confirmed is there after its restart; what it did not is sent again."""
    events = 1500
    settings = amqp_settings(broker.url, queue=queue, batch_size=20)
    with publishing(settings, address, events):
        wait_until("it publishes", lambda: position(address) >= 100, pause=0.005)
        broker.kill()
        wait_until(
            "the outage is noted",
            lambda: any(state.failing_since for state in sink_states(address)),
            pause=0.02,
        )
        assert 100 <= position(address) < events
        broker.start()
        wait_until("all is settled", lambda: position(address) == events, pause=0.02)
    all_arrived(
        ((message["change_seq"], message["event_id"]) for message in broker.drain(queue)), events
    )
    (state,) = sink_states(address)
    assert state.failing_since is None
    assert state.dead_letters == 0
