"""The counters of a data folder: one row a series, in a SQLite file that all its processes add to.

A count is in the file when `add` returns, so it survives a process that is killed right after. It is not
synced to the disk, which would cost more than what is counted; a machine that loses power may lose the file,
and Prometheus takes counters that begin anew as such.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from ctg_assets.metrics import Counters, Increment
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import STATE

_log = logging.getLogger(__name__)

_FILE = "counters.sqlite"

# Others hold the file for less than a millisecond. Work is not held up for longer than this, and when
# that was not enough, not again for a while; what is counted meanwhile is kept.
_BUSY_SECONDS = 0.5
_PAUSE_SECONDS = 10.0

# What SQLite calls a file that is no database, is damaged, or holds other tables than ours.
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR}

_TABLE = """
CREATE TABLE IF NOT EXISTS series (
    name TEXT NOT NULL, labels TEXT NOT NULL, value REAL NOT NULL, PRIMARY KEY (name, labels)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO series (name, labels, value) VALUES (?, ?, ?)
ON CONFLICT (name, labels) DO UPDATE SET value = value + excluded.value
"""


@dataclass(frozen=True)
class Series:
    """A series and how far it is."""

    name: str
    labels: dict[str, str]
    value: float


class CountersFile:
    """Adds to a file of counters. For any number of threads; nothing is raised, whatever becomes of the file."""

    def __init__(self, path: Path) -> None:
        """Add to the file at `path`, which is made with its folder when the first count comes."""
        self._path = path
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], float] = {}
        self._owner = os.getpid()
        self._again_at = 0.0
        self._has_warned = False

    def add(self, *increments: Increment) -> None:
        """Count all of these at once; what cannot be written now is with a later call."""
        with self._lock:
            if self._owner != os.getpid():
                # After a fork it is the parent that writes what is left.
                self._owner = os.getpid()
                self._waiting.clear()
            for increment in increments:
                labels = json.dumps(dict(increment.labels), ensure_ascii=False)
                series = increment.name, labels
                self._waiting[series] = self._waiting.get(series, 0) + increment.amount
            if time.monotonic() >= self._again_at:
                self._try_to_write()

    def flush(self) -> None:
        """Try once more to write what is left."""
        with self._lock:
            if self._waiting and self._owner == os.getpid():
                self._try_to_write()

    def _try_to_write(self) -> None:
        try:
            try:
                self._write()
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise
                self._begin_anew(error)
        except (sqlite3.Error, OSError, Timeout) as error:
            self._again_at = time.monotonic() + _PAUSE_SECONDS
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "the counters in %s cannot be written: %s. The work goes on; what is counted is kept and "
                    "written as soon as that works",
                    self._path,
                    error,
                )

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(*series, amount) for series, amount in self._waiting.items()]
        with _opened(self._path, "rwc", _BUSY_SECONDS) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = TRUNCATE")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_TABLE)
            connection.executemany(_ADD, rows)
            connection.execute("COMMIT")
        self._waiting.clear()

    def _begin_anew(self, damage: sqlite3.Error) -> None:
        """Set a damaged file aside, unless another process has just done so, and write to a new one."""
        with FileLock(f"{self._path}.lock", timeout=_BUSY_SECONDS):
            try:
                self._write()
            except sqlite3.Error as error:
                if not _is_damage(error):
                    raise
                aside = self._path.with_name(f"{_FILE}.damaged-{time.time_ns()}")
                self._path.rename(aside)
                Path(f"{self._path}-journal").unlink(missing_ok=True)
                _log.warning(
                    "the counters in %s are damaged (%s); the file is now %s, and counting begins at zero",
                    self._path,
                    damage,
                    aside.name,
                )
                self._write()


def _is_damage(error: sqlite3.Error) -> bool:
    # The lower byte is the kind of error, the rest says more.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


@contextlib.contextmanager
def _opened(path: Path, mode: str, seconds: float) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(
        sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=seconds,
            isolation_level=None,
        )
    ) as connection:
        yield connection


def read_counters(path: Path) -> list[Series]:
    """All series of a file, by name and labels; none while there is no file. Raises sqlite3.Error."""
    if not path.exists():
        return []
    # Not `ro`, which could not clear away what a writer that was killed has left.
    with _opened(path, "rw", _BUSY_SECONDS) as connection:
        rows = connection.execute("SELECT name, labels, value FROM series ORDER BY name, labels")
        return [Series(name, json.loads(labels), value) for name, labels, value in rows]


def counters_path(settings: Settings) -> Path:
    """Where the counters of a data folder lie."""
    return settings.data_dir / STATE / _FILE


def counters_of(settings: Settings) -> Counters:
    """The counters of a data folder, to add to; one object for this process."""
    return _counters_at(counters_path(settings))


@cache
def _counters_at(path: Path) -> CountersFile:
    counters = CountersFile(path)
    atexit.register(counters.flush)
    return counters
