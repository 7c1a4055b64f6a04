"""Dagster's event log made smaller, which Dagster itself never does (dagster#33785).

Of runs that ended long ago it keeps whatever says what is there and how it went: materializations, observations,
results of checks, how runs and steps began and ended, and of runs that failed what they were to do. Removed is what only
tells how a run that is over went on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)

from ctg_assets.errors import CtgAssetsError

_RUNS_AT_A_TIME = 100

# Said by name, so that a kind of event that a later Dagster adds is kept. Messages have no kind. Notes on processes and
# resources are marks in the timeline of a run's steps.
_CHATTER = (
    dg.DagsterEventType.HANDLED_OUTPUT,
    dg.DagsterEventType.LOADED_INPUT,
    dg.DagsterEventType.OBJECT_STORE_OPERATION,
    dg.DagsterEventType.STEP_INPUT,
)
# What a run was to do: nothing waits for it once the run has succeeded. Of one that failed it says what is missing.
_PLANS = (
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
)


class EventLogError(CtgAssetsError):
    """The event log cannot be pruned; the message says why."""


@dataclass(frozen=True)
class Pruned:
    """Of how many runs how many events were removed, and bytes of files or, where those do not shrink, of events."""

    runs: int
    events: int
    bytes: int


def prune_events(
    instance: dg.DagsterInstance, *, ended_before: datetime, dry_run: bool = False
) -> Pruned:
    """Remove what nobody needs of runs that ended before a moment (aware); with `dry_run` only count it.

    May run beside anything else. Raises EventLogError for a storage that is no SQL database.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        message = f"Dagster's events are kept by {type(storage).__name__}, which is no SQL database; it is left alone"
        raise EventLogError(message)
    runs = events = size = 0
    for run in _ended(instance, ended_before):
        count, length = _prune_run(storage, run, dry_run=dry_run)
        runs += count > 0
        events += count
        size += length
    if events and not dry_run and isinstance(storage, SqliteEventLogStorage):
        size += _shrink(Path(storage.path_for_shard(INDEX_SHARD_NAME)))
    return Pruned(runs, events, size)


def _ended(instance: dg.DagsterInstance, before: datetime) -> Iterator[dg.DagsterRun]:
    cursor: str | None = None
    while True:
        records = instance.get_run_records(
            dg.RunsFilter(statuses=FINISHED_STATUSES), limit=_RUNS_AT_A_TIME, cursor=cursor
        )
        for record in records:
            ended = record.end_time or record.update_timestamp.timestamp()
            if ended < before.timestamp():
                yield record.dagster_run
        if len(records) < _RUNS_AT_A_TIME:
            return
        cursor = records[-1].dagster_run.run_id


def _prune_run(
    storage: SqlEventLogStorage, run: dg.DagsterRun, *, dry_run: bool
) -> tuple[int, int]:
    """How many events of a run are removed, and how many bytes that is."""
    events = SqlEventLogStorageTable.c
    kinds = _CHATTER + (_PLANS if run.status is dg.DagsterRunStatus.SUCCESS else ())
    useless = sa.and_(
        events.run_id == run.run_id,
        sa.or_(
            events.dagster_event_type.is_(None),
            events.dagster_event_type.in_([kind.value for kind in kinds]),
        ),
    )
    counted = sa.select(
        sa.func.count(), sa.func.coalesce(sa.func.sum(sa.func.length(events.event)), 0)
    )
    with storage.run_connection(run.run_id) as connection:
        count, length = connection.execute(counted.where(useless)).one()
    if not count or dry_run:
        return count, length
    remove = SqlEventLogStorageTable.delete().where(useless)
    if isinstance(storage, SqliteEventLogStorage):
        # Plans are in the index of all runs as well. What is counted goes last, so that who was killed goes on.
        with storage.index_connection() as connection:
            connection.execute(remove)
    with storage.run_connection(run.run_id) as connection:
        connection.execute(remove)
    if isinstance(storage, SqliteEventLogStorage):
        return count, _shrink(Path(storage.path_for_shard(run.run_id)))
    return count, length


def _shrink(file: Path) -> int:
    """Give back what a SQLite file does not need any more; returns by how many bytes, 0 if another process uses it."""
    before = file.stat().st_size
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(file, timeout=5)) as connection,
    ):
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return max(0, before - file.stat().st_size)
