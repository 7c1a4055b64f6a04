"""The role for people who only read: whoever is in it can read our tables and views, and write none."""

from __future__ import annotations

from contextlib import suppress

import psycopg
from psycopg import sql

from ctg_assets.postgres.connection import Connection


def ensure_reader(connection: Connection) -> bool:
    """Make the role unless it is there, or this user may make none; returns whether it is there.

    It cannot log in by itself: who manages the server puts people's roles into it, or opens TCP for it.
    """
    reader = connection.reader_role
    row = connection.execute(
        """
        SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s), rolsuper OR rolcreaterole
        FROM pg_roles WHERE rolname = current_user
        """,
        [reader],
    ).fetchone()
    is_there, may_create = row or (False, False)
    if is_there or not may_create:
        return bool(is_there)
    # Another session may be making it at this moment.
    with (
        suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation),
        connection.transaction(),
    ):
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(reader)))
    return True


def grant_reading(connection: Connection, schema: str) -> None:
    """Let the role read a schema of ours: what we have made in it, and what we will make in it.

    Runs in the caller's transaction, if there is one. A schema gets its rights once: what somebody takes
    back from the role later stays taken. Where there is no such role and we may not make it, nothing is done.
    """
    if _reads_what_will_be_made(connection, schema) or not ensure_reader(connection):
        return
    names = {"reader": sql.Identifier(connection.reader_role), "schema": sql.Identifier(schema)}
    with connection.transaction():
        for statement in (
            "GRANT USAGE ON SCHEMA {schema} TO {reader}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {reader}",
        ):
            connection.execute(sql.SQL(statement).format(**names))
        made = connection.execute(
            connection.schemas.sql(
                """
                SELECT n.nspname, c.relname
                FROM {meta}.owned AS o
                JOIN pg_class AS c ON c.oid = o.oid AND c.relkind IN ('r', 'v', 'm')
                JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = o.schema_name
                WHERE o.schema_name = %s AND pg_has_role(c.relowner, 'USAGE')
                """
            ),
            [schema],
        ).fetchall()
        if made:
            grant = sql.SQL("GRANT SELECT ON {} TO {}").format(
                sql.SQL(", ").join(sql.Identifier(*name) for name in made), names["reader"]
            )
            connection.execute(grant)


def _reads_what_will_be_made(connection: Connection, schema: str) -> bool:
    row = connection.execute(
        """
        SELECT FROM pg_default_acl AS d
        JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
        CROSS JOIN aclexplode(d.defaclacl) AS a
        WHERE n.nspname = %s AND d.defaclobjtype = 'r' AND d.defaclrole = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user)
        AND a.grantee = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = %s)
        """,
        [schema, connection.reader_role],
    ).fetchone()
    return row is not None


def grant_reading_of_all(connection: Connection) -> None:
    """Let the role read every schema that we have made in this database, but for our notes."""
    notes = connection.execute(
        "SELECT to_regclass(format('%%I.owned', %s::text))", [connection.schemas.meta]
    ).fetchone()
    if notes == (None,):
        return
    found = connection.execute(
        connection.schemas.sql(
            """
            SELECT n.nspname FROM {meta}.owned AS o JOIN pg_namespace AS n ON n.oid = o.oid
            WHERE o.name = '' AND o.schema_name = n.nspname AND o.purpose NOT IN ('meta', 'next')
            ORDER BY n.nspname
            """
        )
    ).fetchall()
    for (schema,) in found:
        grant_reading(connection, schema)
