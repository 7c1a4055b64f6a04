"""The asset of the release: what it says, what it hangs on, and that no refresh makes it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from ctg_assets.definitions import build_definitions
from ctg_assets.orchestration.jobs import STAGE_SELECTIONS, release_files
from ctg_assets.orchestration.release import build_release_assets
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.refresh.planner import Stage
from ctg_assets.release.verification import verify_release
from ctg_assets.settings import load_settings
from ctg_assets.storage.files import Storage
from ctg_assets_tests.release.released import STUDIES, ReleasedLake, few_studies


@pytest.mark.slow
def test_the_asset_releases_to_the_data_folder(tmp_path: Path) -> None:
    """It says where the release is, what it is called and how many rows it has."""
    lake = ReleasedLake(tmp_path)
    lake.walk(1, few_studies())
    overrides = {"data_dir": str(lake.settings.data_dir), "warehouse": "none"}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            build_release_assets(load_settings(**overrides), []),
            instance=instance,
            resources={"settings": SettingsResource(overrides=overrides)},
        )
    [materialization] = result.asset_materializations_for_node("release")
    shown = {name: value.value for name, value in materialization.metadata.items()}
    place = Storage.local(Path(str(shown["path"])))
    found = verify_release(place)
    assert found.findings == []
    assert found.checked is not None
    assert found.checked.census.here == STUDIES
    assert shown["release"] == found.checked.name == "000001-2026-11-01"
    assert shown["dagster/row_count"] == sum(table.rows for table in found.checked.tables)


def test_it_hangs_on_all_that_it_holds(tmp_path: Path) -> None:
    """Tables, the marts chosen and AACT's tables, where there is a database; the lake in any case."""
    settings = load_settings(data_dir=tmp_path, aact=True)
    [asset] = build_release_assets(settings, ["dim_study"])
    for key in (
        ["studies"],
        ["staging", "study_events"],
        ["marts", "dim_study"],
        ["ctgov", "studies"],
    ):
        assert dg.AssetKey(key) in asset.dependency_keys
    [alone] = build_release_assets(
        load_settings(data_dir=tmp_path, warehouse="none"), ["dim_study"]
    )
    assert {key.to_user_string() for key in alone.dependency_keys} == {
        *("studies", "study_changes", "study_versions")
    }


def test_no_refresh_makes_it(tmp_path: Path) -> None:
    """It is in no stage of a refresh, and alone in its job."""
    graph = build_definitions(data_dir=str(tmp_path), marts="none").resolve_asset_graph()
    key = dg.AssetKey("release")
    for stage in set(Stage) - {Stage.DROP_MARTS}:
        assert key not in STAGE_SELECTIONS[stage].resolve(graph), stage
    assert isinstance(release_files.selection, dg.AssetSelection)
    assert release_files.selection.resolve(graph) == {key}
