"""Who does a step of a run: a lock in Postgres for each, which its session holds, and which ends with it.

That of a process that was killed ends at once, that of a machine that is cut off when its keep-alives fail.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg

from ctg_assets.postgres.connection import PostgresAddress, connect, postgres_errors

_NAME = "ctg_assets step"

# The server asks after 20 s of silence, and every 5 s from then on, and gives up after four times.
_SESSION = (
    "SET idle_session_timeout = 0; SET tcp_keepalives_idle = 20; SET tcp_keepalives_interval = 5;"
    "SET tcp_keepalives_count = 4"
)


@contextlib.contextmanager
def step_lock(address: PostgresAddress, step: str) -> Iterator[bool]:
    """Hold the lock of a step while the block runs; gives whether it was free. Raises WarehouseError."""
    with contextlib.closing(connect(address, application_name=_NAME)) as connection:
        with postgres_errors(f"taking the lock of {step}"):
            connection.execute(_SESSION)
            row = connection.execute(
                "SELECT pg_try_advisory_lock(hashtext(%s), hashtext(%s))", [_NAME, step]
            ).fetchone()
        try:
            yield row is not None and bool(row[0])
        finally:
            # It would end with the session, but a moment after we have closed that.
            with contextlib.suppress(psycopg.Error):
                connection.execute("SELECT pg_advisory_unlock_all()")


def is_step_locked(address: PostgresAddress, step: str) -> bool:
    """Whether a living process holds the lock of a step. Raises WarehouseError."""
    with (
        contextlib.closing(connect(address, application_name=_NAME)) as connection,
        postgres_errors(f"looking for the lock of {step}"),
    ):
        # Postgres shows the two numbers of a lock without their signs.
        row = connection.execute(
            """
            SELECT EXISTS (
                SELECT FROM pg_locks
                WHERE locktype = 'advisory' AND granted AND objsubid = 2
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND classid::bigint = hashtext(%s)::bigint & 4294967295
                    AND objid::bigint = hashtext(%s)::bigint & 4294967295
            )
            """,
            [_NAME, step],
        ).fetchone()
        return row is not None and bool(row[0])
