"""From the queue into ClickHouse: poison, repeats, another order, and what is no event (4 s of CPU, and the broker)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pika
import pytest

from ctg_assets.clickhouse import ClickHouse, followed_tables
from ctg_assets.feed.amqp import amqp_parameters
from ctg_assets.feed.config import consumed_queue, written_clickhouse
from ctg_assets.feed.consuming import Consumed, consume
from ctg_assets.feed.events import Message
from ctg_assets.feed.history_events import HistoryEvents
from ctg_assets.refresh.undo import undoer
from ctg_assets_tests.clickhouse.following import (
    Engine,
    FollowedLake,
    check_equal,
)
from ctg_assets_tests.feed.broker import Broker
from ctg_assets_tests.feed.helpers import QUICK
from ctg_assets_tests.history.undone import AUTHOR
from ctg_assets_tests.release.released import few_studies
from ctg_assets_tests.soak import SHARE

pytestmark = pytest.mark.process


def test_a_queue_fills_clickhouse(
    engine: Engine, broker: Broker, queue: str, tmp_path: Path
) -> None:
    """Messages twice, in another order, early, poisonous: the rows are those of a load, and the queue is empty."""
    engine(_consume, tmp_path, broker.url, queue)


def _consume(folder: Path, url: str, queue: str) -> None:
    lake = FollowedLake(folder)
    with lake.opened() as server:
        _consume_in(lake, server, url, queue)


def _consume_in(lake: FollowedLake, server: ClickHouse, url: str, queue: str) -> None:
    lake.walk(1, few_studies())
    publish(url, queue, [])
    assert told(taken(lake, url, queue)) == (0, 0, 0, 0)
    lake.walk(2, few_studies(n3="Another Title", n7="", n24="New"))
    lake.walk(3, few_studies(n3="Third Title", n7="", n24="New"))
    events = messages(lake, 40)
    assert [message.change_seq for message in events] == [41, 42, 43, 44]
    early = Message("early", 999, "NCT00300000", b'{"change_seq": 999, "nct_id": "NCT00300000"}')
    poison = Message("poison", 0, "", b"\xff no event")
    # Those that the first load has, others backwards; one is missing.
    old = messages(lake, 0)[:2]
    before = whole_with(lake)
    publish(url, queue, [*old, poison, early, *events[:0:-1]])
    report = taken(lake, url, queue)
    assert told(report) == (6, 3, 2, 1)
    assert report.waiting == 1
    assert whole_with(lake) == before
    # What waits for a snapshot is still in the queue; another consumer gets it.
    publish(url, queue, [*events, *events])
    assert told(taken(lake, url, queue)) == (8, 4, 4, 0)
    assert left(url, queue) == 1
    check_equal(server, lake.rows())
    # Nothing up to the newest snapshot is missing, so the next batch reads only what comes after it.
    assert whole_with(lake) == (44, newest_snapshot(lake)) != before
    [letter] = lake.ask("SELECT * FROM ctg_rows.ctg_dead_letters FINAL")
    assert (letter["event_id"], letter["body"]) == ("poison", "\\xff no event")
    assert "no event" in letter["reason"]
    if SHARE:
        _lose_in(lake, server, url, queue)


def _lose_in(lake: FollowedLake, server: ClickHouse, url: str, queue: str) -> None:
    """An undoing that no message tells of, and a table that is gone with messages still to come."""
    titles = {"n3": "Third Title", "n7": "", "n24": "New"}
    lake.walk(4, few_studies(**titles, n5="Mistaken"))
    publish(url, queue, messages(lake, 44))
    assert told(taken(lake, url, queue)) == (1, 1, 0, 0)
    undoer(lake.lake).undo(lake.lake.history.entries()[-1].sequence, AUTHOR)
    assert told(taken(lake, url, queue)) == (0, 0, 0, 0)
    assert whole_with(lake) == (46, newest_snapshot(lake))
    check_equal(server, lake.rows())
    lake.walk(5, few_studies(**titles, n9="Later"))
    server.do("DROP TABLE ctg_rows.study_changes")
    assert told(taken(lake, url, queue)) == (0, 0, 0, 0)
    check_equal(server, lake.rows())


def whole_with(lake: FollowedLake) -> tuple[int, str]:
    """The change up to which all tables are whole, and the snapshot they are whole with."""
    with followed_tables(lake.address, lake.lake) as tables:
        base = tables.prepare()
    return base.change_seq, base.snapshot_id


def newest_snapshot(lake: FollowedLake) -> str:
    """The lake's newest snapshot."""
    manifest = lake.lake.snapshots.latest()
    assert manifest is not None
    return manifest.snapshot_id


def messages(lake: FollowedLake, after: int) -> list[Message]:
    """All messages after a number."""
    found = []
    while events := HistoryEvents(lake.lake.history).events(after, 1000):
        found += [Message.of(event) for event in events]
        after = events[-1].change_seq
    return found


def parameters(url: str, queue: str) -> pika.ConnectionParameters:
    """How the broker is connected to."""
    return amqp_parameters(consumed_queue("test", url, queue, None), None)


def publish(url: str, queue: str, some: Sequence[Message]) -> None:
    """Put messages into a queue."""
    with pika.BlockingConnection(parameters(url, queue)) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        for message in some:
            properties = pika.BasicProperties(message_id=message.event_id)
            channel.basic_publish("", queue, message.body, properties)


def left(url: str, queue: str) -> int:
    """How many messages are in a queue."""
    with pika.BlockingConnection(parameters(url, queue)) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).method.message_count)


def taken(lake: FollowedLake, url: str, queue: str) -> Consumed:
    """Consume what is there."""
    report = consume(
        lake.feed,
        consumed_queue("queue", url, queue, None),
        written_clickhouse("queue", f"chdb://{lake.address.folder}", 100, None),
        {},
        once=True,
        stop=threading.Event(),
        pauses=QUICK,
    )
    assert report.problem is None, report.problem
    return report


def told(report: Consumed) -> tuple[int, int, int, int]:
    """Messages, studies brought, repeats, and what was put aside."""
    return report.messages, report.brought, report.repeats, report.put_aside
