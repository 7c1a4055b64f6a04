"""Rows that no study has, in Postgres: only those of studies that are there, and only what changed."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from random import Random

import pyarrow as pa
import pytest

from ctg_assets.aact.as_of import load_aact_as_of
from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.request import CtgovReport, CtgovRequest
from ctg_assets.aact.schema import aact_tables
from ctg_assets.lake import Lake
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.times import parse_data_timestamp
from ctg_assets_tests.support.lakes import FIRST_DATA, NEXT_DATA, completed, json_of, planned
from ctg_assets_tests.support.postgres import index_kinds, query

AT = datetime(2026, 11, 20, 9, 0, 5)  # noqa: DTZ001 - AACT's times have no zone


class Tables:
    """Staging and AACT's tables of one database, brought from one state to the next."""

    def __init__(self, lake: Lake, settings: Settings, address: PostgresAddress) -> None:
        self.lake = lake
        self.settings = settings
        self.address = address

    def load(self, studies: Sequence[bytes], data_timestamp: str = FIRST_DATA) -> None:
        """Make these the studies of staging."""
        plan = planned(
            self.lake, self.settings, studies=len(studies), data_timestamp=data_timestamp
        )
        completed(self.lake, plan, studies)
        manifest = Compactor(self.lake.storage, self.lake.scratch).compact(plan.extraction_id)
        load_staging(self.address, self.lake, manifest)

    def build(self, others: dict[str, pa.Table]) -> CtgovReport:
        """Bring AACT's tables to that state, with these rows of others."""
        report = build_ctgov(CtgovRequest(self.address, others))
        for name in others:
            ((count,),) = query(self.address, f"SELECT count(*) FROM ctgov.{name}")
            assert report.rows[name] == count
        return report

    def ids(self, table: str = "search_results") -> list[tuple[int, str]]:
        """The numbers of a table's rows, with when each was written."""
        return query(self.address, f"SELECT id, xmin::text FROM ctgov.{table} ORDER BY id")


@pytest.fixture
def tables(lake: Lake, settings: Settings, address: PostgresAddress) -> Tables:
    """An empty database that is to have AACT's tables."""
    schemas = replace(address.schemas, ctgov="ctgov", ctgov_2023="ctgov_2023")
    return Tables(lake, settings, replace(address, schemas=schemas))


def rows(table: str, *given: dict[str, object]) -> pa.Table:
    """Rows of one of AACT's tables."""
    (shape,) = (each.shape for each in aact_tables() if each.name == table)
    return pa.Table.from_pylist(list(given), schema=shape.arrow_schema)


def found(*numbers: int, mesh: str = "Neoplasms") -> dict[str, pa.Table]:
    """A search that found the studies with these numbers, and a term of MeSH."""
    times = {"created_at": AT, "updated_at": AT}
    search = {"id": 7, "save_tsv": False, "query": "x", "grouping": "", "name": "x", **times}
    results = [
        {"id": 700 + number, "nct_id": f"NCT{number:08d}", "name": "x", "grouping": "", **times}
        for number in numbers
    ]
    return {
        "study_searches": rows("study_searches", {**search, "beta_api": False, "active": True}),
        "search_results": rows(
            "search_results", *({**result, "study_search_id": 7} for result in results)
        ),
        "mesh_terms": rows("mesh_terms", {"id": 1, "mesh_term": mesh}),
    }


def test_only_studies_that_are_there_are_results(tables: Tables) -> None:
    """The registry is asked of all that it has; the tables may hold a part of that."""
    tables.load(json_of(1, 2, 3))
    report = tables.build(found(2, 3, 4))
    assert report.changed_studies is None
    assert report.rows["search_results"] == 2
    assert query(tables.address, "SELECT nct_id, study_search_id FROM ctgov.categories") == [
        ("NCT00000002", 7),
        ("NCT00000003", 7),
    ]
    assert query(tables.address, "SELECT mesh_term FROM ctgov.mesh_terms") == [("Neoplasms",)]
    assert query(tables.address, "SELECT id FROM ctgov_2023.search_results") == [(702,), (703,)]


