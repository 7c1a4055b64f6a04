"""The built wheel works by itself: no clone beside it, in any folder, installed where nobody may write."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctg_assets.settings import ENV_PREFIX
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.soak import IS_LONG, only_in_soaks
from ctg_assets_tests.support.postgres import temporary_folder

pytestmark = pytest.mark.process

PROJECT = Path(__file__).resolve().parents[1]
STUDIES = 12

# As pip writes the programs of packages; ours is written by pip itself.
_DBT = """#!/bin/sh
exec "{python}" -c "from dbt.cli.main import cli; cli()" "$@"
"""


def _run(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _build(project: Path, into: Path) -> Path:
    """The wheel of a source tree, built without a network."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    _run(*pip, "--no-deps", "--no-build-isolation", "-w", into, project, cwd=into)
    (wheel,) = into.iterdir()
    return wheel


def _contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return _build(PROJECT, tmp_path_factory.mktemp("built"))


@dataclass(frozen=True)
class Installation:
    """An environment that has the wheel, and an empty folder to work in."""

    python: Path
    package: Path
    folder: Path
    environment: dict[str, str]

    def run(self, *command: str | Path) -> str:
        """Run a program in the folder, which has to succeed; returns what it printed."""
        return _run(*command, cwd=self.folder, env=self.environment).stdout

    def files(self) -> dict[Path, int]:
        """The files of the installed package, with the times of their last change."""
        return {path: path.stat().st_mtime_ns for path in self.package.rglob("*")}


@pytest.fixture(scope="module")
def installation(wheel: Path) -> Iterator[Installation]:
    """The wheel in a new environment that borrows its dependencies from this one, but not this checkout."""
    with temporary_folder() as home, running_simulator(GeneratedSource(STUDIES, 1)) as registry:
        folder = home / "an empty folder"
        folder.mkdir()
        venv.create(home / "env", symlinks=True)
        bin_folder = home / "env" / "bin"
        python = bin_folder / "python"
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python))
        _run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=home)
        (packages,) = (home / "env" / "lib").glob("python*/site-packages")
        # The path files of the folder named here are not read, that of the editable install among them.
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (bin_folder / "dbt").write_text(_DBT.format(python=python))
        (bin_folder / "dbt").chmod(0o755)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((ENV_PREFIX, "DAGSTER_", "PYTHON"))
        }
        yield Installation(
            python,
            packages / "ctg_assets",
            folder,
            {
                **kept,
                "PATH": f"{bin_folder}{os.pathsep}{kept['PATH']}",
                # What is compiled of the borrowed packages is read; beside the wheel's nothing is written.
                "PYTHONDONTWRITEBYTECODE": "1",
                "CTG_API_URL": registry.api_url,
                "CTG_REQUESTS_PER_MINUTE": "10000",
                "CTG_AACT": "true",
                # All of them take a minute; how they are built does not depend on what was installed.
                **({} if IS_LONG else {"CTG_MARTS": "dim_study"}),
            },
        )


def test_the_wheel_has_what_an_installation_needs(wheel: Path) -> None:
    """Beside Python: the data model, the dbt project, Dagster's settings, the mark of types; no tests."""
    names = set(_contents(wheel))
    shipped = "ctg_assets/_shipped"
    assert {
        "ctg_assets/py.typed",
        "ctg_assets/model/fields.csv",
        f"{shipped}/dagster.yaml",
        f"{shipped}/workspace.yaml",
        f"{shipped}/dbt_project/dbt_project.yml",
        f"{shipped}/dbt_project/profiles.yml",
    } <= names
    for folder in ("macros", "models", "seeds"):
        sources = {
            path.relative_to(PROJECT).as_posix()
            for path in (PROJECT / "dbt_project" / folder).rglob("*.*")
        }
        assert sources
        assert {f"{shipped}/{name}" for name in sources} <= names
    folders = {name.partition("/")[0] for name in names}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"ctg_assets"}
    written_by_dbt = ("/target/", "/logs/", "/dbt_packages/")
    assert [name for name in names if any(part in name for part in written_by_dbt)] == []


def test_the_source_distribution_gives_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """A wheel built from the packed sources has the same files with the same contents."""
    _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=PROJECT)
    (packed,) = tmp_path.iterdir()
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "sources", filter="data")
    (sources,) = (tmp_path / "sources").iterdir()
    (tmp_path / "built").mkdir()
    assert _contents(_build(sources, tmp_path / "built")) == _contents(wheel)


@pytest.mark.soak
@only_in_soaks
def test_an_installed_wheel_needs_no_clone(installation: Installation) -> None:
    """Refresh fills tables and marts, in a long soak all of them, Dagster loads the definitions, and the installed package stays as it was.

    All that is written lies in the data folder, here the default one.
    """
    where = installation.run("python", "-c", "import ctg_assets; print(ctg_assets.__file__)")
    assert Path(where.strip()) == installation.package / "__init__.py"
    before = installation.files()

    installation.run("ctg-assets", "refresh")
    counted = installation.run("ctg-assets", "psql", "-Atc", "select count(*) from dim_study")
    assert counted.strip() == str(STUDIES)
    installation.run(
        "python", "-m", "dagster", "definitions", "validate", "-m", "ctg_assets.definitions"
    )

    assert installation.files() == before
    assert [path.name for path in installation.folder.iterdir()] == ["data"]
    kept = {path.name for path in (installation.folder / "data").iterdir()}
    assert {"dagster", "dbt", "lake", "postgres"} <= kept
