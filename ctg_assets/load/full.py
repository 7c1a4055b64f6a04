"""Replacing tables by newer ones, all at once.

Rows go into schema `staging_next`, where keys, indexes and foreign keys are built and checked while
readers use the old tables in peace. One short transaction then drops the old tables, moves the new
ones into `staging`, makes dependent views again and records the build. Whatever ends the load before
that transaction commits, kill -9 of either side included, leaves the old tables as they were; the
next load removes what is left in `staging_next`. Other schemas (`postgres/target.py`) are loaded the same way.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
from psycopg import sql

from ctg_assets.arrow_memory import memory_for_tables
from ctg_assets.load.references import BatchReferences
from ctg_assets.load.request import LoadProgress, LoadReport, LoadRequest
from ctg_assets.load.swap import Swap, add_until_swap, name_until_swap
from ctg_assets.model.spec import TableShape
from ctg_assets.postgres import ddl
from ctg_assets.postgres.builds import (
    LOAD_INFO,
    load_info_row,
    remove_builds,
    tables_there,
    write_builds,
)
from ctg_assets.postgres.connection import Connection, postgres_errors
from ctg_assets.postgres.copying import CopyWriter
from ctg_assets.postgres.dependents import ExternalForeignKey, find_external_foreign_keys
from ctg_assets.postgres.errors import LoadRejectedError, WarehouseError
from ctg_assets.postgres.indexes import build_indexes
from ctg_assets.postgres.loads import next_load_number, write_full_load
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.postgres.sessions import (
    retry_on_lock,
    run_in_parallel,
    session,
    session_alone,
)
from ctg_assets.postgres.target import Target

logger = logging.getLogger(__name__)

_CLEANING_SECONDS = 10.0
_PATIENCE_SECONDS = 600.0


def load_tables(request: LoadRequest, batches: Iterable[Mapping[str, pa.Table]]) -> LoadReport:
    """Replace the tables of a request by the rows of `batches`, atomically.

    Each batch maps table names to rows with the columns of the table's shape, in any order of columns;
    tables may be missing from a batch. Postgres checks only what refers to rows of other batches or of
    kept tables (`BatchReferences`), so rows best come together with those that they refer to. Tables of
    the model that are not asked for stay, and once none of them is out of date, tables that earlier loads
    made and the model has no more are dropped. Foreign keys hold at the end between all tables, replaced
    and kept; those that Postgres need not check are NOT VALID. Views on replaced tables are made again
    with owner, grants and comments; one that no longer fits is an error, or, if it is ours and may be
    rebuilt, is left out and reported. Grants on the tables stay.

    Readers see all of the old state or all of the new, and wait at most for the swap. It is retried
    for ten minutes, unless the request says how long, while long transactions keep reading the old tables.

    A load of `staging` is recorded as a full one, after which marts are built from all rows. Any other
    schema is made if it is not there; what an earlier load into it made is replaced.

    Raises LoadBusyError (another load, or readers), ServerUnavailableError, LoadRejectedError (bad
    rows, a foreign key that cannot hold, a view that no longer fits), or ForeignObjectError (a schema, or
    what has the name of a table, is somebody else's); the old state then stays. What `batches` raises goes
    through.
    """
    address = request.address
    patience = _PATIENCE_SECONDS if request.patience_seconds is None else request.patience_seconds
    with contextlib.ExitStack() as stack:
        stack.enter_context(postgres_errors(f"loading {address.public_url}"))
        stack.enter_context(memory_for_tables())
        load = _Load(
            request=request,
            control=stack.enter_context(session_alone(address, request.target)),
            workers=[stack.enter_context(session(address)) for _ in range(request.connections)],
            deadline=time.monotonic() + patience,
        )
        load.prepare()
        try:
            return load.run(batches)
        except BaseException:
            load.clean_up()
            raise


@dataclass
class _Load:
    """One load under way; `control` holds the lock and makes the swap, `workers` do the long work."""

    request: LoadRequest
    control: Connection
    workers: list[Connection]
    deadline: float
    kept: set[str] = field(default_factory=set)
    retired: list[str] = field(default_factory=list)
    every_table: bool = True
    number: int | None = None
    rows: dict[str, int] = field(default_factory=dict)
    copied_bytes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    references: BatchReferences = field(default_factory=partial(BatchReferences, {}))
    external_foreign_keys: list[ExternalForeignKey] = field(default_factory=list)
    recreated: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def target(self) -> Target:
        return self.request.target

    @property
    def tables(self) -> Sequence[TableShape]:
        return self.request.tables

    @property
    def shapes(self) -> tuple[TableShape, ...]:
        return (*self.tables, LOAD_INFO)

    @property
    def replaced(self) -> list[str]:
        """The names of tables of the old state that will go."""
        return [shape.name for shape in self.shapes] + self.retired

    def retry_on_lock(self, doing: str, work: Callable[[], object]) -> None:
        retry_on_lock(self.control, self.target, doing, work, deadline=self.deadline)

    def prepare(self) -> None:
        ensure_meta(self.control)
        self.target.claim(self.control, [shape.name for shape in self.shapes])
        self._drop_leftovers()
        self.target.create_next(self.control)
        if self.target.is_staging:
            self.number = next_load_number(self.control)
        loaded = {shape.name for shape in self.tables}
        kept = {
            name: fingerprint
            for name, fingerprint in tables_there(self.control, self.target.schema).items()
            if name not in loaded
        }
        self.kept = set(kept)
        self.every_table = all(
            kept.get(name) == fingerprint
            for name, fingerprint in self.request.build.tables.items()
            if name not in loaded
        )
        if self.every_table:
            # Before, one that is out of date might still refer to them.
            self.retired = sorted(kept.keys() - self.request.build.tables.keys())
        self._require_referenced_tables(loaded)

    def _drop_leftovers(self) -> None:
        schema = self.target.next_schema
        self.retry_on_lock(f"removing {schema}", partial(self.target.drop_next, self.control))

    def clean_up(self) -> None:
        """Remove what a failed load made, as far as the server is still there to do so."""
        # The workers' transactions must end before their tables can go.
        for worker in self.workers:
            worker.close()
        self.deadline = time.monotonic() + _CLEANING_SECONDS
        try:
            self._drop_leftovers()
        except WarehouseError as error:
            logger.warning("leaving %s to the next load: %s", self.target.next_schema, error)

    def _require_referenced_tables(self, loaded: set[str]) -> None:
        for shape in self.tables:
            for key in shape.foreign_keys:
                if key.table in loaded:
                    continue
                found = self.control.execute(
                    "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) IS NOT NULL",
                    [self.target.schema, key.table],
                ).fetchone()
                if found != (True,) or key.table in self.retired:
                    message = (
                        f"{self.target.schema}.{shape.name} refers to {key.table}, which is not loaded; load "
                        "the two together"
                    )
                    raise LoadRejectedError(message)

    def run(self, batches: Iterable[Mapping[str, pa.Table]]) -> LoadReport:
        phases: dict[str, Callable[[], None]] = {
            "copy": partial(self._copy, batches),
            "index": self._build_keys,
            "check": self._check_foreign_keys,
            "swap": self._swap,
        }
        for phase, work in phases.items():
            began = time.perf_counter()
            work()
            self.seconds[phase] = time.perf_counter() - began
        return LoadReport(
            rows={shape.name: self.rows[shape.name] for shape in self.tables},
            seconds=self.seconds,
            copied_bytes=sum(self.copied_bytes.values()),
            recreated_views=tuple(self.recreated),
            left_out_views=tuple(self.left_out),
        )

    # copy

    def _copy(self, batches: Iterable[Mapping[str, pa.Table]]) -> None:
        shapes = {shape.name: shape for shape in self.shapes}
        self.rows = dict.fromkeys(shapes, 0)
        self.copied_bytes = dict.fromkeys(shapes, 0)
        self.references = BatchReferences(shapes)
        for worker in self.workers:
            worker.execute("BEGIN")
        with CopyWriter(
            self.workers, shapes, self.copied_bytes, self.target, into=self.target.next_schema
        ) as sender:
            for batch in batches:
                # The largest first: connections get tables as they come, by bytes so far.
                for name, rows in sorted(batch.items(), key=lambda item: -item[1].nbytes):
                    if name not in shapes or name == LOAD_INFO.name:
                        message = (
                            f"a batch has rows for {name!r}, which is not among the tables loaded"
                        )
                        raise LoadRejectedError(message)
                    sender.add(name, rows)
                    self.rows[name] += rows.num_rows
                self.references.add(batch)
                self.request.tell(LoadProgress("copy", sum(self.rows.values())))
            info = load_info_row(
                self.request.build, every_table=self.every_table, number=self.number
            )
            sender.add(LOAD_INFO.name, info)
            sender.finish()
        # At once: the rows, which are in no WAL, go to the disk now, and who waits for it computes nothing.
        with (
            postgres_errors("committing the rows"),
            ThreadPoolExecutor(len(self.workers)) as threads,
        ):
            for committed in [threads.submit(one.execute, "COMMIT") for one in self.workers]:
                committed.result()

    # index

    def _build_keys(self) -> None:
        # The longest first, so that no connection is left alone with one at the end.
        largest_first = sorted(self.shapes, key=lambda shape: -self.copied_bytes[shape.name])
        self._in_parallel("index", [_KeysOf(self.target, shape) for shape in largest_first])

    def _in_parallel(
        self, phase: str, tasks: Sequence[Callable[[Connection], None]], done_before: int = 0
    ) -> None:
        total = done_before + len(tasks)
        self.request.tell(LoadProgress(phase, done_before, total))
        run_in_parallel(
            self.workers,
            tasks,
            lambda done: self.request.tell(LoadProgress(phase, done_before + done, total)),
        )

    # check

    def _check_foreign_keys(self) -> None:
        """Make all foreign keys while readers still use the old tables; check those not proved yet."""
        own, following = self.target.schema, self.target.next_schema
        loaded = {shape.name for shape in self.tables}
        keys = [(shape, key) for shape in self.tables for key in shape.foreign_keys]
        proved = 0
        tasks: list[Callable[[Connection], None]] = []
        # Nobody uses the new tables yet. A transaction for each key would wait for the disk each time.
        with postgres_errors("making the foreign keys"), self.control.transaction():
            for shape, key in keys:
                if key.table in loaded:
                    self.control.execute(ddl.add_foreign_key(shape, key, following, following))
        for shape, key in keys:
            remedy = ""
            if key.table not in loaded:
                self.retry_on_lock(
                    f"making {shape.name} refer to {key.table}",
                    partial(self.control.execute, ddl.add_foreign_key(shape, key, following, own)),
                )
                remedy = (
                    f"{own}.{key.table} was not loaded and lacks those rows; load it together with "
                    f"{shape.name}"
                )
            elif self.references.proves(shape.name, key):
                proved += 1
                continue
            name = ddl.foreign_key_name(shape, key)
            tasks.append(_CheckOf(following, shape.name, name, remedy))
        self.external_foreign_keys = find_external_foreign_keys(
            self.control, own, following, self.replaced
        )
        for other in self.external_foreign_keys:
            self.retry_on_lock(
                f"making {other.schema}.{other.table} refer to the new {other.referenced}",
                partial(self.control.execute, add_until_swap(other)),
            )
            # Ours were proved of other rows to refer to, and may not be validated.
            if other.validated or (other.schema == own and other.table in self.kept):
                remedy = (
                    f"{other.schema}.{other.table} stays and refers to rows that the new "
                    f"{other.referenced} lacks; load the two together, or drop the constraint "
                    f"{other.name} or the rows"
                )
                tasks.append(_CheckOf(other.schema, other.table, name_until_swap(other), remedy))
        self._in_parallel("check", tasks, done_before=proved)

    # swap

    def _swap(self) -> None:
        self.request.tell(LoadProgress("swap", 0, 1))
        self.retry_on_lock("putting the new tables in place", self._swap_once)
        self.request.tell(LoadProgress("swap", 1, 1))

    def _swap_once(self) -> None:
        swap = Swap(
            target=self.target,
            new=[shape.name for shape in self.shapes],
            retired=self.retired,
            external_foreign_keys=self.external_foreign_keys,
            rebuildable_schemas=self.request.rebuildable_schemas,
        )
        self.recreated, self.left_out = swap.run(self.control)
        remove_builds(self.control, self.target.schema, self.retired)
        if self.number is not None:
            write_full_load(self.control, self.number, self.request.build.snapshot_id)
        write_builds(
            self.control,
            self.target.schema,
            [
                (shape.name, self.request.build.tables[shape.name], self.rows[shape.name])
                for shape in self.tables
            ],
        )


@dataclass(frozen=True)
class _KeysOf:
    """Primary key, indexes, comments and statistics of one table."""

    target: Target
    shape: TableShape

    def __call__(self, connection: Connection) -> None:
        # In one transaction: 1,300 comments would each wait for the disk.
        with (
            postgres_errors(f"building the keys of {self.target.schema}.{self.shape.name}"),
            connection.transaction(),
        ):
            schema = self.target.next_schema
            connection.execute(ddl.create_primary_key(self.shape, schema))
            build_indexes(connection, self.shape, schema)
            connection.execute(sql.SQL(";\n").join(ddl.comments(self.shape, schema)))
            table = sql.Identifier(schema, self.shape.name)
            connection.execute(sql.SQL("ANALYZE {}").format(table))


@dataclass(frozen=True)
class _CheckOf:
    """The check of one foreign key against the rows; `remedy` is what to do if it does not hold."""

    schema: str
    table: str
    constraint: str
    remedy: str

    def __call__(self, connection: Connection) -> None:
        try:
            with postgres_errors(f"checking the references of {self.table}"):
                connection.execute(
                    ddl.validate_constraint(self.schema, self.table, self.constraint)
                )
        except LoadRejectedError as error:
            message = f"{error}. {self.remedy}" if self.remedy else str(error)
            raise LoadRejectedError(message) from error
