"""Replacing the rows of changed studies in AACT's tables, at the cost of what changed."""

from __future__ import annotations

import time

from ctg_assets.aact.other_tables import replace_other, rows_of_others
from ctg_assets.aact.request import CtgovReport, CtgovRequest, StagingMovedError
from ctg_assets.aact.rows import (
    changed_rows_of,
    delete_changed,
    find_not_fitting,
    insert_rows,
    note_changed,
)
from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.state import (
    content_fingerprint,
    fingerprint_now,
    note_build,
    watermark,
)
from ctg_assets.postgres.builds import read_builds
from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.dependents import refresh_materialized_views
from ctg_assets.postgres.target import Target


def replace_changed(request: CtgovRequest, target: Target, connection: Connection) -> CtgovReport:
    """Replace the rows of the studies that changed since the tables were made, in one transaction."""
    began = time.perf_counter()
    staging, schema = connection.schemas.staging, target.schema
    rows: dict[str, int] = {}
    written = 0
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
        before = read_builds(connection, schema)
        others = rows_of_others(request.others)
        fingerprints = {name: content_fingerprint(new) for name, new in others.items()}
        tables = aact_tables()
        for done, table in enumerate(tables):
            request.tell("replace", done, len(tables))
            made = before[table.name]
            rows[table.name] = made.rows or 0
            if table.query is None:
                is_same = made.fingerprint == fingerprints[table.name]
                inserted, deleted = replace_other(
                    connection, table, others[table.name], schema, only_changed=is_same
                )
            else:
                deleted = connection.execute(delete_changed(table, schema)).rowcount
                inserted = connection.execute(
                    insert_rows(table, schema, changed_rows_of(staging))
                ).rowcount
            rows[table.name] += inserted - deleted
            written += inserted
        not_fitting = find_not_fitting(connection, changed_rows_of(staging))
        fingerprint = fingerprint_now(connection, request.other_fingerprints)
        note_build(connection, schema, fingerprint, mark.newest, rows, others=fingerprints)
        refresh_materialized_views(connection, schema, [table.name for table in tables])
    seconds = {"replace": time.perf_counter() - began}
    return CtgovReport(rows, seconds, not_fitting, written, studies)
