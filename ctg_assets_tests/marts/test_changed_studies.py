"""Marts that follow the studies that changed, compared with marts built whole."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ctg_assets.marts.dbt_project import PROJECT_DIR, profile_environment
from ctg_assets.orchestration.column_lineage import ColumnLineage
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.simulator.generate import study_json
from ctg_assets.simulator.identity import nct_id
from ctg_assets_tests.marts.projects import (
    TABLES,
    WITHOUT_VIEWS,
    dbt,
    dbt_on,
    load,
    load_changes,
    values,
)
from ctg_assets_tests.model.snapshots import typed_rows

SEED = 7
FIRST_DAY = datetime(2025, 11, 3, 9, tzinfo=UTC)


class Registry:
    """Generated studies that change at random, and a database that is told of it."""

    def __init__(self, address: PostgresAddress, seed: int) -> None:
        self.address = address
        self.draw = random.Random(seed)
        self.revisions = dict.fromkeys(range(40), 0)
        self.now = FIRST_DAY

    def _rows(self, indexes: Iterable[int]) -> Any:
        contents = [study_json(SEED, index, self.revisions[index]) for index in sorted(indexes)]
        return typed_rows(contents or [study_json(SEED, 0)]).slice(0, len(contents))

    def load(self) -> None:
        """Load everything."""
        load(self.address, self._rows(self.revisions), self.now)

    def change_one(self, index: int) -> None:
        """Load one study that changed."""
        self.revisions[index] += 1
        changed, total = {nct_id(SEED, index)}, len(self.revisions)
        load_changes(self.address, self._rows([index]), changed, self.now, total=total)

    def change(self) -> None:
        """Let a day pass: some studies change, one comes, one goes; only those are loaded."""
        self.now += timedelta(days=1)
        there = sorted(self.revisions)
        changed = set(self.draw.sample(there, 4))
        gone = self.draw.choice(there)
        come = self.draw.choice([index for index in range(60) if index not in self.revisions])
        for index in changed:
            self.revisions[index] += self.draw.randint(1, 40)
        self.revisions[come] = self.draw.randint(0, 3)
        del self.revisions[gone]
        load_changes(
            self.address,
            self._rows((changed - {gone}) | {come}),
            {nct_id(SEED, index) for index in changed | {gone, come}},
            self.now,
            total=len(self.revisions),
        )


def relations(address: PostgresAddress) -> Mapping[str, list[str]]:
    """Every row of every mart, as text, in order."""
    names = values(address, "SELECT tablename FROM pg_tables WHERE schemaname = 'marts'")
    return {
        name: [
            text for (text,) in values(address, f"SELECT m::text FROM marts.{name} AS m ORDER BY 1")
        ]
        for (name,) in names
    }


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


@pytest.mark.parametrize("seed", [1])
def test_following_changes_ends_where_a_whole_build_does(
    address: PostgresAddress, manifest: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    """After days of random changes, each built from the last, every row is as if all were built anew.

    By the SQL of such a build, too, columns can be traced.
    """
    registry = Registry(address, seed)
    registry.load()
    dbt_on(address, tmp_path, *TABLES)
    before = tables(address)
    for _ in range(3):
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
    registry.load()
    model = ["run", "--select", "+dim_study", "fct_study_sponsor"]
    dbt_on(address, tmp_path, *model)
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
    shutil.copytree(PROJECT_DIR, project, ignore=shutil.ignore_patterns("target", "logs"))
    (project / "models" / "marts" / "titles.sql").write_text(TITLES, encoding="utf-8")
    registry = Registry(address, 1)
    registry.load()

    def build(*models: str) -> None:
        dbt(["run", "--select", *models], profile_environment(address), tmp_path, project)

    build("+dim_study", "titles")
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
    registry.load()

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
