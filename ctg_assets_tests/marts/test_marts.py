"""What the marts hold for a few studies, made by the real flattening, load and dbt build."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import psycopg
import pytest

from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import dbt_on, load, rows, values
from ctg_assets_tests.marts.three_studies import (
    DATA_TIMESTAMP,
    FULL,
    SPARSE,
    WITHHELD,
    ThreeStudies,
)
from ctg_assets_tests.model.snapshots import snapshot
from ctg_assets_tests.support.postgres import take_as_built


def key(*parts: str) -> int:
    """The key of a natural key, as macros/keys.sql defines it."""
    digest = hashlib.md5("\x1f".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


@pytest.fixture(scope="module")
def built(
    server: PostgresAddress, three_studies: ThreeStudies
) -> Iterator[tuple[PostgresAddress, str]]:
    """A database with marts of three studies and views of older days, and what dbt said in building."""
    with new_database(server, three_studies.database) as address:
        yield address, three_studies.said


def test_build_passes_its_own_tests(built: tuple[PostgresAddress, str]) -> None:
    """All data tests and unit tests pass; only impossible dates and unheard-of values are warned of."""
    assert dict(re.findall(r" WARN \d+ (\w+) \.+ \[WARN (\d+) in ", built[1])) == {
        "dates_outside_calendar": "2",
        "known_values_id_information": "1",
        "known_values_studies": "1",
        "accepted_values_dim_study_phase": "1",
    }
    assert "WARN=4 ERROR=0 SKIP=0" in built[1]


def test_dim_study_describes_a_full_study(built: tuple[PostgresAddress, str]) -> None:
    """Design, eligibility, dates with their precision, and counts stand in one row."""
    [study] = rows(built[0], "SELECT * FROM marts.dim_study WHERE nct_id = 'NCT00000001'")
    expected = {
        "content_hash": "hash 1",
        "brief_title": "Insulin in asthma",
        "lead_sponsor_key": key("acme, inc."),
        "overall_status": "COMPLETED",
        "has_results": True,
        "study_type": "INTERVENTIONAL",
        "phase": "PHASE1/PHASE2",
        "allocation": "RANDOMIZED",
        "masking": "DOUBLE",
        "enrollment": 120,
        "start_date": date(2021, 3, 31),
        "start_date_precision": "month",
        "start_date_type": "ACTUAL",
        "completion_date": date(2999, 12, 31),
        "primary_completion_date": None,
        "sex": "FEMALE",
        "minimum_age_years": 0.5,
        "maximum_age_years": 18.0,
        "includes_children": True,
        "includes_older_adults": False,
        "sponsor_count": 2,
        "condition_count": 2,
        "intervention_count": 3,
        "site_count": 3,
        "country_count": 2,
        "primary_outcome_count": 1,
        "secondary_outcome_count": 2,
    }
    assert {name: study[name] for name in expected} == expected


def test_dim_study_has_studies_that_state_little(built: tuple[PostgresAddress, str]) -> None:
    """An unknown enrollment is NULL; a withheld study has no design, no sponsor and counts of 0."""
    assert values(
        built[0],
        "SELECT nct_id, study_type, enrollment, enrollment_type, sex, lead_sponsor_key,"
        " sponsor_count, condition_count, intervention_count, site_count, country_count,"
        " primary_outcome_count FROM marts.dim_study WHERE nct_id > 'NCT00000001' ORDER BY nct_id",
    ) == [
        (
            *("NCT00000002", "OBSERVATIONAL", None, "ESTIMATED", None, key("acme, inc.")),
            *(1, 1, 0, 0, 0, 0),
        ),
        ("NCT00000003", None, None, None, None, None, 0, 0, 0, 0, 0, 0),
    ]


def test_sponsors_agree_but_for_case_and_white_space(built: tuple[PostgresAddress, str]) -> None:
    """Two spellings are one sponsor; the fact keeps the class that each study states."""
    assert values(
        built[0],
        "SELECT nct_id, position, sponsor_role, fact.agency_class, sponsor_key, sponsor_name,"
        " dim.agency_class FROM marts.fct_study_sponsor AS fact"
        " JOIN marts.dim_sponsor AS dim USING (sponsor_key) ORDER BY study_sponsor_id",
    ) == [
        (
            *("NCT00000001", 1, "lead", "INDUSTRY"),
            *(key("acme, inc."), "ACME,  inc. ", "INDUSTRY"),
        ),
        (
            *("NCT00000001", 1, "collaborator", "NIH"),
            *(key("national institute"), "National Institute", "NIH"),
        ),
        ("NCT00000002", 1, "lead", "OTHER", key("acme, inc."), "ACME,  inc. ", "INDUSTRY"),
    ]


def test_conditions_are_linked_to_mesh(built: tuple[PostgresAddress, str]) -> None:
    """A condition that is a MeSH heading has its descriptor, in whatever case it was written."""
    assert values(
        built[0],
        "SELECT study_condition_id, nct_id, condition_key, condition_name, mesh_id, mesh_term"
        " FROM marts.fct_study_condition JOIN marts.dim_condition USING (condition_key)"
        " ORDER BY study_condition_id",
    ) == [
        (1_000_000_001, "NCT00000001", key("asthma"), "Asthma", "D001249", "Asthma"),
        (1_000_000_002, "NCT00000001", key("wheezing"), "Wheezing", None, None),
        (2_000_000_001, "NCT00000002", key("asthma"), "Asthma", "D001249", "Asthma"),
    ]


def test_interventions_are_apart_by_type(built: tuple[PostgresAddress, str]) -> None:
    """The same name under another type is another intervention; a repeated one keeps its fact rows."""
    assert values(
        built[0],
        "SELECT position, intervention_key, intervention_type, intervention_name"
        " FROM marts.fct_study_intervention JOIN marts.dim_intervention USING (intervention_key)"
        " ORDER BY study_intervention_id",
    ) == [
        (1, key("drug", "insulin"), "DRUG", "Insulin"),
        (2, key("drug", "insulin"), "DRUG", "Insulin"),
        (3, key("device", "insulin"), "DEVICE", "Insulin"),
    ]


def test_sites_are_addresses(built: tuple[PostgresAddress, str]) -> None:
    """Entries of one address share a site, each with its own status; one without a name is a site."""
    berlin = key("charité", "berlin", "", "10117", "germany")
    assert values(
        built[0],
        "SELECT position, site_status, site_key, facility_name, city, latitude"
        " FROM marts.fct_study_site JOIN marts.dim_site USING (site_key) ORDER BY study_site_id",
    ) == [
        (1, "COMPLETED", berlin, "Charité", "Berlin", 52.52),
        (2, "WITHDRAWN", berlin, "Charité", "Berlin", 52.52),
        (3, None, key("", "paris", "", "", "france"), None, "Paris", None),
    ]


def test_calendar_holds_whole_plausible_years(built: tuple[PostgresAddress, str]) -> None:
    """Whole years from the first to the last date; neither 1900 nor 2999 stretches them."""
    assert values(
        built[0], "SELECT min(date_day), max(date_day), count(*) FROM marts.dim_date"
    ) == [(date(2021, 1, 1), date(2024, 12, 31), 4 * 365 + 1)]


def test_calendar_describes_its_days(built: tuple[PostgresAddress, str]) -> None:
    """A day's parts are right at the end of a leap February and of a US fiscal year."""
    names = (
        "calendar_year, quarter_of_year, month_of_year, day_of_month, day_of_week, year_month,"
        " year_quarter, month_name, month_start, quarter_start, is_month_end, us_fiscal_year"
    )
    statement = f"SELECT {names} FROM marts.dim_date WHERE date_day IN ('2024-02-29', '2024-10-01')"
    assert values(built[0], statement + " ORDER BY date_day") == [
        (
            *(2024, 1, 2, 29, 4, "2024-02", "2024-Q1", "February"),
            *(date(2024, 2, 1), date(2024, 1, 1), True, 2024),
        ),
        (
            *(2024, 4, 10, 1, 2, "2024-10", "2024-Q4", "October"),
            *(date(2024, 10, 1), date(2024, 10, 1), False, 2025),
        ),
    ]


