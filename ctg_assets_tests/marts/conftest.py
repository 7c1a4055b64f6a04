"""A Postgres for the tests of dbt, and the project's manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import dbt, dbt_on, load
from ctg_assets_tests.marts.three_studies import (
    DATA_TIMESTAMP,
    FULL,
    OLDER_VIEWS,
    SPARSE,
    WITHHELD,
    ThreeStudies,
)
from ctg_assets_tests.model.snapshots import snapshot
from ctg_assets_tests.support.postgres import take_as_built
from ctg_assets_tests.support.shared_states import made_database, made_once, run_folder


@pytest.fixture(scope="module")
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database for the tests of one module."""
    with new_database(server) as own:
        yield own


@pytest.fixture(scope="session")
def manifest() -> dict[str, Any]:
    """What `dbt parse` makes of the project where there is no database."""

    def parse(folder: Path) -> dict[str, Any]:
        variables = {"CTG_DBT_HOST": str(folder / "no server")}
        dbt(["parse", "--no-partial-parse", "--warn-error"], variables, folder)
        result: dict[str, Any] = json.loads((folder / "target" / "manifest.json").read_text())
        return result

    return made_once("manifest", parse)


@pytest.fixture(scope="session")
def three_studies(server: PostgresAddress) -> ThreeStudies:
    """A database to copy, with all marts of three studies and views of older days, and what dbt said and wrote."""

    def make(address: PostgresAddress, folder: Path) -> str:
        load(address, snapshot(FULL, SPARSE, WITHHELD), DATA_TIMESTAMP)
        with connect(address) as connection:
            connection.execute(OLDER_VIEWS)
        take_as_built(address, "staging_views")
        return dbt_on(address, folder, "build")

    name = "three_studies"
    said = made_database(server, name, make)
    return ThreeStudies(name, said, run_folder() / name / "target")
