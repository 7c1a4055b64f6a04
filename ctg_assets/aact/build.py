"""Bringing AACT's tables to the state of the staging tables: as a whole, or what changed.

As a whole they are made beside the old ones and swapped in by one transaction; after deltas of staging
the rows of changed studies are replaced, in all tables, in one transaction. Readers see the old state or
the new one, and whatever ends a build leaves the old one.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import psycopg
import pyarrow as pa
from psycopg import sql

from ctg_assets.aact.old_labels import old_label_query
from ctg_assets.aact.rows import (
    all_rows_of,
    changed_rows_of,
    delete_changed,
    find_not_fitting,
    insert_rows,
    note_changed,
)
from ctg_assets.aact.schema import AactTable, aact_tables
from ctg_assets.aact.state import held_fingerprint, note_build, watermark
from ctg_assets.aact.views import (
    make_functions,
    make_public_function,
    make_views,
    view_comments,
    view_queries,
)
from ctg_assets.load.request import LoadProgress
from ctg_assets.load.swap import Swap, name_until_swap
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.postgres.copying import copy_rows
from ctg_assets.postgres.dependents import (
    ForeignKeyOfOthers,
    find_foreign_keys_of_others,
    refresh_materialized_views,
)
from ctg_assets.postgres.errors import (
    PermanentWarehouseError,
    TransientWarehouseError,
    WarehouseError,
)
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.postgres.ownership import claim_schema, owned_relations
from ctg_assets.postgres.sessions import retry_on_lock, run_in_parallel, session, session_alone
from ctg_assets.postgres.target import Target

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 600.0
_CLEANING_SECONDS = 10.0
_CONNECTIONS = 2

OtherRows = Mapping[str, pa.Table]
"""The rows of tables that are not made from staging, by table; those of tables not named are none."""


class StagingMovedError(TransientWarehouseError):
    """Staging was loaded while AACT's tables were made from it; nothing was changed."""


@dataclass(frozen=True)
class CtgovReport:
    """What a build did: rows per table now, seconds per phase, and how many studies it replaced.

    `not_fitting` counts the values that do not fit into AACT's types and are NULL there, by
    `table.column`: of all studies after a build of whole tables, when `changed_studies` is None, and else
    of those that changed.
    """

    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    not_fitting: Mapping[str, int]
    changed_studies: int | None = None


@dataclass(frozen=True)
class CtgovRequest:
    """Which schema gets AACT's tables, and from what: today's staging tables unless told otherwise.

    `others` are rows that do not come from staging. Readers in the way are waited for `patience_seconds`.
    """

    address: PostgresAddress
    fingerprint: str
    others: OtherRows = field(default_factory=dict)
    progress: Callable[[LoadProgress], None] | None = None
    patience_seconds: float = _PATIENCE_SECONDS

    def tell(self, phase: str, done: int, total: int | None = None) -> None:
        """Say how far the build is, if anybody wants to know."""
        if self.progress is not None:
            self.progress(LoadProgress(phase, done, total))


def build_ctgov(request: CtgovRequest) -> CtgovReport:
    """Bring AACT's tables, views and functions to the state of the staging tables.

    After deltas of staging only the rows of changed studies are replaced; otherwise whole tables are made
    and swapped in, and dependent views of people are made again. Readers see the old state or the new and
    wait at most for the swap.

    Raises PermanentWarehouseError when staging is not loaded or its tables do not belong together,
    LoadBusyError (another build, a load in between, or readers), ServerUnavailableError,
    LoadRejectedError (a view of somebody that does not fit any more), ForeignObjectError. The old state
    then stays.
    """
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
                return _replace_changed(request, target, control)
            except psycopg.errors.InsufficientPrivilege as error:
                logger.warning("making whole tables: %s", error.diag.message_primary)
        build = _WholeBuild(
            request=request,
            target=target,
            control=control,
            workers=[stack.enter_context(session(address)) for _ in range(_CONNECTIONS)],
            load_number=mark.newest,
            deadline=time.monotonic() + request.patience_seconds,
        )
        try:
            return build.run()
        except BaseException:
            build.clean_up()
            raise


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


# what changed


def _replace_changed(request: CtgovRequest, target: Target, connection: Connection) -> CtgovReport:
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


# whole tables


