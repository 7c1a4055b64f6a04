"""Which marts the settings ask for, and what those are made from."""

from __future__ import annotations

from typing import Any

import pytest

from ctg_assets.marts.selection import (
    all_marts,
    needed_models,
    selected_marts,
    wanted_views,
)
from ctg_assets.settings import load_settings
from ctg_assets.shipped import shipped_marts


def _selected(marts: str) -> frozenset[str]:
    return selected_marts(load_settings(marts=marts))


@pytest.mark.parametrize(
    ("asked", "selected"),
    [
        ("none", set()),
        ("dim_condition", {"dim_condition", "fct_study_condition"}),
        (
            "fct_study_sponsor, dim_condition",
            {"dim_condition", "fct_study_condition", "fct_study_sponsor"},
        ),
    ],
)
def test_a_mart_comes_with_those_that_it_is_made_from(asked: str, selected: set[str]) -> None:
    """A dimension counts its fact's rows, so that the fact is built as well; none is nothing."""
    assert _selected(asked) == selected


def test_a_folder_stands_for_its_marts() -> None:
    """Those of results reporting read marts of core; all of both are fewer than all only if there are more folders."""
    reporting = {"fct_results_reporting", "fct_results_reporting_by_sponsor"}
    assert reporting <= _selected("results_reporting")
    assert {"dim_sponsor", "dim_study"} <= _selected("results_reporting") - reporting
    assert not reporting & _selected("core")
    assert _selected("core,results_reporting") <= _selected("all") == all_marts()


def test_all_views_stand_beside_all_marts_only() -> None:
    """With all marts people get a view of every table, with some those that these read."""
    assert wanted_views({"fct_study_condition"}) == {"stg_conditions"}
    assert "stg_participant_flows" in wanted_views(all_marts()) - needed_models(all_marts())


def test_models_are_made_from_what_dbt_says(manifest: dict[str, Any]) -> None:
    """References read off the SQL are those that dbt finds, for every model, seeds among them; so are the names of the marts."""
    nodes = manifest["nodes"].items()
    models = {k: node for k, node in nodes if node["resource_type"] in {"model", "seed"}}

    def needed(unique_id: str) -> set[str]:
        found, todo = set[str](), [unique_id]
        while todo:
            each = todo.pop()
            if each in models and each not in found:
                found.add(each)
                todo += models[each]["depends_on"].get("nodes", [])
        return {models[each]["name"] for each in found}

    for unique_id, node in models.items():
        assert needed_models([node["name"]]) == needed(unique_id)
    assert all_marts() == {m["name"] for m in models.values() if m["path"].startswith("marts/")}


def test_marts_of_burden_can_be_left_out() -> None:
    """They are a group of their own, from which no mart of another is made."""
    others = {mart for mart in all_marts() if mart not in _of_folder("burden")}
    assert needed_models(others) & _of_folder("burden") == set()


def _of_folder(name: str) -> set[str]:
    return {*shipped_marts()[name]}
