"""What dbt has the database do."""

from __future__ import annotations

import json

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect
from ctg_assets.postgres.meta import ensure_meta


def describe(connection: Connection, relation: str, **descriptions: str) -> str | None:
    """Describe a relation, by `itself`, and its columns; returns the columns that are not there."""
    said = json.dumps({"": descriptions.pop("itself", ""), **descriptions})
    missing: str | None
    [(missing,)] = connection.execute(
        "SELECT ctg_meta.describe(%s::regclass, %s::jsonb)", [relation, said]
    ).fetchall()
    return missing


def described(connection: Connection, relation: str) -> list[tuple[int, str]]:
    """The descriptions of a relation and its columns, by number (0: its own)."""
    return connection.execute(
        "SELECT objsubid, description FROM pg_description WHERE objoid = %s::regclass ORDER BY 1",
        [relation],
    ).fetchall()


def test_descriptions_are_written_where_they_differ(address: PostgresAddress) -> None:
    """New ones, others and empty ones are written, for tables and views; what says the same stays as it was."""
    with connect(address) as connection:
        ensure_meta(connection)
        connection.execute('CREATE TABLE odd (id int, gone int, "Über x" int)')
        connection.execute("ALTER TABLE odd DROP COLUMN gone")
        connection.execute("CREATE VIEW seen AS SELECT 1 AS one")
        text = "it's $$ 100 % \\ of\nthem"
        assert describe(connection, "odd", itself="A table.", id=text, **{"Über x": "X"}) is None
        assert described(connection, "odd") == [(0, "A table."), (1, text), (3, "X")]
        rows = "SELECT objsubid, xmin::text FROM pg_description WHERE objoid = 'odd'::regclass ORDER BY 1"
        before = connection.execute(rows).fetchall()
        describe(connection, "odd", itself="A table.", id="other", **{"Über x": "X"})
        after = connection.execute(rows).fetchall()
        assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
        describe(connection, "odd", id="")
        assert described(connection, "odd") == [(3, "X")]
        assert describe(connection, "seen", itself="A view.", one="One.") is None
        assert described(connection, "seen") == [(0, "A view."), (1, "One.")]


def test_described_columns_that_are_not_there_are_told(address: PostgresAddress) -> None:
    """A column that is not there, or was dropped, is named, and the others are described."""
    with connect(address) as connection:
        ensure_meta(connection)
        connection.execute("CREATE TABLE lacking (id int, gone int)")
        connection.execute("ALTER TABLE lacking DROP COLUMN gone")
        assert (
            describe(connection, "lacking", id="Id.", gone="Gone.", never="Never.") == "gone, never"
        )
        assert described(connection, "lacking") == [(1, "Id.")]
