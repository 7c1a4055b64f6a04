"""AACT's tables of recorded and of generated studies, each made once for all workers."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.request import CtgovReport, CtgovRequest
from ctg_assets.aact.schema import aact_tables
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.databases import search_path_advice
from ctg_assets.simulator.generate import study_json
from ctg_assets_tests.aact.from_json import Registry
from ctg_assets_tests.conftest import loaded_once
from ctg_assets_tests.support.loaded_studies import LoadedStudies
from ctg_assets_tests.support.postgres import table
from ctg_assets_tests.support.shared_states import made_once

SEED, FIRST, COUNT = 13, 40_000, 400
LOADED = datetime(2026, 11, 26, 9, 30, tzinfo=UTC).replace(tzinfo=None)


def make_aact(loaded: LoadedStudies) -> CtgovReport:
    """Make AACT's tables, with a saved search that finds what titles say, and the search path that users get."""
    found = [
        study.nct_id
        for study in Registry(loaded.in_tables).studies
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
    report = build_ctgov(CtgovRequest(loaded.address, others))
    statement = search_path_advice(loaded.address)
    assert statement is not None
    with connect(loaded.address) as connection:
        connection.execute(statement.encode())
    return report


@pytest.fixture(scope="session")
def ctgov_report(real_studies: LoadedStudies) -> CtgovReport:
    """What the build of AACT's tables of the recorded studies told."""
    return made_once("aact_tables", lambda _: make_aact(real_studies))


@pytest.fixture(scope="session")
def aact(ctgov_report: CtgovReport, real_studies: LoadedStudies) -> PostgresAddress:
    """The database with AACT's tables of the recorded studies."""
    return real_studies.address


@pytest.fixture(scope="session")
def registry(real_studies: LoadedStudies) -> Registry:
    """The same studies as a small program of its own reads their JSON."""
    return Registry(real_studies.in_tables)


@pytest.fixture(scope="session")
def generated_studies(server: PostgresAddress) -> LoadedStudies:
    """Generated studies with AACT's tables of them, which every clone of the project has."""

    def write(folder: Path) -> Path:
        lines = [study_json(SEED, index) for index in range(FIRST, FIRST + COUNT)]
        path = folder / "studies.jsonl.gz"
        path.write_bytes(gzip.compress(b"\n".join(lines)))
        return path

    loaded = loaded_once(server, "generated", write)
    made_once("generated_tables", lambda _: make_aact(loaded))
    return loaded
