"""Which schemas, tables and views are ours: noted when they are made, asked before they are touched.

What is ours is told by its oid, which a table or schema made anew does not have. In a database that was
restored from a dump all oids are others, that of the notes' own schema as well; then names count, once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from psycopg import sql

from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.errors import ForeignObjectError
from ctg_assets.postgres.reader_role import grant_reading

OWNED = "owned"
"""The table of these notes."""

OWNED_COMMENT = "The schemas (with an empty name), tables and views that ctg_assets has made."

OWNED_TABLE = """
CREATE TABLE {meta}.owned (
    schema_name text NOT NULL,
    name text NOT NULL,
    purpose text NOT NULL,
    oid oid NOT NULL,
    PRIMARY KEY (schema_name, name)
)
"""

NEXT = "next"
"""The purpose of a schema in which tables are prepared: dropped with all that is in it."""
AS_OF = "as_of"
"""The purpose of a schema with the tables of a time in the past."""
RELATION = "relation"

# The release before these notes has left this comment on schemas of past tables.
_FORMER_MARK = "Tables made by ctg_assets; the next load into this schema replaces them."

_SETTINGS = {
    "staging": "CTG_STAGING_SCHEMA",
    "staging_views": "CTG_STAGING_VIEWS_SCHEMA",
    "intermediate": "CTG_INTERMEDIATE_SCHEMA",
    "marts": "CTG_MARTS_SCHEMA",
    "ctgov": "CTG_CTGOV_SCHEMA",
    "ctgov_2023": "CTG_CTGOV_2023_SCHEMA",
    "who": "CTG_WHO_SCHEMA",
    "meta": "CTG_META_SCHEMA",
}


def foreign_schema(connection: Connection, schema: str, purpose: str) -> ForeignObjectError:
    """The error that says that a schema is somebody else's, what is in it, and where else to go."""
    found = _contents(connection, schema)
    shown = f"holds {found}, which" if found else "is empty, but"
    if purpose in _SETTINGS:
        remedy = f"set {_SETTINGS[purpose]} to the name of another schema"
    elif purpose == AS_OF:
        remedy = "choose another name with --schema"
    else:
        remedy = f"choose another name than {schema.removesuffix('_next')} for the schema beside it"
    message = (
        f"schema {schema} is there and was not made by ctg_assets: it {shown} was left alone. To keep it, "
        f"{remedy}; if nobody needs it, drop it"
    )
    return ForeignObjectError(message)


def _contents(connection: Connection, schema: str) -> str:
    """Some of what is in a schema, in words; empty if nothing is."""
    rows = connection.execute(
        """
        SELECT pg_describe_object(d.classid, d.objid, 0)
        FROM pg_depend AS d JOIN pg_namespace AS n ON n.oid = d.refobjid
        WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname = %s AND d.deptype = 'n'
        ORDER BY d.classid, d.objid LIMIT 4
        """,
        [schema],
    ).fetchall()
    shown = [text for (text,) in rows]
    return ", ".join(shown[:3]) + (" and more" if len(shown) > 3 else "")


def _is_there(connection: Connection, schema: str) -> bool:
    row = connection.execute("SELECT FROM pg_namespace WHERE nspname = %s", [schema]).fetchone()
    return row is not None


def open_notes(connection: Connection) -> None:
    """Make sure, in the caller's transaction, that the schema of notes is ours, and make it if need be.

    What an earlier release has left is taken over. Raises ForeignObjectError when the schema, or a table of
    these notes' name, is somebody else's.
    """
    schemas = connection.schemas
    if has_owned(connection):
        if is_to_be_opened(connection):
            _note_oids_anew(connection)
        return
    former = _is_there(connection, schemas.meta) and _has_former_notes(connection)
    if _is_there(connection, schemas.meta):
        if not former and _contents(connection, schemas.meta):
            raise foreign_schema(connection, schemas.meta, "meta")
        if find_relations(connection, schemas.meta, [OWNED]):
            raise _foreign_relations(schemas.meta, [OWNED])
    else:
        connection.execute(schemas.sql("CREATE SCHEMA {meta}"))
    connection.execute(schemas.sql(OWNED_TABLE))
    comment = sql.SQL("COMMENT ON TABLE {} IS {}").format(
        sql.Identifier(schemas.meta, OWNED), sql.Literal(OWNED_COMMENT)
    )
    connection.execute(comment)
    note_schema(connection, schemas.meta, "meta")
    note_relations(connection, schemas.meta, [OWNED])
    if former:
        _take_over(connection)


def is_to_be_opened(connection: Connection) -> bool:
    """Whether `open_notes` has something to do: nothing is noted yet, or other oids."""
    return not has_owned(connection) or not owns_schema(connection, connection.schemas.meta, "meta")


