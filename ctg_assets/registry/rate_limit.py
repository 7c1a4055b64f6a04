"""The sliding-window limit on requests, kept across processes and restarts.

Belongs here: how long to wait before the next request may be sent. Does not belong here: what the
request is, or where the window's record lies (`pipeline/services.py` says).

The record is pyrate-limiter's SQLite bucket under a file lock: each permitted request is a row with
its wall-clock time, so a restarted process still sees what the previous one sent.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from pyrate_limiter import Rate, RateItem, SQLiteBucket

WINDOW_SECONDS = 60.0

# The registry counts arrivals, we count departures. A request that left late in one window may arrive
# early in the next; counting over a slightly longer window keeps every 60 s of arrivals within the limit
# as long as transit times differ by less than this.
_TRANSIT_SLACK_SECONDS = 2.0

_POLL_SECONDS = 0.1


class RateLimit(Protocol):
    """Something that makes a caller wait until the next request may be sent."""

    def acquire(self) -> None:
        """Block until one more request is permitted, and count it."""


class SharedRateLimit:
    """At most `requests` requests in any window of time, over all processes that share `record`."""

    def __init__(
        self, record: Path, requests: int, *, window_seconds: float = WINDOW_SECONDS
    ) -> None:
        """Open the shared record, creating it when it does not exist yet."""
        window_ms = round((window_seconds + _TRANSIT_SLACK_SECONDS) * 1000)
        self._bucket = SQLiteBucket.init_from_file(
            rates=[Rate(requests, window_ms)],
            db_path=str(record),
            use_file_lock=True,
        )

    def acquire(self) -> None:
        """Block until one more request is permitted, and count it.

        The bucket is asked directly: the library's Limiter records the time at which it planned to
        wake, not the time at which it did, so a process suspended meanwhile would overstep the limit.
        """
        while True:
            now = time.time_ns() // 1_000_000
            self._bucket.leak(now)
            if self._bucket.put(RateItem("registry", now)):
                return
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Release the record."""
        self._bucket.close()  # type: ignore[no-untyped-call]
