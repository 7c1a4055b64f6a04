"""RabbitMQ: what is published, what the broker's answers mean. Against a real server."""

from __future__ import annotations

import socket

import pika
import pytest

from ctg_assets.feed.amqp import AmqpSink
from ctg_assets.feed.errors import EventsRefusedError, SinkFileError, SinkUnavailableError
from ctg_assets_tests.feed.broker import LARGEST_MESSAGE, Broker, amqp_settings
from ctg_assets_tests.feed.helpers import event, ids, messages, some_events


def deliver(sink: AmqpSink, first: int, last: int) -> None:
    """Deliver events of these numbers."""
    sink.deliver(messages([event(number) for number in range(first, last + 1)]))


def test_messages_are_confirmed_persistent_and_in_order(broker: Broker, queue: str) -> None:
    """A queue that is not there is made to last; messages carry the event's id."""
    sink = AmqpSink(amqp_settings(broker.url, queue=queue), None)
    deliver(sink, 1, 300)
    deliver(sink, 301, 302)
    sink.close()
    deliver(sink, 303, 303)
    sink.close()
    found = broker.drain(queue)
    assert [message["change_seq"] for message in found] == list(range(1, 304))
    properties = found[0]["properties"]
    assert properties.message_id == found[0]["event_id"] == ids([event(1)])[0]
    assert properties.delivery_mode == pika.DeliveryMode.Persistent.value
    assert properties.content_type == "application/json"
    assert properties.headers == {"change_seq": 1, "nct_id": "NCT00000001"}
    with broker.channel() as channel:
        channel.queue_declare(queue, durable=True)


def test_a_queue_that_is_there_is_left_as_it_is(broker: Broker, queue: str) -> None:
    """A queue made with arguments of its owner's is used."""
    with broker.channel() as channel:
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
    sink = AmqpSink(amqp_settings(broker.url, queue=queue), None)
    deliver(sink, 1, 3)
    sink.close()
    assert len(broker.drain(queue)) == 3


def test_an_exchange_is_published_to(broker: Broker, queue: str) -> None:
    """With exchange and routing key the broker's bindings decide where messages go."""
    with broker.channel() as channel:
        channel.exchange_declare(f"to {queue}", "topic")
        channel.queue_declare(queue)
        channel.queue_bind(queue, f"to {queue}", "ctg.#")
    settings = amqp_settings(broker.url, exchange=f"to {queue}", routing_key="ctg.changes")
    sink = AmqpSink(settings, None)
    deliver(sink, 1, 3)
    sink.close()
    assert len(broker.drain(queue)) == 3


def test_a_message_that_no_queue_gets_is_not_confirmed(broker: Broker, queue: str) -> None:
    """The broker confirms it all the same, so it has to be asked to return it."""
    with broker.channel() as channel:
        channel.exchange_declare(f"to {queue}", "topic")
    settings = amqp_settings(broker.url, exchange=f"to {queue}", routing_key="nowhere")
    with pytest.raises(SinkUnavailableError, match=r"has no queue for.*'nowhere'.*NO_ROUTE"):
        deliver(AmqpSink(settings, None), 1, 3)


def test_a_queue_that_went_away_comes_again(broker: Broker, queue: str) -> None:
    """Messages to a deleted queue are returned; the next try makes it anew."""
    sink = AmqpSink(amqp_settings(broker.url, queue=queue), None)
    deliver(sink, 1, 1)
    with broker.channel() as channel:
        channel.queue_delete(queue)
    with pytest.raises(SinkUnavailableError, match="has no queue for"):
        deliver(sink, 2, 3)
    deliver(sink, 2, 3)
    sink.close()
    assert [message["change_seq"] for message in broker.drain(queue)] == [2, 3]


