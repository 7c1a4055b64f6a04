"""What Dagster loads: assets with all that people want to see of them, and lineage without gaps."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.load.row_sources import staging_shapes
from ctg_assets_tests.orchestration.parsed_project import give_parsed_project
from ctg_assets_tests.support.forked_commands import forked_commands

pytestmark = pytest.mark.process

# Read by a process of its own: dbt's libraries warn when imported, and warnings are errors here.
_DESCRIBE = """
import json, sys
from ctg_assets.definitions import defs
definitions = defs()
graph = definitions.resolve_asset_graph()
assets = {}
for key in graph.get_all_asset_keys():
    node = graph.get(key)
    upstream, todo = set(), [key]
    while todo:
        for parent in graph.get(todo.pop()).parent_keys - upstream:
            upstream.add(parent)
            todo.append(parent)
    assets[key.to_user_string()] = {
        "group": node.group_name,
        "kinds": sorted(node.kinds),
        "owners": list(node.owners),
        "description": node.description,
        "materializable": node.is_materializable,
        "upstream": sorted(parent.to_user_string() for parent in upstream),
        "metadata": sorted(node.metadata),
        "tags": dict(node.tags),
        "code_version": node.code_version,
        "fresh": None if node.freshness_policy is None else [
            node.freshness_policy.warn_window.to_timedelta().days,
            node.freshness_policy.fail_window.to_timedelta().days,
        ],
    }
checks = [
    {"asset": key.asset_key.to_user_string(), "name": key.name,
     "description": graph.get_check_spec(key).description,
     "blocking": graph.get_check_spec(key).blocking}
    for key in graph.asset_check_keys
]
selected = {}
import dagster as dg
for text in ("(group:lake or key:studies+) and not group:ctgov_downloads and not group:release",):
    selected[text] = sorted(
        key.to_user_string() for key in dg.AssetSelection.from_string(text).resolve(graph)
    )
sensors = [[s.name, s.default_status.value, s.minimum_interval_seconds]
           for s in definitions.sensors]
schedules = [[s.name, s.default_status.value] for s in definitions.schedules]
json.dump({"assets": assets, "checks": checks, "selected": selected, "sensors": sensors,
           "schedules": schedules},
          sys.stdout)
