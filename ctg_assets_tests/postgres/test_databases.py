"""The embedded server's database: its name, and what is found in it without a schema."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.databases import search_path_advice
from ctg_assets.postgres.errors import ServerSetupError
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings, load_settings
from ctg_assets_tests.support.postgres import ALL, batch, build, query, versions

pytestmark = pytest.mark.postgres

PATH = ", ".join(Schemas().searched)


def settings(folder: Path, database: str | None = None, **others: str) -> Settings:
    """Settings of an embedded server in this folder that also has AACT's schemas."""
    return load_settings(data_dir=folder, database=database, aact=True, **others)


@contextlib.contextmanager
def client(address: PostgresAddress) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A session as other programs have it, with the database's own search path."""
    with psycopg.connect(address.url, autocommit=True, application_name="a client") as connection:
        yield connection


def shown_path(address: PostgresAddress) -> object:
    """The search path of a new session."""
    with client(address) as connection:
        row = connection.execute("SHOW search_path").fetchone()
        assert row is not None
        return row[0]


def databases(address: PostgresAddress) -> list[str]:
    """The names of all databases but Postgres' own."""
    statement = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
    return [name for (name,) in query(address.database("postgres"), statement)]


# --- its name -------------------------------------------------------------------------------------


def test_a_new_cluster_has_the_database_asked_for(empty_dir: Path) -> None:
    """With CTG_DATABASE=aact the first start makes database aact, and no other."""
    with open_postgres(settings(empty_dir, "aact")) as address:
        assert (address.dbname, databases(address)) == ("aact", ["aact"])
        query(address, "CREATE SCHEMA ctgov")
        query(address, "CREATE TABLE ctgov.studies AS SELECT 1 AS one")
        with client(address) as connection:
            assert connection.execute("SELECT * FROM aact.ctgov.studies").fetchone() == (1,)


def test_the_database_is_renamed(data_dir: Path) -> None:
    """Another name keeps all tables: none is left under the old one, and back it goes only when asked to."""
    with open_postgres(settings(data_dir)) as address:
        load_tables(LoadRequest(address, ALL, build=build()), [batch(range(1, 4))])
        before = versions(address)
    for asked, name in (("aact", "aact"), (None, "aact"), ("ctg", "ctg")):
        with open_postgres(settings(data_dir, asked)) as address:
            assert databases(address) == [name]
            assert versions(address) == before
            assert shown_path(address) == PATH


def test_a_cluster_of_an_earlier_release_is_renamed(data_dir: Path) -> None:
    """Where nothing is noted yet, database ctg is ours."""
    with open_postgres(settings(data_dir)) as address:
        query(address, "CREATE TABLE kept AS SELECT 1 AS n")
        query(address, "ALTER DATABASE ctg RESET ALL")
    with open_postgres(settings(data_dir, "aact")) as address:
        assert query(address, "SELECT n FROM kept") == [(1,)]
        assert databases(address) == ["aact"]


def test_it_is_not_renamed_under_a_client(data_dir: Path) -> None:
    """A client that is connected is named, and nothing changes; an empty database is not made."""
    with (
        open_postgres(settings(data_dir)) as address,
        client(address),
        pytest.raises(
            ServerSetupError,
            match=r"CTG_DATABASE is aact, and database ctg cannot .*1 sessions use it \(a client\)",
        ),
        open_postgres(settings(data_dir, "aact")),
    ):
        pass
    with open_postgres(settings(data_dir)) as address:
        assert databases(address) == ["ctg"]


def test_it_is_not_renamed_under_another_process(data_dir: Path) -> None:
    """Who holds the server will connect by the old name, even if nobody is connected just now."""
    with (
        open_postgres(settings(data_dir)),
        pytest.raises(
            ServerSetupError, match=r"other ctg-assets processes use the server\. End them"
        ),
        open_postgres(settings(data_dir, "aact")),
    ):
        pass


