"""The transaction that puts new tables in the place of old ones."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.dependents import (
    ExternalForeignKey,
    View,
    default_grants,
    find_views,
    keeping_statements,
)
from ctg_assets.postgres.errors import LoadRejectedError
from ctg_assets.postgres.ownership import (
    note_relations,
    owned_relations,
    require_own_relations,
)
from ctg_assets.postgres.sessions import lock_tables
from ctg_assets.postgres.target import Target

logger = logging.getLogger(__name__)


def name_until_swap(other: ExternalForeignKey) -> str:
    """What a foreign key to a new table is called while the one to the old table has its name."""
    return ddl.object_name(other.name, "until", "swap")


def add_until_swap(other: ExternalForeignKey) -> sql.Composed:
    """The statement that makes a table of somebody refer to the new table as well, not checked yet."""
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
        sql.Identifier(other.schema, other.table),
        sql.Identifier(name_until_swap(other)),
        sql.SQL(other.definition),
    )


@dataclass(frozen=True)
class Swap:
    """The new tables, old ones that get no successor, and foreign keys of tables that stay.

    Each of `external_foreign_keys` exists twice: to the old table, and under `name_until_swap` to the new.
    """

    target: Target
    new: Collection[str]
    retired: Collection[str]
    external_foreign_keys: Sequence[ExternalForeignKey]
    rebuildable_schemas: Collection[str]

    def run(self, connection: Connection) -> tuple[list[str], list[str]]:
        """Do it, in the caller's transaction; returns the views made again and those left out.

        Raises LoadRejectedError when a view does not fit any more, unless it is ours and in one of
        `rebuildable_schemas`, and ForeignObjectError when a table to replace is somebody else's.
        """
        require_own_relations(connection, self.target.schema, self.new)
        old = self._lock_old_tables(connection)
        views = find_views(connection, list(old))
        own = {
            oid
            for schema in {view.schema for view in views}
            for oid in owned_relations(connection, schema).values()
        }
        kept = keeping_statements(
            connection, [*old, *(view.oid for view in views)], self.target.next_schema
        )
        for view in reversed(views):
            connection.execute(view.drop())
        for other in self.external_foreign_keys:
            _alter(connection, other, sql.SQL("DROP CONSTRAINT {}"), other.name)
        if old:
            names = sql.SQL(", ").join(
                sql.Identifier(self.target.schema, name) for name in old.values()
            )
            connection.execute(sql.SQL("DROP TABLE {}").format(names))
        for name in self.new:
            connection.execute(
                sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                    sql.Identifier(self.target.next_schema, name),
                    sql.Identifier(self.target.schema),
                )
            )
        for other in self.external_foreign_keys:
            renaming = sql.SQL("RENAME CONSTRAINT {} TO {}")
            _alter(connection, other, renaming, name_until_swap(other), other.name)
        connection.execute(
            sql.SQL("DROP SCHEMA {}").format(sql.Identifier(self.target.next_schema))
        )
        for oid, name in old.items():
            if name in self.new:
                _execute_all(connection, kept[oid])
        first = sorted(set(self.new) - set(old.values()))
        _execute_all(connection, default_grants(connection, self.target.schema, first))
        note_relations(connection, self.target.schema, self.new)
        made_again = self._recreate(connection, views, kept, own)
        for view in views:
            if view.oid in own:
                note_relations(connection, view.schema, [view.name])
        return made_again

    def _lock_old_tables(self, connection: Connection) -> dict[int, str]:
        """Lock all tables that the swap changes; returns the old ones by oid."""
        found: list[tuple[int, str]] = connection.execute(
            """
            SELECT c.oid, c.relname
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = ANY(%s) AND c.relkind IN ('r', 'p')
            ORDER BY c.relname
            """,
            [self.target.schema, [*self.new, *self.retired]],
        ).fetchall()
        old = dict(found)
        names = {(self.target.schema, name) for name in old.values()}
        names |= {(other.schema, other.table) for other in self.external_foreign_keys}
        # Dropping a table that refers to a kept one changes the kept one, too.
        names.update(
            connection.execute(
                """
                SELECT n.nspname, c.relname
                FROM pg_constraint AS k
                JOIN pg_class AS c ON c.oid = k.confrelid
                JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE k.contype = 'f' AND k.conrelid = ANY(%s::oid[])
                """,
                [list(old)],
            ).fetchall()
        )
        if names:
            tables = sql.SQL(", ").join(sql.Identifier(*name) for name in sorted(names))
            lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(tables)
            lock_tables(connection, lock)
        return old

    def _recreate(
        self,
        connection: Connection,
        views: Sequence[View],
        kept: Mapping[int, Sequence[str]],
        own: Collection[int],
    ) -> tuple[list[str], list[str]]:
        recreated: list[str] = []
        left_out: list[str] = []
        for view in views:
            name = f"{view.schema}.{view.name}"
            try:
                with connection.transaction():
                    connection.execute(view.create())
                    _execute_all(connection, kept[view.oid])
                recreated.append(name)
            except psycopg.ProgrammingError as error:
                if view.schema not in self.rebuildable_schemas or view.oid not in own:
                    message = (
                        f"view {name} does not fit the new tables: {error.diag.message_primary}. "
                        "Change or drop it, then load again."
                    )
                    raise LoadRejectedError(message) from error
                logger.warning("leaving out view %s: %s", name, error.diag.message_primary)
                left_out.append(name)
        return recreated, left_out


def _alter(connection: Connection, other: ExternalForeignKey, action: sql.SQL, *names: str) -> None:
    table = sql.Identifier(other.schema, other.table)
    change = action.format(*map(sql.Identifier, names))
    connection.execute(sql.SQL("ALTER TABLE {} {}").format(table, change))


def _execute_all(connection: Connection, statements: Iterable[str]) -> None:
    # At once: a comment per column of every view would be a thousand round trips, and readers wait.
    if together := ";\n".join(statements):
        connection.execute(sql.SQL(together))
