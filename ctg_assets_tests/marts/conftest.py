"""A Postgres for the tests of dbt, and the project's manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import dbt, load
from ctg_assets_tests.model.snapshots import real_studies


@pytest.fixture(scope="module")
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database for the tests of one module."""
    with new_database(server) as own:
        yield own


@pytest.fixture(scope="session")
def recorded_staging(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """A database to copy, with the staging tables of the recorded studies as of 2026-08-13; skips without these."""
    _, studies = real_studies()
    with new_database(server) as loaded:
        load(loaded, studies, datetime(2026, 8, 13, 9, tzinfo=UTC))
        yield loaded


@pytest.fixture(scope="module")
def recorded(
    server: PostgresAddress, recorded_staging: PostgresAddress
) -> Iterator[PostgresAddress]:
    """A copy of that database for the tests of one module, on which nothing is built yet."""
    with new_database(server, recorded_staging.dbname) as own:
        yield own


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `dbt parse` makes of the project where there is no database."""
    written = tmp_path_factory.mktemp("dbt")
    dbt(
        ["parse", "--no-partial-parse", "--warn-error"],
        {"CTG_DBT_HOST": str(written / "no server")},
        written,
    )
    result: dict[str, Any] = json.loads((written / "target" / "manifest.json").read_text())
    return result