def test_a_strangers_database_of_that_name(data_dir: Path) -> None:
    """A database that somebody restored beside ours is neither used nor touched."""
    with open_postgres(settings(data_dir)) as address:
        query(address.database("postgres"), "CREATE DATABASE aact")
    with (
        pytest.raises(
            ServerSetupError, match=r"database aact that ctg_assets did not make\. Drop or rename"
        ),
        open_postgres(settings(data_dir, "aact")),
    ):
        pass
    with open_postgres(settings(data_dir)) as address:
        assert databases(address) == ["aact", "ctg"]


def test_a_start_that_ended_half_way(data_dir: Path) -> None:
    """A database that was made, but not set up any further, is taken up by the next start."""
    with open_postgres(settings(data_dir)) as address:
        query(address.database("postgres"), "DROP DATABASE ctg")
        query(address.database("postgres"), "CREATE DATABASE aact")
    with open_postgres(settings(data_dir, "aact")) as address:
        assert databases(address) == ["aact"]
        assert shown_path(address) == PATH


# --- names without a schema -----------------------------------------------------------------------


def test_names_without_a_schema_are_found(data_dir: Path) -> None:
    """Any client finds tables of ours by their bare names, AACT's before all others, and its own in public."""
    with open_postgres(settings(data_dir)) as address:
        load_tables(LoadRequest(address, ALL, build=build()), [batch(range(1, 4))])
        with client(address) as connection:
            assert connection.execute("SELECT count(*) FROM studies").fetchone() == (3,)
            connection.execute("CREATE TABLE public.mine AS SELECT 1 AS one")
            assert connection.execute("SELECT * FROM mine").fetchone() == (1,)
            connection.execute("CREATE SCHEMA IF NOT EXISTS ctgov")
            connection.execute("CREATE TABLE ctgov.studies AS SELECT 7 AS seven")
            assert connection.execute("SELECT * FROM studies").fetchone() == (7,)


def test_other_schemas_are_searched_when_settings_name_others(data_dir: Path) -> None:
    """The search path follows the settings as long as it is the one that we have set."""
    with open_postgres(settings(data_dir)):
        pass
    with open_postgres(settings(data_dir, staging_schema="tables")) as address:
        assert shown_path(address) == PATH.replace("staging", "tables")


@pytest.mark.parametrize(
    ("change", "path"),
    [("SET search_path = mine, public", "mine, public"), ("RESET search_path", '"$user", public')],
)
def test_an_operators_search_path_stays(data_dir: Path, change: str, path: str) -> None:
    """What somebody else has set for the database, or reset, no start undoes, whatever the settings say."""
    with open_postgres(settings(data_dir)) as address:
        query(address, f"ALTER DATABASE ctg {change}")
    for schema in ("staging", "tables"):
        with open_postgres(settings(data_dir, staging_schema=schema)) as address:
            assert shown_path(address) == path


def test_a_search_path_from_before_stays(data_dir: Path) -> None:
    """One that was set under an earlier release, which set none, is somebody's own."""
    with open_postgres(settings(data_dir)) as address:
        query(address, "ALTER DATABASE ctg RESET ALL")
        query(address, "ALTER DATABASE ctg SET search_path = marts")
    for _ in range(2):
        with open_postgres(settings(data_dir)) as address:
            assert shown_path(address) == "marts"


def test_our_own_sessions_do_not_follow_it(data_dir: Path) -> None:
    """A search path full of look-alikes misleads no statement of ours."""
    with open_postgres(settings(data_dir)) as address:
        query(address, "CREATE SCHEMA decoy")
        query(address, "ALTER DATABASE ctg SET search_path = decoy")
        assert query(address, "SHOW search_path") == [("public",)]


def test_a_configured_server_is_only_advised(data_dir: Path) -> None:
    """There the statement is told and not run; when it was run there is nothing to tell."""
    with open_postgres(settings(data_dir)) as address:
        query(address.database("postgres"), "CREATE DATABASE theirs")
        url = address.database("theirs").url
        with open_postgres(settings(data_dir, postgres_url=url)) as theirs:
            statement = search_path_advice(theirs)
            assert shown_path(theirs) == '"$user", public'
            assert statement is not None
            query(theirs, statement)
            assert shown_path(theirs) == PATH
            assert search_path_advice(theirs) is None
