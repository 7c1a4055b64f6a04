"""A Postgres for the tests of dbt, and the project's manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import dbt


@pytest.fixture(scope="module")
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database for the tests of one module."""
    with new_database(server) as own:
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
