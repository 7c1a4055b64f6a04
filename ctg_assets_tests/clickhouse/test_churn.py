"""A registry in motion, a sink and a consumer of a queue, all killed again and again: ClickHouse is what Postgres is.

A round takes 8 s of CPU, so there are none outside of soaks.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import adbc_driver_postgresql.dbapi as adbc
import polars as pl
import pyarrow as pa
import pytest

from ctg_assets.clickhouse import ClickHouse, ClickHouseAddress, reflected
from ctg_assets.feed.amqp import AmqpSink
from ctg_assets.feed.config import consumed_queue
from ctg_assets.feed.errors import SinkUnavailableError
from ctg_assets.feed.events import Message
from ctg_assets.feed.history_events import HistoryEvents
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.model.spec import ColumnType
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import Settings
from ctg_assets.simulator.churn import Churn
from ctg_assets.simulator.churn_acts import ChurnRates
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.clickhouse.bringing import QUEUE, SINK, settings_of
from ctg_assets_tests.clickhouse.following import SHAPES, Engine, engine_process
from ctg_assets_tests.feed.broker import Broker, running_broker
from ctg_assets_tests.simulator.churning import moving_registry
from ctg_assets_tests.soak import only_in_soaks, times
from ctg_assets_tests.support.following import refresh

pytestmark = [pytest.mark.process, pytest.mark.soak, only_in_soaks]

_STUDIES = 40
_ROUNDS = times(2, 30)
# The first load has some 600 moments, a batch 250: most are to die in a batch.
_MOST_MOMENTS = (150, 300, 700)
_SHARE_OF_BROKER_KILLS = 0.3
_NAME = "changes"


@dataclass
class _World:
    """A lake and its queue, and what was published to that."""

    folder: Path
    settings: Settings
    broker: Broker
    engine: Engine
    dice: random.Random
    published: int = 0
    poisonous: int = 0
    killed: dict[str, int] = field(default_factory=lambda: {SINK: 0, QUEUE: 0, "broker": 0})

    @property
    def lake(self) -> Lake:
        return open_lake(self.settings)

    def publish(self) -> None:
        """Publish what is new: with repeats, in any order, now and then with what is no event."""
        events = HistoryEvents(self.lake.history)
        messages: list[Message] = []
        while some := events.events(self.published, 1000):
            messages += [Message.of(event) for event in some]
            self.published = some[-1].change_seq
        messages += self.dice.sample(messages, len(messages) // 3)
        if self.dice.random() < 0.3:
            self.poisonous += 1
            messages.append(Message(f"poison {self.poisonous}", 0, "", b'{"nct_id": 7}'))
        self.dice.shuffle(messages)
        queue = consumed_queue("queue", self.broker.url, _NAME, None)
        sink = AmqpSink(queue.model_copy(update={"timeout_seconds": 5.0}), None)
        while messages:
            some_of_them, messages = messages[:20], messages[20:]
            if self.dice.random() < _SHARE_OF_BROKER_KILLS / 3:
                self.kill_broker()
                with contextlib.suppress(SinkUnavailableError):
                    sink.deliver(some_of_them)
                self.broker.start()
            try:
                sink.deliver(some_of_them)
            except SinkUnavailableError:
                messages = some_of_them + messages
        sink.close()

    def kill_broker(self) -> None:
        self.broker.kill()
        self.killed["broker"] += 1

    def bring(self, kind: str, moment: int) -> None:
        """Bring what there is, in a process that is killed at some moment, the engine with it."""
        command = [sys.executable, "-m", "ctg_assets_tests.clickhouse.bringing", str(self.folder)]
        with subprocess.Popen(
            [*command, kind, self.broker.url, _NAME, str(moment)], stderr=subprocess.PIPE, text=True
        ) as process:
            down = kind == QUEUE and moment and self.dice.random() < _SHARE_OF_BROKER_KILLS
            if down:
                self.kill_broker()
            _, told = process.communicate(timeout=300)
            if down:
                self.broker.start()
        if process.returncode == -signal.SIGKILL:
            self.killed[kind] += 1
        else:
            # Without its broker a consumer says so.
            assert process.returncode == 0 or down, told


def test_clickhouse_equals_postgres_in_the_end(tmp_path: Path, address: PostgresAddress) -> None:
    """No row is lost, made up or seen twice; no position is ahead of the rows."""
    source = GeneratedSource(_STUDIES, 5)
    churn = Churn(source, 5, rates=ChurnRates(touched=0.2))
    with (
        moving_registry(churn) as registry,
        running_broker() as broker,
        engine_process() as engine,
    ):
        settings = settings_of(
            tmp_path,
            api_url=registry.simulator.api_url,
            page_size=20,
            requests_per_minute=10_000,
            retry_seconds=1,
        )
        world = _World(tmp_path, settings, broker, engine, random.Random(5))
        for number in range(_ROUNDS):
            if number:
                registry.simulator.advance()
            refresh(settings)
            world.publish()
            for _ in range(world.dice.choice([1, 1, 2])):
                kind = world.dice.choice([SINK, QUEUE])
                world.bring(kind, world.dice.randrange(1, world.dice.choice(_MOST_MOMENTS)))
                engine(_check_position, tmp_path, settings)
            if world.dice.random() < 0.3:
                world.bring(world.dice.choice([SINK, QUEUE]), 0)
        # The queue alone brings all that it has; the sink finds nothing left to do but to move on.
        world.bring(QUEUE, 0)
        engine(_check_equal, tmp_path, _postgres_rows(world.lake, address))
        world.bring(SINK, 0)
        engine(_check_equal, tmp_path, _postgres_rows(world.lake, address))
        engine(_check_letters, tmp_path, world.poisonous)
    assert world.killed[SINK] + world.killed[QUEUE] >= _ROUNDS / 3, world.killed


@contextlib.contextmanager
def _opened(folder: Path):  # type: ignore[no-untyped-def]
    server = ClickHouse(ClickHouseAddress.parse(f"chdb://{folder}/clickhouse"), None, 30.0)
    try:
        yield server
    finally:
        server.close()


def _check_position(folder: Path, settings: Settings) -> None:
    """Up to the sink's position all is there, as the newest snapshot has it; and nothing is there twice."""
    lake = open_lake(settings)
    state = reflected(lake)
    assert state is not None
    with _opened(folder) as server:
        there = set(
            server.ask("SELECT name FROM system.tables WHERE database = 'ctg_rows'")[
                "name"
            ].to_pylist()
        )
        if "ctg_positions" not in there:
            return
        rows = server.ask("SELECT reader, change_seq FROM ctg_rows.ctg_positions FINAL").to_pylist()
        positions = {row["reader"]: row["change_seq"] for row in rows}
        # Under no name stands the change up to which all tables are whole.
        position = max(positions.get("", 0), positions.get("columns", 0))
        assert max([0, *positions.values()]) <= state.change_seq
        if not position:
            return
        changes = pl.concat(
            [lake.history.changes(entry.sequence) for entry in lake.history.entries()]
        )
        up_to = changes.filter(pl.col("change_seq") <= position)
        numbers = set(
            server.ask("SELECT change_seq FROM ctg.study_changes")["change_seq"].to_pylist()
        )
        assert set(up_to["change_seq"]) <= numbers
        later = set(changes.filter(pl.col("change_seq") > position)["nct_id"])
        studies = server.ask("SELECT nct_id, content_hash FROM ctg.studies").to_pylist()
        assert len({row["nct_id"] for row in studies}) == len(studies)
        shown = {
            (row["nct_id"], row["content_hash"]) for row in studies if row["nct_id"] not in later
        }
        known = {
            (nct_id, content_hash)
            for batch in lake.snapshots.batches(
                state.manifest.snapshot_id, ["nct_id", "content_hash"]
            )
            for nct_id, content_hash in zip(
                batch["nct_id"].to_pylist(), batch["content_hash"].to_pylist(), strict=True
            )
            if nct_id not in later
        }
        assert shown == known


