"""Schema `ctg_meta`, or as the settings call it: our own notes about the other schemas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.dbt_functions import ensure_functions
from ctg_assets.postgres.ownership import (
    drop_relation,
    is_described,
    is_to_be_opened,
    note_relations,
    open_notes,
    require_own_relations,
)


@dataclass(frozen=True)
class MetaTable:
    """A table of notes: the statements that make it, in the schema `{meta}`, and its comment.

    By the comment it is told from a table that somebody else has made under its name.
    """

    name: str
    statements: tuple[LiteralString, ...]
    description: str


_ALL_NOTES = (
    MetaTable(
        "builds",
        (
            """
            CREATE TABLE {meta}.builds (
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
    MetaTable(
        "loads",
        (
            """
            CREATE TABLE {meta}.loads (
                load_number bigint PRIMARY KEY,
                kind text NOT NULL CHECK (kind IN ('full', 'delta')),
                snapshot_id text NOT NULL,
                loaded_at timestamp with time zone NOT NULL DEFAULT now()
            )
            """,
        ),
        "Every load of staging: full ones may have changed any row, deltas the rows of some studies.",
    ),
    MetaTable(
        "changed_studies",
        (
            """
            CREATE TABLE {meta}.changed_studies (
                nct_id text PRIMARY KEY,
                load_number bigint NOT NULL,
                first_id bigint NOT NULL,
                last_id bigint NOT NULL
            )
            """,
            """
            CREATE INDEX changed_studies_load_number_idx
            ON {meta}.changed_studies (load_number)
            """,
        ),
        "The studies that deltas since the last full load changed or removed, each with the newest of"
        " those loads, and the range of keys that its rows have in the staging tables.",
    ),
    # dbt_project/macros/watermarks.sql writes these.
    MetaTable(
        "watermarks",
        (
            """
            CREATE TABLE {meta}.watermarks (
                node text PRIMARY KEY,
                definition text NOT NULL,
                load_number bigint NOT NULL,
                noted_at timestamp with time zone NOT NULL DEFAULT now()
            )
            """,
        ),
        "The newest load that each mart stands for, or at which each test of studies found nothing, by its"
        " name in dbt; and the newest load when each dbt run began that is not over.",
    ),
)

# Of earlier releases, in which marts were built otherwise: nothing in them counts any more.
_FORMER_NOTES = {
    "mart_builds": "The load that each mart stands for, and the one that it was last built from as a whole.",
    "mart_runs": "The load that was the newest when each dbt run began; only unfinished runs are here.",
    "registry_senders": "Which data folders of which machines have asked each registry, and when last.",
    "passed_tests": "The newest load at which each test by study found nothing; no row for one that did.",
}


def has_notes(connection: Connection, name: str) -> bool:
    """Whether a table of notes is there, and ours."""
    return any(
        is_described(connection, notes.name, notes.description)
        for notes in _ALL_NOTES
        if notes.name == name
    )


def ensure_meta(connection: Connection, wanted: Sequence[MetaTable] = ()) -> None:
    """Create the schema and its tables, and those `wanted` besides, unless they are there.

    Raises ForeignObjectError when the schema or a table of such a name is somebody else's.
    """
    every = (*_ALL_NOTES, *wanted)
    with connection.transaction():
        # Two sessions making the same at once would collide.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('ctg_assets builds'))")
        open_notes(connection)
        missing = [
            notes for notes in every if not is_described(connection, notes.name, notes.description)
        ]
        meta = connection.schemas.meta
        require_own_relations(connection, meta, [notes.name for notes in missing])
        for notes in missing:
            for statement in notes.statements:
                connection.execute(connection.schemas.sql(statement))
            connection.execute(
                sql.SQL("COMMENT ON TABLE {} IS {}").format(
                    sql.Identifier(meta, notes.name), sql.Literal(notes.description)
                )
            )
        note_relations(connection, meta, [notes.name for notes in missing])
        for name, description in _FORMER_NOTES.items():
            if is_described(connection, name, description):
                drop_relation(connection, meta, name)
        ensure_functions(connection)


def take_over(connection: Connection) -> None:
    """Note as ours what a release that noted nothing has left, or what was restored from a dump."""
    if is_to_be_opened(connection):
        ensure_meta(connection)
