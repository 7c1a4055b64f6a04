"""Bringing AACT's tables to the state of the staging tables: as a whole, or what changed.

As a whole they are made beside the old ones and swapped in by one transaction; after deltas of staging
the rows of changed studies are replaced, in all tables, in one transaction. Readers see the old state or
the new one, and whatever ends a build leaves the old one.
"""

from __future__ import annotations

import contextlib
import logging

import psycopg

from ctg_assets.aact.delta import replace_changed
from ctg_assets.aact.full import WholeBuild
from ctg_assets.aact.request import CtgovReport, CtgovRequest
from ctg_assets.aact.state import (
    aact_definition,
    fingerprint_now,
    held_fingerprint,
    watermark,
)
from ctg_assets.load.counting import count_load, counting_errors
from ctg_assets.postgres.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.postgres.errors import LoadRejectedError, PermanentWarehouseError
from ctg_assets.postgres.indexes import is_too_long
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.postgres.sessions import session, session_alone
from ctg_assets.postgres.target import Target

logger = logging.getLogger(__name__)

_CONNECTIONS = 2

# What the schema is for, whatever the settings call it.
_PURPOSE = "ctgov"


def build_ctgov(request: CtgovRequest) -> CtgovReport:
    """Bring AACT's tables, views and functions to the state of the staging tables.

    After deltas of staging only the rows of changed studies are replaced; otherwise whole tables are made
    and swapped in, and dependent views of people are made again. Readers see the old state or the new and
    wait at most for the swap.

    Raises PermanentWarehouseError when staging is not loaded or its tables do not belong together,
    LoadBusyError (another build, a load in between, or readers), ServerUnavailableError,
    LoadRejectedError (a view of somebody that does not fit any more), ForeignObjectError. The old state
    then stays. The request's counters hear how it ends.
    """
    with counting_errors(request.counters, _PURPOSE):
        report = _build_ctgov(request)
    is_delta = report.changed_studies is not None
    count_load(request.counters, _PURPOSE, is_delta=is_delta, rows=report.written_rows)
    return report


def _build_ctgov(request: CtgovRequest) -> CtgovReport:
    address = request.address
    target = Target(_schema(address), address.schemas)
    with contextlib.ExitStack() as stack:
        stack.enter_context(postgres_errors(f"making AACT's tables in {address.public_url}"))
        control = stack.enter_context(session_alone(address, target))
        ensure_meta(control)
        _require_staging(control)
        mark = watermark(control)
        if mark.may_follow and held_fingerprint(address) is not None:
            try:
                return replace_changed(request, target, control)
            except psycopg.errors.InsufficientPrivilege as error:
                logger.warning("making whole tables: %s", error.diag.message_primary)
            except (psycopg.Error, LoadRejectedError) as error:
                if not is_too_long(error):
                    raise
                logger.warning("making whole tables, with indexes that take it: %s", error)
        return WholeBuild(
            request=request,
            target=target,
            source=address.schemas.staging,
            control=control,
            workers=[stack.enter_context(session(address)) for _ in range(_CONNECTIONS)],
            fingerprint=fingerprint_now(control, request.other_fingerprints),
            load_number=mark.newest,
        ).run()


def build_ctgov_from(request: CtgovRequest, source: str, schema: str) -> CtgovReport:
    """Make AACT's tables and views in a schema of their own from flat tables in another schema.

    Those need to be the tables that AACT's are made from, study_versions among them. What an earlier call
    made in the schema is replaced. Raises what `build_ctgov` raises.
    """
    address = request.address
    target = Target(schema, address.schemas)
    with contextlib.ExitStack() as stack:
        stack.enter_context(postgres_errors(f"making AACT's tables in {address.public_url}"))
        control = stack.enter_context(session_alone(address, target))
        ensure_meta(control)
        return WholeBuild(
            request=request,
            target=target,
            source=source,
            control=control,
            workers=[stack.enter_context(session(address)) for _ in range(_CONNECTIONS)],
            fingerprint=aact_definition(),
        ).run()


def _schema(address: PostgresAddress) -> str:
    if address.schemas.ctgov is None:
        message = "AACT's tables are switched off; set CTG_AACT=true to have them"
        raise PermanentWarehouseError(message)
    return address.schemas.ctgov


def _require_staging(connection: Connection) -> None:
    """Raise PermanentWarehouseError unless all staging tables hold the same snapshot."""
    schemas = connection.schemas
    is_there = connection.execute(
        "SELECT to_regclass(format('%%I.load_info', %s::text)) IS NOT NULL", [schemas.staging]
    ).fetchone()
    info = None
    if is_there == (True,):
        info = connection.execute(
            schemas.sql("SELECT every_table, load_number FROM {staging}.load_info")
        ).fetchone()
    if info is None or not info[0] or info[1] is None:
        message = (
            f"the tables of schema {schemas.staging} are not all loaded from one snapshot; load them first "
            "(ctg-assets refresh)"
        )
        raise PermanentWarehouseError(message)
