"""Sessions of a load: alone in its database, and patient with readers."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue

import psycopg

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.errors import LoadBusyError
from ctg_assets.postgres.target import Target

_NAME = "ctg_assets load"

# While we wait for a reader, newer readers queue behind us: never for longer than this at a time.
# Below Postgres' deadlock_timeout (1 s), so that no reader is ever shot as part of a deadlock.
LOCK_MILLISECONDS = 350
DYING_MILLISECONDS = 3000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


@contextlib.contextmanager
def session(address: PostgresAddress) -> Iterator[Connection]:
    """A connection for the work of a load; the server's and role's time limits do not apply to it.

    Long texts are compressed with LZ4 where the server has it and nobody chose otherwise: an eighth of Postgres'
    part of copying less than with pglz, for as many bytes. The embedded one is built without.
    """
    with contextlib.closing(connect(address, application_name=_NAME)) as connection:
        with postgres_errors("preparing the load"):
            # Waiting for the next batch is not idling. The empty search_path makes Postgres name
            # everything in full in the definitions that it hands out.
            connection.execute(
                "SET search_path = ''; SET statement_timeout = 0; SET lock_timeout = 0;"
                "SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = 0"
            )
            # Since Postgres 17.
            connection.execute(
                "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'"
            )
            connection.execute(
                "SELECT set_config(name, 'lz4', false) FROM pg_settings"
                " WHERE name = 'default_toast_compression' AND source = 'default' AND 'lz4' = ANY (enumvals)"
            )
        yield connection


@contextlib.contextmanager
def session_alone(address: PostgresAddress, target: Target) -> Iterator[Connection]:
    """A session that holds the lock on loading into a schema until it ends, however it ends.

    Raises LoadBusyError when another one holds it.
    """
    with session(address) as connection:
        with postgres_errors("preparing the load"):
            # The session of a load that just ended, or was killed, lives on for a moment.
            connection.execute(f"SET lock_timeout = {DYING_MILLISECONDS}")
            try:
                connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [target.lock_name])
            except psycopg.errors.LockNotAvailable as error:
                message = (
                    f"another load into {address.public_url} is running ({_holder(connection, target)}); wait "
                    "until it is done"
                )
                raise LoadBusyError(message) from error
            connection.execute("SET lock_timeout = 0")
        yield connection


def _holder(connection: Connection, target: Target) -> str:
    found = connection.execute(
        """
        SELECT a.pid, a.client_addr, a.backend_start
        FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (l.classid::bigint << 32 | l.objid::bigint) = hashtext(%s)::bigint
        """,
        [target.lock_name],
    ).fetchone()
    if found is None:
        return "it has just ended"
    pid, client, since = found
    return f"server process {pid}, client {client or 'on this machine'}, since {since:%H:%M:%S %Z}"


def retry_on_lock(
    connection: Connection,
    target: Target,
    doing: str,
    work: Callable[[], object],
    *,
    deadline: float,
) -> None:
    """Run `work` in one transaction, again and again while readers hold the locks it needs.

    Each try waits a moment only, then steps back to let readers through. Raises LoadBusyError, naming
    the sessions in the way, after `deadline` (of `time.monotonic`).
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            with postgres_errors(doing), connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
                work()
        except LoadBusyError as error:
            if time.monotonic() + pause > deadline:
                message = f"{error} In the way: {_sessions_in_the_way(connection, target)}."
                raise LoadBusyError(message) from error
        else:
            return
        # Spread out, so that a reader who comes at regular times is not met each time.
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  not a secret
        pause = min(2 * pause, _LONGEST_PAUSE)


def run_in_parallel(
    workers: Sequence[Connection],
    tasks: Sequence[Callable[[Connection], None]],
    tell: Callable[[int], None],
) -> None:
    """Run tasks, each over whichever of the connections is free; `tell` hears how many are done.

    Raises what a task raises, after the others have been cancelled.
    """
    free: SimpleQueue[Connection] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def run(task: Callable[[Connection], None]) -> None:
        worker = free.get()
        try:
            task(worker)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(len(workers)) as threads:
        futures = [threads.submit(run, task) for task in tasks]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                tell(done)
        except BaseException:
            for future in futures:
                future.cancel()
            for worker in workers:
                # The server may be gone, which is then what is being raised.
                with contextlib.suppress(psycopg.Error):
                    worker.cancel_safe()
            raise


def lock_tables(connection: Connection, statement: psycopg.sql.Composed) -> None:
    """Run a `LOCK TABLE` of many tables that gives up after a moment altogether."""
    # lock_timeout would be granted anew for each table.
    connection.execute(f"SET LOCAL statement_timeout = {LOCK_MILLISECONDS}")
    try:
        connection.execute(statement)
    except psycopg.errors.QueryCanceled as error:
        raise psycopg.errors.LockNotAvailable(str(error)) from error
    connection.execute("SET LOCAL statement_timeout = 0")


def _sessions_in_the_way(connection: Connection, target: Target) -> str:
    found: Sequence[tuple[int, str, str, str]] = connection.execute(
        """
        SELECT DISTINCT a.pid, a.application_name, a.state, left(a.query, 60)
        FROM pg_locks AS l
        JOIN pg_stat_activity AS a USING (pid)
        JOIN pg_class AS c ON c.oid = l.relation
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE l.granted AND l.pid <> pg_backend_pid() AND n.nspname = %s
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """,
        [target.schema],
    ).fetchall()
    return "; ".join(
        f"pid {pid} ({name or 'unnamed'}, {state}): {' '.join(query.split())}"
        for pid, name, state, query in found
    )
