"""Marts that follow the studies that changed, compared with marts built whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ctg_assets.marts.dbt_project import PROJECT_DIR, profile_environment
from ctg_assets.orchestration.column_lineage import ColumnLineage
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.simulator.identity import nct_id
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.changing import SEED, Registry, relations
from ctg_assets_tests.marts.projects import WITHOUT_VIEWS, dbt, dbt_on, values
from ctg_assets_tests.soak import only_in_soaks, times


@pytest.fixture
def address(server: PostgresAddress, generated_marts: str) -> Iterator[PostgresAddress]:
    """A database of the test's own with all marts of generated studies."""
    with new_database(server, generated_marts) as own:
        yield own


def tables(address: PostgresAddress) -> set[tuple[str, int]]:
    """The marts, each with what tells its table from another of the name."""
    return set(
        values(
            address,
            "SELECT relname, oid FROM pg_class WHERE relnamespace = 'marts'::regnamespace"
            " AND relkind = 'r'",
        )
    )


def origin(manifest: Mapping[str, Any], compiled: Path, column: str) -> list[tuple[str, str]]:
    """What Dagster shows a column of a model to come from, by the SQL that built it."""
    nodes = {
        unique_id: node
        for unique_id, node in manifest["nodes"].items()
        if node["resource_type"] == "model"
    }
    keys = {unique_id: dg.AssetKey(node["name"]) for unique_id, node in nodes.items()}
    found = ColumnLineage({"sources": {}, "nodes": nodes}, keys).of(compiled.read_text())
    return [
        (dep.asset_key.to_user_string(), dep.column_name) for dep in found.deps_by_column[column]
    ]


@pytest.mark.soak
@only_in_soaks
def test_following_changes_ends_where_a_whole_build_does(
    address: PostgresAddress, manifest: dict[str, Any], tmp_path: Path
) -> None:
    """After random changes, in a soak of many days, each built from the last, every row is as if all were built anew.

    By the SQL of such a build, too, columns can be traced.
    """
    registry = Registry(address, 1)
    before = tables(address)
    for _ in range(times(1, 20)):
        registry.change()
        dbt_on(address, tmp_path, "run", *WITHOUT_VIEWS)
    assert tables(address) == before
    compiled = tmp_path / "target" / "compiled" / "ctg" / "models" / "marts"
    traced = origin(manifest, compiled / "core" / "fct_study_condition.sql", "condition_key")
    assert traced == [("stg_conditions", "name")]
    followed = relations(address)
    dbt_on(address, tmp_path, "run", *WITHOUT_VIEWS, "--full-refresh")
    assert tables(address) != before
    assert relations(address) == followed


def test_only_changed_studies_are_read_until_everything_may_have_changed(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """A mart's rows of other studies are not looked at; a load of everything, or other SQL, makes them right.

    What people have made on a mart is there all the time, and rows that are right are not written.
    """
    registry = Registry(address, 1)
    model = ["run", "--select", "dim_study", "fct_study_sponsor"]
    with connect(address) as connection:
        for statement in (
            "CREATE VIEW public.titles AS SELECT nct_id, brief_title FROM marts.dim_study",
            "CREATE TABLE public.mine (nct_id text REFERENCES marts.dim_study (nct_id))",
            "GRANT SELECT ON marts.dim_study TO pg_read_all_stats",
            "CREATE INDEX mine ON marts.dim_study (acronym)",
        ):
            connection.execute(statement.encode())

    def damage(index: int) -> None:
        with connect(address) as connection:
            connection.execute(
                "UPDATE marts.dim_study SET brief_title = 'wrong' WHERE nct_id = %s",
                [nct_id(SEED, index)],
            )

    def wrong() -> list[tuple[Any, ...]]:
        return values(address, "SELECT nct_id FROM public.titles WHERE brief_title = 'wrong'")

    def written() -> set[tuple[Any, ...]]:
        return set(values(address, "SELECT nct_id, xmin::text FROM marts.dim_study"))

    damage(3)
    registry.change_one(4)
    before = written()
    dbt_on(address, tmp_path, *model)
    assert wrong() == [(nct_id(SEED, 3),)]
    assert {study for study, _ in before - written()} == {nct_id(SEED, 4)}

    registry.load()
    before = written()
    dbt_on(address, tmp_path, *model)
    assert wrong() == []
    assert {study for study, _ in before - written()} == {nct_id(SEED, 3)}

    damage(3)
    with connect(address) as connection:
        connection.execute(
            "UPDATE ctg_meta.watermarks SET definition = 'other' WHERE node LIKE 'model.%'"
        )
    dbt_on(address, tmp_path, *model)
    assert wrong() == []
    assert values(
        address,
        "SELECT has_table_privilege('pg_read_all_stats', 'marts.dim_study', 'SELECT'),"
        " to_regclass('marts.mine') IS NOT NULL,"
        " (SELECT count(*) FROM pg_constraint WHERE confrelid = 'marts.dim_study'::regclass)",
    ) == [(True, True, 1)]


TITLES = """{{ config(unique_key="nct_id") }}
select
    nct_id,
    content_hash
from {{ of_changed_studies(ref("dim_study")) }}
"""


def test_a_mart_stands_for_no_more_than_what_it_was_made_from(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """A mart of one file, built before its parent has followed, is made right by the next build of both."""
    project = tmp_path / PROJECT_DIR.name
    # Other marts, and the tests of all, would take dbt seconds to read.
    for path in (
        *("dbt_project.yml", "profiles.yml", "macros", "models/staging"),
        "models/marts/core/dim_study.sql",
    ):
        copied = project / path
        copied.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT_DIR / path).is_dir() else shutil.copy
        copy(PROJECT_DIR / path, copied)
    (project / "models" / "staging" / "_staging__models.yml").unlink()
    (project / "models" / "marts" / "titles.sql").write_text(TITLES, encoding="utf-8")
    registry = Registry(address, 1)

    def build(*models: str) -> None:
        dbt(["run", "--select", *models], profile_environment(address), tmp_path, project)

    build("titles")
    registry.change_one(3)
    build("titles")
    build("dim_study", "titles")
    differing = (
        "SELECT nct_id FROM marts.dim_study FULL JOIN marts.titles USING (nct_id)"
        " WHERE dim_study.content_hash IS DISTINCT FROM titles.content_hash"
    )
    assert values(address, differing) == []


def test_tests_read_changed_studies_after_they_found_nothing(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """What changed is read again; a warning stays while its cause does, changed or not."""
    registry = Registry(address, 1)

    def unknown_values() -> str:
        said = dbt_on(address, tmp_path, "test", "--select", "known_values_studies")
        [(check_result, found)] = re.findall(r"(PASS|WARN) (\d+)?", said)[:1]
        return f"{check_result} {found}".strip()

    def set_class(index: int, value: str) -> None:
        with connect(address) as connection:
            connection.execute(
                "UPDATE staging.studies SET source_class = %s WHERE nct_id = %s",
                [value, nct_id(SEED, index)],
            )

    assert unknown_values() == "PASS"
    set_class(3, "MOON")
    assert unknown_values() == "PASS", "study 3 was not loaded again"
    registry.change_one(3)
    set_class(3, "MOON")
    assert unknown_values() == "WARN 1"
    registry.change_one(4)
    assert unknown_values() == "WARN 1"
    set_class(3, "OTHER")
    assert unknown_values() == "PASS"
