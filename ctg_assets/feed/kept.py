"""The feed's notes in a backup: positions and dead letters, which are nowhere but in the database."""

from __future__ import annotations

from dataclasses import astuple, dataclass

import msgspec
from psycopg.rows import class_row

from ctg_assets.feed.positions import DeadLetter, ensure_feed_tables, has_feed_tables
from ctg_assets.postgres.connection import PostgresAddress, connect, postgres_errors


class KeptPosition(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sink was, and how many events it had taken."""

    sink: str
    change_seq: int
    delivered: int


@dataclass(frozen=True)
class KeptLetter(DeadLetter):
    """An event that a sink did not take, with its text."""

    body: str


class KeptFeed(msgspec.Struct, frozen=True, kw_only=True):
    """What the database remembers of all sinks."""

    positions: list[KeptPosition] = []
    dead_letters: list[KeptLetter] = []


def feed_notes(address: PostgresAddress) -> KeptFeed:
    """What the database remembers of all sinks, at one moment; nothing if there never was a sink.

    In a backup it has to be taken before the history, so that no position is ahead of that.
    """
    with (
        connect(address) as connection,
        postgres_errors("reading the feed's positions"),
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if not has_feed_tables(connection):
            return KeptFeed()
        with connection.cursor(row_factory=class_row(KeptPosition)) as cursor:
            positions = cursor.execute(
                connection.schemas.sql(
                    "SELECT sink, change_seq, delivered FROM {meta}.feed_positions ORDER BY sink"
                )
            ).fetchall()
        with connection.cursor(row_factory=class_row(KeptLetter)) as cursor:
            letters = cursor.execute(
                connection.schemas.sql(
                    "SELECT sink, event_id, change_seq, nct_id, reason, attempts, first_failed_at,"
                    " last_failed_at, replay_asked, body"
                    " FROM {meta}.feed_dead_letters ORDER BY sink, change_seq, event_id"
                )
            ).fetchall()
    return KeptFeed(positions=positions, dead_letters=letters)


def bring_back(address: PostgresAddress, kept: KeptFeed, newest: int) -> list[str]:
    """Write what a backup has of sinks that the database does not know; returns their names.

    `newest` is the highest number of a change in the history that was brought back. A sink that the
    database knows and that is beyond it is set back to it: numbers above it will be given anew, and
    would be taken for delivered.
    """
    with (
        connect(address) as connection,
        postgres_errors("bringing the feed's positions back"),
        connection.transaction(),
    ):
        if not kept.positions and not has_feed_tables(connection):
            return []
        ensure_feed_tables(connection)
        connection.execute(
            connection.schemas.sql(
                "UPDATE {meta}.feed_positions SET change_seq = %s, moved_at = now()"
                " WHERE change_seq > %s"
            ),
            [newest, newest],
        )
        brought = [
            position.sink
            for position in kept.positions
            if connection.execute(
                connection.schemas.sql(
                    "INSERT INTO {meta}.feed_positions (sink, change_seq, delivered)"
                    " VALUES (%s, %s, %s) ON CONFLICT (sink) DO NOTHING"
                ),
                [position.sink, position.change_seq, position.delivered],
            ).rowcount
        ]
        with connection.cursor() as cursor:
            cursor.executemany(
                connection.schemas.sql(
                    "INSERT INTO {meta}.feed_dead_letters (sink, event_id, change_seq, nct_id, reason,"
                    " attempts, first_failed_at, last_failed_at, replay_asked, body)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
                ),
                [astuple(letter) for letter in kept.dead_letters if letter.sink in brought],
            )
    return brought
