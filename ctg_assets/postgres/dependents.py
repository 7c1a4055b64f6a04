"""What hangs on a table that is about to be replaced: views, privileges, foreign keys of others.

Not kept when a table is replaced: indexes, triggers and row security that somebody added to it. A
function or type that depends on the table makes Postgres refuse to drop it, and the load fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import class_row

from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.sessions import LOCK_MILLISECONDS


@dataclass(frozen=True)
class View:
    """A view or materialized view, with all that is needed to make it again."""

    oid: int
    schema: str
    name: str
    materialized: bool
    definition: str
    options: str | None
    populated: bool

    @property
    def kind(self) -> sql.SQL:
        """What it is called in SQL."""
        return sql.SQL("MATERIALIZED VIEW" if self.materialized else "VIEW")

    def drop(self) -> sql.Composed:
        """The statement that drops it, unless something else still depends on it."""
        return sql.SQL("DROP {} {}").format(self.kind, sql.Identifier(self.schema, self.name))

    def create(self) -> sql.Composed:
        """The statement that makes it again; a materialized view is computed from the new rows."""
        return sql.SQL("CREATE {} {}{} AS {}{}").format(
            self.kind,
            sql.Identifier(self.schema, self.name),
            sql.SQL(f" WITH ({self.options})" if self.options else ""),
            sql.SQL(self.definition.rstrip().rstrip(";")),
            sql.SQL("" if self.populated else " WITH NO DATA"),
        )


@dataclass(frozen=True)
class ExternalForeignKey:
    """A foreign key from a table that stays to one that is replaced.

    `definition` already refers to the table's replacement, and never checks existing rows by itself.
    """

    schema: str
    table: str
    name: str
    referenced: str
    definition: str
    validated: bool


def find_views(connection: Connection, tables: Sequence[int]) -> list[View]:
    """All views that read the tables (oids), directly or through other views, in order of creation.

    `search_path` must be empty, so that the definitions name everything in full.
    """
    with connection.cursor(row_factory=class_row(View)) as cursor:
        return cursor.execute(
            """
            WITH RECURSIVE found (oid, depth) AS (
                SELECT unnest(%s::oid[]), 0
                UNION
                SELECT rule.ev_class, found.depth + 1
                FROM found
                JOIN pg_depend AS d
                    ON d.refclassid = 'pg_class'::regclass AND d.refobjid = found.oid
                    AND d.classid = 'pg_rewrite'::regclass
                JOIN pg_rewrite AS rule ON rule.oid = d.objid AND rule.ev_class <> found.oid
            )
            SELECT
                c.oid, n.nspname AS schema, c.relname AS name, c.relkind = 'm' AS materialized,
                pg_get_viewdef(c.oid) AS definition, array_to_string(c.reloptions, ', ') AS options,
                c.relispopulated AS populated
            FROM found
            JOIN pg_class AS c ON c.oid = found.oid AND c.relkind IN ('v', 'm')
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            GROUP BY c.oid, n.nspname
            ORDER BY max(found.depth), n.nspname, c.relname
            """,
            [list(tables)],
        ).fetchall()


def refresh_materialized_views(
    connection: Connection, schema: str, tables: Sequence[str]
) -> list[str]:
    """Compute people's materialized views on tables of a schema again, in the caller's transaction.

    Their readers wait, so it comes last of all, and not for long for those who are reading. Returns the
    views' names.
    """
    oids = [
        oid
        for (oid,) in connection.execute(
            """
            SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = ANY(%s)
            """,
            [schema, list(tables)],
        ).fetchall()
    ]
    connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
    refreshed = []
    for view in find_views(connection, oids):
        if view.materialized and view.populated:
            name = sql.Identifier(view.schema, view.name)
            connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(name))
            refreshed.append(f"{view.schema}.{view.name}")
    return refreshed


def keeping_statements(
    connection: Connection, relations: Sequence[int], next_schema: str
) -> dict[int, list[str]]:
    """Statements, per relation (oid), that give its successor of the same name what it has.

    Owner and grants for every relation; for views also comments, triggers and indexes. A table's
    successor still lies in `next_schema`; grants on columns that it lacks are left out.
    """
    rows = connection.execute(
        """
        WITH relation AS (
            SELECT c.*, n.nspname, format('%%I.%%I', n.nspname, c.relname) AS full_name
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.oid = ANY(%s)
        ), statement AS (
            SELECT r.oid, 1 AS step, format('ALTER TABLE %%s OWNER TO %%I', r.full_name, o.rolname) AS sql
            FROM relation AS r JOIN pg_roles AS o ON o.oid = r.relowner
            WHERE o.rolname <> current_user
            UNION ALL
            SELECT r.oid, 2, format(
                'GRANT %%s ON %%s TO %%s%%s', a.privilege_type, r.full_name,
                coalesce(quote_ident(g.rolname), 'PUBLIC'),
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            )
            FROM relation AS r CROSS JOIN aclexplode(r.relacl) AS a
            LEFT JOIN pg_roles AS g ON g.oid = a.grantee
            WHERE a.grantee <> r.relowner
            UNION ALL
            SELECT r.oid, 3, format(
                'GRANT %%s (%%I) ON %%s TO %%s%%s', a.privilege_type, c.attname, r.full_name,
                coalesce(quote_ident(g.rolname), 'PUBLIC'),
                CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
            )
            FROM relation AS r
            JOIN pg_attribute AS c ON c.attrelid = r.oid AND NOT c.attisdropped
            CROSS JOIN aclexplode(c.attacl) AS a
            LEFT JOIN pg_roles AS g ON g.oid = a.grantee
            WHERE r.relkind <> 'r' OR EXISTS (
                SELECT FROM pg_attribute AS successor
                WHERE successor.attrelid = to_regclass(format('%%I.%%I', %s::text, r.relname))
                AND successor.attname = c.attname
            )
            UNION ALL
            SELECT r.oid, 4, format(
                'COMMENT ON %%s %%s IS %%L', CASE r.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END,
                r.full_name, d.description
            )
            FROM relation AS r
            JOIN pg_description AS d
                ON d.objoid = r.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
            WHERE r.relkind IN ('v', 'm')
            UNION ALL
            SELECT r.oid, 5, format('COMMENT ON COLUMN %%s.%%I IS %%L', r.full_name, c.attname, d.description)
            FROM relation AS r
            JOIN pg_description AS d ON d.objoid = r.oid AND d.classoid = 'pg_class'::regclass
            JOIN pg_attribute AS c ON c.attrelid = r.oid AND c.attnum = d.objsubid AND c.attnum > 0
            WHERE r.relkind IN ('v', 'm')
            UNION ALL
            SELECT r.oid, 6, pg_get_indexdef(i.indexrelid)
            FROM relation AS r JOIN pg_index AS i ON i.indrelid = r.oid
            WHERE r.relkind = 'm'
            UNION ALL
            SELECT r.oid, 7, pg_get_triggerdef(t.oid)
            FROM relation AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid AND NOT t.tgisinternal
            WHERE r.relkind = 'v'
        )
        SELECT oid, sql FROM statement ORDER BY oid, step, sql
        """,
        [list(relations), next_schema],
    ).fetchall()
    statements: dict[int, list[str]] = {oid: [] for oid in relations}
    for oid, statement in rows:
        statements[oid].append(statement)
    return statements


def default_grants(connection: Connection, schema: str, names: Sequence[str]) -> list[str]:
    """Statements that give tables moved into a schema what they would have got if they had been made there."""
    rows: list[tuple[str]] = connection.execute(
        """
        SELECT format(
            'GRANT %%s ON %%I.%%I TO %%s%%s', a.privilege_type, n.nspname, moved.name,
            coalesce(quote_ident(g.rolname), 'PUBLIC'),
            CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        )
        FROM pg_default_acl AS d
        JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
        CROSS JOIN aclexplode(d.defaclacl) AS a
        LEFT JOIN pg_roles AS g ON g.oid = a.grantee
        CROSS JOIN unnest(%s::text[]) AS moved (name)
        WHERE n.nspname = %s AND d.defaclobjtype = 'r' AND d.defaclrole = (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = current_user)
        AND a.grantee <> d.defaclrole
        """,
        [list(names), schema],
    ).fetchall()
    return [statement for (statement,) in rows]


def find_external_foreign_keys(
    connection: Connection, schema: str, next_schema: str, tables: Sequence[str]
) -> list[ExternalForeignKey]:
    """The foreign keys to `tables` of `schema` from tables outside that set."""
    with connection.cursor(row_factory=class_row(ExternalForeignKey)) as cursor:
        return cursor.execute(
            """
            SELECT
                n.nspname AS schema, c.relname AS table, k.conname AS name, rc.relname AS referenced,
                replace(
                    regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''),
                    format('REFERENCES %%I.%%I(', rn.nspname, rc.relname),
                    format('REFERENCES %%I.%%I(', %s::text, rc.relname)
                ) || ' NOT VALID' AS definition,
                k.convalidated AS validated
            FROM pg_constraint AS k
            JOIN pg_class AS c ON c.oid = k.conrelid
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            JOIN pg_class AS rc ON rc.oid = k.confrelid
            JOIN pg_namespace AS rn ON rn.oid = rc.relnamespace
            WHERE k.contype = 'f' AND rn.nspname = %s AND rc.relname = ANY(%s)
            AND n.nspname <> %s AND NOT (n.nspname = %s AND c.relname = ANY(%s))
            ORDER BY n.nspname, c.relname, k.conname
            """,
            [next_schema, schema, list(tables), next_schema, schema, list(tables)],
        ).fetchall()
