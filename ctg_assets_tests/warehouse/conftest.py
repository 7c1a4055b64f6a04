"""A Postgres for the tests of the warehouse: one server a session, one database a test."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import sql

from ctg_assets.warehouse.connection import PostgresAddress, connect
from ctg_assets.warehouse.server import open_postgres
from ctg_assets_tests.warehouse.helpers import settings_for, temporary_folder

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresAddress]:
    """An embedded server for the whole session."""
    with temporary_folder() as folder, open_postgres(settings_for(folder)) as address:
        _spare_the_disk(address)
        yield address


@pytest.fixture
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database of its own."""
    own = server.database(f"test_{next(_numbers)}")
    name = sql.Identifier(own.dbname)
    with connect(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield own
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def stopped_cluster() -> Iterator[Path]:
    """A data folder with a cluster as the first start leaves it, but for the sparing of the disk."""
    with temporary_folder() as folder:
        with open_postgres(settings_for(folder)) as address:
            _spare_the_disk(address)
        yield folder


@pytest.fixture
def data_dir(stopped_cluster: Path) -> Iterator[Path]:
    """A data folder for a server of the test's own; copying a cluster is faster than making one."""
    with temporary_folder() as folder:
        subprocess.run(["cp", "-a", stopped_cluster / "postgres", folder], check=True)
        yield folder


@pytest.fixture
def empty_dir() -> Iterator[Path]:
    """A data folder without anything."""
    with temporary_folder() as folder:
        yield folder


def _spare_the_disk(address: PostgresAddress) -> None:
    # Killing processes, as tests do, loses nothing that only a power failure would lose.
    with connect(address) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
