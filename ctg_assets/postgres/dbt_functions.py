"""What dbt has the database do for us before a run and after each model, as functions in our schema of notes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from ctg_assets.postgres.connection import Connection


@dataclass(frozen=True)
class _Function:
    """A function of the schema `{meta}`: its name with the types of its arguments, and what makes it."""

    signature: LiteralString
    statement: LiteralString


_REQUIRE_OURS = _Function(
    "{meta}.require_ours(text, text, text, text, text, text, text[])",
    """
    CREATE OR REPLACE FUNCTION {meta}.require_ours(
        purpose1 text, schema1 text, purpose2 text, schema2 text, purpose3 text, schema3 text,
        models text[]
    ) RETURNS void LANGUAGE plpgsql AS $function$
    DECLARE
        strange text;
    BEGIN
        CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
        SELECT n.oid, n.nspname, w.purpose
        FROM (VALUES (purpose1, schema1), (purpose2, schema2), (purpose3, schema3)) AS w (purpose, name)
        JOIN pg_namespace AS n ON n.nspname = w.name;
        -- An empty one is nobody's yet; dbt has just made those that were not there.
        INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
        SELECT w.nspname, '', w.purpose, w.oid FROM pg_temp.wanted AS w
        WHERE NOT EXISTS (
            SELECT FROM pg_depend AS d
            WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = w.oid AND d.deptype = 'n'
        )
        ON CONFLICT (schema_name, name) DO UPDATE SET purpose = excluded.purpose, oid = excluded.oid;
        SELECT string_agg(w.nspname || ' (CTG_' || upper(w.purpose) || '_SCHEMA)', ', ') INTO strange
        FROM pg_temp.wanted AS w
        WHERE NOT EXISTS (
            SELECT FROM {meta}.owned AS o
            WHERE o.schema_name = w.nspname AND o.name = '' AND o.oid = w.oid
        );
        IF strange IS NOT NULL THEN
            RAISE EXCEPTION 'not made by ctg_assets, and left alone: schema %. %', strange,
                'Set the variable to the name of another schema, or drop the schema if nobody needs it.';
        END IF;
        SELECT string_agg(format('%s.%s', w.nspname, c.relname), ', ' ORDER BY w.nspname, c.relname)
        INTO strange
        FROM pg_temp.wanted AS w
        JOIN pg_class AS c ON c.relnamespace = w.oid AND c.relname = ANY(models)
        WHERE NOT EXISTS (
            SELECT FROM {meta}.owned AS o
            WHERE o.schema_name = w.nspname AND o.name = c.relname AND o.oid = c.oid
        );
        IF strange IS NOT NULL THEN
            RAISE EXCEPTION '% would be replaced, but was not made by ctg_assets, and was left alone. %',
                strange, 'Rename it, move it into another schema, or set other schemas (CTG_MARTS_SCHEMA, ...).';
        END IF;
    END
    $function$
    """,
)

_NOTE_OWN = _Function(
    "{meta}.note_own(text, text)",
    """
    CREATE OR REPLACE FUNCTION {meta}.note_own(in_schema text, relation text)
    RETURNS void LANGUAGE sql AS $function$
        INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
        SELECT n.nspname, c.relname, 'relation', c.oid
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = in_schema AND c.relname = relation
        ON CONFLICT (schema_name, name) DO UPDATE SET purpose = excluded.purpose, oid = excluded.oid
    $function$
    """,
)

# dbt makes a new view, renames both, and is about to drop the old one with everything that depends on it.
_KEEP_VIEW = _Function(
    "{meta}.keep_view(text, text)",
    """
    CREATE OR REPLACE FUNCTION {meta}.keep_view(in_schema text, relation text)
    RETURNS void LANGUAGE plpgsql AS $function$
    DECLARE
        made CONSTANT text := format('%I.%I', in_schema, relation);
        old CONSTANT text := format('%I.%I', in_schema, relation || '__dbt_backup');
        described record;
    BEGIN
        IF to_regclass(old) IS NOT NULL THEN
            EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', old, pg_get_viewdef(made::regclass));
            EXECUTE format('COMMENT ON VIEW %s IS %L', old, obj_description(made::regclass, 'pg_class'));
            FOR described IN
                SELECT attname, col_description(attrelid, attnum) AS description
                FROM pg_attribute WHERE attrelid = made::regclass AND attnum > 0
            LOOP
                EXECUTE format(
                    'COMMENT ON COLUMN %s.%I IS %L', old, described.attname, described.description
                );
            END LOOP;
            EXECUTE format('DROP VIEW %s', made);
            EXECUTE format('ALTER VIEW %s RENAME TO %I', old, relation);
        END IF;
        PERFORM {meta}.note_own(in_schema, relation);
    EXCEPTION WHEN invalid_table_definition OR wrong_object_type THEN
        -- It lost or moved columns, or was a table. Refused where something of somebody's lies on it.
        EXECUTE format(
            'DROP %s %s',
            (SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END FROM pg_class WHERE oid = old::regclass),
            old
        );
        PERFORM {meta}.note_own(in_schema, relation);
    END
    $function$
    """,
)

# By name of a column, and the relation's own by an empty one. Returns the columns that are not there.
_DESCRIBE = _Function(
    "{meta}.describe(regclass, jsonb)",
    """
    CREATE OR REPLACE FUNCTION {meta}.describe(relation regclass, descriptions jsonb)
    RETURNS text LANGUAGE plpgsql AS $function$
    DECLARE
        said record;
    BEGIN
        FOR said IN
            SELECT
                d.value,
                CASE
                    WHEN a.attname IS NOT NULL THEN format('COLUMN %s.%I', relation, a.attname)
                    WHEN c.relkind = 'v' THEN format('VIEW %s', relation)
                    ELSE format('TABLE %s', relation)
                END AS described
            FROM pg_class AS c
            CROSS JOIN jsonb_each_text(descriptions) AS d
            LEFT JOIN pg_attribute AS a
                ON c.oid = a.attrelid AND a.attname = d.key AND a.attnum > 0 AND NOT a.attisdropped
            LEFT JOIN pg_description AS there
                ON there.classoid = 'pg_class'::regclass AND there.objoid = c.oid
                AND there.objsubid = coalesce(a.attnum, 0)
            WHERE c.oid = relation AND (d.key = '' OR a.attname IS NOT NULL)
            AND coalesce(there.description, '') <> d.value
        LOOP
            EXECUTE format('COMMENT ON %s IS %L', said.described, said.value);
        END LOOP;
        RETURN (
            SELECT string_agg(d.key, ', ' ORDER BY d.key)
            FROM jsonb_object_keys(descriptions) AS d (key)
            WHERE d.key <> '' AND NOT EXISTS (
                SELECT FROM pg_attribute AS a
                WHERE a.attrelid = relation AND a.attname = d.key AND a.attnum > 0 AND NOT a.attisdropped
            )
        );
    END
    $function$
    """,
)

_FUNCTIONS = (_REQUIRE_OURS, _NOTE_OWN, _KEEP_VIEW, _DESCRIBE)


def ensure_functions(connection: Connection) -> None:
    """Make the functions, in the caller's transaction, unless they are there as this release has them."""
    schemas = connection.schemas
    there = dict(
        connection.execute(
            """
            SELECT p.proname, obj_description(p.oid, 'pg_proc')
            FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
            WHERE n.nspname = %s
            """,
            [schemas.meta],
        ).fetchall()
    )
    for function in _FUNCTIONS:
        statement = schemas.sql(function.statement)
        signature = schemas.sql(function.signature)
        name = function.signature.removeprefix("{meta}.").partition("(")[0]
        digest = hashlib.sha256(statement.as_string(connection).encode()).hexdigest()
        if there.get(name) != digest:
            connection.execute(statement)
            connection.execute(
                sql.SQL("COMMENT ON FUNCTION {} IS {}").format(signature, sql.Literal(digest))
            )
