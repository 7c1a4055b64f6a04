"""Releases as Iceberg tables: what readers find, by release, and what goes with one."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from pyiceberg.table import StaticTable

from ctg_assets.release.iceberg import ICEBERG_FILE, held_tables
from ctg_assets.release.manifest import read_manifest, release_names
from ctg_assets.release.verification import verify_release
from ctg_assets.storage.files import Storage
from ctg_assets_tests.release.released import ReleasedLake, few_studies, local_rows
from ctg_assets_tests.soak import only_in_soaks
from ctg_assets_tests.support.few_tables import few_tables
from ctg_assets_tests.support.forked_commands import forked_commands

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _few_tables() -> Iterator[None]:
    with few_tables():
        yield


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> ReleasedLake:
    """A lake of two walks and a place with a release of each as Iceberg tables (`releases` of its folder)."""
    lake = ReleasedLake(tmp_path_factory.mktemp("iceberg"))
    place = Storage.local(lake.folder / "releases")
    lake.walk(1, few_studies()[:8])
    lake.release(place)
    assert held_tables(place) is None
    lake.release(place, iceberg=True)
    lake.walk(2, few_studies(n3="Another Title", n7="")[:8])
    # A place that has tables keeps them, unasked.
    lake.release(place)
    return lake


@pytest.fixture(autouse=True)
def _planned_by_pyiceberg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polars warns that another package would plan faster."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")


def _table(place: Path, name: str) -> StaticTable:
    held = held_tables(Storage.local(place))
    assert held is not None
    return StaticTable.from_metadata(held.tables[name].metadata)


def test_every_release_is_there_as_of_its_name(walked: ReleasedLake) -> None:
    """Polars and pyiceberg read each table as of each release: the rows and types of its files, in any order."""
    place = walked.folder / "releases"
    storage = Storage.local(place)
    held = held_tables(storage)
    assert held is not None
    assert held.releases == release_names(storage)
    for release in held.releases:
        expected = local_rows(place, read_manifest(storage, release))
        assert {f"staging.{name}" for name in expected} == held.tables.keys()
        for name in ("studies", "conditions", "study_versions", "violation_events"):
            table = _table(place, f"staging.{name}")
            snapshot = table.snapshot_by_name(release)
            wanted = expected[name]
            if snapshot is None:
                pytest.fail(f"{name} has no {release}")
            read = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow()
            by = [(column, "ascending") for column in wanted.column_names[:3]]
            assert read.cast(wanted.schema).sort_by(by).equals(wanted.sort_by(by)), name
            frame = pl.scan_iceberg(table, snapshot_id=snapshot.snapshot_id).collect()
            assert frame.height == wanted.num_rows


def _metadata(place: Path) -> set[str]:
    return {f"file://{path}" for path in (place / "iceberg").rglob("*") if path.is_file()}


def _needed(place: Path) -> set[str]:
    """The files of metadata that the tables' snapshots name; those of data must be there."""
    held = held_tables(Storage.local(place))
    assert held is not None
    needed = set()
    for name, each in held.tables.items():
        table = _table(place, name)
        needed.add(each.metadata)
        assert {ref for ref in table.refs() if ref != "main"} == set(held.releases)
        for snapshot in table.snapshots():
            needed.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                needed.add(manifest.manifest_path)
                for entry in manifest.fetch_manifest_entry(table.io):
                    assert Path(entry.data_file.file_path.removeprefix("file://")).exists()
    return needed


def test_snapshots_go_with_their_releases(walked: ReleasedLake, tmp_path: Path) -> None:
    """Snapshots of releases that are gone, and their files, are gone."""
    place = Storage.local(tmp_path / "releases")
    walked.release(place, iceberg=True)
    assert _metadata(tmp_path / "releases") == _needed(tmp_path / "releases")
    walked.walk(3, few_studies(n2="A Third")[:8])
    assert walked.release(place, keep=1).is_new
    held = held_tables(place)
    assert held is not None
    assert held.releases == release_names(place)
    assert len(held.releases) == 1
    assert _metadata(tmp_path / "releases") == _needed(tmp_path / "releases")
    titles = _table(tmp_path / "releases", "staging.studies").scan().to_arrow()["brief_title"]
    assert "A Third" in titles.to_pylist()


_DYING = """
import os, signal, sys
from pathlib import Path
import ctg_assets.release.iceberg as iceberg
from ctg_assets.storage.files import Storage
from ctg_assets_tests.release.released import ReleasedLake

iceberg.write_record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
ReleasedLake(Path(sys.argv[1])).release(Storage.local(Path(sys.argv[2])), iceberg=True)
"""


@pytest.mark.process
@pytest.mark.soak
@only_in_soaks
def test_a_kill_between_release_and_snapshot_leaves_both_whole(
    walked: ReleasedLake, tmp_path: Path
) -> None:
    """The release is there, the tables are as before, and the next run gives them its snapshot."""
    place = walked.folder / "killed"
    storage = Storage.local(place)
    walked.release(storage, iceberg=True)
    walked.walk(4, few_studies(n4="A Fourth")[:8])
    before = (place / ICEBERG_FILE).read_bytes()
    done = subprocess.run(
        [forked_commands() / "python", "-c", _DYING, walked.folder, place],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
    assert len(release_names(storage)) == 2
    assert verify_release(storage).findings == []
    assert (place / ICEBERG_FILE).read_bytes() == before
    assert _needed(place) < _metadata(place)
    assert not walked.release(storage).is_new
    held = held_tables(storage)
    assert held is not None
    assert held.releases == release_names(storage)
    assert _needed(place) == _metadata(place)
