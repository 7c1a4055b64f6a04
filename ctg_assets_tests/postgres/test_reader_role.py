"""The role that only reads: what it may, on which tables, and what stays so after loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from ctg_assets.load.delta import RowBatch, apply_delta
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import ChangesSince, LoadProgress, LoadRequest
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.ownership import claim_schema
from ctg_assets.postgres.reader_role import grant_reading, grant_reading_of_all
from ctg_assets_tests.support.postgres import (
    ALL,
    CONDITIONS,
    STUDIES,
    batch,
    build,
    nct_id,
    query,
)
from ctg_assets_tests.support.readers import relations, unreadable, writable

READER = "ctg_reader"


def load(address: PostgresAddress, version: int = 1, schema: str = "staging") -> None:
    """Load three studies into all tables."""
    load_tables(
        LoadRequest(address, ALL, build=build(version), schema=schema),
        [batch(range(1, 4), version)],
    )


def change(address: PostgresAddress) -> None:
    """Change the first study by a delta, from version 1 to 2."""
    apply_delta(
        LoadRequest(address, ALL, build=build(2)),
        ChangesSince(base_snapshot_id="snapshot-1", studies=[nct_id(1)]),
        [RowBatch(batch(range(1, 2), 2))],
    )


def as_reader(address: PostgresAddress, statement: str) -> list[tuple[object, ...]]:
    """The rows of a statement that a session of the role runs."""
    with connect(address) as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        cursor = connection.execute(statement.encode())
        return list(cursor.fetchall()) if cursor.description else []


def test_every_table_can_be_read_after_every_load(address: PostgresAddress) -> None:
    """First, second and changing loads, and one into another schema, leave each table readable, none writable."""
    load(address)
    assert len(relations(address)) == len(ALL) + 1
    assert (unreadable(address), writable(address)) == ([], [])
    change(address)
    assert as_reader(address, "SELECT version FROM staging.studies ORDER BY nct_id") == [
        (2,),
        (1,),
        (1,),
    ]
    load(address, 3)
    load(address, 3, schema="past")
    load(address, 4, schema="past")
    assert len(relations(address)) == 2 * (len(ALL) + 1)
    assert (unreadable(address), writable(address)) == ([], [])
    for relation in relations(address):
        assert as_reader(address, f"SELECT count(*) > 0 FROM {relation}") == [(True,)]


def test_a_table_of_a_later_release_can_be_read(address: PostgresAddress) -> None:
    """What the model has not had before is readable, and so for whom else the schema's defaults name."""
    two = build(tables=["studies", "conditions"])
    rows = {name: rows for name, rows in batch(range(1, 3)).items() if name != "keywords"}
    load_tables(LoadRequest(address, [STUDIES, CONDITIONS], build=two), [rows])
    query(
        address,
        "ALTER DEFAULT PRIVILEGES IN SCHEMA staging GRANT SELECT ON TABLES TO pg_monitor",
    )
    load(address, 2)
    assert "staging.keywords" in relations(address)
    assert unreadable(address) == []
    assert query(
        address,
        "SELECT has_table_privilege('pg_monitor', 'staging.keywords', 'SELECT'),"
        " has_table_privilege('pg_monitor', 'staging.studies', 'SELECT')",
    ) == [(True, False)]


def test_views_on_replaced_tables_stay_readable(address: PostgresAddress) -> None:
    """A view that a load makes again keeps the right to read it."""
    load(address)
    with connect(address) as connection, connection.transaction():
        claim_schema(connection, "staging_views", "staging_views")
        connection.execute("CREATE VIEW staging_views.s AS SELECT * FROM staging.studies")
    load(address, 2)
    assert as_reader(address, "SELECT DISTINCT version FROM staging_views.s") == [(2,)]


def test_tables_being_prepared_cannot_be_read(address: PostgresAddress) -> None:
    """Until they are in place, new tables are nobody's business."""
    seen: list[tuple[object, ...]] = []

    def look(state: LoadProgress) -> None:
        if state.phase == "index":
            seen.extend(unreadable(address))

    load_tables(LoadRequest(address, ALL, build=build(), progress=look), [batch(range(1, 4))])
    assert {schema for schema, _ in seen} == {"staging_next"}
    assert unreadable(address) == []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO staging.studies VALUES ('NCT00000009', 1)",
        "UPDATE staging.studies SET version = 9",
        "DELETE FROM staging.studies",
        "TRUNCATE staging.keywords",
        "DROP TABLE staging.keywords",
        "CREATE TABLE staging.mine (n int)",
        "CREATE TABLE public.mine (n int)",
        "CREATE SCHEMA mine",
        "CREATE INDEX ON staging.studies (version)",
        "SELECT * FROM ctg_meta.loads",
    ],
)
def test_readers_write_nothing(address: PostgresAddress, statement: str) -> None:
    """Neither rows nor tables nor schemas, and our notes are closed to them."""
    load(address)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_reader(address, statement)


