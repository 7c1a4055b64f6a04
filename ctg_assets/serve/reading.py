"""Something that is read again and again, by one thread at a time, for whoever asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ctg_assets.errors import CtgAssetsError

_Value = TypeVar("_Value")

_log = logging.getLogger(__name__)

# A reading that takes longer will probably never end (a server that hangs); another one is tried beside it.
_LOST_SECONDS = 60.0


class NotReadError(CtgAssetsError):
    """Something cannot be told now; the message says why."""


@dataclass
class Attempt(Generic[_Value]):
    """One reading under way, or ended."""

    began: float
    ended: threading.Event = field(default_factory=threading.Event)
    ended_at: float = 0.0
    value: _Value | None = None
    error: Exception | None = None


class CachedReading(Generic[_Value]):
    """A value that is read when it is asked for, and is good for some seconds.

    Whoever asks while it is read waits for that reading; it is read in a thread of its own, so that a
    reader who has waited long enough can go.
    """

    def __init__(
        self,
        what: str,
        read: Callable[[], _Value],
        *,
        fresh_seconds: float,
        kept_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read by `read`, whose result is good for `fresh_seconds`; `what` it is, is for messages.

        If it cannot be read, what was read before is told for `kept_seconds`.
        """
        self._what = what
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Attempt[_Value] | None = None
        self._good: Attempt[_Value] | None = None
        self._logged = ""

    def begin(self) -> Attempt[_Value]:
        """The reading that is good now or under way, begun if there is none."""
        with self._lock:
            last, now = self._last, self._clock()
            is_lost = False
            if last is not None and last.ended.is_set():
                is_lost = now - last.ended_at >= self._fresh_seconds
            elif last is not None:
                is_lost = now - last.began >= _LOST_SECONDS
            if last is None or is_lost:
                last = self._last = Attempt(now)
                # Not to be waited for at the end of the process.
                threading.Thread(
                    target=self._run, args=(last,), name=f"reading {self._what}", daemon=True
                ).start()
            return last

    def wait(self, attempt: Attempt[_Value], seconds: float) -> _Value:
        """The value of a reading; raises NotReadError if it failed or takes longer than that."""
        if not attempt.ended.wait(max(0.0, seconds)):
            message = f"{self._what} could not be read within {seconds:.0f} s"
            raise NotReadError(message)
        if attempt.error is not None:
            raise NotReadError(str(attempt.error) or repr(attempt.error)) from attempt.error
        return attempt.value  # type: ignore[return-value]

    def get(self, seconds: float) -> _Value:
        """The value; raises NotReadError if it cannot be read, or not within so many seconds."""
        return self.wait(self.begin(), seconds)

    def kept(self) -> _Value | None:
        """What was read last, if that is not too long ago; None if it is."""
        with self._lock:
            good = self._good
        if good is None or self._clock() - good.ended_at > self._kept_seconds:
            return None
        return good.value

    def _log(self, error: Exception) -> None:
        """Say once what went wrong, and where, unless we foresee it."""
        if str(error) != self._logged:
            self._logged = str(error)
            foreseen = isinstance(error, CtgAssetsError | OSError)
            _log.warning("%s: %s", self._what, error, exc_info=None if foreseen else error)

    def _run(self, attempt: Attempt[_Value]) -> None:
        try:
            attempt.value = self._read()
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            attempt.error = error
            self._log(error)
        attempt.ended_at = self._clock()
        if attempt.error is None:
            with self._lock:
                self._good = attempt
                self._logged = ""
        attempt.ended.set()
