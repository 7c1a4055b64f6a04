"""AACT's tables at one moment: held still and in one snapshot, for whoever reads one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.state import watermark
from ctg_assets.postgres.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.postgres.sessions import session

_NAME = "ctg_assets export"
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Moment:
    """A transaction that sees one snapshot of AACT's tables, which nobody replaces while it lasts.

    `snapshot` is the name under which other sessions of the server can join it; `data_version` (aware) says
    which state of the registry the tables stand for.
    """

    connection: Connection
    schema: str
    snapshot: str
    data_version: datetime


@contextlib.contextmanager
def one_moment(address: PostgresAddress, schema: str) -> Iterator[Moment]:
    """Hold the tables of a schema that has AACT's.

    Rows may be replaced meanwhile, which is not seen; whole tables are only swapped after the end. Raises
    PermanentWarehouseError when AACT's tables are not there, LoadBusyError when a swap holds them too long.
    """
    with session(address) as connection, postgres_errors(f"reading schema {schema}"):
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction():
            # For loads that find us in their way and name us.
            connection.execute(f"SET LOCAL application_name = '{_NAME}'")
            # What a role or database has set must not change how values are written.
            connection.execute(
                f"SET LOCAL lock_timeout = '{_PATIENCE_SECONDS}s'; SET LOCAL datestyle = 'ISO, YMD';"
                "SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = hex; SET LOCAL timezone = 'UTC'"
            )
            _lock(connection, schema)
            row = connection.execute("SELECT pg_export_snapshot()").fetchone()
            (snapshot,) = row or ("",)
            yield Moment(connection, schema, snapshot, _data_version(connection, schema))


def _lock(connection: Connection, schema: str) -> None:
    """Lock all tables before anything is read, so that the snapshot is of the tables that are locked."""
    names = [sql.Identifier(schema, table.name) for table in aact_tables()]
    statement = sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names))
    try:
        connection.execute(statement)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        message = (
            f"schema {schema} does not have AACT's tables: {error.diag.message_primary}; `ctg-assets refresh` "
            "makes them unless CTG_AACT=false, `ctg-assets as-of DATE --like ctgov` those of a time in the past"
        )
        raise PermanentWarehouseError(message) from error


def _data_version(connection: Connection, schema: str) -> datetime:
    """The registry's data timestamp, where the tables stand for today's; else the newest content's time."""
    schemas = connection.schemas
    if schema in {schemas.ctgov, schemas.ctgov_2023}:
        found = connection.execute(
            "SELECT to_regclass(format('%%I.load_info', %s::text)) IS NOT NULL"
            " AND to_regclass(format('%%I.watermarks', %s::text)) IS NOT NULL",
            [schemas.staging, schemas.meta],
        ).fetchone()
        if found == (True,):
            row = connection.execute(
                schemas.sql(
                    "SELECT data_timestamp FROM {staging}.load_info WHERE load_number = %s"
                ),
                [watermark(connection).load_number],
            ).fetchone()
            if row is not None and row[0] is not None:
                return _utc(row[0])
    newest = connection.execute(
        sql.SQL("SELECT max(updated_at) AT TIME ZONE 'UTC' FROM {}").format(
            sql.Identifier(schema, "studies")
        )
    ).fetchone()
    if newest is None or newest[0] is None:
        message = f"schema {schema} has no study; `ctg-assets refresh` fills it"
        raise PermanentWarehouseError(message)
    return _utc(newest[0])


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
