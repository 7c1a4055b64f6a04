"""AACT as it stood at a time in the past."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from psycopg import sql

from ctg_assets.aact.build import build_ctgov_from
from ctg_assets.aact.request import CtgovReport, CtgovRequest, OtherRows
from ctg_assets.lake import Lake
from ctg_assets.load.as_of import load_as_of
from ctg_assets.load.request import LoadProgress
from ctg_assets.postgres.connection import PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.ddl import object_name
from ctg_assets.postgres.ownership import AS_OF, owns_schema
from ctg_assets.postgres.target import Target


def load_aact_as_of(
    address: PostgresAddress,
    lake: Lake,
    at: datetime,
    schema: str,
    progress: Callable[[LoadProgress], None] | None = None,
    *,
    others: OtherRows,
) -> CtgovReport:
    """Make AACT's tables and views, as they stood at a time (aware), in a schema of their own.

    `others` are the rows of that time that do not come from flat tables. The flat tables of that time are
    loaded into a schema beside it first, which goes in the end. Raises what `load_as_of` and
    `build_ctgov_from` raise.
    """
    Target(schema, address.schemas).require_free_name()
    flat = object_name(schema, "flat")
    try:
        load_as_of(address, lake, at, flat, progress, with_periods=True)
        request = CtgovRequest(address, others, progress=progress)
        return build_ctgov_from(request, flat, schema)
    finally:
        _drop(address, flat)


def _drop(address: PostgresAddress, schema: str) -> None:
    doing = f"removing schema {schema}"
    with connect(address) as connection, postgres_errors(doing):
        if owns_schema(connection, schema, AS_OF):
            name = sql.Identifier(schema)
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))
