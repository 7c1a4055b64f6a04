"""The requests that machines which share a database have sent to a registry, by the database's clock."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import psycopg

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.meta import MetaTable, ensure_meta
from ctg_assets.postgres.ownership import is_described

_log = logging.getLogger(__name__)

_REQUESTS = MetaTable(
    "registry_requests",
    (
        """
        CREATE TABLE {meta}.registry_requests (
            registry text NOT NULL,
            sent_at timestamp with time zone NOT NULL
        )
        """,
        """
        CREATE INDEX registry_requests_sent_at_idx
        ON {meta}.registry_requests (registry, sent_at)
        """,
    ),
    "When requests were sent to each registry in the last two minutes, by whatever machine.",
)
_STATE = MetaTable(
    "registry_record",
    (
        """
        CREATE TABLE {meta}.registry_record (
            one boolean PRIMARY KEY DEFAULT true CHECK (one),
            place text,
            whole_from timestamp with time zone,
            newest timestamp with time zone
        )
        """,
        # Where requests were noted before, by an earlier release, some may be missing.
        """
        INSERT INTO {meta}.registry_record (place)
        SELECT 'unknown' WHERE to_regclass('{meta}.registry_requests') IS NOT NULL
        UNION ALL
        SELECT NULL WHERE to_regclass('{meta}.registry_requests') IS NULL
        """,
    ),
    "Since when every request that was sent is in registry_requests, always if that is null, and in which place"
    " that table was then: after a restart, a failover or a restore it is another.",
)

# Notes are made in milliseconds. Whoever holds the lock and says nothing for so long loses its session, and with it
# the lock, for which others wait longer than that. A server that does not answer for longer yet is given up.
_SILENT_SECONDS = 5
_LOCK_SECONDS = 10
_ANSWER_SECONDS = 20


def has_record(address: PostgresAddress) -> bool:
    """Whether somebody notes requests in a database; raises WarehouseError."""
    with connect(address) as connection:
        return is_described(connection, _REQUESTS.name, _REQUESTS.description)


class RequestRecord:
    """The record of one registry, over a connection of its own; for one thread at a time.

    All that it does raises WarehouseError when the database cannot be asked.
    """

    def __init__(self, address: PostgresAddress, registry: str, known_place: str | None) -> None:
        """Open the record, making its tables where they are not there.

        `known_place` is the `place` that this machine has seen last, None if it never asked.
        """
        self.place = known_place
        self._registry = registry
        self._doing = f"noting requests to {registry} in {address.public_url}"
        self._connection: Connection = connect(address)
        try:
            with self._answering():
                ensure_meta(self._connection, [_STATE, _REQUESTS])
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def seconds_to_wait(self, requests: int, window_seconds: float) -> float:
        """Count one more request if there are fewer than `requests` in the window: 0. Else how long to wait.

        While requests that were sent within the window may be missing, none is permitted.
        """
        of = {"registry": self._registry, "most": requests, "window": window_seconds}
        with self._answering(), self._connection.transaction():
            self._lock()
            if (wait := self._seconds_until_whole(of)) > 0:
                return wait
            # What was sent in the future was sent before the server's clock was set back.
            self._execute(
                """
                UPDATE {meta}.registry_requests SET sent_at = clock_timestamp()
                WHERE registry = %(registry)s AND sent_at > clock_timestamp()
                """,
                of,
            )
            self._execute(
                """
                DELETE FROM {meta}.registry_requests
                WHERE registry = %(registry)s
                    AND sent_at < clock_timestamp() - make_interval(secs => 2 * %(window)s)
                """,
                of,
            )
            permitted = self._execute(
                """
                WITH sent AS (
                    INSERT INTO {meta}.registry_requests
                    SELECT %(registry)s, clock_timestamp()
                    WHERE (
                        SELECT count(*) FROM {meta}.registry_requests
                        WHERE registry = %(registry)s
                            AND sent_at >= clock_timestamp() - make_interval(secs => %(window)s)
                    ) < %(most)s
                    RETURNING sent_at
                )
                UPDATE {meta}.registry_record SET newest = sent.sent_at FROM sent
                """,
                of,
            )
            if permitted.rowcount:
                return 0.0
            row = self._execute(
                """
                SELECT extract(epoch FROM sent_at - clock_timestamp())::float8 + %(window)s
                FROM {meta}.registry_requests WHERE registry = %(registry)s
                ORDER BY sent_at DESC OFFSET %(most)s - 1 LIMIT 1
                """,
                of,
            ).fetchone()
            # It was in the way a moment ago, and may be old enough now.
            return max(0.001, row[0] if row else 0.001)

    def _seconds_until_whole(self, of: Mapping[str, Any]) -> float:
        """How long until all that was sent within the window is in the record; 0 or less if it is by now."""
        self._execute(
            """
            UPDATE {meta}.registry_record SET whole_from = clock_timestamp()
            WHERE whole_from > clock_timestamp()
            """
        )
        here = self._place()
        row = self._execute(
            # The newest is older than what lies there, unless somebody deleted that.
            """
            SELECT place,
                newest BETWEEN clock_timestamp() - make_interval(secs => %(window)s) AND clock_timestamp()
                AND NOT EXISTS (SELECT FROM {meta}.registry_requests WHERE sent_at >= newest),
                extract(epoch FROM whole_from - clock_timestamp())::float8 + %(window)s
            FROM {meta}.registry_record
            FOR UPDATE
            """,
            of,
        ).fetchone()
        noted, is_newest_lost, wait = row or ("unknown", True, None)
        # A record that nobody ever doubted is new. To who knows another one, it has taken that one's place.
        is_new_to_us = wait is None and self.place not in {None, here}
        if noted not in {None, here} or is_newest_lost or is_new_to_us:
            wait = float(of["window"])
            self._doubt(here)
            _log.warning(
                "%s: requests that were sent before it was restarted, restored or emptied may be missing in it; "
                "nobody sends for %.0f s",
                self._doing,
                wait,
            )
        elif noted is None:
            self._execute("UPDATE {meta}.registry_record SET place = %(place)s", {"place": here})
        self.place = here
        return wait or 0.0

    def _place(self) -> str:
        """What is another whenever requests that were noted may be lost.

        Another server, be it a promoted one or one on restored files, was started at another time; a table that was
        restored or emptied has other files.
        """
        row = self._execute(
            """
            SELECT concat_ws(
                ' ', extract(epoch FROM pg_postmaster_start_time()),
                c.oid, pg_relation_filenode(c.oid)
            )
            FROM (SELECT '{meta}.registry_requests'::regclass::oid AS oid) AS c
            """
        ).fetchone()
        return str(row[0]) if row else ""

    def _doubt(self, here: str) -> None:
        """Note that requests which were sent until now may be missing."""
        self._execute(
            """
            INSERT INTO {meta}.registry_record (place, whole_from)
            VALUES (%(place)s, clock_timestamp())
            ON CONFLICT (one) DO UPDATE
            SET place = excluded.place, whole_from = excluded.whole_from, newest = NULL
            """,
            {"place": here},
        )

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Hang up if what is done inside takes too long; raises WarehouseError.

        Behind a line that is cut, or a pooler, nothing else would tell of a server that is gone.
        """
        timer = threading.Timer(_ANSWER_SECONDS, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            with postgres_errors(self._doing):
                yield
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as line,
        ):
            line.shutdown(socket.SHUT_RDWR)

    def _lock(self) -> None:
        """Keep other machines out until the transaction ends, which is on disk then.

        A server whose processes die recovers what is there, and goes on as the same one.
        """
        self._connection.execute(
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
            f"SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = '{_LOCK_SECONDS}s';"
            f"SET LOCAL idle_in_transaction_session_timeout = '{_SILENT_SECONDS}s'"
        )
        self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext('ctg_assets requests'), hashtext(%s))",
            [self._registry],
        )

    def _execute(
        self, statement: LiteralString, values: Mapping[str, object] | None = None
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.execute(self._connection.schemas.sql(statement), values)