"""


_DOWNLOADS = ("ctgov_downloads",)
_BUILT_BY_DBT = ("staging_views", "intermediate", "marts")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The asset graph in plain data."""
    data_dir = tmp_path_factory.mktemp("data")
    give_parsed_project(data_dir)
    done = subprocess.run(
        [forked_commands() / "code", _DESCRIBE],
        env={**os.environ, "CTG_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_groups_hold_the_stages(loaded: Any) -> None:
    """Each asset is in the group of its stage; each staging table is one, and has a view."""
    groups: dict[str, set[str]] = {}
    for name, asset in loaded["assets"].items():
        groups.setdefault(asset["group"], set()).add(name)
    assert groups.keys() == {
        *("extraction", "lake", "staging", "ctgov", "release", "report", "who"),
        *(*_DOWNLOADS, *_BUILT_BY_DBT),
    }
    assert groups["extraction"] == {"extraction_plan", "page_shards"}
    assert groups["lake"] == {"study_versions", "study_changes", "studies"}
    names = {f"staging/{shape.name}" for shape in staging_shapes()}
    assert groups["staging"] == names | {"staging/load_info"}
    assert groups["staging_views"] == {
        f"staging_views/stg_{name.removeprefix('staging/')}" for name in groups["staging"]
    }
    assert groups["ctgov_downloads"] == {
        f"ctgov_downloads/{name}" for name in ("pipe", "csv", "dump")
    }
    assert groups["who"] == {
        *("who_indicators", "who_observations", "who/indicators", "who/releases"),
        *("who/observations", "who/global_health_estimates"),
    }
    assert {"marts/dim_study", "marts/fct_study_snapshot_monthly"} <= groups["marts"]


def test_every_asset_is_described(loaded: Any) -> None:
    """Kinds, owners and a description are set on every asset, and all can be materialized here."""
    kinds = {
        "extraction": ["json", "parquet"],
        "lake": ["parquet"],
        "staging": ["postgres"],
        "ctgov": ["postgres"],
        "ctgov_downloads": ["file"],
        "report": ["html"],
        "who": ["parquet", "postgres", "toml"],
        "release": ["duckdb", "parquet"],
        **{group: ["dbt", "postgres"] for group in _BUILT_BY_DBT},
    }
    for name, asset in loaded["assets"].items():
        assert asset["materializable"], name
        assert asset["owners"] == ["team:ctg-assets"], name
        assert len(asset["description"]) > 20, name
        assert asset["kinds"], name
        assert set(asset["kinds"]) <= set(kinds[asset["group"]]), name
        if asset["group"] in {"staging", "ctgov", *_BUILT_BY_DBT}:
            assert asset["kinds"] == kinds[asset["group"]], name
            assert {"dagster/column_schema", "dagster/table_name"} <= set(asset["metadata"]), name


def test_assets_have_tags_and_versions_of_their_code(loaded: Any) -> None:
    """Domain and layer are tags; what code makes from data has a version, which differs from table to table."""
    for name, asset in loaded["assets"].items():
        domain = "burden-of-disease" if asset["group"] == "who" else "clinical-trials"
        assert asset["tags"]["domain"] == domain, name
        assert asset["tags"]["layer"] == asset["group"], name
        of_code = asset["group"] in {"staging", "ctgov", *_BUILT_BY_DBT} or name in {
            "studies",
            "study_changes",
        }
        of_code = of_code and name != "staging/load_info"
        assert (asset["code_version"] is not None) is of_code, name
    versions = {
        asset["code_version"] for asset in loaded["assets"].values() if asset["group"] == "staging"
    } - {None}
    assert len(versions) > 60


def test_two_assets_are_to_be_fresh(loaded: Any) -> None:
    """Asking the registry and loading the tables warn after three days and fail after four; the rest follows."""
    fresh = {name: asset["fresh"] for name, asset in loaded["assets"].items() if asset["fresh"]}
    assert fresh == {"extraction_plan": [3, 4], "staging/load_info": [3, 4]}


def test_lineage_is_unbroken(loaded: Any) -> None:
    """From every mart one gets back to the plan through views, tables, snapshot and pages."""
    for name, asset in loaded["assets"].items():
        stages = ["extraction_plan", "page_shards", "study_versions", "studies"]
        if asset["group"] in {"staging", "ctgov", *_DOWNLOADS, *_BUILT_BY_DBT}:
            assert set(stages) <= set(asset["upstream"]), name
        if asset["group"] in _DOWNLOADS:
            assert {"ctgov/studies", "ctgov/search_results"} <= set(asset["upstream"]), name
        if asset["group"] == "marts":
            assert any(parent.startswith("staging_views/") for parent in asset["upstream"]), name
            assert all(parent in loaded["assets"] for parent in asset["upstream"]), name
    of_who = {
        name.removeprefix("marts/")
        for name, asset in loaded["assets"].items()
        if asset["group"] == "marts" and "who/global_health_estimates" in asset["upstream"]
    }
    assert of_who == {"burden_by_country_cause_year", "research_gap", "research_gap_by_cause"}


def test_every_stage_has_checks(loaded: Any) -> None:
    """Each stage has checks, with descriptions where they are ours, and those before marts block."""
    groups = {check["asset"].partition("/")[0] for check in loaded["checks"]}
    assert groups == {
        "extraction_plan",
        "page_shards",
        "study_versions",
        "studies",
        "staging",
        "ctgov",
        "intermediate",
        "marts",
        "who_observations",
        "who",
    }
    described = {
        (check["asset"], check["name"]): check["description"]
        for check in loaded["checks"]
        if check["blocking"]
    }
    for check in (
        ("page_shards", "pages_are_complete_and_consistent"),
        ("studies", "every_study_is_accounted_for"),
        ("studies", "few_studies_in_quarantine"),
        ("study_versions", "no_mass_disappearance"),
        ("staging/studies", "one_row_per_study_of_the_snapshot"),
        ("staging/studies", "foreign_keys_hold"),
        ("ctgov/studies", "as_many_rows_as_staging"),
        ("who_observations", "has_rows"),
    ):
        assert described[check], check


def test_everything_downstream_of_the_snapshot_can_be_selected(loaded: Any) -> None:
    """The selection that the README gives holds the snapshot, all tables and all marts."""
    selected = "(group:lake or key:studies+) and not group:ctgov_downloads and not group:release"
    readme = Path(__file__).resolve().parents[1] / "README.md"
    assert f"--select '{selected}'" in readme.read_text(encoding="utf-8")
    left_out = {"extraction", "ctgov_downloads", "release", "who"}
    assert loaded["selected"][selected] == sorted(
        name for name, asset in loaded["assets"].items() if asset["group"] not in left_out
    )


def test_the_sensor_is_on_by_default(loaded: Any) -> None:
    """Starting Dagster is enough: the sensor runs without anybody switching it on."""
    assert loaded["sensors"] == [["registry_refresh", "RUNNING", 30]]


def test_who_is_asked_only_if_somebody_wants_it(loaded: Any) -> None:
    """The one schedule, of WHO's indicators, is off until it is turned on."""
    assert loaded["schedules"] == [["who_refresh", "STOPPED"]]
