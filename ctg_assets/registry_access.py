"""The registry of the settings, under the limit on requests that all share who ask it.

Processes of one data folder share a file. Machines whose tables are in one configured Postgres share
a record there, by its clock. While that cannot be asked, they send nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ctg_assets.counters_file import counters_of
from ctg_assets.errors import PermanentError
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.postgres.request_record import RequestRecord, has_record
from ctg_assets.postgres.server import open_postgres
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry.errors import RateLimitRecordError, RateLimitUnavailableError
from ctg_assets.registry.rate_limit import COUNTED_SECONDS, RateLimit, SharedRateLimit
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import STATE, data_folder

# What was noted longer ago is no permission to send now. Travel has what COUNTED_SECONDS adds besides.
_GOOD_FOR_SECONDS = 1.0
_LATE_NOTES_BEFORE_GIVING_UP = 5


@contextlib.contextmanager
def open_registry(settings: Settings, *, only_look: bool = False) -> Iterator[RegistryClient]:
    """A client of the configured registry, under the shared limit.

    Whoever wants `only_look` makes nothing in a configured Postgres, and counts there only if others do.
    """
    with (
        shared_limit(
            settings, settings.api_url, settings.requests_per_minute, only_look=only_look
        ) as limit,
        RegistryClient(
            settings.api_url,
            rate_limit=limit,
            user_agent=settings.user_agent,
            read_timeout_seconds=settings.request_timeout_seconds,
            retry_seconds=settings.retry_seconds,
            counters=counters_of(settings),
        ) as client,
    ):
        yield client


@contextlib.contextmanager
def shared_limit(
    settings: Settings, url: str, requests_per_minute: int, *, only_look: bool = False
) -> Iterator[RateLimit]:
    """The limit on requests to the API at `url`, for all who share the data folder or a configured Postgres."""
    name = hashlib.sha256(url.encode()).hexdigest()[:12]
    state = data_folder(settings, STATE)

    def open_record(known_place: str | None) -> RequestRecord | None:
        with open_postgres(settings) as address:
            if only_look and not has_record(address):
                return None
            return RequestRecord(address, url, known_place)

    own = SharedRateLimit(state / f"requests-{name}.sqlite", requests_per_minute)
    with contextlib.closing(own):
        if settings.postgres_url is None or not settings.has_warehouse:
            yield own
            return
        limit = LimitOfMachines(
            requests_per_minute,
            own=own,
            open_record=open_record,
            memory=state / f"machines-{name}",
        )
        with contextlib.closing(limit):
            yield limit


class LimitOfMachines:
    """At most so many requests in any window of time, over all machines that share a record."""

    def __init__(
        self,
        requests: int,
        *,
        own: RateLimit,
        open_record: Callable[[str | None], RequestRecord | None],
        memory: Path,
    ) -> None:
        """Prepare for `requests` in a window; nothing is opened yet.

        `own` is the same limit for this data folder alone. `open_record` opens the shared record, given the place
        that this data folder has seen it in last, or raises WarehouseError; None means that nobody shares one.
        The file `memory` keeps the place.
        """
        self._requests = requests
        self._own = own
        self._open_record = open_record
        self._memory = memory
        self._lock = threading.Lock()
        self._record: RequestRecord | None = None

    def acquire(self) -> None:
        """Block until one more request is permitted, and count it.

        Raises RateLimitUnavailableError or RateLimitRecordError while the shared record cannot be asked: others
        may send what they may, so there is nothing that would be safe to send.
        """
        late = 0
        while late < _LATE_NOTES_BEFORE_GIVING_UP:
            wait, asked_at = self._ask()
            if wait > 0:
                time.sleep(wait)
                continue
            self._own.acquire()
            if time.monotonic() - asked_at <= _GOOD_FOR_SECONDS:
                return
            late += 1
        message = (
            f"nothing is sent: {late} times in a row it took more than {_GOOD_FOR_SECONDS:.0f} s to note a request, "
            "which makes the note too old to send by. See what keeps Postgres or this machine that busy"
        )
        raise RateLimitUnavailableError(message)

    def close(self) -> None:
        """Close the shared record."""
        with self._lock:
            self._drop_record()

    def _ask(self) -> tuple[float, float]:
        """The seconds to wait by the shared record, 0 when a request was counted; and when (monotonic) it was asked."""
        with self._lock:
            if self._record is not None:
                # The server may have been restarted since, or have ended the session of a machine that stood still.
                with contextlib.suppress(WarehouseError):
                    return self._seconds_to_wait(self._record)
                self._drop_record()
            try:
                self._record = self._open_record(self._known_place())
                if self._record is None:
                    return 0.0, time.monotonic()
                return self._seconds_to_wait(self._record)
            except WarehouseError as error:
                self._drop_record()
                kind = (
                    RateLimitRecordError
                    if isinstance(error, PermanentError)
                    else RateLimitUnavailableError
                )
                message = (
                    "nothing is sent while Postgres cannot be asked, which keeps the limit on requests of all "
                    f"machines that share it. The reason: {error}"
                )
                raise kind(message) from error

    def _seconds_to_wait(self, record: RequestRecord) -> tuple[float, float]:
        """As `_ask`; raises WarehouseError."""
        known_place = record.place
        asked_at = time.monotonic()
        wait = record.seconds_to_wait(self._requests, COUNTED_SECONDS)
        if record.place != known_place:
            # Not to have it costs no more than a pause, and only if the record is lost.
            with contextlib.suppress(OSError):
                self._memory.write_text(f"{record.place}\n", encoding="ascii")
        return wait, asked_at

    def _known_place(self) -> str | None:
        """Where the shared record was when this data folder was permitted to send last; None if it never was."""
        try:
            return self._memory.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None

    def _drop_record(self) -> None:
        if self._record is not None:
            self._record.close()
            self._record = None
