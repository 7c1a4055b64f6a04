"""The registry of the settings, under the limit on requests that all share who ask it.

Processes of one data folder share a file. Machines whose tables are in one configured Postgres share
a record there, by its clock. While that cannot be asked, each machine goes on with its share of the limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from ctg_assets.counters_file import counters_of
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.postgres.request_record import RequestRecord
from ctg_assets.postgres.server import open_postgres
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry.rate_limit import COUNTED_SECONDS, RateLimit, SharedRateLimit
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import STATE, data_folder

_log = logging.getLogger(__name__)

# Of a database that never answered nobody knows how many share it: if it is shared, then by two at least.
_MACHINES_IF_UNKNOWN = 2

_SECONDS_BETWEEN_ATTEMPTS = 30.0
_SECONDS_BETWEEN_CENSUSES = 60.0


@contextlib.contextmanager
def open_registry(settings: Settings, *, only_look: bool = False) -> Iterator[RegistryClient]:
    """A client of the configured registry, under the shared limit.

    Whoever wants `only_look` leaves no trace in a configured Postgres, not even of the requests.
    """
    registry = hashlib.sha256(settings.api_url.encode()).hexdigest()[:12]
    state = data_folder(settings, STATE)
    record = state / f"requests-{registry}.sqlite"
    with contextlib.ExitStack() as stack:

        def own_limit(requests: int) -> RateLimit:
            return stack.enter_context(contextlib.closing(SharedRateLimit(record, requests)))

        limit = own_limit(settings.requests_per_minute)
        if settings.postgres_url is not None and not only_look:
            shared = LimitOfMachines(
                settings.requests_per_minute,
                own=limit,
                own_limit=own_limit,
                open_record=lambda: _open_record(settings),
                memory=state / f"machines-{registry}",
            )
            limit = stack.enter_context(contextlib.closing(shared))
        yield stack.enter_context(
            RegistryClient(
                settings.api_url,
                rate_limit=limit,
                user_agent=settings.user_agent,
                read_timeout_seconds=settings.request_timeout_seconds,
                retry_seconds=settings.retry_seconds,
                counters=counters_of(settings),
            )
        )


def _open_record(settings: Settings) -> RequestRecord:
    """The record in the configured Postgres; raises WarehouseError."""
    sender = f"{socket.gethostname()}:{settings.data_dir}"
    with open_postgres(settings) as address:
        return RequestRecord(address, settings.api_url, sender)


class LimitOfMachines:
    """At most so many requests in any window of time, over all machines that share a record."""

    def __init__(
        self,
        requests: int,
        *,
        own: RateLimit,
        own_limit: Callable[[int], RateLimit],
        open_record: Callable[[], RequestRecord],
        memory: Path,
    ) -> None:
        """Prepare for `requests` in a window; nothing is opened yet.

        `own` is the same limit for this data folder alone, `own_limit` makes a lower one. `open_record` opens the
        shared record or raises WarehouseError. The file `memory` keeps how many machines share it.
        """
        self._requests = requests
        self._own = own
        self._own_limit = own_limit
        self._open_record = open_record
        self._memory = memory
        self._lock = threading.Lock()
        self._record: RequestRecord | None = None
        self._attempt_at = 0.0
        self._census_at = 0.0
        self._alone: tuple[int, RateLimit] | None = None
        # When requests were sent that the shared record does not have.
        self._sent_alone: deque[float] = deque(maxlen=requests)

    def acquire(self) -> None:
        """Block until one more request is permitted, and count it."""
        while (wait := self._ask()) is not None:
            if wait <= 0:
                self._own.acquire()
                return
            time.sleep(wait)
        self._limit_alone().acquire()
        with self._lock:
            self._sent_alone.append(time.monotonic())

    def close(self) -> None:
        """Close the shared record."""
        with self._lock:
            self._drop_record()

    def _ask(self) -> float | None:
        """The seconds to wait by the shared record, 0 when a request was counted; None if it cannot be asked."""
        with self._lock:
            now = time.monotonic()
            if self._record is None and now < self._attempt_at:
                return None
            try:
                if self._record is not None:
                    # The server may have been restarted since, or have ended an idle session.
                    with contextlib.suppress(WarehouseError):
                        return self._seconds_to_wait(self._record, now)
                    self._drop_record()
                self._record = self._open_record()
                self._census_at = now
                return self._seconds_to_wait(self._record, now)
            except WarehouseError as error:
                self._drop_record()
                self._attempt_at = now + _SECONDS_BETWEEN_ATTEMPTS
                machines = self._machines()
                _log.warning(
                    "the limit on requests cannot be shared with other machines for now; %s requests a minute "
                    "are sent from here, which is the share of one of %s. The reason: %s",
                    self._share(machines),
                    machines,
                    error,
                )
                return None

    def _seconds_to_wait(self, record: RequestRecord, now: float) -> float:
        """As `_ask`; raises WarehouseError."""
        if now >= self._census_at:
            self._remember(record.senders())
            self._census_at = now + _SECONDS_BETWEEN_CENSUSES
        recent = sum(now - sent < COUNTED_SECONDS for sent in self._sent_alone)
        if recent:
            record.note(recent)
        self._sent_alone.clear()
        return record.seconds_to_wait(self._requests, COUNTED_SECONDS)

    def _drop_record(self) -> None:
        if self._record is not None:
            self._record.close()
            self._record = None

    def _limit_alone(self) -> RateLimit:
        """The limit for this machine's share."""
        with self._lock:
            share = self._share(self._machines())
            if self._alone is None or self._alone[0] != share:
                self._alone = (share, self._own_limit(share))
            return self._alone[1]

    def _share(self, machines: int) -> int:
        return max(1, self._requests // machines)

    def _machines(self) -> int:
        """How many machines shared the record when it was last asked."""
        try:
            return max(1, int(self._memory.read_text(encoding="ascii")))
        except (OSError, ValueError):
            return _MACHINES_IF_UNKNOWN

    def _remember(self, machines: int) -> None:
        if self._memory.exists() and self._machines() == machines:
            return
        # Without it two are assumed.
        with contextlib.suppress(OSError):
            self._memory.write_text(f"{machines}\n", encoding="ascii")
