"""AACT's tables, views and functions look as AACT's do, and have as many rows as the JSON says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest

from ctg_assets.aact.request import CtgovReport
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.aact.from_json import Registry
from ctg_assets_tests.aact.statements.catalogs import TABLES, VIEWS
from ctg_assets_tests.aact.statements.views import ALL_VIEWS
from ctg_assets_tests.model.row_counter import count_rows
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.loaded_studies import LoadedStudies
from ctg_assets_tests.support.postgres import query

Columns = dict[str, list[tuple[str, str]]]
"""The names and types of columns, by table."""

TYPES = {
    "varchar": "character varying",
    "timestamp": "timestamp without time zone",
    "timestamp(6)": "timestamp without time zone",
}
# Their columns are named in a sentence only.
SEARCH_TERMS: Columns = {
    "search_terms": [
        ("id", "bigint"),
        ("term", "character varying"),
        ("group", "character varying"),
        ("created_at", "timestamp without time zone"),
        ("updated_at", "timestamp without time zone"),
    ],
    "search_term_results": [
        ("id", "bigint"),
        ("nct_id", "character varying"),
        ("search_term_id", "bigint"),
        ("created_at", "timestamp without time zone"),
        ("updated_at", "timestamp without time zone"),
    ],
}
# What was text before 2024.
OLD_TYPES = {
    "eligibilities.healthy_volunteers": "character varying",
    "studies.delayed_posting": "character varying",
}

_HEADING = re.compile(r"#### (\w+)")
_COLUMN = re.compile(r"\| (\w+) \| ([^|]+?) \|")


def _described() -> Iterator[tuple[str, str, str]]:
    """Table, column and type of each line of the reference."""
    table = ""
    for line in shared_path("reference/aact_schema.md").read_text(encoding="utf-8").splitlines():
        if heading := _HEADING.match(line):
            table = heading[1]
        elif line.startswith("#"):
            table = ""
        column = _COLUMN.match(line)
        if table and column and column[1] != "column":
            yield table, column[1], column[2]


def _type(name: str, described: str) -> str:
    """The type as the standard calls it; ids, and what refers to them, are bigint here."""
    known = re.sub(r" (DEFAULT|not null).*", "", described)
    if known == "integer" and (name == "id" or name.endswith("_id")):
        return "bigint"
    return TYPES.get(known, known)


def _there(address: PostgresAddress, schema: str) -> Columns:
    """The columns of all tables and views of a schema, with their types as declared."""
    found: Columns = {}
    for table, name, type_ in query(
        address,
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        f"WHERE c.relnamespace = '{schema}'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY a.attnum",
    ):
        found.setdefault(table, []).append((name, type_))
    return found


@pytest.fixture(scope="module")
def reference() -> Columns:
    """AACT's tables as the reference describes them; skips where it is absent."""
    found: Columns = {}
    for table, name, described in _described():
        found.setdefault(table, []).append((name, _type(name, described)))
    assert (len(found), sum(map(len, found.values()))) == (51, 469)
    return found | SEARCH_TERMS


def test_tables_have_aact_s_columns(aact: PostgresAddress, reference: Columns) -> None:
    """All 53 tables have the columns of the reference, no other, in its order and of its types."""
    there = _there(aact, "ctgov")
    assert {name: there[name] for name in TABLES} == reference
    assert set(there) == {*TABLES, *VIEWS}


def test_tables_with_old_labels_have_the_same_columns(
    aact: PostgresAddress, reference: Columns
) -> None:
    """So have those with old labels, of which two columns were text."""
    there = _there(aact, "ctgov_2023")
    assert {name: there[name] for name in TABLES} == {
        table: [(name, OLD_TYPES.get(f"{table}.{name}", type_)) for name, type_ in columns]
        for table, columns in reference.items()
    }
    assert set(there) == {*TABLES, *VIEWS}


def test_what_aact_requires_is_required(aact: PostgresAddress) -> None:
    """Columns that are never NULL in AACT are declared so here, and studies' number is."""
    required = {
        (table, name)
        for table, name, described in _described()
        if "not null" in described and table in TABLES
    }
    there = query(
        aact,
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'ctgov' AND is_nullable = 'NO'",
    )
    terms = {row for row in there if row[0] in SEARCH_TERMS}
    assert set(there) - terms == required | {("studies", "nct_id")}


def test_views_have_aact_s_columns(aact: PostgresAddress) -> None:
    """The joined views have a study's number and a text; the others as many columns as AACT's."""
    there = _there(aact, "ctgov")
    for name in ALL_VIEWS:
        assert there[name] == [("nct_id", "character varying"), ("names", "text")]
    assert there["categories"] == there["search_results"]
    names = [name for name, _ in there["covid_19_studies"]]
    assert len(names) == len(set(names)) == 52


def test_summaries_have_aact_s_columns(aact: PostgresAddress) -> None:
    """The function that sums studies up gives 36 columns, of which some are called otherwise than in studies."""
    [(names,)] = query(
        aact,
        "SELECT proargnames FROM pg_proc WHERE oid = 'ctgov.study_summaries_for_condition(varchar)'::regprocedure",
    )
    columns = [name for name in names if name]
    assert len(columns) == 36
    assert columns[:9] == [
        "nct_id",
        "title",
        "recruitment",
        "were_results_reported",
        "conditions",
        "interventions",
        "gender",
        "age",
        "phase",
    ]


def test_tables_have_the_rows_counted(
    aact: PostgresAddress,
    ctgov_report: CtgovReport,
    real_studies: LoadedStudies,
    registry: Registry,
) -> None:
    """Each table has the rows that are counted in the studies' JSON, in both schemas, and the build says so."""
    counted = count_rows(real_studies.in_tables)
    covid = sum("COVID-19" in study.brief_title for study in registry.studies)
    searches = {"study_searches": 1, "search_results": covid}
    expected: Mapping[str, int] = {name: searches.get(name, counted[name]) for name in TABLES}
    for schema in ("ctgov", "ctgov_2023"):
        counts = " UNION ALL ".join(
            f"SELECT '{name}', count(*) FROM {schema}.{name}" for name in TABLES
        )
        assert dict(query(aact, counts)) == expected
    assert ctgov_report.rows == expected
    assert ctgov_report.not_fitting == {}


def test_every_table_and_column_says_what_it_is(aact: PostgresAddress) -> None:
    """Tools that read comments find one on each table and column."""
    assert (
        query(
            aact,
            "SELECT c.relname, a.attname FROM pg_class c "
            "LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
            "WHERE c.relnamespace = 'ctgov'::regnamespace AND c.relkind = 'r' "
            "AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)",
        )
        == []
    )
