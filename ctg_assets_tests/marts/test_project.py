"""What the dbt project declares, read from its manifest."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts.dbt_project import PROJECT_DIR
from ctg_assets.model.fields import enum_values
from ctg_assets.postgres.schemas import Schemas

MOST_MACRO_LINES = 270

# Facts of the star schema: each with a dimension of its own beside dim_study.
STAR_FACTS = (
    "fct_study_sponsor",
    "fct_study_condition",
    "fct_study_intervention",
    "fct_study_site",
    "fct_study_mesh_term",
)


def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models by name."""
    nodes = manifest["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] == "model"}


def marts(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models in the folder of the marts, by name."""
    return {name: node for name, node in models(manifest).items() if node["fqn"][1] == "marts"}


def seeds(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The seeds by name."""
    nodes = manifest["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] == "seed"}


def column_tests(manifest: dict[str, Any], model: str) -> set[tuple[str, str]]:
    """The generic tests on a model's columns: name of the test, name of the column."""
    return {
        (node["test_metadata"]["name"], node["column_name"])
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and node.get("attached_node") == f"model.ctg.{model}"
    }


def test_parses_without_a_database_or_warnings(manifest: dict[str, Any]) -> None:
    """The project can be parsed offline, and dbt warns of nothing in it."""
    assert manifest["metadata"]["project_name"] == "ctg"


def test_models_by_schema(manifest: dict[str, Any]) -> None:
    """Each schema holds one layer: the marts, what they are made from, a view per staging table."""
    schemas: dict[str, dict[str, str]] = {}
    for name, node in models(manifest).items():
        if node["config"]["materialized"] != "ephemeral":
            schemas.setdefault(node["schema"], {})[name] = node["config"]["materialized"]
    assert schemas == {
        "marts": dict.fromkeys(marts(manifest), "incremental"),
        "intermediate": dict.fromkeys(
            ["int_condition_headings", "int_intervention_headings"], "table"
        ),
        Schemas().staging_views: {
            f"stg_{source['name']}": "view" for source in manifest["sources"].values()
        },
    }


def test_seeds_are_in_the_schema_of_what_marts_are_made_from(manifest: dict[str, Any]) -> None:
    """Each seed has the fixed types that it declares, in the intermediate schema."""
    for name, node in seeds(manifest).items():
        assert node["schema"] == "intermediate", name
        assert node["config"]["column_types"].keys() == node["columns"].keys(), name


def test_only_staging_views_read_staging_tables(manifest: dict[str, Any]) -> None:
    """Each staging view reads its own table and nothing else; no other model reads a source."""
    for name, node in models(manifest).items():
        parents = node["depends_on"]["nodes"]
        if node["schema"] == Schemas().staging_views:
            assert parents == [f"source.ctg.staging.{name.removeprefix('stg_')}"]
        else:
            assert not [parent for parent in parents if parent.startswith("source.")], name


def test_no_sql_names_a_schema() -> None:
    """Models, macros and tests come by their schemas through dbt, so that other names of these hold for all."""
    schemas = "|".join(name for _, name in Schemas().by_purpose())
    found = {
        f"{path.name}: {line.strip()}"
        for path in PROJECT_DIR.rglob("*.sql")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(rf'\b({schemas})"?\s*\.\s*"?[a-z]', line)
    }
    assert found == set()


def test_staging_views_have_the_columns_of_their_tables(manifest: dict[str, Any]) -> None:
    """A staging view names each column of its table, in order, and describes it in the same words."""
    for source in manifest["sources"].values():
        view = models(manifest)[f"stg_{source['name']}"]
        selected = view["raw_code"].partition("select\n")[2].partition("\nfrom")[0]
        assert [line.strip(" ,") for line in selected.splitlines()] == list(source["columns"])
        assert {name: column["description"] for name, column in view["columns"].items()} == {
            name: column["description"] for name, column in source["columns"].items()
        }


def test_keys_are_tested(manifest: dict[str, Any]) -> None:
    """Every mart has a key that is tested to be unique and never missing, with an index for it."""
    without = set()
    for name, node in marts(manifest).items():
        # The monthly marts keep rows of months past: theirs is a key within the month.
        if node["config"]["incremental_strategy"] == "delete+insert":
            continue
        key = node["config"]["unique_key"]
        index = {"columns": [key], "unique": True}
        if index not in node["config"]["indexes"] or not (
            {("unique", key), ("not_null", key)} <= column_tests(manifest, name)
        ):
            without.add(name)
    assert without == set()


@pytest.mark.parametrize("fact", STAR_FACTS)
def test_facts_refer_to_their_dimensions(manifest: dict[str, Any], fact: str) -> None:
    """Every fact is tested to have its study and its other dimension's member."""
    member = f"{fact.removeprefix('fct_study_')}_key"
    assert {("relationships", "nct_id"), ("relationships", member)} <= column_tests(manifest, fact)


def test_everything_is_described(manifest: dict[str, Any]) -> None:
    """No model, seed, source table or column of one is without a description."""
    declared = [models(manifest), seeds(manifest), manifest["sources"]]
    nodes = [node for nodes in declared for node in nodes.values()]
    missing = [node["name"] for node in nodes if not node["description"].strip()]
    missing += [
        f"{node['name']}.{column['name']}"
        for node in nodes
        for column in node["columns"].values()
        if not column["description"].strip()
    ]
    assert missing == []


def test_sources_are_the_staging_assets(manifest: dict[str, Any]) -> None:
    """Every staging table is a source that names the asset it is."""
    sources = {
        node["name"]: (node["schema"], node["config"]["meta"]["dagster"]["asset_key"])
        for node in manifest["sources"].values()
    }
    names = [shape.name for shape in staging_shapes()] + ["load_info"]
    assert sources == {name: ("staging", ["staging", name]) for name in names}


def test_enumerated_columns_warn_of_new_values(manifest: dict[str, Any]) -> None:
    """A column that copies an enumeration is tested, as a warning, against the registry's values."""
    tests = {
        node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "test"
    }
    test = tests["known_values_studies"]
    arguments = test["test_metadata"]["kwargs"]
    statuses = [entry.value for entry in enum_values()["Status"]]
    assert arguments["columns"]["overall_status"] == statuses
    assert arguments["columns"]["phase"] == [entry.value for entry in enum_values()["Phase"]]
    assert arguments["joined"] == ["phase"]
    assert test["config"]["severity"] == "warn"
    assert "known_values_keywords" not in tests


def test_macros_are_few_and_described(manifest: dict[str, Any]) -> None:
    """What an author of marts has to know beside SQL stays small, and dbt's documentation has all of it."""
    ours = [
        macro
        for macro in manifest["macros"].values()
        if macro["package_name"] == "ctg" and macro["original_file_path"].startswith("macros/")
    ]
    assert [macro["name"] for macro in ours if not macro["description"].strip()] == []
    files = {PROJECT_DIR / macro["original_file_path"] for macro in ours}
    lines = sum(len(file.read_text().splitlines()) for file in files)
    assert lines < MOST_MACRO_LINES
