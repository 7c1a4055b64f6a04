"""Changing staging in place: the rows of changed studies are replaced, at the cost of what changed.

Belongs here: the course of a delta. Does not belong here: loads of whole tables (`loader.py`), the
queries that check and replace rows (`replacing.py`), and how rows travel (`sending.py`).

New rows go into temporary tables, where they are checked, and from there into the place of the old ones:
all in one transaction of one session. Readers never wait for it, since it takes no lock that keeps them
away, and they see all of it or nothing. Whatever ends it before the commit, kill -9 of either side
included, leaves the old rows as they were.

Foreign keys are checked by queries over the new rows. Postgres' own triggers would look for referring
rows once for each row that is deleted, and there is no B-tree to find them by; so they are off in this
session. Triggers that people have put on staging tables do not fire either.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import class_row

from ctg_assets.model.spec import TableShape
from ctg_assets.warehouse import ddl
from ctg_assets.warehouse.builds import (
    LOAD_INFO,
    BuildRecord,
    LoadInfo,
    load_info_row,
    tables_there,
    write_builds,
)
from ctg_assets.warehouse.connection import Connection, PostgresAddress, postgres_errors
from ctg_assets.warehouse.dependents import find_foreign_keys_of_others, find_views
from ctg_assets.warehouse.errors import (
    LoadRejectedError,
    StaleBaseError,
    WholeLoadNeededError,
)
from ctg_assets.warehouse.loader import LoadProgress, LoadReport
from ctg_assets.warehouse.loads import next_load_number, write_delta
from ctg_assets.warehouse.meta import ensure_notes
from ctg_assets.warehouse.replacing import CHANGED, NEW_ROWS, ChangedStudies, Replacement, by_key
from ctg_assets.warehouse.sending import Sender, conform
from ctg_assets.warehouse.sessions import LOCK_MILLISECONDS, session_alone
from ctg_assets.warehouse.target import Target
from ctg_assets.warehouse.warming import Warming


def apply_delta(
    address: PostgresAddress,
    tables: Sequence[TableShape],
    batches: Iterable[Mapping[str, pa.Table]],
    *,
    build: BuildRecord,
    base_snapshot_id: str,
    changed: Collection[str],
    appended: Mapping[str, int] | None = None,
    progress: Callable[[LoadProgress], None] | None = None,
    patience_seconds: float = 60.0,
) -> LoadReport:
    """Replace the rows of `changed` studies (NCT ids) in all staging tables, in one transaction.

    `tables` are all tables of the model, and so are those that `build.tables` names. Batches are as for
    `load_tables`; a study without rows in them is gone afterwards. How the rows of a study are found
    follows from the first column of a table's primary key: `nct_id`, or an `id` that begins with the
    study's number. Tables in `appended` are not by study: of them, the rows whose first key column is
    the number given or higher are replaced, so that repeating a delta adds nothing twice.

    Readers see the old or the new state and wait for neither. For others who keep writers out of the
    tables, such as the making of an index, it waits up to `patience_seconds`.

    Raises WholeLoadNeededError when `load_tables` has to be used instead: StaleBaseError unless the
    tables were last loaded from `base_snapshot_id`, and else if they belong to another model, somebody
    else's foreign keys refer to them, or this user may not switch off triggers. Raises LoadBusyError,
    ServerUnavailableError or LoadRejectedError (rows that are not of the changed studies, bad rows, a
    reference that does not hold). The old state then stays. What `batches` raises goes through.
    """
    report = progress or (lambda _: None)
    target = Target()
    with contextlib.ExitStack() as stack:
        stack.enter_context(postgres_errors(f"changing {address.public_url}"))
        connection = stack.enter_context(session_alone(address, target))
        ensure_notes(connection)
        delta = _Delta(
            address=address,
            target=target,
            tables={
                shape.name: Replacement(shape, target.schema, (appended or {}).get(shape.name))
                for shape in tables
            },
            changed=ChangedStudies(changed),
            build=build,
            connection=connection,
            progress=report,
        )
        with connection.transaction():
            milliseconds = max(1, round(patience_seconds * 1000))
            connection.execute(f"SET LOCAL lock_timeout = {milliseconds}")
            delta.prepare(base_snapshot_id)
            delta.run(batches)
            report(LoadProgress("commit", 0, 1))
            began = time.perf_counter()
        delta.seconds["commit"] = time.perf_counter() - began
        report(LoadProgress("commit", 1, 1))
        return delta.report()


@dataclass
class _Delta:
    """One delta under way, in a transaction of the caller's."""

    address: PostgresAddress
    target: Target
    tables: Mapping[str, Replacement]
    changed: ChangedStudies
    build: BuildRecord
    connection: Connection
    progress: Callable[[LoadProgress], None]
    rows: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    inserted: dict[str, int] = field(default_factory=dict)
    copied_bytes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    refreshed: list[str] = field(default_factory=list)

    def report(self) -> LoadReport:
        return LoadReport(
            rows=self.rows,
            seconds=self.seconds,
            copied_bytes=sum(self.copied_bytes.values()),
            recreated_views=tuple(self.refreshed),
            deleted_rows=self.deleted,
            inserted_rows=self.inserted,
        )

    # before anything is changed

    def prepare(self, base_snapshot_id: str) -> None:
        """Make sure that a delta gives what a load of whole tables would give."""
        self._require_tables()
        for table in self.tables.values():
            table.require_checkable(self.tables)
        self._lock_tables()
        self._require_base(base_snapshot_id)
        self._require_no_keys_of_others()
        self._require_temporary_tables()
        self._switch_off_triggers()
        # Its plans are known to be right; compiling each of two hundred statements costs more than
        # it saves.
        self.connection.execute("SET LOCAL jit = off")

    def _require_tables(self) -> None:
        if set(self.tables) != set(self.build.tables):
            odd = sorted(set(self.tables) ^ set(self.build.tables))
            message = f"a delta is of all tables of the model; these are not in both lists: {odd}"
            raise LoadRejectedError(message)
        found = tables_there(self.connection, self.target.schema)
        if found.keys() != set(self.tables):
            odd = sorted(found.keys() ^ set(self.tables))
            message = (
                f"schema {self.target.schema} does not have just the tables of the model; it differs "
                f"in {odd}. Load all tables."
            )
            raise WholeLoadNeededError(message)

    def _lock_tables(self) -> None:
        # As the changes will, but before looking: nobody can add a foreign key any more.
        tables = sql.SQL(", ").join(
            sql.Identifier(self.target.schema, name) for name in (*self.tables, LOAD_INFO.name)
        )
        try:
            self.connection.execute(sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(tables))
        except psycopg.errors.UndefinedTable as error:
            message = f"{error.diag.message_primary}; load all tables"
            raise WholeLoadNeededError(message) from error

    def _require_base(self, base_snapshot_id: str) -> None:
        with self.connection.cursor(row_factory=class_row(LoadInfo)) as cursor:
            # Locked: noting a newer snapshot of the same content does not wait for loads.
            found = cursor.execute("SELECT * FROM staging.load_info FOR UPDATE").fetchone()
        if found is None or found.load_number is None or not found.every_table:
            message = "the staging tables do not all come from one numbered load; load all tables"
            raise WholeLoadNeededError(message)
        if found.model_fingerprint != self.build.model_fingerprint:
            message = "the staging tables were made by another data model; load all tables"
            raise WholeLoadNeededError(message)
        if found.snapshot_id != base_snapshot_id:
            message = (
                f"the staging tables hold snapshot {found.snapshot_id}, and the changes are those since "
                f"{base_snapshot_id}; load all tables, or make changes that begin there"
            )
            raise StaleBaseError(message)

    def _require_no_keys_of_others(self) -> None:
        others = find_foreign_keys_of_others(
            self.connection, self.target.schema, self.target.next_schema, list(self.tables)
        )
        if others:
            shown = ", ".join(f"{other.name} of {other.schema}.{other.table}" for other in others)
            message = (
                f"foreign keys refer to staging tables from outside ({shown}), and a change in place "
                "would not check them. Load all tables; drop those foreign keys to have changes in place."
            )
            raise WholeLoadNeededError(message)

    def _require_temporary_tables(self) -> None:
        allowed = self.connection.execute(
            "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
        ).fetchone()
        if allowed != (True,):
            found = "temporary tables are not allowed"
            database = sql.Identifier(self.connection.info.dbname).as_string()
            raise self._lacking(found, f"TEMPORARY ON DATABASE {database}")

    def _switch_off_triggers(self) -> None:
        try:
            self.connection.execute("SET LOCAL session_replication_role = replica")
        except psycopg.errors.InsufficientPrivilege as error:
            found = error.diag.message_primary
            raise self._lacking(found, "SET ON PARAMETER session_replication_role") from error

    def _lacking(self, found: str | None, right: str) -> WholeLoadNeededError:
        user = sql.Identifier(self.connection.info.user).as_string()
        return WholeLoadNeededError(
            f"changing tables in place: {found}. Load all tables; to have changes in place, let a "
            f"superuser run GRANT {right} TO {user}"
        )

    # the changes

    def run(self, batches: Iterable[Mapping[str, pa.Table]]) -> None:
        """Do it all but for the commit."""
        with Warming(self.address, self.tables.values(), self.changed) as old_rows:
            with self._timed("copy"):
                self._copy(batches)
            with self._timed("check"):
                self._each("check", self._check)
            with self._timed("replace"):
                old_rows.wait()
                self.changed.write(self.connection)
                with by_key(self.connection):
                    self._each("replace", self._replace)
                self._summarize()
        self._record()
        self._refresh_views()

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[phase] = time.perf_counter() - began

    def _each(self, phase: str, work: Callable[[Replacement], None]) -> None:
        for done, table in enumerate(self.tables.values(), start=1):
            work(table)
            self.progress(LoadProgress(phase, done, len(self.tables)))

    def _copy(self, batches: Iterable[Mapping[str, pa.Table]]) -> None:
        shapes = {name: table.shape for name, table in self.tables.items()}
        self.copied_bytes = dict.fromkeys(shapes, 0)
        copied = 0
        with Sender(
            [self.connection], shapes, self.copied_bytes, self.target, into=NEW_ROWS
        ) as sender:
            for batch in batches:
                for name, rows in batch.items():
                    if name not in shapes:
                        message = (
                            f"a batch has rows for {name!r}, which is not among the tables loaded"
                        )
                        raise LoadRejectedError(message)
                    own = conform(shapes[name], rows, self.target)
                    self.tables[name].require_own(own, self.changed)
                    sender.add(name, own)
                    copied += rows.num_rows
                self.progress(LoadProgress("copy", copied))
            sender.finish()

    def _check(self, table: Replacement) -> None:
        with postgres_errors(f"checking the keys of {self.target.schema}.{table.name}"):
            self.connection.execute(ddl.create_primary_key(table.shape, NEW_ROWS))
        table.check_references(self.connection, self.tables)

    def _replace(self, table: Replacement) -> None:
        with postgres_errors(f"replacing rows of {self.target.schema}.{table.name}"):
            self.deleted[table.name], self.inserted[table.name] = table.replace(self.connection)

    def _summarize(self) -> None:
        """Bring block range indexes up to date: every search reads the pages that have no summary."""
        self.connection.execute(
            """
            SELECT brin_summarize_new_values(i.oid)
            FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            JOIN pg_index AS x ON x.indrelid = c.oid
            JOIN pg_class AS i ON i.oid = x.indexrelid
            JOIN pg_am AS m ON m.oid = i.relam
            WHERE n.nspname = %s AND c.relname = ANY(%s) AND m.amname = 'brin'
            """,
            [self.target.schema, [name for name, rows in self.inserted.items() if rows]],
        )

    def _record(self) -> None:
        number = next_load_number(self.connection)
        row = load_info_row(self.build, every_table=True, number=number).to_pylist()[0]
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in row
        )
        self.connection.execute(sql.SQL("UPDATE staging.load_info SET {}").format(assignments), row)
        before = self.connection.execute(
            "SELECT name, rows FROM ctg_meta.builds WHERE stage = %s", [self.target.schema]
        )
        self.rows = {
            name: rows + self.inserted[name] - self.deleted[name]
            for name, rows in before.fetchall()
            if name in self.inserted
        }
        write_builds(
            self.connection,
            self.target.schema,
            [(name, self.build.tables[name], rows) for name, rows in self.rows.items()],
        )
        write_delta(self.connection, number, self.build.snapshot_id, CHANGED)

    def _refresh_views(self) -> None:
        """Compute people's materialized views again, as the swap of whole tables does."""
        oids = [
            oid
            for (oid,) in self.connection.execute(
                """
                SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE n.nspname = %s AND c.relname = ANY(%s)
                """,
                [self.target.schema, [*self.tables, LOAD_INFO.name]],
            ).fetchall()
        ]
        # Their readers do wait, so last of all, and not for long for those who are reading.
        self.connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        for view in find_views(self.connection, oids):
            if view.materialized and view.populated:
                self.connection.execute(
                    sql.SQL("REFRESH MATERIALIZED VIEW {}").format(
                        sql.Identifier(view.schema, view.name)
                    )
                )
                self.refreshed.append(f"{view.schema}.{view.name}")
