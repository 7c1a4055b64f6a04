"""Releases in a bucket, by the command, the asset, and processes that are killed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.orchestration.release import build_release_assets
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.release.manifest import newest_release, release_names
from ctg_assets.release.verification import verify_release
from ctg_assets.settings import load_settings
from ctg_assets.storage.files import Storage
from ctg_assets_tests.release.released import ReleasedLake, few_studies, file_paths
from ctg_assets_tests.soak import only_in_soaks, times
from ctg_assets_tests.support.forked_commands import forked_commands
from ctg_assets_tests.support.object_store import S3Server

pytestmark = [pytest.mark.process, pytest.mark.soak, only_in_soaks]

KILLS = times(3, 20)


def test_the_commands_release_to_a_bucket_and_check_it(s3: S3Server, tmp_path: Path) -> None:
    """What is there is what a folder would have; a change is told from the release before, and damage is found."""
    lake = ReleasedLake(tmp_path)
    url = f"{s3.new_url()}/releases"
    environment = {
        "CTG_DATA_DIR": str(tmp_path / "data"),
        "CTG_WAREHOUSE": "none",
        "COLUMNS": "200",
    }

    def run(*command: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, command, env=environment)
        return done.exit_code, " ".join(done.output.split())

    lake.walk(1, few_studies()[:5])
    code, said = run("release", url)
    assert code == 0, said
    assert url in said
    lake.walk(2, few_studies(n2="Another")[:5])
    code, said = run("release", url)
    assert code == 0, said
    there = Storage.remote(url, tmp_path / "scratch")
    made = newest_release(there)
    assert made is not None
    whole = lake.release(Storage.local(tmp_path / "whole"), most_weight=50_000_000).manifest
    assert file_paths(made) == file_paths(whole)
    code, said = run("verify", url)
    assert code == 0, said
    assert ": 0 problems" in said
    [table] = [table for table in made.tables if table.name == "studies"]
    there.write_bytes(table.files[0].path, b"PAR1")
    code, said = run("verify", url)
    assert code == 1
    assert f"damaged: {table.files[0].path}" in said


def test_a_killed_release_leaves_the_one_before(s3: S3Server, tmp_path: Path) -> None:
    """Killed at any moment, the newest release is the old or the new one, whole, and the next run finishes."""
    lake = ReleasedLake(tmp_path)
    url = f"{s3.new_url()}/releases"
    place = Storage.remote(url, tmp_path / "scratch")
    lake.walk(1, few_studies()[:6])
    old = lake.release(place).manifest.name
    killed = 0
    for number in range(KILLS):
        lake.walk(number + 2, few_studies(n3=f"Title {number}")[:6])
        done = subprocess.run(
            [forked_commands() / "python", "-c", _DYING, tmp_path, url, str(1 + 7 * number)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode in {0, -signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
        was_killed = done.returncode != 0
        killed += was_killed
        found = verify_release(place)
        assert found.findings == [], number
        assert found.checked is not None
        assert was_killed or found.checked.name != old
        old = lake.release(place, keep=1).manifest.name
        assert verify_release(place).findings == []
        assert release_names(place) == [old]
    assert killed >= KILLS / 2
    made = newest_release(place)
    assert made is not None
    assert file_paths(made) == file_paths(lake.release(Storage.local(tmp_path / "whole")).manifest)


_DYING = "from ctg_assets_tests.release.dying import main; main()"


def test_the_asset_releases_to_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    """`CTG_RELEASE_PLACE` may be a bucket's URL; the asset says where the release is."""
    lake = ReleasedLake(tmp_path)
    lake.walk(1, few_studies()[:5])
    url = f"{s3.new_url()}/releases"
    overrides = {
        "data_dir": str(lake.settings.data_dir),
        "warehouse": "none",
        "release_place": url,
    }
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            build_release_assets(load_settings(**overrides), []),
            instance=instance,
            resources={"settings": SettingsResource(overrides=overrides)},
        )
    [materialization] = result.asset_materializations_for_node("release")
    shown = {name: value.value for name, value in materialization.metadata.items()}
    assert shown["path"] == url
    found = verify_release(Storage.remote(url, tmp_path / "scratch"))
    assert found.findings == []
    assert found.checked is not None
    assert shown["release"] == found.checked.name
