"""Looking at what is in a schema: for checks and for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import class_row

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.ownership import owned_relations


@dataclass(frozen=True)
class ForeignKeyState:
    """A foreign key of a table; `validated` says that Postgres itself has checked every row."""

    table: str
    name: str
    definition: str
    validated: bool


@dataclass(frozen=True)
class TableSize:
    """Bytes on disk of a table, its indexes apart, and its rows as last estimated by ANALYZE."""

    table: str
    table_bytes: int
    index_bytes: int
    estimated_rows: int


@dataclass(frozen=True)
class ColumnFacts:
    """A column as the database has it: its type as SQL spells it, and its comment."""

    name: str
    type: str
    nullable: bool
    description: str | None


@dataclass(frozen=True)
class TableFacts:
    """What a table holds: exact rows, bytes on disk with indexes, columns in their order."""

    rows: int
    total_bytes: int
    columns: tuple[ColumnFacts, ...]


def describe_table(address: PostgresAddress, schema: str, table: str) -> TableFacts:
    """What one table or view holds, counted now; raises WarehouseError when there is no such table."""
    name = sql.Identifier(schema, table)
    with connect(address) as connection, postgres_errors(f"looking at {schema}.{table}"):
        counted = connection.execute(
            sql.SQL("SELECT count(*), pg_total_relation_size({}::regclass) FROM {}").format(
                sql.Literal(f'"{schema}"."{table}"'), name
            )
        ).fetchone()
        columns = _columns(connection, schema, table)
    rows, total_bytes = counted or (0, 0)
    return TableFacts(rows, total_bytes, columns)


def describe_columns(address: PostgresAddress, schema: str, table: str) -> tuple[ColumnFacts, ...]:
    """The columns of one table or view, in order; raises WarehouseError when there is no such table."""
    with connect(address) as connection, postgres_errors(f"looking at {schema}.{table}"):
        return _columns(connection, schema, table)


def first_rows(
    address: PostgresAddress, schema: str, table: str, limit: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The column names and some rows of a table: whichever come first, so that it costs nothing."""
    with connect(address) as connection, postgres_errors(f"looking at {schema}.{table}"):
        cursor = connection.execute(
            sql.SQL("SELECT * FROM {} LIMIT {}").format(
                sql.Identifier(schema, table), sql.Literal(limit)
            )
        )
        return [column.name for column in cursor.description or ()], cursor.fetchall()


def row_counts(address: PostgresAddress, schema: str, *, only_ours: bool = False) -> dict[str, int]:
    """The exact number of rows of every table of a schema, at one moment; empty if there is none.

    With `only_ours`, tables that somebody else has made there are left out.
    """
    with connect(address) as connection, postgres_errors(f"counting the rows of {schema}"):
        tables = _tables(connection, schema)
        if only_ours:
            own = owned_relations(connection, schema)
            tables = [table for table in tables if table in own]
        if not tables:
            return {}
        # One statement, so that a load in between cannot mix old and new.
        counts = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {}, count(*) FROM {}").format(
                sql.Literal(table), sql.Identifier(schema, table)
            )
            for table in tables
        )
        return dict(connection.execute(counts).fetchall())


def foreign_keys(address: PostgresAddress, schema: str) -> list[ForeignKeyState]:
    """All foreign keys of the tables of a schema."""
    with (
        postgres_errors(f"reading the foreign keys of {schema}"),
        connect(address) as connection,
        connection.cursor(row_factory=class_row(ForeignKeyState)) as cursor,
    ):
        return cursor.execute(
            """
            SELECT
                c.relname AS table, k.conname AS name, pg_get_constraintdef(k.oid) AS definition,
                k.convalidated AS validated
            FROM pg_constraint AS k
            JOIN pg_class AS c ON c.oid = k.conrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE k.contype = 'f' AND n.nspname = %s
            ORDER BY c.relname, k.conname
            """,
            [schema],
        ).fetchall()


def table_sizes(address: PostgresAddress, schema: str) -> list[TableSize]:
    """The size of every table of a schema, largest first."""
    with (
        postgres_errors(f"reading the sizes of {schema}"),
        connect(address) as connection,
        connection.cursor(row_factory=class_row(TableSize)) as cursor,
    ):
        return cursor.execute(
            """
            SELECT
                c.relname AS table, pg_table_size(c.oid) AS table_bytes,
                pg_indexes_size(c.oid) AS index_bytes,
                greatest(c.reltuples, 0)::bigint AS estimated_rows
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relkind = 'r'
            ORDER BY pg_total_relation_size(c.oid) DESC, c.relname
            """,
            [schema],
        ).fetchall()


def _columns(connection: Connection, schema: str, table: str) -> tuple[ColumnFacts, ...]:
    with connection.cursor(row_factory=class_row(ColumnFacts)) as cursor:
        return tuple(
            cursor.execute(
                """
                SELECT
                    attname AS name, format_type(atttypid, atttypmod) AS type,
                    NOT attnotnull AS nullable, col_description(attrelid, attnum) AS description
                FROM pg_attribute
                WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
                ORDER BY attnum
                """,
                [f'"{schema}"."{table}"'],
            )
        )


def _tables(connection: Connection, schema: str) -> list[str]:
    found = connection.execute(
        """
        SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind = 'r' ORDER BY c.relname
        """,
        [schema],
    ).fetchall()
    return [name for (name,) in found]


def view_names(address: PostgresAddress, schema: str) -> set[str]:
    """The views of a schema; empty if there is none."""
    with connect(address) as connection, postgres_errors(f"listing the views of {schema}"):
        found: list[tuple[str]] = connection.execute(
            "SELECT viewname FROM pg_views WHERE schemaname = %s", [schema]
        ).fetchall()
    return {name for (name,) in found}