def _postgres_rows(lake: Lake, address: PostgresAddress) -> Mapping[str, pa.Table]:
    """All rows of Postgres' tables, in the order of their keys."""
    manifest = lake.snapshots.latest()
    assert manifest is not None
    load_staging(address, lake, manifest)
    found = {}
    with adbc.connect(address.url) as connection, connection.cursor() as cursor:
        for name, shape in SHAPES.items():
            columns = ", ".join(
                f'"{column.name}"::text' if column.type is ColumnType.JSON else f'"{column.name}"'
                for column in shape.columns
            )
            order = ", ".join(f'"{column}"' for column in shape.primary_key)
            cursor.execute(f"SELECT {columns} FROM staging.{name} ORDER BY {order}")
            found[name] = cursor.fetch_arrow_table().rename_columns(shape.arrow_schema.names)
    return found


def _check_equal(folder: Path, expected: Mapping[str, pa.Table]) -> None:
    """Every table has the rows of Postgres, in all columns, and a row once."""
    with _opened(folder) as server:
        for name, rows in expected.items():
            shape = SHAPES[name]
            shown = server.ask(
                f"SELECT * FROM ctg.`{name}` ORDER BY {', '.join(shape.primary_key)}"
            )
            assert _values(shown, shape.arrow_schema) == _values(rows, shape.arrow_schema), name


def _values(rows: pa.Table, schema: pa.Schema) -> Sequence[Mapping[str, object]]:
    found: Sequence[Mapping[str, object]] = rows.cast(
        pa.schema([(each.name, each.type) for each in schema])
    ).to_pylist()
    return found


def _check_letters(folder: Path, poisonous: int) -> None:
    """What was no event, and nothing else, was put aside, each once."""
    with _opened(folder) as server:
        letters = server.ask(
            "SELECT event_id, reader FROM ctg_rows.ctg_dead_letters FINAL"
        ).to_pylist()
    assert sorted(row["event_id"] for row in letters) == sorted(
        f"poison {number}" for number in range(1, poisonous + 1)
    )
    assert {row["reader"] for row in letters} <= {"queue"}
