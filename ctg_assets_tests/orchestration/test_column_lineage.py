"""From which columns of its parents a model's columns come, read off SQL."""

from __future__ import annotations

import logging
from typing import Any

import dagster as dg
import pytest

from ctg_assets.orchestration.column_lineage import ColumnLineage

STUDIES = dg.AssetKey(["views", "studies"])
SITES = dg.AssetKey(["staging", "sites"])


@pytest.fixture
def column_lineage() -> ColumnLineage:
    """The lineage of models on a view and a source, whose manifest was made for no database."""

    def node(name: str, schema: str, columns: str, **more: str) -> dict[str, Any]:
        named = {column: {"description": ""} for column in columns.split()}
        return {"name": name, "schema": schema, "columns": named, **more}

    manifest = {
        "nodes": {"model.studies": node("x", "views", "nct_id title count", alias="studies")},
        "sources": {
            "source.sites": node("y", "staging", "nct_id city country", identifier="sites")
        },
    }
    return ColumnLineage(manifest, {"model.studies": STUDIES, "source.sites": SITES})


def deps(lineage: dg.TableColumnLineage) -> dict[str, set[tuple[str, str]]]:
    """The columns and what they come from, in plain data."""
    return {
        name: {(dep.asset_key.to_user_string(), dep.column_name) for dep in found}
        for name, found in lineage.deps_by_column.items()
    }


def test_columns_are_followed_through_a_query(column_lineage: ColumnLineage) -> None:
    """Stars, renames, expressions, joins and unions lead to the columns of tables; counts to none."""
    found = column_lineage.of(
        """
        with sites as (select * from "db"."staging"."sites"),
        cities as (select nct_id, lower(city) || country as place, count(*) as sites from sites group by 1, 2),
        known as (select title from "db"."views"."studies" union all select city from sites)
        select studies.nct_id as id, cities.place, cities.sites, (select max(title) from known) as best
        from "db"."views"."studies" as studies left join cities on cities.nct_id = studies.nct_id
        """
    )
    assert deps(found) == {
        "id": {("views/studies", "nct_id")},
        "place": {("staging/sites", "city"), ("staging/sites", "country")},
        "sites": set(),
        "best": {("views/studies", "title"), ("staging/sites", "city")},
    }


def test_a_table_that_is_no_asset_is_left_out(column_lineage: ColumnLineage) -> None:
    """A column of some table that Dagster does not know has no origin to show."""
    found = column_lineage.of("select s.title, o.x from views.studies as s, other.things as o")
    assert deps(found) == {"title": {("views/studies", "title")}, "x": set()}


def test_sql_that_is_not_understood_costs_only_the_lineage(
    column_lineage: ColumnLineage, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a model has no lineage, and a warning says why."""
    with caplog.at_level(logging.WARNING):
        assert deps(column_lineage.of("select from where")) == {}
    assert "no column lineage" in caplog.text
