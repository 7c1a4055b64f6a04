"""What the service knows: everything that it reads, each by itself and remembered for some seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ctg_assets import __version__
from ctg_assets.counters_file import Series, counters_path, read_counters
from ctg_assets.lake import Lake, existing_lake
from ctg_assets.postgres.watching import is_loaded
from ctg_assets.serve import gauges
from ctg_assets.serve.database import KeptDatabase
from ctg_assets.serve.exposition import exposition
from ctg_assets.serve.gauges import Sample, sample
from ctg_assets.serve.reading import CachedReading, NotReadError
from ctg_assets.serve.state import (
    KnownSink,
    KnownWalk,
    SchedulerState,
    database_samples,
    disk_samples,
    feed_samples,
    lake_samples,
    scheduler_samples,
)
from ctg_assets.settings import Settings

ReadScheduler = Callable[[], SchedulerState | None]
ReadSinks = Callable[[], Iterable[KnownSink]]
ReadWalks = Callable[[Lake], Iterable[KnownWalk]]
ReadStatus = Callable[[], dict[str, Any]]

# Who asks for health gets an answer within this time, whatever the database does.
HEALTH_SECONDS = 3.0
# A scrape waits so long for what is slow, and at most for this share of the time that Prometheus gives it.
_SCRAPE_SECONDS = 5.0
_SCRAPE_SHARE = 0.7
# All rows of all tables are counted for it.
_STATUS_SECONDS = 120.0

# How long a part is good for, in seconds: what is read at every scrape, what costs more, and the sizes of files.
_FRESH_SECONDS, _COSTLY_FRESH_SECONDS, _DISK_FRESH_SECONDS = 4.0, 10.0, 60.0
_KEPT_SECONDS = 60.0
# In an object store each file of the history is a request.
_STORE_FRESH_SECONDS, _STORE_KEPT_SECONDS = 60.0, 600.0


class Watch:
    """Everything that is told. For any number of threads."""

    def __init__(
        self,
        settings: Settings,
        database: KeptDatabase,
        *,
        scheduler: ReadScheduler,
        sinks: ReadSinks,
        walks: ReadWalks,
        status: ReadStatus,
    ) -> None:
        """Look at what the settings name; `scheduler`, `sinks`, `walks` and `status` read what other rooms know."""
        self._health = CachedReading(
            "the database",
            lambda: (
                is_loaded(database.address())
                if settings.has_warehouse
                else existing_lake(settings).snapshots.latest() is not None
            ),
            fresh_seconds=1.0,
        )
        self._status = CachedReading("the status", status, fresh_seconds=_FRESH_SECONDS)
        self._counters: CachedReading[list[Series]] = CachedReading(
            "the counters", lambda: read_counters(counters_path(settings)), fresh_seconds=0.0
        )
        parts: dict[str, tuple[Callable[[], Iterator[Sample]], float]] = {
            "lake": (
                lambda: _of_the_lake(existing_lake(settings), walks),
                _FRESH_SECONDS if settings.data_url is None else _STORE_FRESH_SECONDS,
            ),
            "database": (lambda: database_samples(database.address()), _FRESH_SECONDS),
            "feed": (lambda: _of_the_feed(settings, database, sinks), _FRESH_SECONDS),
            "dagster": (lambda: scheduler_samples(scheduler()), _COSTLY_FRESH_SECONDS),
            "disk": (lambda: disk_samples(settings.data_dir), _DISK_FRESH_SECONDS),
        }
        if not settings.has_warehouse:
            del parts["database"]
        self._parts = {
            part: CachedReading(
                f"the part {part} of the metrics",
                lambda read=read: list(read()),  # type: ignore[misc]
                fresh_seconds=fresh,
                kept_seconds=_KEPT_SECONDS if fresh < _KEPT_SECONDS else _STORE_KEPT_SECONDS,
            )
            for part, (read, fresh) in parts.items()
        }

    def database_problem(self) -> str | None:
        """Why the database does not answer; None if it does."""
        try:
            self._health.get(HEALTH_SECONDS)
        except NotReadError as error:
            return str(error)
        return None

    def unready(self) -> str | None:
        """Why the tables are not there; None if they are."""
        try:
            loaded = self._health.get(HEALTH_SECONDS)
        except NotReadError as error:
            return str(error)
        return None if loaded else "nothing has been loaded yet; `ctg-assets refresh` does"

    def status(self) -> dict[str, Any]:
        """What `ctg-assets status --json` says; raises NotReadError."""
        return self._status.get(_STATUS_SECONDS)

    def metrics(self, timeout: float | None = None) -> bytes:
        """The text of a scrape, which is given up after `timeout` seconds, if that is known.

        Nothing is raised: a part that cannot be read, or not in time, is told to be missing.
        """
        patience = _SCRAPE_SECONDS if timeout is None else _SCRAPE_SHARE * timeout
        deadline = time.monotonic() + min(patience, _SCRAPE_SECONDS)
        # All begin at once, so that one that is slow leaves the others their time.
        counting = self._counters.begin()
        begun = [(part, reading, reading.begin()) for part, reading in self._parts.items()]
        samples = [sample(gauges.BUILD_INFO, 1, version=__version__)]
        series: Sequence[Series] | None = None
        try:
            series = self._counters.wait(counting, deadline - time.monotonic())
        except NotReadError:
            samples.append(sample(gauges.SCRAPE_ERRORS, 1, part="counters"))
        else:
            samples.append(sample(gauges.SCRAPE_ERRORS, 0, part="counters"))
        for part, reading, attempt in begun:
            failed = False
            try:
                read = reading.wait(attempt, deadline - time.monotonic())
            except NotReadError:
                failed = True
                read = reading.kept() or []
            if part == "database" and failed:
                read = [each for each in read if each.metric is not gauges.DATABASE_UP]
                read.append(sample(gauges.DATABASE_UP, 0))
            samples += read
            samples.append(sample(gauges.SCRAPE_ERRORS, failed, part=part))
            if attempt.ended.is_set():
                seconds = attempt.ended_at - attempt.began
                samples.append(sample(gauges.SCRAPE_SECONDS, seconds, part=part))
        return exposition(series, samples)


def _of_the_lake(lake: Lake, walks: ReadWalks) -> Iterator[Sample]:
    yield from lake_samples(lake, walks(lake))


def _of_the_feed(settings: Settings, database: KeptDatabase, sinks: ReadSinks) -> Iterator[Sample]:
    if settings.feed_file is None:
        return
    # Else it would start the embedded server, or wait for it.
    database.address()
    yield from feed_samples(sinks())
