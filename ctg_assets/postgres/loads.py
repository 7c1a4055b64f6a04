"""The numbered loads of staging, and which studies they changed: what marts follow.

The studies that changed since load N are the rows of `changed_studies` with a higher `load_number`,
unless one of those loads was full: then any row may have changed. A load of some tables only is a full
one too, for what it replaces it replaces for all studies.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.meta import has_notes


def next_load_number(connection: Connection) -> int:
    """The number of the load that is under way; the caller holds the lock on loading."""
    found = connection.execute(
        connection.schemas.sql("SELECT max(load_number) FROM {meta}.loads")
    ).fetchone()
    (last,) = found or (None,)
    return 1 if last is None else last + 1


def newest_load_is_delta(address: PostgresAddress) -> bool:
    """Whether the last load replaced the rows of some studies only."""
    with connect(address) as connection, postgres_errors("reading the loads of staging"):
        if not has_notes(connection, "loads"):
            return False
        found = connection.execute(
            address.schemas.sql(
                "SELECT kind = 'delta' FROM {meta}.loads ORDER BY load_number DESC LIMIT 1"
            )
        ).fetchone()
    return found == (True,)


def write_full_load(connection: Connection, number: int, snapshot_id: str) -> None:
    """Record, in the caller's transaction, that whole tables were replaced."""
    _write_load(connection, number, "full", snapshot_id)
    # It supersedes what changed before. Not TRUNCATE, for which readers would have to wait.
    connection.execute(connection.schemas.sql("DELETE FROM {meta}.changed_studies"))


def write_delta(
    connection: Connection,
    number: int,
    snapshot_id: str,
    studies: Sequence[tuple[str, int, int]],
) -> None:
    """Record, in the caller's transaction, that the rows of some studies were replaced.

    `studies` are their NCT ids, each with the first and last key that its rows can have in the staging tables.
    """
    _write_load(connection, number, "delta", snapshot_id)
    connection.execute(
        connection.schemas.sql(
            """
            INSERT INTO {meta}.changed_studies (nct_id, load_number, first_id, last_id)
            SELECT nct_id, %s, first_id, last_id
            FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS c (nct_id, first_id, last_id)
            ON CONFLICT (nct_id) DO UPDATE SET load_number = excluded.load_number
            """
        ),
        [number, *([study[part] for study in studies] for part in range(3))],
    )


def add_changed_studies(connection: Connection, table: sql.Identifier, since: int) -> int:
    """Add to a table (nct_id, first_id, last_id) the studies that deltas after a load changed; returns how many."""
    changed = connection.schemas.sql(
        "SELECT nct_id, first_id, last_id FROM {meta}.changed_studies WHERE load_number > %s"
    )
    return connection.execute(sql.SQL("INSERT INTO {} ").format(table) + changed, [since]).rowcount


def _write_load(connection: Connection, number: int, kind: str, snapshot_id: str) -> None:
    connection.execute(
        connection.schemas.sql(
            "INSERT INTO {meta}.loads (load_number, kind, snapshot_id) VALUES (%s, %s, %s)"
        ),
        [number, kind, snapshot_id],
    )
