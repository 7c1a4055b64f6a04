"""AACT's downloads as assets: made when asked for, and by no refresh."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from ctg_assets.orchestration.ctgov_downloads import build_download_assets
from ctg_assets.orchestration.jobs import STAGE_SELECTIONS, export_aact
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.aact.few_rows import make_tables
from ctg_assets_tests.orchestration.graph import definitions_without_dbt


@dataclass
class Place:
    """A data folder, and a database that has AACT's tables."""

    folder: Path
    address: PostgresAddress
    instance: dg.DagsterInstance

    def materialize(self, *names: str, aact: bool = True) -> dg.ExecuteInProcessResult:
        """Materialize the downloads of these formats."""
        overrides = {
            "data_dir": str(self.folder),
            "postgres_url": self.address.url,
            "aact": aact,
        }
        return dg.materialize(
            [build_download_assets()],
            instance=self.instance,
            resources={"settings": SettingsResource(overrides=overrides)},
            selection=[dg.AssetKey(["ctgov_downloads", name]) for name in names],
        )


@pytest.fixture
def place(address: PostgresAddress, tmp_path: Path) -> Iterator[Place]:
    """One with a single study."""
    make_tables(address)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Place(tmp_path, address, instance)


def test_each_can_be_had_alone(place: Place) -> None:
    """Only the format that is asked for is written; its materialization says what it is and where."""
    result = place.materialize("pipe")
    path = place.folder / "exports" / "20260301_export_ctgov.zip"
    assert list(path.parent.iterdir()) == [path]
    [materialization] = result.asset_materializations_for_node("ctgov_downloads")
    shown = {name: value.value for name, value in materialization.metadata.items()}
    assert materialization.asset_key == dg.AssetKey(["ctgov_downloads", "pipe"])
    assert shown["path"] == str(path)
    assert shown["bytes"] == path.stat().st_size
    assert len(str(shown["SHA-256"])) == 64
    assert shown["dagster/row_count"] == 1
    assert "\nstudies | 1\n" in str(shown["rows"])


def test_all_of_them(place: Place) -> None:
    """One run can write several."""
    assert place.materialize("pipe", "csv", "dump").success
    written = sorted(path.name for path in (place.folder / "exports").iterdir())
    assert written == [
        "20260301_clinical_trials_ctgov.zip",
        "20260301_export_ctgov.zip",
        "20260301_export_ctgov_csv.zip",
    ]
    for name in written:
        with zipfile.ZipFile(place.folder / "exports" / name) as archive:
            assert archive.testzip() is None


def test_without_aacts_tables_there_are_none(place: Place) -> None:
    """Where AACT's tables are switched off, nothing is written, and the run goes well."""
    result = place.materialize("pipe", aact=False)
    assert result.success
    assert result.asset_materializations_for_node("ctgov_downloads") == []
    assert not (place.folder / "exports").exists()


def test_no_refresh_makes_them() -> None:
    """None of the stages' selections holds a download, and the job that makes them holds nothing else."""
    definitions = dg.Definitions.merge(
        definitions_without_dbt(),
        dg.Definitions(assets=[build_download_assets()]),
    )
    graph = definitions.resolve_asset_graph()
    downloads = {key for key in graph.get_all_asset_keys() if key.path[0] == "ctgov_downloads"}
    assert len(downloads) == 3
    for stage, selection in STAGE_SELECTIONS.items():
        assert not selection.resolve(graph) & downloads, stage
    assert isinstance(export_aact.selection, dg.AssetSelection)
    assert export_aact.selection.resolve(graph) == downloads