def has_owned(connection: Connection) -> bool:
    """Whether the table of these notes is there, and is ours."""
    return is_described(connection, OWNED, OWNED_COMMENT)


def is_described(connection: Connection, name: str, description: str) -> bool:
    """Whether a table of the schema of notes is there and has our comment."""
    row = connection.execute(
        """
        SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r'
        AND obj_description(c.oid, 'pg_class') = %s
        """,
        [connection.schemas.meta, name, description],
    ).fetchone()
    return row is not None


# The notes of the releases before, by which a database of theirs is known.
_FORMER_NOTES = ("builds", "What each staging table and each model was last built from.")


def _has_former_notes(connection: Connection) -> bool:
    return is_described(connection, *_FORMER_NOTES)


def _note_oids_anew(connection: Connection) -> None:
    """After a restore from a dump, note the oids of what has our names."""
    schemas = connection.schemas
    connection.execute(
        schemas.sql(
            """
            UPDATE {meta}.owned AS o SET oid = there.oid
            FROM (
                SELECT n.nspname, '' AS name, n.oid FROM pg_namespace AS n
                UNION ALL
                SELECT n.nspname, c.relname, c.oid
                FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            ) AS there (schema_name, name, oid)
            WHERE o.schema_name = there.schema_name AND o.name = there.name
            """
        )
    )


def _take_over(connection: Connection) -> None:
    """Note what a release before these notes has made: what its own notes, or comments, tell of."""
    schemas = connection.schemas
    for purpose in ("staging", "staging_views", "intermediate", "marts"):
        connection.execute(
            schemas.sql(
                """
                INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
                SELECT n.nspname, '', %(purpose)s, n.oid FROM pg_namespace AS n
                WHERE n.nspname = %(schema)s AND (
                    EXISTS (SELECT FROM {meta}.builds AS b WHERE b.stage = n.nspname)
                    -- A build that did not come to its end has left models, each with its comment.
                    OR EXISTS (
                        SELECT FROM pg_class AS c
                        WHERE c.relnamespace = n.oid AND %(purpose)s <> 'staging'
                        AND obj_description(c.oid, 'pg_class') IS NOT NULL
                    )
                )
                ON CONFLICT DO NOTHING
                """
            ),
            {"purpose": purpose, "schema": getattr(schemas, purpose)},
        )
    connection.execute(
        schemas.sql(
            """
            INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
            SELECT n.nspname, '', %s, n.oid FROM pg_namespace AS n
            WHERE obj_description(n.oid, 'pg_namespace') = %s
            ON CONFLICT DO NOTHING
            """
        ),
        [AS_OF, _FORMER_MARK],
    )
    # Tables of loads stand in their notes, models have comments, and so has all of our own notes.
    connection.execute(
        schemas.sql(
            """
            INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
            SELECT n.nspname, c.relname, %s, c.oid
            FROM {meta}.owned AS o
            JOIN pg_namespace AS n ON n.oid = o.oid AND o.name = ''
            JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'v')
            WHERE obj_description(c.oid, 'pg_class') IS NOT NULL AND (
                o.purpose NOT IN ('staging', 'as_of') OR c.relname = 'load_info'
                OR EXISTS (
                    SELECT FROM {meta}.builds AS b WHERE b.stage = n.nspname AND b.name = c.relname
                )
            )
            ON CONFLICT DO NOTHING
            """
        ),
        [RELATION],
    )
    # What a load that was killed has left holds tables of its names only.
    connection.execute(
        schemas.sql(
            """
            INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
            SELECT n.nspname, '', %s, n.oid
            FROM {meta}.owned AS o JOIN pg_namespace AS n ON n.nspname = o.schema_name || '_next'
            WHERE o.name = '' AND o.purpose IN ('staging', 'as_of') AND NOT EXISTS (
                SELECT FROM pg_class AS c
                WHERE c.relnamespace = n.oid AND c.relkind NOT IN ('i', 't') AND NOT EXISTS (
                    SELECT FROM {meta}.owned AS known
                    WHERE known.schema_name = o.schema_name AND known.name = c.relname
                )
            )
            ON CONFLICT DO NOTHING
            """
        ),
        [NEXT],
    )


# schemas


def owns_schema(connection: Connection, schema: str, purpose: str) -> bool:
    """Whether a schema is there that we have made, or taken while it was empty, for a purpose."""
    row = connection.execute(
        connection.schemas.sql(
            """
            SELECT FROM {meta}.owned AS o JOIN pg_namespace AS n ON n.oid = o.oid
            WHERE n.nspname = %s AND o.schema_name = n.nspname AND o.name = '' AND o.purpose = %s
            """
        ),
        [schema, purpose],
    ).fetchone()
    return row is not None


