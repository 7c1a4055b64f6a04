"""What the dbt project declares, read from its manifest."""

from __future__ import annotations

from typing import Any

import pytest

from ctg_assets.model.dbt_sources import dbt_source_files
from ctg_assets.model.fields import enum_values
from ctg_assets.model.tables import staging_tables
from ctg_assets.pipeline.dbt_project import PROJECT_DIR
from ctg_assets.warehouse.builds import LOAD_INFO

DIMENSIONS = {
    "dim_study": "nct_id",
    "dim_sponsor": "sponsor_key",
    "dim_condition": "condition_key",
    "dim_intervention": "intervention_key",
    "dim_site": "site_key",
    "dim_date": "date_day",
}
FACTS = {
    "fct_study_sponsor": "study_sponsor_id",
    "fct_study_condition": "study_condition_id",
    "fct_study_intervention": "study_intervention_id",
    "fct_study_site": "study_site_id",
}


def models(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models by name."""
    nodes = manifest["nodes"].values()
    return {node["name"]: node for node in nodes if node["resource_type"] == "model"}


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


def test_marts_are_tables_in_their_own_schema(manifest: dict[str, Any]) -> None:
    """The schema `marts` holds the star schema and nothing else."""
    marts = {
        name: node["config"]["materialized"]
        for name, node in models(manifest).items()
        if node["config"]["materialized"] != "ephemeral"
    }
    assert marts == {
        **dict.fromkeys([*DIMENSIONS, *FACTS], "table"),
        "fct_study_snapshot_monthly": "incremental",
    }
    assert {models(manifest)[name]["schema"] for name in marts} == {"marts"}


@pytest.mark.parametrize(("model", "key"), [*DIMENSIONS.items(), *FACTS.items()])
def test_keys_are_tested(manifest: dict[str, Any], model: str, key: str) -> None:
    """Every dimension and fact is tested to have a unique key that is never missing."""
    assert {("unique", key), ("not_null", key)} <= column_tests(manifest, model)


@pytest.mark.parametrize("fact", FACTS)
def test_facts_refer_to_their_dimensions(manifest: dict[str, Any], fact: str) -> None:
    """Every fact is tested to have its study and its other dimension's member."""
    member = f"{fact.removeprefix('fct_study_')}_key"
    assert {("relationships", "nct_id"), ("relationships", member)} <= column_tests(manifest, fact)


def test_everything_is_described(manifest: dict[str, Any]) -> None:
    """No model, source table or column of either is without a description."""
    nodes = [*models(manifest).values(), *manifest["sources"].values()]
    missing = [node["name"] for node in nodes if not node["description"].strip()]
    missing += [
        f"{node['name']}.{column['name']}"
        for node in nodes
        for column in node["columns"].values()
        if not column["description"].strip()
    ]
    assert missing == []


def test_derived_files_are_current() -> None:
    """The files derived from the table declarations are what the declarations give today."""
    folder = PROJECT_DIR / "models" / "staging"
    derived = dbt_source_files([LOAD_INFO])
    assert {name: (folder / name).read_text(encoding="utf-8") for name in derived} == derived


def test_sources_are_the_staging_assets(manifest: dict[str, Any]) -> None:
    """Every staging table is a source that names the asset it is."""
    sources = {
        node["name"]: (node["schema"], node["config"]["meta"]["dagster"]["asset_key"])
        for node in manifest["sources"].values()
    }
    names = [table.name for table in staging_tables()] + ["load_info"]
    assert sources == {name: ("staging", ["staging", name]) for name in names}


def test_enumerated_columns_warn_of_new_values(manifest: dict[str, Any]) -> None:
    """A column that copies an enumeration is tested, as a warning, against the registry's values."""
    tests = {
        node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] == "test"
    }
    test = tests["accepted_values_studies_overall_status"]
    statuses = [entry.value for entry in enum_values()["Status"]]
    assert test["test_metadata"]["kwargs"]["values"] == statuses
    assert test["config"]["severity"] == "warn"
    assert "accepted_values_studies_phase" not in tests
