"""Putting rows that do not come from staging into AACT's tables, those of studies that are there."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from ctg_assets.aact.request import OtherRows
from ctg_assets.aact.rows import CHANGED, delete_changed
from ctg_assets.aact.schema import STUDIES, AactTable, aact_tables
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.copying import copy_rows


def rows_of_others(given: OtherRows) -> dict[str, pa.Table]:
    """The rows of every table that is not made from staging, by table."""
    return {
        table.name: given.get(table.name, table.shape.arrow_schema.empty_table())
        for table in aact_tables()
        if table.query is None
    }


def fill_other(
    connection: Connection, table: AactTable, rows: pa.Table, schema: str, *, source: str
) -> int:
    """Fill a table that this transaction made; returns how many rows it has.

    `source` is the schema of the flat tables, whose studies are those that are there.
    """
    return _insert(connection, table, rows, schema, source, is_new=True)


def replace_other(
    connection: Connection, table: AactTable, rows: pa.Table, schema: str, *, only_changed: bool
) -> tuple[int, int]:
    """Bring a table to the state of some rows; returns how many were inserted and how many deleted.

    `only_changed` says that the rows are those that the table was filled with: then only rows of changed
    studies are looked at, which may have come or gone.
    """
    if not only_changed:
        everything = sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, table.name))
        deleted = connection.execute(everything).rowcount
    elif _names_studies(table):
        deleted = connection.execute(delete_changed(table, schema)).rowcount
        found = connection.execute(sql.SQL("SELECT nct_id FROM {}").format(CHANGED)).fetchall()
        changed = pa.array([nct_id for (nct_id,) in found], pa.string())
        rows = rows.filter(pc.is_in(rows["nct_id"], value_set=changed))
    else:
        return 0, 0
    source = connection.schemas.staging
    return _insert(connection, table, rows, schema, source, is_new=False), deleted


def _insert(
    connection: Connection,
    table: AactTable,
    rows: pa.Table,
    schema: str,
    source: str,
    *,
    is_new: bool,
) -> int:
    """Insert the rows of studies that are in schema `source`, or all if they are of no study; returns how many."""
    called = f"{schema}.{table.name}"
    if rows.num_rows == 0:
        return 0
    if not _names_studies(table):
        copy_rows(connection, ddl.copy_rows(table.shape, schema, freeze=is_new), rows, into=called)
        return int(rows.num_rows)
    given = replace(table.shape, name=f"{table.name}_given")
    connection.execute(ddl.create_table(given, "pg_temp"))
    copy_rows(connection, ddl.copy_rows(given, "pg_temp", freeze=False), rows, into=called)
    inserted = connection.execute(
        sql.SQL(
            "INSERT INTO {} SELECT g.* FROM {} AS g "
            "WHERE EXISTS (SELECT FROM {} AS s WHERE s.nct_id = g.nct_id)"
        ).format(
            sql.Identifier(schema, table.name),
            sql.Identifier("pg_temp", given.name),
            sql.Identifier(source, STUDIES),
        )
    ).rowcount
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("pg_temp", given.name)))
    return inserted


def _names_studies(table: AactTable) -> bool:
    return any(column.name == "nct_id" for column in table.shape.columns)
