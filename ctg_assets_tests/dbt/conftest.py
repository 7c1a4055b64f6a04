"""A Postgres for the tests of dbt, and the project's manifest."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql

from ctg_assets.warehouse.connection import PostgresAddress, connect
from ctg_assets.warehouse.server import open_postgres
from ctg_assets_tests.dbt.projects import dbt
from ctg_assets_tests.warehouse.helpers import settings_for, temporary_folder

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresAddress]:
    """An embedded server for the whole session."""
    with temporary_folder() as folder, open_postgres(settings_for(folder)) as address:
        yield address


@pytest.fixture(scope="module")
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database for the tests of one module."""
    own = server.database(f"dbt_{next(_numbers)}")
    name = sql.Identifier(own.dbname)
    with connect(server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        yield own
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `dbt parse` makes of the project where there is no database."""
    written = tmp_path_factory.mktemp("dbt")
    dbt(["parse", "--warn-error"], {"CTG_DBT_HOST": str(written / "no server")}, written)
    result: dict[str, Any] = json.loads((written / "target" / "manifest.json").read_text())
    return result