def test_every_column_is_described_in_the_database(
    built: tuple[PostgresAddress, str], manifest: dict[str, Any]
) -> None:
    """The columns of each model are those that the project describes, with comments that say so."""
    described = {
        (node["name"], name, column["description"].strip())
        for node in manifest["nodes"].values()
        if node["resource_type"] in {"model", "seed"}
        and node["config"]["materialized"] != "ephemeral"
        for name, column in node["columns"].items()
    }
    statement = (
        "SELECT table_name, column_name, col_description((table_schema || '.' || table_name)"
        "::regclass, ordinal_position) FROM information_schema.columns"
        " WHERE table_schema IN ('marts', 'intermediate', 'staging_views')"
    )
    found = {
        (table, name, (text or "").strip()) for table, name, text in values(built[0], statement)
    }
    assert found == described


def test_what_tests_say_of_single_values_is_held_by_constraints(
    built: tuple[PostgresAddress, str], manifest: dict[str, Any]
) -> None:
    """Each test of missing or accepted values that a refresh of changes leaves out is a constraint of its mart."""
    tests = [
        (
            manifest["nodes"][node["attached_node"]]["name"],
            node["column_name"],
            node["test_metadata"],
        )
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
        and node["config"]["severity"].lower() == "error"
        and (node.get("attached_node") or "").startswith("model.ctg.")
        and manifest["nodes"][node["attached_node"]]["fqn"][1] == "marts"
    ]
    listed = {
        (mart, column, frozenset(test["kwargs"]["values"]))
        for mart, column, test in tests
        if test["name"] == "accepted_values"
    }
    missing = {(mart, column) for mart, column, test in tests if test["name"] == "not_null"}
    checks = values(
        built[0],
        "SELECT conrelid::regclass::text, attname, pg_get_constraintdef(c.oid) FROM pg_constraint AS c"
        " JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]"
        " WHERE c.contype = 'c' AND c.connamespace = 'marts'::regnamespace AND c.convalidated",
    )
    held = {
        (mart.removeprefix("marts."), column, frozenset(re.findall(r"'([^']*)'::text", said)))
        for mart, column, said in checks
    }
    never_null = values(
        built[0],
        "SELECT relname, attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = 'marts'::regnamespace AND c.relkind = 'r' AND attnotnull",
    )
    assert len(listed) > 20
    assert held == listed
    assert missing <= {*never_null}
    with pytest.raises(psycopg.errors.CheckViolation), connect(built[0]) as connection:
        connection.execute("UPDATE marts.fct_study_sponsor SET sponsor_role = 'payer'")


