"""The rows of AACT's tables, of all studies or of those that changed, as SQL over the staging tables."""

from __future__ import annotations

from collections.abc import Callable

from psycopg import sql

from ctg_assets.aact.schema import AactTable, aact_tables
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.loads import add_changed_studies

CHANGED = sql.Identifier("pg_temp", "changed_since")
"""The changed studies: nct_id, and the first and the last key that rows of theirs may have."""

Relations = Callable[[str], sql.Composable]
"""What to read for a staging table of a name."""


def all_rows_of(schema: str) -> Relations:
    """The tables of a schema as they are."""
    return lambda name: sql.Identifier(schema, name)


def changed_rows_of(schema: str) -> Relations:
    """The rows that changed studies have in the tables of a schema.

    The planner takes a range of keys for a ninth of a table; without OFFSET 0 it would read the whole of it.
    """
    keys = {shape.name: shape.primary_key[0] for shape in staging_shapes()}

    def changed(name: str) -> sql.Composable:
        found = (
            "r.id BETWEEN c.first_id AND c.last_id" if keys[name] == "id" else "r.nct_id = c.nct_id"
        )
        return sql.SQL(
            "(SELECT own.* FROM {} AS c CROSS JOIN LATERAL (SELECT r.* FROM {} AS r WHERE {} OFFSET 0) AS own)"
        ).format(CHANGED, sql.Identifier(schema, name), sql.SQL(found))

    return changed


def insert_rows(table: AactTable, schema: str, relations: Relations) -> sql.Composed:
    """`INSERT INTO` a table of a schema the rows that its query makes, in the order of its keys."""
    if table.query is None:
        message = f"the rows of {table.name} are not made from staging"
        raise ValueError(message)
    rows = sql.SQL(table.query).format(**{name: relations(name) for name in table.reads})
    return sql.SQL("INSERT INTO {} ({}) {}").format(
        sql.Identifier(schema, table.name),
        sql.SQL(", ").join(sql.Identifier(column.name) for column in table.shape.columns),
        rows,
    )


def delete_changed(table: AactTable, schema: str) -> sql.Composed:
    """`DELETE FROM` a table of a schema the rows of the changed studies."""
    return sql.SQL("DELETE FROM {} AS t USING {} AS c WHERE t.nct_id = c.nct_id").format(
        sql.Identifier(schema, table.name), CHANGED
    )


def note_changed(connection: Connection, since: int) -> int:
    """Make `CHANGED`, for this transaction, of the studies that loads after a number changed; returns how many."""
    connection.execute(
        "CREATE TEMPORARY TABLE changed_since (nct_id text, first_id bigint, last_id bigint) ON COMMIT DROP"
    )
    count = add_changed_studies(connection, CHANGED, since)
    connection.execute("ANALYZE pg_temp.changed_since")
    return count


def find_not_fitting(connection: Connection, relations: Relations) -> dict[str, int]:
    """How many values of staging do not fit into AACT's types, and are NULL there, by `table.column`.

    Columns whose values all fit are left out.
    """
    found: dict[str, int] = {}
    for table in aact_tables():
        if not table.bounds:
            continue
        counts = sql.SQL(", ").join(
            sql.SQL("count(*) FILTER (WHERE NOT ({}))").format(sql.SQL(bound))
            for bound in table.bounds.values()
        )
        statement = sql.SQL("SELECT {} FROM {} AS s").format(counts, relations(table.name))
        row = connection.execute(statement).fetchone() or ()
        found |= {
            f"{table.name}.{column}": count
            for column, count in zip(table.bounds, row, strict=True)
            if count
        }
    return found
