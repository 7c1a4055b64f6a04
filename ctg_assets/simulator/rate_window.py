"""The registry's rate limit as a client meets it: so many requests in any 60 seconds, then 429."""

from __future__ import annotations

import math
from collections import deque

WINDOW_SECONDS = 60.0


class RateWindow:
    """A sliding window over accepted requests; refused ones do not count. Not thread-safe."""

    def __init__(self, requests_per_minute: int) -> None:
        self._limit = requests_per_minute
        self._accepted: deque[float] = deque()

    def seconds_to_wait(self, now: float) -> int:
        """Accept a request at `now` (monotonic seconds) and return 0, or refuse it.

        A refusal returns the whole seconds after which a request would be accepted.
        """
        while self._accepted and now - self._accepted[0] >= WINDOW_SECONDS:
            self._accepted.popleft()
        if len(self._accepted) < self._limit:
            self._accepted.append(now)
            return 0
        return max(1, math.ceil(WINDOW_SECONDS - (now - self._accepted[0])))