def test_a_build_keeps_views_that_people_made(built: tuple[PostgresAddress, str]) -> None:
    """A view on a staging view stays when that gets more columns."""
    assert values(built[0], "SELECT * FROM public.conditions_counted") == [(3,)]


def test_a_view_on_a_column_that_goes_stops_what_would_drop_it(
    built: tuple[PostgresAddress, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The build names somebody's view that stands in the way and leaves it; without it, it goes on."""
    address, _ = built
    with connect(address) as connection:
        connection.execute("DROP VIEW staging_views.stg_keywords")
        connection.execute("CREATE VIEW staging_views.stg_keywords AS SELECT 'gone' AS mood")
        connection.execute(
            "CREATE VIEW public.moods AS SELECT mood FROM staging_views.stg_keywords"
        )
    take_as_built(address, "staging_views")
    build = ["run", "--select", "stg_keywords"]
    with pytest.raises(AssertionError, match="view moods depends on view"):
        dbt_on(address, tmp_path_factory.mktemp("dbt"), *build)
    assert values(address, "SELECT mood FROM public.moods") == [("gone",)]
    with connect(address) as connection:
        connection.execute("DROP VIEW public.moods")
    dbt_on(address, tmp_path_factory.mktemp("dbt"), *build)
    assert values(address, "SELECT count(*) FROM staging_views.stg_keywords WHERE id < 0") == [(0,)]


def test_staging_views_outlive_a_load(built: tuple[PostgresAddress, str]) -> None:
    """A load after the build replaces the tables under the staging views, which show the same rows."""
    statement = (
        "SELECT (SELECT count(*) FROM staging_views.stg_conditions),"
        " (SELECT count(*) FROM information_schema.views WHERE table_schema = 'staging_views')"
    )
    before = values(built[0], statement)
    load(built[0], snapshot(FULL, SPARSE, WITHHELD), DATA_TIMESTAMP)
    assert values(built[0], statement) == before == [(3, len(staging_shapes()) + 1)]
