"""Reading what a delta is about to replace, ahead of it.

Belongs here: bringing pages into memory over several connections. Does not belong here: anything that
a delta's result depends on.

The rows of changed studies lie all over tables that are larger than memory. One session finds them page
by page and waits for the disk each time: of 600 studies in a database that nobody had read from, 8 s of
13. Eight sessions wait at the same time, and were done in 1.8 s.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import TracebackType

import psycopg

from ctg_assets.warehouse.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.warehouse.errors import ServerUnavailableError
from ctg_assets.warehouse.replacing import ChangedStudies, Replacement, by_key
from ctg_assets.warehouse.sessions import session

logger = logging.getLogger(__name__)

_MOST_SESSIONS = 8

# Fewer are found as quickly as a session is opened.
_STUDIES_FOR_A_SESSION = 50


class Warming:
    """Reads the rows of changed studies while something else is done.

    `wait` returns when all are read, and raises what went wrong. Leaving the context earlier ends it.
    A server that has no connections to spare is read from over fewer, or none.
    """

    def __init__(
        self, address: PostgresAddress, tables: Iterable[Replacement], changed: ChangedStudies
    ) -> None:
        self._address = address
        self._changed = changed
        self._unread: SimpleQueue[Replacement] = SimpleQueue()
        for table in tables:
            if table.first is None:
                self._unread.put(table)
        self._sessions = min(_MOST_SESSIONS, len(changed.nct_ids) // _STUDIES_FOR_A_SESSION)
        self._connections: list[Connection] = []
        self._threads = ThreadPoolExecutor(_MOST_SESSIONS)
        self._work: list[Future[None]] = []

    def __enter__(self) -> Warming:
        self._work = [self._threads.submit(self._read) for _ in range(self._sessions)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._next() is not None:
            pass
        for connection in tuple(self._connections):
            # The server may be gone, which is then what is being raised.
            with contextlib.suppress(psycopg.Error):
                connection.cancel_safe()
        self._threads.shutdown(cancel_futures=True)

    def wait(self) -> None:
        """Wait until all is read."""
        for work in self._work:
            work.result()

    def _read(self) -> None:
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(session(self._address))
            except ServerUnavailableError as error:
                # The delta has its connection, and finds the rows without us, only later.
                logger.warning("reading ahead over fewer connections: %s", error)
                return
            stack.enter_context(postgres_errors("reading what is to be replaced"))
            stack.enter_context(connection.transaction())
            self._connections.append(connection)
            self._changed.write(connection)
            with by_key(connection):
                while (table := self._next()) is not None:
                    table.read_old(connection)

    def _next(self) -> Replacement | None:
        try:
            return self._unread.get_nowait()
        except Empty:
            return None
