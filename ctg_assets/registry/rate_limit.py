"""The sliding-window limit on requests, kept across processes and restarts.

The record is pyrate-limiter's SQLite bucket under a file lock: each permitted request is a row with
its wall-clock time, so a restarted process still sees what the previous one sent. The clock may be set
meanwhile: what seems to have been sent in the future counts as sent now, and each process also counts
its own requests by the monotonic clock.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from pyrate_limiter import Rate, RateItem, SQLiteBucket

from ctg_assets.registry.errors import RateLimitRecordError

WINDOW_SECONDS = 60.0

# The registry counts arrivals, we count departures. A request that left late in one window may arrive
# early in the next; counting over a slightly longer window keeps every 60 s of arrivals within the limit
# as long as transit times differ by less than this.
_TRANSIT_SLACK_SECONDS = 2.0

# How long a request counts.
COUNTED_SECONDS = WINDOW_SECONDS + _TRANSIT_SLACK_SECONDS


class RateLimit(Protocol):
    """Something that makes a caller wait until the next request may be sent."""

    def acquire(self) -> None:
        """Block until one more request is permitted, and count it."""


class SharedRateLimit:
    """At most `requests` requests in any window of time, over all processes that share `record`."""

    def __init__(
        self, record: Path, requests: int, *, window_seconds: float = WINDOW_SECONDS
    ) -> None:
        """Open the shared record, creating it when it does not exist yet.

        Raises RateLimitRecordError when that is not possible, or something else lies there.
        """
        self._record = record
        self._requests = requests
        self._window_ms = round((window_seconds + _TRANSIT_SLACK_SECONDS) * 1000)
        # When this process sent its last requests, by a clock that nobody sets: one that is set forward
        # makes the record forget what was sent just now.
        self._sent: deque[float] = deque(maxlen=requests)
        # The bucket's own lock keeps processes apart, and each thread of ours that waits for it would poll a file.
        self._threads = threading.Lock()
        with self._explained():
            self._bucket = SQLiteBucket.init_from_file(
                rates=[Rate(requests, self._window_ms)],
                db_path=str(record),
                use_file_lock=True,
            )

    def acquire(self) -> None:
        """Block until one more request is permitted, and count it.

        Raises RateLimitRecordError when the record cannot be read or written any more.
        """
        with self._explained():
            while (wait_ms := self._try_acquire()) > 0:
                time.sleep(wait_ms / 1000)

    def close(self) -> None:
        """Release the record."""
        with self._threads:
            self._bucket.close()  # type: ignore[no-untyped-call]

    def _try_acquire(self) -> int:
        """Count one more request if it is permitted now; else the milliseconds until it may be.

        The bucket is asked directly: the library's Limiter records the time at which it planned to
        wake, not the time at which it did, so a process suspended meanwhile would overstep the limit.
        """
        # The time is read under the lock, else a request could be dated before it was permitted.
        with self._threads, self._bucket.lock:
            sent_by_us_ms = self._own_wait_ms()
            if sent_by_us_ms > 0:
                return sent_by_us_ms
            now = time.time_ns() // 1_000_000
            self._bucket.leak(now)
            newest = self._bucket.peek(0)
            if newest is not None and newest.timestamp > now + self._window_ms:
                self._redate(now)
            if self._bucket.put(RateItem("registry", now)):
                self._sent.append(time.monotonic())
                return 0
            in_the_way = self._bucket.peek(self._requests - 1)
            # The window includes both of its ends.
            return 1 if in_the_way is None else in_the_way.timestamp + self._window_ms + 1 - now

    def _own_wait_ms(self) -> int:
        """The milliseconds until this process by itself may send another request."""
        if len(self._sent) < self._requests:
            return 0
        since_first_ms = int((time.monotonic() - self._sent[0]) * 1000)
        return self._window_ms + 1 - since_first_ms

    def _redate(self, now: int) -> None:
        """Count what was sent before the clock was set back as sent now.

        When it really was cannot be known any more; left alone, it would block until the clock has
        caught up with it.
        """
        sent = min(self._bucket.count(), self._requests)
        self._bucket.flush()
        self._bucket.put(RateItem("registry", now, weight=sent))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            message = (
                f"the record of requests {self._record} cannot be used: {error}. Check that its folder "
                "can be written to and the disk has room; if the file is damaged, delete it and wait a "
                "minute before going on"
            )
            raise RateLimitRecordError(message) from error