def test_results_follow_the_studies(tables: Tables) -> None:
    """With the same results, a study that vanished leaves them, and one that appeared is among them."""
    # Of too few studies two are so many that staging is loaded as a whole.
    many = range(10, 50)
    tables.load(json_of(1, 2, 3, *many))
    tables.build(found(2, 3, 4))
    before = tables.ids()
    tables.load(json_of(1, 2, 4, *many), NEXT_DATA)
    report = tables.build(found(2, 3, 4))
    assert report.changed_studies == 2
    after = tables.ids()
    assert [number for number, _ in after] == [702, 704]
    assert after[0] == before[0], "what did not change was written again"


def test_rows_that_are_the_same_are_left_alone(tables: Tables) -> None:
    """Of the tables, only that of MeSH has other rows, and only that is written."""
    tables.load(json_of(1, 2))
    tables.build(found(1, 2))
    results, searches, terms = map(tables.ids, ("search_results", "study_searches", "mesh_terms"))
    report = tables.build(found(1, 2, mesh="Cysts"))
    assert report.changed_studies == 0
    assert tables.ids() == results
    assert tables.ids("study_searches") == searches
    assert tables.ids("mesh_terms") != terms
    assert query(tables.address, "SELECT mesh_term FROM ctgov.mesh_terms") == [("Cysts",)]


def test_a_term_too_long_for_a_b_tree(tables: Tables) -> None:
    """A longer term than the index takes makes whole tables, and an index that takes it."""
    tables.load(json_of(1, 2))
    tables.build(found(1, 2))
    assert index_kinds(tables.address, "ctgov")["mesh_terms_mesh_term_idx"] == "btree"
    term = "".join(Random(7).choices(string.ascii_letters, k=10_000))
    assert tables.build(found(1, 2, mesh=term)).changed_studies is None
    assert index_kinds(tables.address, "ctgov")["mesh_terms_mesh_term_idx"] == "spgist"
    assert query(tables.address, "SELECT mesh_term FROM ctgov.mesh_terms") == [(term,)]
    assert tables.build(found(1, 2, mesh=term[::-1])).changed_studies == 0


def test_other_results_replace_them(tables: Tables) -> None:
    """Without any change of studies, and down to none."""
    tables.load(json_of(1, 2, 3))
    tables.build(found(1, 2))
    assert tables.build(found(2, 3)).rows["search_results"] == 2
    assert [number for number, _ in tables.ids()] == [702, 703]
    report = tables.build({})
    assert report.changed_studies == 0
    assert (report.rows["search_results"], report.rows["mesh_terms"]) == (0, 0)
    for name in found():
        assert tables.ids(name) == []


def test_references_hold_whatever_was_replaced(tables: Tables) -> None:
    """Every result is of a study and of a search that are there."""
    tables.load(json_of(1, 2, 3))
    tables.build(found(1, 2, 4))
    tables.load(json_of(2, 3, 4), NEXT_DATA)
    tables.build(found(1, 2, 3, 4))
    dangling = query(
        tables.address,
        "SELECT r.id FROM ctgov.search_results AS r LEFT JOIN ctgov.studies AS s USING (nct_id) "
        "LEFT JOIN ctgov.study_searches AS x ON x.id = r.study_search_id "
        "WHERE s.nct_id IS NULL OR x.id IS NULL",
    )
    assert dangling == []
    assert [number for number, _ in tables.ids()] == [702, 703, 704]


def test_aact_of_the_past_has_the_results_of_then(tables: Tables) -> None:
    """Of the studies that there were; today's are not touched."""
    tables.load(json_of(1, 2, 3))
    tables.build(found(1))
    then = parse_data_timestamp(FIRST_DATA)
    report = load_aact_as_of(tables.address, tables.lake, then, "past", others=found(2, 3, 4))
    assert report.rows["search_results"] == 2
    assert query(tables.address, "SELECT id FROM past.categories ORDER BY id") == [(702,), (703,)]
    assert [number for number, _ in tables.ids()] == [701]
