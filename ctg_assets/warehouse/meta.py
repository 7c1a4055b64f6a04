"""Schema `ctg_meta`: our own notes about the other schemas.

Belongs here: which tables of notes there are, and making them. Does not belong here: what is written
into them (`builds.py`, `loads.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from ctg_assets.warehouse.connection import Connection

META = "ctg_meta"


@dataclass(frozen=True)
class _Notes:
    """A table of notes: the statements that make it, and its comment."""

    name: str
    statements: tuple[str, ...]
    description: str


_ALL_NOTES = (
    _Notes(
        "builds",
        (
            """
            CREATE TABLE IF NOT EXISTS ctg_meta.builds (
                stage text NOT NULL,
                name text NOT NULL,
                fingerprint text NOT NULL,
                rows bigint,
                built_at timestamp with time zone NOT NULL DEFAULT now(),
                PRIMARY KEY (stage, name)
            )
            """,
        ),
        "What each staging table and each model was last built from.",
    ),
    _Notes(
        "loads",
        (
            """
            CREATE TABLE IF NOT EXISTS ctg_meta.loads (
                load_number bigint PRIMARY KEY,
                kind text NOT NULL CHECK (kind IN ('full', 'delta')),
                snapshot_id text NOT NULL,
                loaded_at timestamp with time zone NOT NULL DEFAULT now()
            )
            """,
        ),
        "Every load of staging: full ones may have changed any row, deltas the rows of some studies.",
    ),
    _Notes(
        "changed_studies",
        (
            """
            CREATE TABLE IF NOT EXISTS ctg_meta.changed_studies (
                nct_id text PRIMARY KEY,
                load_number bigint NOT NULL,
                first_id bigint NOT NULL,
                last_id bigint NOT NULL
            )
            """,
            """
            CREATE INDEX IF NOT EXISTS changed_studies_load_number_idx
            ON ctg_meta.changed_studies (load_number)
            """,
        ),
        "The studies that deltas since the last full load changed or removed, each with the newest of"
        " those loads, and the range of keys that its rows have in the staging tables.",
    ),
)


def has_notes(connection: Connection, name: str) -> bool:
    """Whether a table of notes is there."""
    found = connection.execute(
        "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) IS NOT NULL", [META, name]
    ).fetchone()
    return found == (True,)


def ensure_notes(connection: Connection) -> None:
    """Create the schema and its tables unless they are there."""
    missing = [notes for notes in _ALL_NOTES if not has_notes(connection, notes.name)]
    if not missing:
        return
    with connection.transaction():
        # Two sessions running CREATE ... IF NOT EXISTS at once can still collide.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('ctg_assets builds'))")
        connection.execute("CREATE SCHEMA IF NOT EXISTS ctg_meta")
        for notes in missing:
            for statement in notes.statements:
                connection.execute(sql.SQL(statement))
            connection.execute(
                sql.SQL("COMMENT ON TABLE {} IS {}").format(
                    sql.Identifier(META, notes.name), sql.Literal(notes.description)
                )
            )
