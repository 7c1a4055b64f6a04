"""A Postgres for all tests: one embedded server a session, databases of their own for tests.

Belongs here: what tests of several rooms need. Does not belong here: fixtures of one room.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator

import hypothesis
import pytest
from psycopg import sql

from ctg_assets.warehouse.connection import PostgresAddress, connect
from ctg_assets.warehouse.server import open_postgres
from ctg_assets_tests.warehouse.helpers import settings_for, spare_the_disk, temporary_folder

_numbers = itertools.count(1)

# Parallel workers are told a width of 80, which consoles made at import would keep whatever a test asks for.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# How long an example takes says more about what else the machine is doing than about us.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


@contextlib.contextmanager
def new_database(server: PostgresAddress, template: str = "template1") -> Iterator[PostgresAddress]:
    """An empty database, or a copy of the one named `template`, that is dropped in the end."""
    own = server.database(f"test_{next(_numbers)}")
    name = sql.Identifier(own.dbname)
    with connect(server) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template))
        )
        yield own
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresAddress]:
    """An embedded server for the whole session."""
    with temporary_folder() as folder, open_postgres(settings_for(folder)) as address:
        spare_the_disk(address)
        yield address


@pytest.fixture
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database of the test's own."""
    with new_database(server) as own:
        yield own
