"""How often something may be tried again."""

from __future__ import annotations

import msgspec

_FIRST_PAUSE_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 1800.0


class Attempts(msgspec.Struct, frozen=True):
    """The attempts made so far at one piece of work.

    `work` names it; as soon as something else is to be done, counting starts anew. `last_at` is in
    seconds since the epoch.
    """

    work: str = ""
    count: int = 0
    last_at: float = 0.0

    def next(self, work: str, now: float) -> Attempts:
        """The record after one more attempt at `work`."""
        count = self.count + 1 if work == self.work else 1
        return Attempts(work, count, now)

    def pause_left(self, work: str, now: float) -> float:
        """Seconds to wait before `work` may be attempted (again); the pause doubles each time."""
        if work != self.work or self.count == 0:
            return 0.0
        if now < self.last_at:
            return 0.0  # The clock was set back: how long ago the last attempt was is not known.
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self.count - 1, 10))
        return max(0.0, self.last_at + pause - now)