@dataclass
class _WholeBuild:
    """A build of whole tables under way; `control` has the lock and makes the swap."""

    request: CtgovRequest
    target: Target
    control: Connection
    workers: list[Connection]
    load_number: int
    deadline: float
    rows: dict[str, int] = field(default_factory=dict)
    not_fitting: dict[str, int] = field(default_factory=dict)
    external_foreign_keys: list[ForeignKeyOfOthers] = field(default_factory=list)

    def run(self) -> CtgovReport:
        seconds: dict[str, float] = {}
        steps: dict[str, Callable[[], None]] = {
            "prepare": self._prepare,
            "make": self._make_tables,
            "check": self._add_keys,
            "swap": partial(self._retry, "putting AACT's new tables in place", self._swap),
        }
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - began
        return CtgovReport(self.rows, seconds, self.not_fitting)

    def clean_up(self) -> None:
        """Remove what a failed build made, as far as the server is still there to do so."""
        for worker in self.workers:
            worker.close()
        self.deadline = time.monotonic() + _CLEANING_SECONDS
        try:
            self._drop_leftovers()
        except WarehouseError as error:
            logger.warning("leaving %s to the next build: %s", self.target.next_schema, error)

    def _retry(self, doing: str, work: Callable[[], object]) -> None:
        retry_on_lock(self.control, self.target, doing, work, deadline=self.deadline)

    def _drop_leftovers(self) -> None:
        doing = f"removing {self.target.next_schema}"
        self._retry(doing, partial(self.target.drop_next, self.control))

    def _prepare(self) -> None:
        self.target.claim(self.control, [table.name for table in aact_tables()])
        self._drop_leftovers()
        self.target.create_next(self.control)

    def _make_tables(self) -> None:
        sizes = self._staging_sizes()
        # The longest first, so that no connection is left alone with one at the end.
        largest_first = sorted(aact_tables(), key=lambda table: -sizes.get(table.name, 0))
        run_in_parallel(
            self.workers,
            [partial(self._make, table) for table in largest_first],
            lambda done: self.request.tell("make", done, len(largest_first)),
        )

        everything = all_rows_of(self.control.schemas.staging)
        self.not_fitting = find_not_fitting(self.control, everything)

    def _staging_sizes(self) -> dict[str, int]:
        found = self.control.execute(
            "SELECT c.relname, c.relpages FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s",
            [self.control.schemas.staging],
        )
        return dict(found.fetchall())

    def _make(self, table: AactTable, connection: Connection) -> None:
        following = self.target.next_schema
        doing = f"making {self.target.schema}.{table.name}"
        # In one transaction, so that the rows of a table that was just made skip the WAL.
        with postgres_errors(doing), connection.transaction():
            connection.execute(ddl.create_table(table.shape, following))
            self.rows[table.name] = self._fill(table, connection)
            connection.execute(ddl.create_primary_key(table.shape, following))
            for statement in ddl.create_indexes(table.shape, following):
                connection.execute(statement)
            for statement in ddl.comments(table.shape, following):
                connection.execute(statement)
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(following, table.name)))

    def _fill(self, table: AactTable, connection: Connection) -> int:
        following = self.target.next_schema
        if table.query is not None:
            relations = all_rows_of(connection.schemas.staging)
            inserted = connection.execute(insert_rows(table, following, relations))
            return inserted.rowcount
        rows = self.request.others.get(table.name)
        if rows is None:
            return 0
        statement = ddl.copy_rows(table.shape, following, freeze=True)
        copy_rows(connection, statement, rows, into=f"{self.target.schema}.{table.name}")
        return int(rows.num_rows)

    def _add_keys(self) -> None:
        """Add the foreign keys; that they hold was checked in staging, whose rows these are."""
        following = self.target.next_schema
        for table in aact_tables():
            for key in table.shape.foreign_keys:
                self.control.execute(ddl.add_foreign_key(table.shape, key, following, following))
        self.external_foreign_keys = find_foreign_keys_of_others(
            self.control,
            self.target.schema,
            following,
            [table.name for table in aact_tables()],
        )
        for other in self.external_foreign_keys:
            constraint = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                sql.Identifier(other.schema, other.table),
                sql.Identifier(name_until_swap(other)),
                sql.SQL(other.definition),
            )
            self._retry(
                f"making {other.schema}.{other.table} refer to the new {other.referenced}",
                partial(self.control.execute, constraint),
            )

    def _swap(self) -> None:
        connection, schemas = self.control, self.control.schemas
        own_schemas = {name for name in (schemas.ctgov, schemas.ctgov_2023) if name is not None}
        Swap(
            target=self.target,
            new=[table.name for table in aact_tables()],
            retired=[],
            external_foreign_keys=self.external_foreign_keys,
            rebuildable_schemas=own_schemas,
        ).run(connection)
        if not _has_views(connection):
            _make_views(connection, self.target.schema)
        if watermark(connection).newest != self.load_number:
            message = (
                "staging was loaded in the meantime, so AACT's tables would be a mixture; try again"
            )
            raise StagingMovedError(message)
        fingerprint = self.request.fingerprint
        note_build(connection, self.target.schema, fingerprint, self.load_number, self.rows)


def _has_views(connection: Connection) -> bool:
    """Whether AACT's views are all there, and are as they would be made now."""
    schemas = connection.schemas
    wanted = {(schemas.ctgov, name) for name in view_queries()}
    if schemas.ctgov_2023 is not None:
        names = [*view_queries(), *(table.name for table in aact_tables())]
        wanted |= {(schemas.ctgov_2023, name) for name in names}
    there = {
        (schema, name)
        for schema in {schema for schema, _ in wanted if schema is not None}
        for name in owned_relations(connection, schema)
    }
    return wanted <= there and watermark(connection).load_number is not None


def _make_views(connection: Connection, schema: str) -> None:
    """Make AACT's views and functions, and the schema with the old labels."""
    make_views(connection, schema, view_queries(), view_comments())
    make_functions(connection, schema)
    make_public_function(connection)
    old = connection.schemas.ctgov_2023
    if old is not None:
        claim_schema(connection, old, "ctgov_2023")
        queries = {table.name: old_label_query(table) for table in aact_tables()}
        comments = {table.name: table.shape.description for table in aact_tables()}
        make_views(connection, old, queries, comments, ctgov=schema)
        make_views(connection, old, view_queries(), view_comments())
        make_functions(connection, old)
