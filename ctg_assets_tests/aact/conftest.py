"""AACT's tables of the recorded real studies, made once a process."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.request import CtgovReport, CtgovRequest
from ctg_assets.aact.schema import aact_tables
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.databases import search_path_advice
from ctg_assets_tests.aact.from_json import Registry
from ctg_assets_tests.support.loaded_studies import LoadedStudies
from ctg_assets_tests.support.postgres import table

LOADED = datetime(2026, 11, 26, 9, 30, tzinfo=UTC).replace(tzinfo=None)


@pytest.fixture(scope="session")
def ctgov_report(real_studies: LoadedStudies) -> CtgovReport:
    """What the build of AACT's tables told; the database then has the search path that users get."""
    found = [
        study.nct_id
        for study in Registry(real_studies.in_tables).studies
        if "COVID-19" in study.brief_title
    ]
    searches: dict[str, list[tuple[Any, ...]]] = {
        "study_searches": [
            (1, False, "covid-19", "covid", "covid-19", False, LOADED, LOADED, True)
        ],
        "search_results": [
            (place, nct_id, "covid-19", LOADED, LOADED, "covid", 1)
            for place, nct_id in enumerate(found, start=1)
        ],
    }
    shapes = {table.name: table.shape for table in aact_tables()}
    others: dict[str, pa.Table] = {
        name: table(shapes[name], rows) for name, rows in searches.items()
    }
    report = build_ctgov(CtgovRequest(real_studies.address, others))
    statement = search_path_advice(real_studies.address)
    assert statement is not None
    with connect(real_studies.address) as connection:
        connection.execute(statement.encode())
    return report


@pytest.fixture(scope="session")
def aact(ctgov_report: CtgovReport, real_studies: LoadedStudies) -> PostgresAddress:
    """The database with AACT's tables of the recorded studies."""
    return real_studies.address


@pytest.fixture(scope="session")
def registry(real_studies: LoadedStudies) -> Registry:
    """The same studies as a small program of its own reads their JSON."""
    return Registry(real_studies.in_tables)
