"""The requests that machines which share a database have sent to a registry, by the database's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import psycopg

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.meta import MetaTable, ensure_meta

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
_SENDERS = MetaTable(
    "registry_senders",
    (
        """
        CREATE TABLE {meta}.registry_senders (
            registry text NOT NULL,
            sender text NOT NULL,
            seen_at timestamp with time zone NOT NULL,
            PRIMARY KEY (registry, sender)
        )
        """,
    ),
    "Which data folders of which machines have asked each registry, and when last.",
)

# The lock is held for milliseconds. Whoever holds it for longer is dead, and its connection not yet.
_LOCK_SECONDS = 10


class RequestRecord:
    """The record of one registry, over a connection of its own; for one thread at a time.

    All that it does raises WarehouseError when the database cannot be asked.
    """

    def __init__(self, address: PostgresAddress, registry: str, sender: str) -> None:
        """Open the record, making its tables where they are not there; `sender` is this machine and data folder."""
        self._registry = registry
        self._sender = sender
        self._doing = f"noting requests to {registry} in {address.public_url}"
        self._connection: Connection = connect(address)
        try:
            with postgres_errors(self._doing):
                ensure_meta(self._connection, [_REQUESTS, _SENDERS])
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def seconds_to_wait(self, requests: int, window_seconds: float) -> float:
        """Count one more request if there are fewer than `requests` in the window: 0. Else how long to wait."""
        of = {"registry": self._registry, "most": requests, "window": window_seconds}
        with postgres_errors(self._doing), self._connection.transaction():
            self._lock()
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
                INSERT INTO {meta}.registry_requests
                SELECT %(registry)s, clock_timestamp()
                WHERE (
                    SELECT count(*) FROM {meta}.registry_requests
                    WHERE registry = %(registry)s
                        AND sent_at >= clock_timestamp() - make_interval(secs => %(window)s)
                ) < %(most)s
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

    def note(self, requests: int) -> None:
        """Count requests that were sent while the database could not be asked, as sent now."""
        with postgres_errors(self._doing), self._connection.transaction():
            self._lock()
            self._execute(
                """
                INSERT INTO {meta}.registry_requests
                SELECT %(registry)s, clock_timestamp() FROM generate_series(1, %(number)s)
                """,
                {"registry": self._registry, "number": requests},
            )

    def senders(self) -> int:
        """How many data folders have asked this registry in the last hour, this one included."""
        of = {"registry": self._registry, "sender": self._sender}
        with postgres_errors(self._doing), self._connection.transaction():
            self._execute(
                """
                INSERT INTO {meta}.registry_senders VALUES (%(registry)s, %(sender)s, now())
                ON CONFLICT (registry, sender) DO UPDATE SET seen_at = excluded.seen_at
                """,
                of,
            )
            row = self._execute(
                """
                SELECT count(*) FROM {meta}.registry_senders
                WHERE registry = %(registry)s AND seen_at > now() - interval '1 hour'
                """,
                of,
            ).fetchone()
            return int(row[0]) if row else 1

    def _lock(self) -> None:
        """Keep other machines out until the transaction ends, which need not be on disk then."""
        self._connection.execute(
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
            f"SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"
        )
        self._connection.execute(
            "SELECT pg_advisory_xact_lock(hashtext('ctg_assets requests'), hashtext(%s))",
            [self._registry],
        )

    def _execute(
        self, statement: LiteralString, values: Mapping[str, object]
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        return self._connection.execute(self._connection.schemas.sql(statement), values)
