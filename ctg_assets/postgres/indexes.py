"""Indexes of filled tables: B-trees wherever the text that is there fits into them, else SP-GiST.

A B-tree is built in a third of the time that SP-GiST takes, but refuses entries above 2,704 bytes. Nobody knows
beforehand how long a name will be, so each index on text is tried as a B-tree, and Postgres says whether it fits.
"""

from __future__ import annotations

import logging

import psycopg
from psycopg import sql

from ctg_assets.model.spec import TableShape
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import Connection

logger = logging.getLogger(__name__)


def build_indexes(connection: Connection, shape: TableShape, schema: str) -> None:
    """Make the shape's indexes on a table of a schema that has its rows, in the caller's transaction.

    No text is too long for it. A table without rows gets SP-GiST, for what will come is not known. Raises
    ValueError for a declaration that no index can follow (`ddl.may_be_of_any_length`).
    """
    for statement in ddl.create_order_index(shape, schema):
        connection.execute(statement)
    has_rows = _has_rows(connection, shape, schema)
    for columns in shape.indexes:
        if not ddl.may_be_of_any_length(shape, columns):
            connection.execute(ddl.create_index(shape, columns, schema, takes_any_length=False))
        elif not (has_rows and _fits_b_tree(connection, shape, columns, schema)):
            connection.execute(ddl.create_index(shape, columns, schema, takes_any_length=True))


def is_too_long(error: Exception) -> bool:
    """Whether Postgres refused rows since a text of theirs is too long for a B-tree.

    The error is Postgres' own, or ours that was raised from it.
    """
    return any(
        isinstance(found, psycopg.errors.ProgramLimitExceeded) for found in (error, error.__cause__)
    )


def _has_rows(connection: Connection, shape: TableShape, schema: str) -> bool:
    table = sql.Identifier(schema, shape.name)
    found = connection.execute(sql.SQL("SELECT EXISTS (SELECT FROM {})").format(table))
    return found.fetchone() == (True,)


def _fits_b_tree(
    connection: Connection, shape: TableShape, columns: tuple[str, ...], schema: str
) -> bool:
    """Make a B-tree; False if a text is too long for it, and then there is none."""
    try:
        with connection.transaction():
            connection.execute(ddl.create_index(shape, columns, schema, takes_any_length=False))
    except psycopg.errors.ProgramLimitExceeded as error:
        logger.info(
            "the index on %s.%s is SP-GiST: %s",
            shape.name,
            ", ".join(columns),
            error.diag.message_primary,
        )
        return False
    return True
