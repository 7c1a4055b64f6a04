"""Replacing the rows of changed studies in AACT's tables, at the cost of what changed."""

from __future__ import annotations

import time

from psycopg import sql

from ctg_assets.aact.request import CtgovReport, CtgovRequest, OtherRows, StagingMovedError
from ctg_assets.aact.rows import (
    changed_rows_of,
    delete_changed,
    find_not_fitting,
    insert_rows,
    note_changed,
)
from ctg_assets.aact.schema import AactTable, aact_tables
from ctg_assets.aact.state import note_build, watermark
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.copying import copy_rows
from ctg_assets.postgres.dependents import refresh_materialized_views
from ctg_assets.postgres.target import Target


def replace_changed(request: CtgovRequest, target: Target, connection: Connection) -> CtgovReport:
    """Replace the rows of the studies that changed since the tables were made, in one transaction."""
    began = time.perf_counter()
    staging, schema = connection.schemas.staging, target.schema
    rows: dict[str, int] = {}
    with connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = {round(request.patience_seconds * 1000)}")
        # Nothing may be swapped in or changed while we read one table after the other.
        connection.execute(connection.schemas.sql("SELECT FROM {staging}.load_info FOR SHARE"))
        # References hold in staging, whose rows these are.
        connection.execute("SET LOCAL session_replication_role = replica; SET LOCAL jit = off")
        mark = watermark(connection)
        if not mark.may_follow or mark.load_number is None:
            message = "staging was loaded anew in the meantime; try again"
            raise StagingMovedError(message)
        studies = note_changed(connection, mark.load_number)
        before = dict(
            connection.execute(
                connection.schemas.sql("SELECT name, rows FROM {meta}.builds WHERE stage = %s"),
                [schema],
            ).fetchall()
        )
        tables = aact_tables()
        for done, table in enumerate(tables):
            request.tell("replace", done, len(tables))
            rows[table.name] = before[table.name] or 0
            if table.query is None:
                rows[table.name] = _replace_others(connection, table, schema, request.others)
                continue
            rows[table.name] -= connection.execute(delete_changed(table, schema)).rowcount
            rows[table.name] += connection.execute(
                insert_rows(table, schema, changed_rows_of(staging))
            ).rowcount
        not_fitting = find_not_fitting(connection, changed_rows_of(staging))
        note_build(connection, schema, request.fingerprint, mark.newest, rows)
        refresh_materialized_views(connection, schema, [table.name for table in tables])
    seconds = {"replace": time.perf_counter() - began}
    return CtgovReport(rows, seconds, not_fitting, studies)


def _replace_others(
    connection: Connection, table: AactTable, schema: str, others: OtherRows
) -> int:
    new = others.get(table.name)
    connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, table.name)))
    if new is None:
        return 0
    statement = ddl.copy_rows(table.shape, schema, freeze=False)
    copy_rows(connection, statement, new, into=f"{schema}.{table.name}")
    return int(new.num_rows)
