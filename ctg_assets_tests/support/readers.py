"""What the role for readers may do in a database, asked of Postgres relation by relation."""

from __future__ import annotations

from typing import Any

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.support.postgres import query

_OURS = """
SELECT n.nspname, c.relname, c.oid, n.oid AS schema_oid
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p')
AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'public', 'ctg_meta')
AND n.nspname !~ '^pg_'
"""


def relations(address: PostgresAddress) -> list[str]:
    """Every table and view of a database but Postgres' own, those in public, and our notes."""
    return [f"{schema}.{name}" for schema, name, *_ in query(address, f"{_OURS} ORDER BY 1, 2")]


def unreadable(address: PostgresAddress, role: str = "ctg_reader") -> list[tuple[Any, ...]]:
    """Those of them that the role may not read."""
    return query(
        address,
        f"""
        SELECT nspname, relname FROM ({_OURS}) AS o WHERE NOT (
            has_schema_privilege('{role}', schema_oid, 'USAGE')
            AND has_table_privilege('{role}', oid, 'SELECT')
        ) ORDER BY 1, 2
        """,
    )


def writable(address: PostgresAddress, role: str = "ctg_reader") -> list[tuple[Any, ...]]:
    """Schemas in which the role may make something, and tables that it may change, our notes included."""
    rights = "INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER, MAINTAIN"
    return query(
        address,
        f"""
        SELECT nspname FROM pg_namespace WHERE has_schema_privilege('{role}', oid, 'CREATE')
        UNION ALL
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relkind IN ('r', 'v', 'm', 'p')
        AND c.relnamespace <> 'pg_catalog'::regnamespace
        AND (has_table_privilege('{role}', c.oid, '{rights}')
            OR has_any_column_privilege('{role}', c.oid, 'INSERT, UPDATE, REFERENCES'))
        """,
    )
