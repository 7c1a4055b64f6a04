"""A Postgres for all tests: one embedded server a session, databases of their own for tests."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest
from psycopg import sql

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.server import open_postgres
from ctg_assets_tests import kinds
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.fixtures import (  # noqa: F401 - pytest finds them here
    any_storage,
    client,
    crawler,
    data_dir,
    empty_dir,
    lake,
    s3,
    s3_server,
    settings,
    shared_simulator,
    simulator,
    stopped_cluster,
    storage,
)
from ctg_assets_tests.support.loaded_studies import LoadedStudies, load_studies
from ctg_assets_tests.support.memory import use_memory
from ctg_assets_tests.support.postgres import settings_for, spare_the_disk, temporary_folder

_numbers = itertools.count(1)

# Parallel workers are told a width of 80, which consoles made at import would keep whatever a test asks for.
for _name in ("COLUMNS", "LINES"):
    os.environ.pop(_name, None)

# Processes that tests start would compile Dagster and dbt anew, which costs each of them four seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Making AACT's 53 tables costs each build half a second; tests of them, and of what users get, switch them on.
os.environ["CTG_AACT"] = "false"

# How long an example takes says more about what else the machine is doing than about us.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure() -> None:
    """Watch which processes are started, and have temporary folders where they cost no time."""
    use_memory()
    kinds.watch_processes()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the kinds of tests apart."""
    kinds.mark_and_sort(items)


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Watch a test that is said to start no process."""
    kinds.watch(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """See to it that it did not."""
    yield
    kinds.check(item)


@contextlib.contextmanager
def new_database(
    server: PostgresAddress, template: str = "template1", name: str | None = None
) -> Iterator[PostgresAddress]:
    """An empty database, or a copy of the one named `template`, that is dropped in the end."""
    name = name or f"test_{next(_numbers)}"
    own = server.database(name)
    identifier = sql.Identifier(name)
    with connect(server) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(identifier, sql.Identifier(template))
        )
        yield own
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


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


@pytest.fixture(scope="session")
def real_studies(
    server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoadedStudies]:
    """All recorded studies imported, compacted and loaded, once a process; skips where there are none."""
    path = shared_path("ctg/studies.jsonl.gz")
    # The name that AACT's SQL may say before the schema's.
    with new_database(server, name="aact") as address:
        yield load_studies(path, tmp_path_factory.mktemp("data"), address)
