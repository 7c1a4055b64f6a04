"""A Postgres for all tests: one embedded server for all workers, databases of their own for tests."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest
from psycopg import sql

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.server import open_postgres
from ctg_assets_tests import kinds
from ctg_assets_tests.marts.changing import Registry
from ctg_assets_tests.marts.projects import TABLES, dbt_on, load
from ctg_assets_tests.model import snapshots
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import IS_LONG
from ctg_assets_tests.support.fixtures import (  # noqa: F401 - pytest finds them here
    any_storage,
    client,
    crawler,
    data_dir,
    empty_dir,
    engine,
    lake,
    s3,
    s3_server,
    settings,
    shared_simulator,
    simulator,
    stopped_cluster,
    storage,
)
from ctg_assets_tests.support.forked_commands import forked_commands
from ctg_assets_tests.support.loaded_studies import LoadedStudies, load_studies, read_studies
from ctg_assets_tests.support.memory import use_memory
from ctg_assets_tests.support.postgres import settings_for, spare_the_disk
from ctg_assets_tests.support.shared_states import (
    begin_run,
    copy_database,
    made_database,
    run_folder,
)

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
hypothesis.settings.register_profile("untimed", deadline=None, max_examples=100 if IS_LONG else 50)
hypothesis.settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Watch which processes are started, and have temporary folders where they cost no time."""
    use_memory()
    kinds.watch_processes()
    if not hasattr(config, "workerinput"):
        config.add_cleanup(begin_run())
        if config.getoption("tx", None):
            # Each would import for ten seconds what the process that commands are forked from has imported.
            worker = shlex.quote(str(forked_commands() / "worker"))
            config.option.tx = [f"popen//python={worker}" for _ in config.option.tx]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the kinds of tests apart."""
    kinds.mark_and_sort(items)


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of every later collection of garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hand on what a test logged as text that can be sent: one half of a surrogate pair would end the whole run."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode())
        for title, text in report.sections
    ]
    return report


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
def new_database(server: PostgresAddress, template: str = "template1") -> Iterator[PostgresAddress]:
    """An empty database, or a copy of the one named `template`, that is dropped in the end."""
    name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}_{next(_numbers)}"
    copy_database(server, name, template)
    yield server.database(name)
    with connect(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresAddress]:
    """An embedded server for all workers; the last of them stops it."""
    with open_postgres(settings_for(run_folder())) as address:
        spare_the_disk(address)
        yield address


@pytest.fixture
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database of the test's own."""
    with new_database(server) as own:
        yield own


@pytest.fixture(scope="session")
def real_studies(server: PostgresAddress) -> LoadedStudies:
    """All recorded studies imported, compacted and loaded, once for all workers; skips where there are none."""
    path = shared_path("ctg/studies.jsonl.gz")
    return loaded_once(server, "aact", lambda _: path)


def loaded_once(server: PostgresAddress, name: str, write: Callable[[Path], Path]) -> LoadedStudies:
    """The studies of the file that `write` puts into a folder, loaded into a database that all workers read.

    The name is one that AACT's SQL may say before the schema's.
    """

    def make(address: PostgresAddress, folder: Path) -> tuple[Path, Path]:
        path, data = write(folder), folder / "data"
        load_studies(path, data, address)
        return path, data

    return read_studies(*made_database(server, name, make), server.database(name))


@pytest.fixture(scope="session")
def recorded_staging(server: PostgresAddress) -> str:
    """A database to copy, with the staging tables of the recorded studies as of 2026-08-13; skips without these."""
    _, studies = snapshots.real_studies()

    def make(address: PostgresAddress, _: Path) -> None:
        load(address, studies, datetime(2026, 8, 13, 9, tzinfo=UTC))

    made_database(server, "recorded_staging", make)
    return "recorded_staging"


@pytest.fixture(scope="session")
def generated_marts(server: PostgresAddress) -> str:
    """A database to copy, with all marts of generated studies on the first day of `Registry`."""

    def make(address: PostgresAddress, folder: Path) -> None:
        Registry(address, 1).load()
        dbt_on(address, folder, *TABLES)

    made_database(server, "generated_marts", make)
    return "generated_marts"


@dataclass(frozen=True)
class RecordedBuild:
    """The name of a database with marts, and what dbt said of building and testing them."""

    database: str
    said: str


@pytest.fixture(scope="session")
def recorded_build(server: PostgresAddress, recorded_staging: str) -> RecordedBuild:
    """A database to copy, with all marts of these studies, and what dbt said of building and testing them."""

    def make(address: PostgresAddress, folder: Path) -> str:
        return dbt_on(address, folder, "build", "--exclude-resource-type", "unit_test")

    name = "recorded_marts"
    return RecordedBuild(name, made_database(server, name, make, recorded_staging))


@pytest.fixture(scope="module")
def recorded(server: PostgresAddress, recorded_build: RecordedBuild) -> Iterator[PostgresAddress]:
    """A copy of that database for the tests of one module; its build had nothing to warn of."""
    assert "WARN=0 ERROR=0 SKIP=0" in recorded_build.said
    with new_database(server, recorded_build.database) as own:
        yield own
