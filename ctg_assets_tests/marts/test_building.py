"""What a build of the marts leaves out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from psycopg import sql

from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts.building import (
    build_arguments,
    drop_marts_but,
    prepare_build,
    target_folder,
)
from ctg_assets.marts.dbt_project import seed_names
from ctg_assets.marts.up_to_date import built_marts, note_built
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.postgres.ownership import note_relations, note_schema, owned_relations
from ctg_assets.postgres.schemas import Schemas
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import WITHOUT_VIEWS, dbt_on, load, load_changes
from ctg_assets_tests.model.snapshots import snapshot
from ctg_assets_tests.support.readers import relations, unreadable, writable

VIEWS = "config.materialized:view"


@pytest.fixture
def address(server: PostgresAddress) -> Iterator[PostgresAddress]:
    """An empty database of the test's own, not of the module's."""
    with new_database(server) as own:
        yield own


def left_out(address: PostgresAddress) -> list[str]:
    """What the arguments exclude."""
    arguments = build_arguments(address)
    return arguments[arguments.index("--exclude") + 1].split() if "--exclude" in arguments else []


def make_views(address: PostgresAddress) -> None:
    """Views of the names that dbt makes."""
    with connect(address) as connection:
        connection.execute(
            sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(Schemas().staging_views))
        )
        note_schema(connection, Schemas().staging_views, "staging_views")
        for name in [*(shape.name for shape in staging_shapes()), "load_info"]:
            connection.execute(
                sql.SQL("CREATE VIEW {} AS SELECT FROM {}").format(
                    sql.Identifier(Schemas().staging_views, f"stg_{name}"),
                    sql.Identifier("staging", name),
                )
            )


def test_everything_is_built_after_a_first_load(address: PostgresAddress) -> None:
    """A database that dbt has not seen, and views that it did not record, are built with all tests."""
    load(address, snapshot({}), None)
    assert left_out(address) == []
    make_views(address)
    assert left_out(address) == []


def test_views_are_left_out_while_they_are_all_there(address: PostgresAddress) -> None:
    """Recorded views need no build, until one is missing."""
    load(address, snapshot({}), None)
    make_views(address)
    note_built(address)
    assert left_out(address) == [VIEWS]
    with connect(address) as connection:
        connection.execute("DROP VIEW staging_views.stg_keywords")
    assert left_out(address) == []


def test_tables_of_other_sql_are_replaced(address: PostgresAddress) -> None:
    """Tables are made anew where they were never built, or from other SQL than the project has now."""
    load(address, snapshot({}), None)
    assert "--full-refresh" in build_arguments(address)
    note_built(address)
    assert "--full-refresh" not in build_arguments(address)
    with connect(address) as connection:
        connection.execute(
            "UPDATE ctg_meta.builds SET fingerprint = 'other' WHERE stage = 'intermediate'"
        )
    assert "--full-refresh" in build_arguments(address)


def test_seeds_are_loaded_when_they_change(address: PostgresAddress) -> None:
    """Seeds are left alone while all are there as the project has them."""
    without_seeds = ("--exclude-resource-type", "seed")

    def leaves_seeds() -> bool:
        return without_seeds in pairwise(build_arguments(address))

    load(address, snapshot({}), None)
    note_built(address)
    assert not leaves_seeds()
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA intermediate")
        for name in seed_names():
            connection.execute(f"CREATE TABLE intermediate.{name} (x text)".encode())
        note_relations(connection, "intermediate", sorted(seed_names()))
    assert leaves_seeds()
    with connect(address) as connection:
        connection.execute(
            "UPDATE ctg_meta.builds SET fingerprint = 'other' WHERE stage = 'intermediate'"
        )
    assert not leaves_seeds()


def test_notes_and_tables_of_former_releases_go(address: PostgresAddress) -> None:
    """What an earlier release kept to follow changes is dropped; a table on which somebody has built stays."""
    load(address, snapshot({}), None)
    with connect(address) as connection:
        for statement in (
            "CREATE TABLE ctg_meta.mart_builds (relation text)",
            (
                "COMMENT ON TABLE ctg_meta.mart_builds IS 'The load that each mart stands for, and the one that"
                " it was last built from as a whole.'"
            ),
            "CREATE TABLE ctg_meta.passed_tests (mine text)",
            "CREATE SCHEMA intermediate",
            "CREATE TABLE intermediate.int_site_spellings (name text)",
            "CREATE TABLE intermediate.int_sponsor_spellings (name text)",
            "CREATE VIEW public.names AS SELECT name FROM intermediate.int_sponsor_spellings",
        ):
            connection.execute(statement.encode())
        note_schema(connection, "intermediate", "intermediate")
        note_relations(connection, "intermediate", ["int_site_spellings", "int_sponsor_spellings"])
    prepare_build(address)
    there = (
        "SELECT table_name FROM information_schema.tables WHERE table_name IN ('mart_builds',"
        " 'passed_tests', 'int_site_spellings', 'int_sponsor_spellings') ORDER BY 1"
    )
    with connect(address) as connection:
        assert connection.execute(there).fetchall() == [
            ("int_sponsor_spellings",),
            ("passed_tests",),
        ]


def test_unwanted_marts_go_unless_somebody_needs_them(address: PostgresAddress) -> None:
    """Ours are dropped with what only they read; months of the past and what people have built on stay, and say so.

    What others have in our schemas is not touched, and a mart that comes back is not taken for built.
    """
    load(address, snapshot({}), datetime(2026, 11, 20, 9, tzinfo=UTC))
    ours = {
        "marts": [
            "dim_study",
            "dim_condition",
            "fct_study_condition",
            "fct_study_snapshot_monthly",
        ],
        "intermediate": ["int_condition_headings", "int_intervention_headings"],
    }
    with connect(address) as connection:
        for schema, names in ours.items():
            connection.execute(f"CREATE SCHEMA {schema}".encode())
            note_schema(connection, schema, schema)
            for name in [*names, "of_others"]:
                connection.execute(f"CREATE TABLE {schema}.{name} (nct_id text)".encode())
            note_relations(connection, schema, names)
        connection.execute("CREATE VIEW public.theirs AS SELECT nct_id FROM marts.dim_study")
    note_built(address, ours["marts"])
    wanted = {"dim_condition", "fct_study_condition"}
    # Ended between the tables and the notes of them, nothing has happened.
    with connect(address) as connection:
        connection.execute(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RAISE 'ended'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER ended BEFORE DELETE ON ctg_meta.builds EXECUTE FUNCTION public.refuse()"
        )
        with pytest.raises(WarehouseError, match="ended"):
            drop_marts_but(address, wanted)
        for schema, names in ours.items():
            assert {*names} <= owned_relations(connection, schema).keys()
        connection.execute("DROP TRIGGER ended ON ctg_meta.builds")
    left = drop_marts_but(address, wanted)
    assert left == ["dim_study", "fct_study_snapshot_monthly"]
    assert built_marts(address).keys() == {"dim_condition", "fct_study_condition"}
    with connect(address) as connection:
        there = connection.execute(
            "SELECT c.relname, obj_description(c.oid) LIKE '%CTG_MARTS%' FROM pg_class AS c "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname IN ('marts', 'intermediate')"
        ).fetchall()
    assert sorted((name, bool(told)) for name, told in there) == [
        ("dim_condition", False),
        ("dim_study", True),
        ("fct_study_condition", False),
        ("fct_study_snapshot_monthly", True),
        ("int_condition_headings", False),
        ("of_others", False),
        ("of_others", False),
    ]


def test_a_mart_left_over_is_made_anew_if_its_sql_is_another(address: PostgresAddress) -> None:
    """What it was made by is remembered while it is left out; for one that is gone nothing is."""
    load(address, snapshot({}), None)
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA marts")
        note_schema(connection, "marts", "marts")
        connection.execute("CREATE TABLE marts.dim_study (nct_id text)")
        note_relations(connection, "marts", ["dim_study"])
        connection.execute("CREATE VIEW public.theirs AS SELECT nct_id FROM marts.dim_study")
    note_built(address, {"dim_study", "dim_site"})
    with connect(address) as connection:
        connection.execute(
            "UPDATE ctg_meta.builds SET fingerprint = 'other' WHERE stage = 'intermediate'"
        )
    drop_marts_but(address, {"fct_study_sponsor"})
    note_built(address, {"fct_study_sponsor"})
    assert "--full-refresh" not in build_arguments(address, {"fct_study_sponsor", "dim_site"})
    assert "--full-refresh" in build_arguments(address, {"fct_study_sponsor", "dim_study"})


def test_readers_read_what_dbt_makes(address: PostgresAddress, tmp_path: Path) -> None:
    """Views and marts are readable from their first build, and after one that makes all tables anew."""
    load(address, snapshot({}), None)
    prepare_build(address)
    model = ("run", "--select", "+dim_study")
    dbt_on(address, tmp_path, *model)
    made = set(relations(address))
    assert {"staging_views.stg_studies", "marts.dim_study"} <= made
    assert (unreadable(address), writable(address)) == ([], [])
    with connect(address) as connection:
        before = connection.execute("SELECT 'marts.dim_study'::regclass::oid").fetchone()
    load_changes(address, snapshot({}), {"NCT00000001"}, None, total=1)
    dbt_on(address, tmp_path, *model, *WITHOUT_VIEWS)
    load(address, snapshot({}), None)
    dbt_on(address, tmp_path, *model, "--full-refresh")
    with connect(address) as connection:
        after = connection.execute("SELECT 'marts.dim_study'::regclass::oid").fetchone()
    assert before != after
    assert set(relations(address)) == made
    assert (unreadable(address), writable(address)) == ([], [])


def test_constraints_spare_tests_after_a_load_of_changes(address: PostgresAddress) -> None:
    """Only after a load of some studies are tests left out that constraints make needless."""
    load(address, snapshot({}), None)
    load_changes(address, snapshot({}), {"NCT00000001"}, None, total=1)
    spared = {"test_name:unique", "test_name:accepted_values,config.severity:error"}
    assert spared <= {*left_out(address)}
    load(address, snapshot({}), None)
    assert left_out(address) == []


def test_each_database_has_its_folder(address: PostgresAddress, tmp_path: Path) -> None:
    """Two databases share no notes of dbt's; the password is no part of their names."""
    own = target_folder(tmp_path, address)
    assert own == target_folder(tmp_path, replace(address, password="another"))
    assert own != target_folder(tmp_path, address.database("another"))


def test_notes_for_databases_do_not_pile_up(address: PostgresAddress, tmp_path: Path) -> None:
    """However many databases were built, the notes for a few stay: those built last."""
    used = []
    for number in range(10):
        used.append(target_folder(tmp_path, address.database(f"number{number}")))
        (used[-1] / "partial_parse.msgpack").touch()
        os.utime(used[-1], (number, number))
    assert set(tmp_path.iterdir()) == set(used[-3:])
