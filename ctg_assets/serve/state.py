"""Reading the state of lake, database, feed, scheduler and disk, as samples of gauges."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ctg_assets.lake import Lake
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.watching import database_state
from ctg_assets.serve import gauges
from ctg_assets.serve.gauges import Sample, sample


class SchedulerState(Protocol):
    """What Dagster knows of runs, checks and daemons, handed in by whoever starts the service."""

    @property
    def runs(self) -> Mapping[str, int]:
        """Runs by status."""

    @property
    def dead_runs(self) -> int:
        """Runs under way whose process is gone."""

    @property
    def heartbeats(self) -> Mapping[str, float]:
        """When each daemon last gave a sign of life, in seconds since 1970."""

    @property
    def failed_checks(self) -> Mapping[str, int]:
        """Checks that did not pass, by severity (error, warning)."""

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """How long each step took in the last run in which it succeeded."""


class SinkPosition(Protocol):
    """How far a sink of the feed is."""

    @property
    def delivered(self) -> int:
        """Events that it took."""

    @property
    def dead_letters(self) -> int:
        """Events that it did not take."""

    @property
    def failing_since(self) -> datetime | None:
        """Since when nothing reaches it."""

    @property
    def is_held(self) -> bool:
        """Whether a process delivers to it."""


class KnownSink(Protocol):
    """A sink of the feed, handed in by whoever starts the service."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def behind(self) -> int | None:
        """Changes that it has not reached; None if nothing was ever delivered."""

    @property
    def settings(self) -> object | None:
        """What the file says of it; None for one that it has no more."""

    @property
    def state(self) -> SinkPosition | None:
        """How far it is; None likewise."""


class KnownPlan(Protocol):
    """What an extraction asks for."""

    @property
    def mode(self) -> object:
        """What it may conclude."""

    @property
    def planned_pages(self) -> int | None:
        """How many pages; None where that was not planned."""


class KnownWalk(Protocol):
    """An extraction, handed in by whoever starts the service."""

    @property
    def plan(self) -> KnownPlan:
        """What is asked for."""

    @property
    def pages(self) -> int:
        """Pages that are there."""

    @property
    def completion(self) -> object | None:
        """How it ended; None while it is open."""

    @property
    def supersession(self) -> object | None:
        """Why it was given up, if it was."""


def lake_samples(lake: Lake, extractions: Iterable[KnownWalk]) -> Iterator[Sample]:
    """What the lake holds, how old it is, and how far the walk is."""
    entries = lake.history.entries()
    walks = [entry for entry in entries if entry.mode != "import"]
    if walks:
        newest = max(entry.observed_at for entry in walks)
        yield sample(gauges.DATA_TIME, newest.timestamp())
    recorded: dict[str, datetime] = {}
    for entry in entries:
        # What an undo had to record once more was not walked then.
        if entry.replays is None and (entry.complete or not entry.mode.covers_scope):
            recorded[str(entry.mode)] = entry.recorded_at
    for mode, moment in recorded.items():
        yield sample(gauges.WALK_TIME, moment.timestamp(), mode=mode)
    yield sample(gauges.CHANGES, lake.history.next_change_seq() - 1)
    manifest = lake.snapshots.latest()
    if manifest is not None:
        yield sample(gauges.STUDIES, manifest.studies)
        yield sample(gauges.QUARANTINED, manifest.quarantined)
        yield sample(gauges.UNKNOWN_FIELDS, len(manifest.unknown_fields))
    yield from _walk_samples(extractions)


def _walk_samples(extractions: Iterable[KnownWalk]) -> Iterator[Sample]:
    walks = [
        status
        for status in extractions
        if status.plan.planned_pages is not None and status.supersession is None
    ]
    is_open = [walk for walk in walks if walk.completion is None]
    yield sample(gauges.EXTRACTION_OPEN, bool(is_open))
    for walk in (is_open or walks)[-1:]:
        mode = str(walk.plan.mode)
        yield sample(gauges.PAGES_PLANNED, walk.plan.planned_pages or 0, mode=mode)
        yield sample(gauges.PAGES_DONE, walk.pages, mode=mode)


def database_samples(address: PostgresAddress) -> Iterator[Sample]:
    """What the database holds, table by table."""
    state = database_state(address)
    yield sample(gauges.DATABASE_UP, 1)
    if state.info is not None:
        if state.info.data_timestamp is not None:
            yield sample(gauges.LOADED_DATA_TIME, _seconds(state.info.data_timestamp))
        yield sample(gauges.LOADED_TIME, _seconds(state.info.loaded_at))
        yield sample(gauges.LOADED_STUDIES, state.info.studies)
    for table in state.tables:
        labels = {"schema": table.schema, "table": table.table}
        yield sample(gauges.TABLE_BYTES, table.bytes, **labels)
        if table.rows is not None:
            yield sample(gauges.TABLE_ROWS, table.rows, **labels)


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def feed_samples(sinks: Iterable[KnownSink]) -> Iterator[Sample]:
    """How far each sink of the feed is; nothing of one that the file has no more."""
    for status in sinks:
        # One that was taken out of the file gets nothing, and would stay behind for ever.
        if status.settings is None:
            continue
        if status.behind is not None:
            yield sample(gauges.FEED_LAG, status.behind, sink=status.name)
        if status.state is None:
            yield sample(gauges.FEED_DELIVERING, 0, sink=status.name)
            continue
        yield sample(gauges.FEED_DELIVERED, status.state.delivered, sink=status.name)
        yield sample(gauges.FEED_DEAD_LETTERS, status.state.dead_letters, sink=status.name)
        yield sample(gauges.FEED_FAILING, status.state.failing_since is not None, sink=status.name)
        yield sample(gauges.FEED_DELIVERING, status.state.is_held, sink=status.name)


def scheduler_samples(state: SchedulerState | None) -> Iterator[Sample]:
    """Runs, checks, daemons and stages; none where there is no scheduler."""
    if state is None:
        return
    for status, count in state.runs.items():
        yield sample(gauges.RUNS, count, status=status)
    yield sample(gauges.DEAD_RUNS, state.dead_runs)
    for daemon, moment in state.heartbeats.items():
        yield sample(gauges.HEARTBEAT, moment, daemon=daemon)
    for severity in ("error", "warning"):
        yield sample(gauges.CHECKS_FAILED, state.failed_checks.get(severity, 0), severity=severity)
    for stage, seconds in state.stage_seconds.items():
        yield sample(gauges.STAGE_SECONDS, seconds, stage=stage)


def disk_samples(data_folder: Path) -> Iterator[Sample]:
    """How large the parts of the data folder are, and how much room there is."""
    if not data_folder.exists():
        return  # nothing was extracted yet
    usage = shutil.disk_usage(data_folder)
    yield sample(gauges.DISK_FREE, usage.free)
    yield sample(gauges.DISK_SIZE, usage.total)
    with os.scandir(data_folder) as found:
        folders = sorted(entry.name for entry in found if entry.is_dir(follow_symlinks=False))
    for name in folders:
        yield sample(gauges.FOLDER_BYTES, _bytes_below(data_folder / name), folder=name)


def _bytes_below(folder: Path) -> int:
    """The size of the files in a folder; what goes meanwhile, or may not be looked at, counts nothing."""
    total = 0
    for root, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size  # noqa: PTH118 - a third of the time
            except OSError:
                continue
    return total
