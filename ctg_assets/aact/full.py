"""Making AACT's tables as a whole beside the old ones, and swapping them in."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from psycopg import sql

from ctg_assets.aact.old_labels import old_label_query
from ctg_assets.aact.other_tables import fill_other, rows_of_others
from ctg_assets.aact.request import CtgovReport, CtgovRequest, StagingMovedError
from ctg_assets.aact.rows import all_rows_of, find_not_fitting, insert_rows
from ctg_assets.aact.schema import AactTable, aact_tables
from ctg_assets.aact.state import content_fingerprint, note_build, watermark
from ctg_assets.aact.views import (
    make_functions,
    make_public_function,
    make_views,
    view_comments,
    view_queries,
)
from ctg_assets.load.swap import Swap, add_until_swap
from ctg_assets.postgres import ddl
from ctg_assets.postgres.builds import write_builds
from ctg_assets.postgres.connection import Connection, postgres_errors
from ctg_assets.postgres.dependents import ExternalForeignKey, find_external_foreign_keys
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.postgres.indexes import build_indexes
from ctg_assets.postgres.ownership import claim_schema, owned_relations
from ctg_assets.postgres.sessions import retry_on_lock, run_in_parallel
from ctg_assets.postgres.target import Target

logger = logging.getLogger(__name__)

_CLEANING_SECONDS = 10.0


@dataclass
class WholeBuild:
    """A build of whole tables under way; `control` has the lock and makes the swap.

    `load_number` is that of the load that the tables in schema `source` come from; None if they are not
    those of staging.
    """

    request: CtgovRequest
    target: Target
    source: str
    control: Connection
    workers: list[Connection]
    fingerprint: str
    load_number: int | None = None
    deadline: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    not_fitting: dict[str, int] = field(default_factory=dict)
    external_foreign_keys: list[ExternalForeignKey] = field(default_factory=list)

    def run(self) -> CtgovReport:
        """Make the tables and swap them in; what fails leaves nothing behind."""
        self.deadline = time.monotonic() + self.request.patience_seconds
        try:
            return self._run()
        except BaseException:
            self._clean_up()
            raise

    def _run(self) -> CtgovReport:
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
        return CtgovReport(self.rows, seconds, self.not_fitting, sum(self.rows.values()))

    def _clean_up(self) -> None:
        # As far as the server is still there to do so.
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

        everything = all_rows_of(self.source)
        self.not_fitting = find_not_fitting(self.control, everything)

    def _staging_sizes(self) -> dict[str, int]:
        found = self.control.execute(
            "SELECT c.relname, c.relpages FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s",
            [self.source],
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
            build_indexes(connection, table.shape, following)
            for statement in ddl.comments(table.shape, following):
                connection.execute(statement)
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(following, table.name)))

    def _fill(self, table: AactTable, connection: Connection) -> int:
        following = self.target.next_schema
        if table.query is not None:
            relations = all_rows_of(self.source)
            inserted = connection.execute(insert_rows(table, following, relations))
            return inserted.rowcount
        rows = rows_of_others(self.request.others)[table.name]
        return fill_other(connection, table, rows, following, source=self.source)

    def _add_keys(self) -> None:
        """Add the foreign keys; that they hold was checked in staging, whose rows these are."""
        following = self.target.next_schema
        for table in aact_tables():
            for key in table.shape.foreign_keys:
                self.control.execute(ddl.add_foreign_key(table.shape, key, following, following))
        self.external_foreign_keys = find_external_foreign_keys(
            self.control,
            self.target.schema,
            following,
            [table.name for table in aact_tables()],
        )
        for other in self.external_foreign_keys:
            self._retry(
                f"making {other.schema}.{other.table} refer to the new {other.referenced}",
                partial(self.control.execute, add_until_swap(other)),
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
        if self.load_number is None:
            _make_views(connection, self.target.schema)
            made = [(name, self.fingerprint, count) for name, count in self.rows.items()]
            write_builds(connection, self.target.schema, made)
            return
        if not _has_views(connection):
            _make_views(connection, self.target.schema)
            _make_old_labels(connection, self.target.schema)
        # Of an emptied staging nothing is loaded any more.
        loaded = connection.execute(schemas.sql("SELECT load_number FROM {staging}.load_info"))
        if loaded.fetchone() != (self.load_number,):
            message = (
                "staging was loaded in the meantime, so AACT's tables would be a mixture; try again"
            )
            raise StagingMovedError(message)
        fingerprint = self.fingerprint
        others = {
            name: content_fingerprint(rows)
            for name, rows in rows_of_others(self.request.others).items()
        }
        note_build(
            connection, self.target.schema, fingerprint, self.load_number, self.rows, others=others
        )


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
    """Make AACT's views and functions."""
    make_views(connection, schema, view_queries(), view_comments())
    make_functions(connection, schema)
    make_public_function(connection)


def _make_old_labels(connection: Connection, schema: str) -> None:
    """Make the schema with the labels of before June 2024."""
    old = connection.schemas.ctgov_2023
    if old is not None:
        claim_schema(connection, old, "ctgov_2023")
        queries = {table.name: old_label_query(table) for table in aact_tables()}
        comments = {table.name: table.shape.description for table in aact_tables()}
        make_views(connection, old, queries, comments, ctgov=schema)
        _make_views(connection, old)