def test_readers_have_temporary_tables(address: PostgresAddress) -> None:
    """People's longer queries put what lies between into tables of their session."""
    load(address)
    with connect(address) as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        connection.execute("CREATE TEMPORARY TABLE mine AS SELECT * FROM staging.studies")
        assert connection.execute("SELECT count(*) FROM mine").fetchone() == (3,)


def test_what_was_taken_back_stays_taken(address: PostgresAddress) -> None:
    """Who takes a table from the role is not overruled by the next loads."""
    load(address)
    query(address, f"REVOKE SELECT ON staging.keywords FROM {READER}")
    load(address, 2)
    load(address, 3)
    assert unreadable(address) == [("staging", "keywords")]


def test_tables_of_an_earlier_release_become_readable(address: PostgresAddress) -> None:
    """Where the role had no rights at all, the next load grants them, or whoever opens TCP."""
    load(address)
    load(address, 1, schema="past")
    query(address, f"DROP OWNED BY {READER}")
    assert len(unreadable(address)) == len(relations(address))
    with connect(address) as connection:
        grant_reading_of_all(connection)
    assert unreadable(address) == []

    query(address, f"DROP OWNED BY {READER}")
    load(address, 2)
    assert {schema for schema, _ in unreadable(address)} == {"past"}


def test_a_database_without_notes_has_nothing_to_grant(address: PostgresAddress) -> None:
    """Before the first load there is no schema to read, which is no error."""
    with connect(address) as connection:
        grant_reading_of_all(connection)
    assert relations(address) == []


@pytest.fixture
def loader(address: PostgresAddress) -> Iterator[PostgresAddress]:
    """The database for a user that owns nothing yet and may make no roles."""
    role = f"makes_no_roles_{address.dbname}"
    query(address, f"CREATE ROLE {role} LOGIN")
    query(address, f"GRANT CREATE ON DATABASE {address.dbname} TO {role}")
    yield replace(address, user=role, reader_role=f"analysts_{address.dbname}")
    query(address, f"DROP OWNED BY {role} CASCADE")
    query(address, f"DROP ROLE {role}")


def test_who_may_make_no_roles_grants_to_one_that_is_there(loader: PostgresAddress) -> None:
    """A load works without the role; when an administrator has made it, the next load grants to it."""
    owner = replace(loader, user="postgres")
    load(loader)
    assert query(loader, f"SELECT FROM pg_roles WHERE rolname = '{loader.reader_role}'") == []
    query(owner, f"CREATE ROLE {loader.reader_role}")
    try:
        load(loader, 2)
        assert unreadable(loader, loader.reader_role) == []
        assert writable(loader, loader.reader_role) == []
    finally:
        query(owner, f"DROP OWNED BY {loader.reader_role}")
        query(owner, f"DROP ROLE {loader.reader_role}")


def test_who_may_make_roles_makes_it(loader: PostgresAddress) -> None:
    """On a server of somebody's own a user that may make roles, and little else, is enough."""
    owner = replace(loader, user="postgres")
    query(owner, f"ALTER ROLE {loader.user} CREATEROLE")
    try:
        load(loader)
        assert query(
            owner, f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{loader.reader_role}'"
        ) == [(False,)]
        assert unreadable(loader, loader.reader_role) == []
    finally:
        query(owner, f"DROP OWNED BY {loader.reader_role}")
        query(owner, f"DROP ROLE {loader.reader_role}")


def test_granting_again_changes_nothing(address: PostgresAddress) -> None:
    """A second grant of the same writes nothing, so it can be asked for at every load."""
    load(address)
    with connect(address) as connection:
        rights = "SELECT xmin, ctid FROM pg_namespace UNION ALL SELECT xmin, ctid FROM pg_class"
        before = connection.execute(rights.encode()).fetchall()
        grant_reading(connection, "staging")
        assert connection.execute(rights.encode()).fetchall() == before
