"""What AACT's tables were last made from, and whether that is what they should be made from now."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache

import pyarrow as pa

from ctg_assets.aact.old_labels import old_label_query
from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.views import COUNT_ESTIMATE, FUNCTIONS, view_queries
from ctg_assets.load.staging import digest
from ctg_assets.postgres.builds import builds, tables_there, write_builds
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.ddl import definition
from ctg_assets.postgres.meta import has_notes
from ctg_assets.postgres.watermarks import Watermark, read_watermark, write_watermark

_ALL = "(all)"
_NODE = "ctgov"


@cache
def aact_definition() -> str:
    """A digest of all that decides how AACT's tables and views are made from staging."""
    return digest(
        *(definition(table.shape) for table in aact_tables()),
        *(table.query or "" for table in aact_tables()),
        *(old_label_query(table) for table in aact_tables()),
        *(f"{name} {query}" for name, query in view_queries().items()),
        *FUNCTIONS.values(),
        COUNT_ESTIMATE,
    )


def content_fingerprint(rows: pa.Table) -> str:
    """A digest of rows that do not come from staging, and of the definition that their table has."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return hashlib.sha256(aact_definition().encode() + sink.getvalue()).hexdigest()


def ctgov_fingerprint(tables: Mapping[str, str], others: Mapping[str, str]) -> str:
    """What AACT's tables depend on: staging tables and other rows by their fingerprints, and our SQL."""
    return digest(
        aact_definition(),
        *(f"{name} {made}" for name, made in sorted(tables.items())),
        *(f"{name} {made}" for name, made in sorted(others.items())),
    )


def fingerprint_now(connection: Connection, others: Mapping[str, str]) -> str:
    """What AACT's tables depend on, as the staging tables are now."""
    return ctgov_fingerprint(tables_there(connection, connection.schemas.staging), others)


def held_fingerprint(address: PostgresAddress) -> str | None:
    """The fingerprint of what AACT's tables were last made from; None if one of them is not there."""
    schema = address.schemas.ctgov
    if schema is None:
        return None
    with connect(address) as connection, postgres_errors(f"reading the builds of {schema}"):
        if not has_notes(connection, "builds"):
            return None
        there = tables_there(connection, schema)
    if any(table.name not in there for table in aact_tables()):
        return None
    return next((made.fingerprint for made in builds(address, schema) if made.name == _ALL), None)


def built_rows(address: PostgresAddress) -> dict[str, int] | None:
    """The rows of each of AACT's tables when they were last made; None where they are not wanted."""
    schema = address.schemas.ctgov
    if schema is None:
        return None
    names = {table.name for table in aact_tables()}
    return {
        made.name: made.rows
        for made in builds(address, schema)
        if made.name in names and made.rows is not None
    }


def note_build(
    connection: Connection,
    schema: str,
    fingerprint: str,
    load_number: int,
    rows: Mapping[str, int],
    *,
    others: Mapping[str, str],
) -> None:
    """Note, in the caller's transaction, what the tables were just made from.

    `others` are the content fingerprints of rows that do not come from staging, by table.
    """
    made = [(name, others.get(name, aact_definition()), count) for name, count in rows.items()]
    write_builds(connection, schema, [*made, (_ALL, fingerprint, None)])
    write_watermark(connection, _NODE, aact_definition(), load_number)


def watermark(connection: Connection) -> Watermark:
    """How far the tables are behind; the caller has made sure that staging was loaded."""
    return read_watermark(connection, _NODE, aact_definition())
