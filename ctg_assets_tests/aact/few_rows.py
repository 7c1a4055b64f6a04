"""AACT's tables in an empty database, with rows of a test's own: as ctgov is made, but not from staging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psycopg import sql

from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.views import make_views, view_comments, view_queries
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.meta import ensure_meta

SEEN = "2026-03-01 09:00:05"
STUDY = {"nct_id": "NCT00000001", "created_at": SEEN, "updated_at": SEEN}


def make_tables(address: PostgresAddress, schema: str = "ctgov") -> None:
    """All tables with their keys, and the views; one study, seen first and last on 1 March 2026."""
    with connect(address) as connection, connection.transaction():
        ensure_meta(connection)
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        for table in aact_tables():
            connection.execute(ddl.create_table(table.shape, schema))
            connection.execute(ddl.create_primary_key(table.shape, schema))
        for table in aact_tables():
            for key in table.shape.foreign_keys:
                connection.execute(ddl.add_foreign_key(table.shape, key, schema, schema))
        make_views(connection, schema, view_queries(), view_comments())
    insert(address, "studies", [STUDY], schema)


def insert(
    address: PostgresAddress,
    table: str,
    rows: Iterable[Mapping[str, Any]],
    schema: str = "ctgov",
) -> None:
    """Add rows; columns that are not named are NULL."""
    with connect(address) as connection, connection.transaction():
        for row in rows:
            statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier(schema, table),
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join([sql.Placeholder()] * len(row)),
            )
            connection.execute(statement, list(row.values()))