def test_an_exchange_that_is_not_there_is_named(broker: Broker) -> None:
    """Exchanges are their owner's: they are not made."""
    settings = amqp_settings(broker.url, exchange="not there", routing_key="x")
    with pytest.raises(SinkUnavailableError, match="no exchange 'not there'"):
        deliver(AmqpSink(settings, None), 1, 3)


def test_a_full_queue_does_not_confirm(broker: Broker, queue: str) -> None:
    """Messages that a queue rejects are not taken, and that is not held against them for good."""
    full = {"x-max-length": 2, "x-overflow": "reject-publish"}
    with broker.channel() as channel:
        channel.queue_declare(queue, durable=True, arguments=full)
    sink = AmqpSink(amqp_settings(broker.url, queue=queue), None)
    with pytest.raises(EventsRefusedError, match="is the queue full") as found:
        deliver(sink, 1, 9)
    assert not found.value.for_good
    broker.drain(queue)
    deliver(sink, 1, 2)
    sink.close()


def test_a_message_the_broker_will_not_have_is_refused_for_good(broker: Broker, queue: str) -> None:
    """One too large closes the channel; the sink is ready again for the others."""
    sink = AmqpSink(amqp_settings(broker.url, queue=queue), None)
    with pytest.raises(EventsRefusedError, match="larger than") as found:
        sink.deliver(messages([event(1), event(2, title="x" * LARGEST_MESSAGE), event(3)]))
    assert found.value.for_good
    broker.drain(queue)
    deliver(sink, 3, 4)
    sink.close()
    assert len(broker.drain(queue)) == 2


def test_nobody_there_is_unavailability() -> None:
    """A refused connection names the address and the cause."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sink = AmqpSink(amqp_settings(f"amqp://127.0.0.1:{port}/"), None)
    with pytest.raises(SinkUnavailableError, match=f"127.0.0.1:{port}.*refused"):
        deliver(sink, 1, 1)


def test_a_server_that_says_nothing_is_unavailability() -> None:
    """Something that takes the connection and is silent is given up in time."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = amqp_settings(f"amqp://127.0.0.1:{port}/", timeout_seconds=0.3)
        with pytest.raises(SinkUnavailableError, match=f"127.0.0.1:{port}"):
            deliver(AmqpSink(settings, None), 1, 1)


def test_wrong_credentials_are_told(broker: Broker) -> None:
    """A password that the broker does not know is the sink's fault, and is not shown."""
    sink = AmqpSink(amqp_settings(broker.url), "hunter2")
    with pytest.raises(SinkUnavailableError, match="ACCESS_REFUSED") as found:
        deliver(sink, 1, 1)
    assert "hunter2" not in str(found.value)


def test_a_broker_out_of_memory_is_waited_for(broker: Broker, queue: str) -> None:
    """It says that it takes nothing for now, and why; later the same is taken."""
    sink = AmqpSink(amqp_settings(broker.url, queue=queue), None)
    broker.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        with pytest.raises(SinkUnavailableError, match="takes no messages for now: low on memory"):
            deliver(sink, 1, 3)
    finally:
        broker.control("set_vm_memory_high_watermark", "0.9")
    deliver(sink, 1, 3)
    sink.close()


@pytest.mark.parametrize("options", ["?heartbeat=often", "?socket_timeout=-1"])
def test_options_that_cannot_be_used_are_told(options: str) -> None:
    """What pika cannot make of the URL is told before anything is sent, without the password."""
    settings = amqp_settings(f"amqp://me@broker.example/{options}")
    with pytest.raises(SinkFileError, match="sink 'queue': the url has options") as found:
        AmqpSink(settings, "hunter2")
    assert "hunter2" not in str(found.value)


def test_a_batch_is_confirmed_as_a_whole(broker: Broker, queue: str) -> None:
    """A thousand messages take one wait, not a thousand."""
    sink = AmqpSink(amqp_settings(broker.url, queue=queue), None)
    sink.deliver(messages(some_events(1000).listed))
    sink.close()
    assert len(broker.drain(queue)) == 1000
