"""Looking at the database from outside the work on it: quickly, changing nothing, and in nobody's way."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg.rows import class_row

from ctg_assets.postgres.builds import LOAD_INFO, LoadInfo
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.meta import has_notes

_NAME = "ctg_assets serve"

# A look that takes longer has no place beside the work: locks of a swap are held for a moment only.
_LOOK_MILLISECONDS = 3000
_LOCK_MILLISECONDS = 500


@dataclass(frozen=True)
class TableState:
    """A table of ours: bytes on disk with indexes, and rows.

    Rows are those that its load has noted; of a table without such a note, those that Postgres last
    estimated, None if it never has.
    """

    schema: str
    table: str
    bytes: int
    rows: int | None


@dataclass(frozen=True)
class DatabaseState:
    """What the database holds; `info` is None if nothing is loaded."""

    info: LoadInfo | None
    tables: tuple[TableState, ...]


def watched(address: PostgresAddress) -> PostgresAddress:
    """The same database, with sessions that can only read, and wait for nothing for long."""
    options = (
        f"-c default_transaction_read_only=on -c statement_timeout={_LOOK_MILLISECONDS} "
        f"-c lock_timeout={_LOCK_MILLISECONDS}"
    )
    own = address.parameters.get("options")
    parameters = {**address.parameters, "options": f"{own} {options}" if own else options}
    return replace(address, parameters=parameters)


def is_loaded(address: PostgresAddress) -> bool:
    """Whether the tables are there and hold something. Raises WarehouseError when nobody answers."""
    with (
        connect(watched(address), application_name=_NAME) as connection,
        postgres_errors("looking whether anything is loaded"),
    ):
        return _load_info(connection) is not None


def database_state(address: PostgresAddress) -> DatabaseState:
    """What the database holds now. Raises WarehouseError."""
    with (
        connect(watched(address), application_name=_NAME) as connection,
        postgres_errors("looking at the tables"),
    ):
        return DatabaseState(_load_info(connection), _tables(connection))


def _load_info(connection: Connection) -> LoadInfo | None:
    # As `builds.load_info`, which also takes over what an earlier release has left.
    found = connection.execute(
        "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) IS NOT NULL",
        [connection.schemas.staging, LOAD_INFO.name],
    ).fetchone()
    if found != (True,) or not has_notes(connection, "builds"):
        return None
    with connection.cursor(row_factory=class_row(LoadInfo)) as cursor:
        return cursor.execute(
            connection.schemas.sql("SELECT * FROM {staging}.load_info")
        ).fetchone()


def _tables(connection: Connection) -> tuple[TableState, ...]:
    if not has_notes(connection, "builds"):
        return ()
    schemas = [schema for _, schema in connection.schemas.by_purpose()]
    with connection.cursor(row_factory=class_row(TableState)) as cursor:
        return tuple(
            cursor.execute(
                connection.schemas.sql(
                    """
                    SELECT
                        n.nspname AS schema, c.relname AS table,
                        coalesce(pg_total_relation_size(c.oid), 0) AS bytes,
                        coalesce(b.rows, nullif(c.reltuples, -1)::bigint) AS rows
                    FROM pg_class AS c
                    JOIN pg_namespace AS n ON n.oid = c.relnamespace
                    LEFT JOIN {meta}.builds AS b ON b.stage = n.nspname AND b.name = c.relname
                    WHERE n.nspname = ANY(%s) AND c.relkind IN ('r', 'm')
                    ORDER BY n.nspname, c.relname
                    """
                ),
                [schemas],
            )
        )
