"""From the queue into ClickHouse: poison, repeats, another order, and what is no event (4 s of CPU, and the broker)."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pika
import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.clickhouse import (
    ClickHouse,
    MartsSource,
    Notes,
    StandingMarts,
    followed_tables,
)
from ctg_assets.feed.amqp import amqp_parameters
from ctg_assets.feed.config import consumed_queue, written_clickhouse
from ctg_assets.feed.consuming import Consumed, consume
from ctg_assets.feed.events import Message
from ctg_assets.feed.history_events import HistoryEvents
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.refresh.undo import undoer
from ctg_assets.settings import ENV_PREFIX
from ctg_assets_tests.clickhouse.bringing import away
from ctg_assets_tests.clickhouse.following import (
    Engine,
    FollowedLake,
    check_equal,
)
from ctg_assets_tests.feed.broker import Broker
from ctg_assets_tests.feed.helpers import QUICK
from ctg_assets_tests.history.undone import AUTHOR
from ctg_assets_tests.release.released import few_studies
from ctg_assets_tests.soak import SHARE, only_in_soaks
from ctg_assets_tests.support.forked_commands import forked_commands

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


def test_marts_come_beside_a_queue(
    engine: Engine, broker: Broker, queue: str, address: PostgresAddress, tmp_path: Path
) -> None:
    """While nothing else comes they are brought, as often as they are others; messages go on, also when no Postgres answers (2 s)."""
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA marts; CREATE TABLE marts.dim_country (n integer)")
    engine(_consume_beside_marts, tmp_path, broker.url, queue, replace(address, schemas=Schemas()))


def _consume_beside_marts(folder: Path, url: str, queue: str, address: PostgresAddress) -> None:
    lake = FollowedLake(folder)
    with lake.opened() as server:
        _consume_beside_marts_in(lake, server, url, queue, address)


def _consume_beside_marts_in(
    lake: FollowedLake, server: ClickHouse, url: str, queue: str, address: PostgresAddress
) -> None:
    lake.walk(1, few_studies()[:4])
    publish(url, queue, [])
    assert taken(lake, url, queue, MartsSource(away, lambda _: None)).messages == 0
    lake.walk(2, few_studies(n1="Another Title", n2="Other")[:4])
    first, second = messages(lake, 4)
    publish(url, queue, [first])
    stop = threading.Event()

    def standing(_: PostgresAddress) -> StandingMarts:
        made_from, noted = "1", Notes(server, "ctg_rows").marts_made_from().get("dim_country")
        if noted is not None:
            made_from = "2"
            if noted.endswith("2"):
                stop.set()
            elif left(url, queue) == 0:
                publish(url, queue, [second])
        return StandingMarts("7", "2026-11-27T09:00:05", {"dim_country": made_from})

    source = MartsSource(lambda: contextlib.nullcontext(address), standing)
    report = taken(lake, url, queue, source, stop=stop)
    assert report.problem is None
    assert told(report) == (2, 2, 0, 0)
    check_equal(server, lake.rows())
    assert lake.ask("SELECT count() AS n FROM ctg_marts.dim_country") == [{"n": 0}]
    # A Postgres that is away is told in the end, and holds up nothing.
    lake.walk(3, few_studies(n1="Third Title")[:4])
    publish(url, queue, messages(lake, 6))
    report = taken(lake, url, queue, MartsSource(away, lambda _: None))
    assert "no Postgres answers" in (report.problem or "")
    assert told(report) == (2, 2, 0, 0)
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


def taken(
    lake: FollowedLake,
    url: str,
    queue: str,
    marts: MartsSource | None = None,
    stop: threading.Event | None = None,
) -> Consumed:
    """Consume what is there, or until `stop` is set; only marts may be in trouble."""
    report = consume(
        lake.feed,
        consumed_queue("queue", url, queue, None),
        written_clickhouse("queue", f"chdb://{lake.address.folder}", 100, None),
        {},
        once=stop is None,
        stop=stop or threading.Event(),
        pauses=QUICK,
        marts=marts,
    )
    assert report.problem is None or marts is not None, report.problem
    return report


def told(report: Consumed) -> tuple[int, int, int, int]:
    """Messages, studies brought, repeats, and what was put aside."""
    return report.messages, report.brought, report.repeats, report.put_aside


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What a person sets who has a data folder and no database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    own = {"CTG_DATA_DIR": str(tmp_path / "data"), "CTG_WAREHOUSE": "none", "COLUMNS": "200"}
    return {**kept, **own}


def consumed(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run the command in a process of its own; returns exit code and output, in one line."""
    done = subprocess.run(
        [forked_commands() / "ctg-assets", "feed", "consume", *arguments],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.soak
@only_in_soaks
def test_the_command(
    environment: dict[str, str], broker: Broker, queue: str, tmp_path: Path
) -> None:
    """It fills the engine in the data folder, and what was put aside is brought once more, or forgotten, when asked for."""
    FollowedLake(tmp_path).walk(1, few_studies()[:3])
    publish(broker.url, queue, [Message("poison", 0, "", b"no event")])
    given = ["--from", broker.url, "--queue", queue, "--embedded", "--once"]
    code, said = consumed(environment, *given)
    assert code == 0, said
    assert said.startswith("messages: 1, studies brought: 0, repeats: 0, put aside: 1 loading")
    assert (tmp_path / "data/clickhouse").is_dir()
    code, said = consumed(environment, *given, "--replay-dead-letters")
    assert code == 0, said
    assert said.startswith("dead letters sent again: 1 messages: 0")
    code, said = consumed(environment, *given, "--discard-dead-letters")
    assert code == 0, said
    # It was refused once more.
    assert said.startswith("dead letters discarded: 1 messages: 0")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--from", "amqp://127.0.0.1:1"], 2, "give either --to or --embedded"),
        (["--from", "amqp://127.0.0.1:1", "--embedded", "--to", "chdb:///x"], 2, "give either --to or"),
        (["--from", "http://127.0.0.1:1", "--embedded"], 2, "unusable options: url: it begins with amqps:// or amqp://"),
        (["--from", "amqp://h", "--to", "http://c"], 2, "write clickhouse://user@host:8123/database"),
        (["--from", "amqp://h", "--to", "chdb://"], 2, "chdb:///folder?database=name"),
        (["--from", "amqp://h", "--to", "clickhouse://u:hunter22@c"], 2, "environment variable"),
        (["--from", "amqp://h", "--embedded", "--from-secret-env", "UNSET_X"], 2, "UNSET_X"),
        (["--from", "amqp://h", "--embedded", "--replay-dead-letters", "--discard-dead-letters"], 2,
         "give either --replay-dead-letters"),
        (["--from", "amqp://h", "--to", "clickhouse://127.0.0.1:1", "--once"], 1,
         "ClickHouse at 127.0.0.1:1, connecting"),
    ],
)  # fmt: skip
def test_what_the_command_cannot_use(
    arguments: list[str], code: int, said: str, environment: dict[str, str]
) -> None:
    """It says what is wrong and what to write, with no secret in it."""
    done = CliRunner().invoke(app, ["feed", "consume", "--queue", "q", *arguments], env=environment)
    output = " ".join(done.output.split())
    assert done.exit_code == code, output
    assert said in output
    assert "hunter22" not in output
