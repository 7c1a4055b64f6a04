"""Emptying our tables, as long as nothing is recorded that they could hold.

Tables stay, with the views, grants and indexes that people have on them: only their rows go, and the
notes of what they were built from. Whatever is loaded next is therefore loaded and built whole.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from ctg_assets.postgres.builds import forget_builds
from ctg_assets.postgres.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.postgres.ownership import owned_relations
from ctg_assets.postgres.sessions import lock_tables, retry_on_lock, session_alone
from ctg_assets.postgres.target import Target


@contextmanager
def emptied(address: PostgresAddress, *, patience_seconds: float = 600.0) -> Iterator[int]:
    """Remove all rows of our tables (staging, AACT's, intermediate, marts), all at once; yields how many tables.

    Nobody can load until the block ends. Tables of others in these schemas are left alone. Readers see all
    rows or none. It is retried for `patience_seconds` while long transactions keep reading.

    Raises LoadBusyError (a load, or readers), ServerUnavailableError, or PermanentWarehouseError when a
    table of somebody else refers to one of ours; nothing is removed then.
    """
    target = Target(address.schemas.staging, address.schemas)
    doing = f"emptying the tables of {address.public_url}"
    with session_alone(address, target) as connection:
        with postgres_errors(doing):
            ensure_meta(connection)
            tables = _own_tables(connection)
            _require_no_external_keys(connection, [oid for oid, _ in tables])
        if tables:

            def work() -> None:
                names = sql.SQL(", ").join(name for _, name in tables)
                lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names)
                lock_tables(connection, lock)
                connection.execute(sql.SQL("TRUNCATE {}").format(names))
                forget_builds(connection)

            deadline = time.monotonic() + patience_seconds
            retry_on_lock(connection, target, doing, work, deadline=deadline)
        yield len(tables)


def _own_tables(connection: Connection) -> list[tuple[int, sql.Identifier]]:
    """Our tables with rows of studies, by oid, with their names."""
    schemas = connection.schemas
    own = {
        oid: sql.Identifier(schema, name)
        for schema in (schemas.staging, schemas.ctgov, schemas.intermediate, schemas.marts)
        if schema is not None
        for name, oid in owned_relations(connection, schema).items()
    }
    found = connection.execute(
        "SELECT oid FROM pg_class WHERE oid = ANY(%s::oid[]) AND relkind = 'r' ORDER BY oid",
        [list(own)],
    ).fetchall()
    return [(oid, own[oid]) for (oid,) in found]


def _require_no_external_keys(connection: Connection, tables: list[int]) -> None:
    found = connection.execute(
        """
        SELECT conrelid::regclass::text, conname, confrelid::regclass::text
        FROM pg_constraint
        WHERE contype = 'f' AND confrelid = ANY(%(own)s::oid[]) AND conrelid <> ALL(%(own)s::oid[])
        ORDER BY 1, 2 LIMIT 1
        """,
        {"own": tables},
    ).fetchone()
    if found is not None:
        table, name, referenced = found
        message = (
            f"{table} refers to {referenced}, which is to be emptied, by its foreign key {name}; nothing was "
            "removed. Drop the key, then try again"
        )
        raise PermanentWarehouseError(message)