def require_no_strangers(connection: Connection, purposes: Iterable[tuple[str, str]]) -> None:
    """Raise ForeignObjectError when a schema, given by purpose and name, is there and is somebody else's.

    An empty one is nobody's yet, unless what is in a schema of its purpose is dropped without looking.
    """
    for purpose, schema in purposes:
        if not _is_there(connection, schema) or owns_schema(connection, schema, purpose):
            continue
        if purpose == NEXT or _contents(connection, schema):
            raise foreign_schema(connection, schema, purpose)


def claim_schema(connection: Connection, schema: str, purpose: str) -> None:
    """Make a schema, in the caller's transaction, unless it is ours already; an empty one will do.

    The role for readers gets its rights, but for a schema in which tables are only prepared.

    Raises ForeignObjectError when it is somebody else's.
    """
    require_no_strangers(connection, [(purpose, schema)])
    if not _is_there(connection, schema):
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    note_schema(connection, schema, purpose)
    if purpose != NEXT:
        grant_reading(connection, schema)


def note_schema(connection: Connection, schema: str, purpose: str) -> None:
    """Note, in the caller's transaction, that the schema of this name is ours."""
    connection.execute(
        connection.schemas.sql(
            """
            INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
            SELECT nspname, '', %s, oid FROM pg_namespace WHERE nspname = %s
            ON CONFLICT (schema_name, name) DO UPDATE
            SET purpose = excluded.purpose, oid = excluded.oid
            """
        ),
        [purpose, schema],
    )


# relations


def find_relations(connection: Connection, schema: str, names: Collection[str]) -> dict[str, int]:
    """The oids of what is there under these names: tables, views, indexes, sequences, types."""
    return dict(
        connection.execute(
            """
            SELECT c.relname, c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = %(schema)s AND c.relname = ANY(%(names)s)
            UNION ALL
            SELECT t.typname, t.oid FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
            WHERE n.nspname = %(schema)s AND t.typname = ANY(%(names)s) AND t.typrelid = 0
            """,
            {"schema": schema, "names": list(names)},
        ).fetchall()
    )


def owned_relations(connection: Connection, schema: str) -> dict[str, int]:
    """The tables and views of a schema that are ours and still there, by name with their oids."""
    if not has_owned(connection):
        return {}
    return dict(
        connection.execute(
            connection.schemas.sql(
                """
                SELECT c.relname, c.oid
                FROM {meta}.owned AS o
                JOIN pg_class AS c ON c.oid = o.oid AND c.relname = o.name
                JOIN pg_namespace AS n ON n.oid = c.relnamespace AND n.nspname = o.schema_name
                WHERE o.schema_name = %s
                """
            ),
            [schema],
        ).fetchall()
    )


def require_own_relations(connection: Connection, schema: str, names: Collection[str]) -> None:
    """Raise ForeignObjectError when something under these names is there that is not ours."""
    own = owned_relations(connection, schema)
    foreign = [
        name
        for name, oid in find_relations(connection, schema, names).items()
        if own.get(name) != oid
    ]
    if foreign:
        raise _foreign_relations(schema, sorted(foreign))


def _foreign_relations(schema: str, names: Collection[str]) -> ForeignObjectError:
    shown = ", ".join(f"{schema}.{name}" for name in names)
    message = (
        f"{shown} would be replaced, but was not made by ctg_assets, and was left alone. Rename it or move it "
        "into another schema; to leave it where it is, set other schemas (CTG_STAGING_SCHEMA, "
        "CTG_MARTS_SCHEMA, ...)"
    )
    return ForeignObjectError(message)


def note_relations(connection: Connection, schema: str, names: Collection[str]) -> None:
    """Note, in the caller's transaction, that the tables or views of these names are ours."""
    connection.execute(
        connection.schemas.sql(
            """
            INSERT INTO {meta}.owned (schema_name, name, purpose, oid)
            SELECT n.nspname, c.relname, %s, c.oid
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = ANY(%s)
            ON CONFLICT (schema_name, name) DO UPDATE
            SET purpose = excluded.purpose, oid = excluded.oid
            """
        ),
        [RELATION, schema, list(names)],
    )


def drop_relation(connection: Connection, schema: str, name: str) -> None:
    """Drop, in the caller's transaction, a table of ours, and forget that it was."""
    connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, name)))
    connection.execute(
        connection.schemas.sql("DELETE FROM {meta}.owned WHERE schema_name = %s AND name = %s"),
        [schema, name],
    )
