"""What the database remembers of each sink: how far it is, and what it did not take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.rows import class_row

from ctg_assets.feed.errors import FeedError, SinkBusyError
from ctg_assets.feed.events import Message
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.meta import MetaTable, ensure_meta
from ctg_assets.postgres.ownership import is_described
from ctg_assets.postgres.sessions import DYING_MILLISECONDS

_NAME = "ctg_assets feed"

_POSITIONS = MetaTable(
    "feed_positions",
    (
        """
        CREATE TABLE {meta}.feed_positions (
            sink text PRIMARY KEY,
            change_seq bigint NOT NULL,
            delivered bigint NOT NULL DEFAULT 0,
            moved_at timestamp with time zone NOT NULL DEFAULT now(),
            last_error text,
            last_error_at timestamp with time zone,
            failing_since timestamp with time zone
        )
        """,
    ),
    "Up to which change (change_seq) each sink of the feed has confirmed everything that it wants.",
)
_DEAD_LETTERS = MetaTable(
    "feed_dead_letters",
    (
        """
        CREATE TABLE {meta}.feed_dead_letters (
            sink text NOT NULL,
            event_id text NOT NULL,
            change_seq bigint NOT NULL,
            nct_id text NOT NULL,
            reason text NOT NULL,
            attempts integer NOT NULL,
            first_failed_at timestamp with time zone NOT NULL DEFAULT now(),
            last_failed_at timestamp with time zone NOT NULL DEFAULT now(),
            replay_asked boolean NOT NULL DEFAULT false,
            body text NOT NULL,
            PRIMARY KEY (sink, event_id)
        )
        """,
    ),
    "Events that a sink of the feed did not take; `ctg-assets feed replay` sends them again.",
)


@dataclass(frozen=True)
class Refusal:
    """A message that was put aside: why, and after how many tries."""

    message: Message
    reason: str
    attempts: int


@dataclass(frozen=True)
class SinkState:
    """How far a sink is."""

    sink: str
    change_seq: int
    delivered: int
    moved_at: datetime
    last_error: str | None
    last_error_at: datetime | None
    failing_since: datetime | None
    dead_letters: int
    is_held: bool


@dataclass(frozen=True)
class DeadLetter:
    """An event that a sink did not take."""

    sink: str
    event_id: str
    change_seq: int
    nct_id: str
    reason: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    replay_asked: bool


class SinkProgress:
    """One sink's rows, while this process is the one that delivers to it."""

    def __init__(self, connection: Connection, sink: str) -> None:
        """Keep the rows of `sink` through a connection that holds its lock."""
        self._connection = connection
        self._sink = sink

    def position(self) -> int | None:
        """The highest number up to which everything is settled; None for a new sink."""
        with self._doing("reading the position"):
            row = self._connection.execute(
                self._connection.schemas.sql(
                    "SELECT change_seq FROM {meta}.feed_positions WHERE sink = %s"
                ),
                [self._sink],
            ).fetchone()
        return None if row is None else int(row[0])

    def begin(self, change_seq: int) -> None:
        """Give a new sink its first position."""
        with self._doing("beginning"):
            self._connection.execute(
                self._connection.schemas.sql(
                    "INSERT INTO {meta}.feed_positions (sink, change_seq) VALUES (%s, %s)"
                ),
                [self._sink, change_seq],
            )

    def advance(
        self, before: int, after: int, accepted: Sequence[str], refused: Sequence[Refusal]
    ) -> bool:
        """)Move the position on, over events taken (by id) and others that are put aside.

        Does nothing and returns False when it is not where it was `before`: a person moved it.
        """
        with self._doing("moving the position"), self._connection.transaction():
            moved = self._connection.execute(
                self._connection.schemas.sql("""
                UPDATE {meta}.feed_positions
                SET change_seq = %s, delivered = delivered + %s, moved_at = now(),
                    failing_since = NULL
                WHERE sink = %s AND change_seq = %s
                """),
                [after, len(accepted), self._sink, before],
            ).rowcount
            if moved:
                self._write(accepted, refused)
        return bool(moved)

    def settle(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        """Note how dead letters fared that were sent again."""
        with self._doing("noting a replay"), self._connection.transaction():
            self._connection.execute(
                self._connection.schemas.sql(
                    "UPDATE {meta}.feed_positions SET delivered = delivered + %s,"
                    " failing_since = NULL WHERE sink = %s"
                ),
                [len(accepted), self._sink],
            )
            self._write(accepted, refused)

    def replays(self, limit: int) -> list[Message]:
        """Dead letters that are to be sent again, in the order of their numbers."""
        with self._doing("reading the dead letters"):
            rows = self._connection.execute(
                self._connection.schemas.sql("""
                SELECT event_id, change_seq, nct_id, body FROM {meta}.feed_dead_letters
                WHERE sink = %s AND replay_asked ORDER BY change_seq LIMIT %s
                """),
                [self._sink, limit],
            ).fetchall()
        return [
            Message(event_id, change_seq, nct_id, body.encode())
            for event_id, change_seq, nct_id, body in rows
        ]

    def failed(self, reason: str) -> None:
        """Note that delivery is held up."""
        with self._doing("noting a failure"):
            self._connection.execute(
                self._connection.schemas.sql("""
                UPDATE {meta}.feed_positions
                SET last_error = %s, last_error_at = now(),
                    failing_since = coalesce(failing_since, now())
                WHERE sink = %s
                """),
                [_storable(reason), self._sink],
            )

    def _write(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        # An event that is sent again after all, by whatever way, is no dead letter any more.
        self._connection.execute(
            self._connection.schemas.sql(
                "DELETE FROM {meta}.feed_dead_letters WHERE sink = %s AND event_id = ANY(%s)"
            ),
            [self._sink, list(accepted)],
        )
        with self._connection.cursor() as cursor:
            cursor.executemany(
                self._connection.schemas.sql("""
                INSERT INTO {meta}.feed_dead_letters AS known
                    (sink, event_id, change_seq, nct_id, reason, attempts, body)
                VALUES (%s, %s, %s, %s, %s, %s, %s)
                ON CONFLICT (sink, event_id) DO UPDATE
                SET reason = excluded.reason, attempts = known.attempts + excluded.attempts,
                    last_failed_at = now(), replay_asked = false
                """),
                [
                    (
                        self._sink,
                        refusal.message.event_id,
                        refusal.message.change_seq,
                        refusal.message.nct_id,
                        _storable(refusal.reason),
                        refusal.attempts,
                        refusal.message.body.decode(),
                    )
                    for refusal in refused
                ],
            )

    def _doing(self, what: str) -> contextlib.AbstractContextManager[None]:
        return postgres_errors(f"{what} of sink {self._sink!r}")


def _storable(reason: str) -> str:
    """What a sink answered may hold U+0000, which the text of Postgres cannot."""
    return reason.replace("\0", "\ufffd")


@contextlib.contextmanager
def open_progress(address: PostgresAddress, sink: str) -> Iterator[SinkProgress]:
    """A sink's rows, and the right to deliver to it until the block ends or the process dies.

    Raises SinkBusyError when another process has that right.
    """
    with contextlib.closing(connect(address, application_name=_NAME)) as connection:
        with postgres_errors(f"preparing sink {sink!r}"):
            ensure_feed_tables(connection)
            connection.execute(
                "SET idle_session_timeout = 0; SET statement_timeout = 0;"
                # The session of a process that was killed lives on for a moment.
                f"SET lock_timeout = {DYING_MILLISECONDS}"
            )
            try:
                connection.execute(
                    "SELECT pg_advisory_lock(hashtext(%s), hashtext(%s))", [_NAME, sink]
                )
            except psycopg.errors.LockNotAvailable as error:
                message = f"another process is delivering to sink {sink!r}; wait until it is done"
                raise SinkBusyError(message) from error
            connection.execute("SET lock_timeout = 0")
        yield SinkProgress(connection, sink)


def sink_states(address: PostgresAddress) -> list[SinkState]:
    """All sinks that were ever delivered to, by name."""
    with connect(address) as connection, postgres_errors("reading the sinks' positions"):
        if not has_feed_tables(connection):
            return []
        with connection.cursor(row_factory=class_row(SinkState)) as cursor:
            return cursor.execute(
                connection.schemas.sql("""
                SELECT p.*,
                    (SELECT count(*) FROM {meta}.feed_dead_letters AS d WHERE d.sink = p.sink)
                        AS dead_letters,
                    EXISTS (
                        SELECT FROM pg_locks AS l
                        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
                        AND l.database = (
                            SELECT oid FROM pg_database WHERE datname = current_database()
                        )
                        AND l.classid::bigint = hashtext(%s)::bigint & 4294967295
                        AND l.objid::bigint = hashtext(p.sink)::bigint & 4294967295
                    ) AS is_held
                FROM {meta}.feed_positions AS p ORDER BY p.sink
                """),
                [_NAME],
            ).fetchall()


def dead_letters(address: PostgresAddress, sink: str, limit: int) -> list[DeadLetter]:
    """The first of a sink's dead letters, in the order of their numbers."""
    with connect(address) as connection, postgres_errors("reading the dead letters"):
        if not has_feed_tables(connection):
            return []
        with connection.cursor(row_factory=class_row(DeadLetter)) as cursor:
            return cursor.execute(
                connection.schemas.sql("""
                SELECT sink, event_id, change_seq, nct_id, reason, attempts, first_failed_at,
                    last_failed_at, replay_asked
                FROM {meta}.feed_dead_letters WHERE sink = %s ORDER BY change_seq LIMIT %s
                """),
                [sink, limit],
            ).fetchall()


def ask_for_dead_letters(address: PostgresAddress, sink: str) -> int:
    """Have all of a sink's dead letters sent again; returns how many there are."""
    doing = f"asking for the dead letters of sink {sink!r}"
    with connect(address) as connection, postgres_errors(doing):
        if not has_feed_tables(connection):
            return 0
        return connection.execute(
            connection.schemas.sql(
                "UPDATE {meta}.feed_dead_letters SET replay_asked = true WHERE sink = %s"
            ),
            [sink],
        ).rowcount


def discard_dead_letters(address: PostgresAddress, sink: str) -> int:
    """Forget all of a sink's dead letters; returns how many there were."""
    doing = f"discarding the dead letters of sink {sink!r}"
    with connect(address) as connection, postgres_errors(doing):
        if not has_feed_tables(connection):
            return 0
        return connection.execute(
            connection.schemas.sql("DELETE FROM {meta}.feed_dead_letters WHERE sink = %s"), [sink]
        ).rowcount


def move_back(address: PostgresAddress, sink: str, from_seq: int) -> int:
    """Have everything from a number on sent again; returns where the sink was.

    A process that is delivering goes on from there. Raises FeedError when that would skip events.
    """
    with (
        connect(address) as connection,
        postgres_errors(f"moving the position of sink {sink!r}"),
        connection.transaction(),
    ):
        row = None
        if has_feed_tables(connection):
            row = connection.execute(
                connection.schemas.sql(
                    "SELECT change_seq FROM {meta}.feed_positions WHERE sink = %s FOR UPDATE"
                ),
                [sink],
            ).fetchone()
        if row is None:
            message = f"sink {sink!r} was never delivered to; `ctg-assets feed run` begins"
            raise FeedError(message)
        before = int(row[0])
        if not 1 <= from_seq <= before + 1:
            message = (
                f"sink {sink!r} has everything up to change {before}: from {from_seq} it would miss "
                f"some; give a number from 1 to {before + 1}"
            )
            raise FeedError(message)
        connection.execute(
            connection.schemas.sql(
                "UPDATE {meta}.feed_positions SET change_seq = %s, moved_at = now() WHERE sink = %s"
            ),
            [from_seq - 1, sink],
        )
    return before


def ensure_feed_tables(connection: Connection) -> None:
    """Make the tables of the feed's notes where they are not there."""
    if not has_feed_tables(connection):
        ensure_meta(connection, [_POSITIONS, _DEAD_LETTERS])


def has_feed_tables(connection: Connection) -> bool:
    """Whether the tables of the feed's notes are there, and ours."""
    return all(
        is_described(connection, notes.name, notes.description)
        for notes in (_POSITIONS, _DEAD_LETTERS)
    )
