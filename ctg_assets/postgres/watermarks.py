"""How far what is made from staging has followed its loads.

dbt's macros write the watermarks of its models and tests (`dbt_project/macros/watermarks.sql`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ctg_assets.postgres.connection import Connection


@dataclass(frozen=True)
class Watermark:
    """The load of staging that something stands for, and the newest one.

    `may_follow` says that only studies that the loads between changed can differ: none of them was of
    whole tables, and what is there was made as it would be made now.
    """

    load_number: int | None
    newest: int
    may_follow: bool


def read_watermark(connection: Connection, node: str, definition: str) -> Watermark:
    """How far a node that is made by a definition is behind; the caller has made sure that staging was loaded."""
    row = connection.execute(
        connection.schemas.sql(
            """
            SELECT
                (SELECT load_number FROM {meta}.watermarks WHERE node = %s AND definition = %s),
                (SELECT max(load_number) FROM {meta}.loads),
                (SELECT max(load_number) FROM {meta}.loads WHERE kind = 'full')
            """
        ),
        [node, definition],
    ).fetchone()
    held, newest, last_full = row or (None, None, None)
    follows = held is not None and last_full is not None and held >= last_full
    return Watermark(held, newest or 0, follows)


def write_watermark(connection: Connection, node: str, definition: str, load_number: int) -> None:
    """Note, in the caller's transaction, that a node stands for a load."""
    connection.execute(
        connection.schemas.sql(
            """
            INSERT INTO {meta}.watermarks (node, definition, load_number) VALUES (%s, %s, %s)
            ON CONFLICT (node) DO UPDATE SET definition = excluded.definition,
                load_number = excluded.load_number, noted_at = now()
            """
        ),
        [node, definition, load_number],
    )
