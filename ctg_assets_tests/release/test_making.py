"""Releases of a lake: what they hold, what stays as it is, and what is left when one is killed."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.model.flatten import flatten_both
from ctg_assets.refresh.undo import undoer
from ctg_assets.release.manifest import NoReleaseError, newest_release, release_names
from ctg_assets.release.verification import verify_release
from ctg_assets.storage.files import Storage, Work
from ctg_assets.storage.locks import BusyError
from ctg_assets_tests.history.undone import AUTHOR
from ctg_assets_tests.release.released import (
    ReleasedLake,
    few_studies,
    file_paths,
    local_rows,
)
from ctg_assets_tests.soak import only_in_soaks, times
from ctg_assets_tests.support.forked_commands import forked_commands
from ctg_assets_tests.support.object_store import object_storage

pytestmark = pytest.mark.slow

KILLS = times(3, 30)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> ReleasedLake:
    """A lake of two walks, each released to a place of its own: `first` and `second` of its folder (5 s)."""
    lake = ReleasedLake(tmp_path_factory.mktemp("walked"))
    lake.walk(1, few_studies())
    lake.release(Storage.local(lake.folder / "first"))
    shutil.copytree(lake.folder / "first", lake.folder / "second")
    # One has another title, one is gone, and one is new.
    lake.walk(2, few_studies(n3="Another Title", n7="", n24="New"))
    lake.release(Storage.local(lake.folder / "second"))
    return lake


@pytest.fixture
def second(walked: ReleasedLake, tmp_path: Path) -> Storage:
    """A copy of the place with both releases."""
    shutil.copytree(walked.folder / "second", tmp_path / "releases")
    return Storage.local(tmp_path / "releases")


def _released(place: Storage) -> Any:
    manifest = newest_release(place)
    assert manifest is not None
    return manifest


def test_a_release_holds_the_rows_of_a_load(walked: ReleasedLake) -> None:
    """Every table has all rows in the order of its key, with the types of its declaration."""
    manifest = _released(Storage.local(walked.folder / "second"))
    released, expected = local_rows(walked.folder / "second", manifest), walked.rows()
    assert released.keys() == expected.keys()
    for name, rows in expected.items():
        assert released[name].equals(rows.combine_chunks()), name


def test_duckdb_polars_and_pandas_read_the_same(walked: ReleasedLake) -> None:
    """Dates, integers and booleans with missing values, times and text are what they are in Arrow, whoever reads."""
    folder = walked.folder / "second"
    manifest = _released(Storage.local(folder))
    expected = walked.rows()
    for table in manifest.tables:
        rows = expected[table.name]
        paths = [str(folder / file.path) for file in table.files]
        assert pl.read_parquet(paths).equals(pl.DataFrame(rows)), table.name
        by_duckdb = duckdb.from_parquet(paths).to_arrow_table()
        for column, other in zip(rows.columns, by_duckdb.columns, strict=True):
            assert other.cast(column.type).equals(column), table.name
        frame = pd.read_parquet(paths, dtype_backend="pyarrow")
        assert pa.Table.from_pandas(frame, rows.schema, preserve_index=False).equals(
            rows.replace_schema_metadata(None)
        ), table.name


def test_the_duckdb_file_has_all_tables(
    walked: ReleasedLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opened in the folder of releases, or with that as search path, each view has the rows, and what it means."""
    folder = walked.folder / "second"
    manifest = _released(Storage.local(folder))
    path = folder / f"releases/{manifest.name}/ctg.duckdb"
    monkeypatch.chdir(folder)
    with duckdb.connect(path, read_only=True) as connection:
        expected = walked.rows()
        for table in manifest.tables:
            found = connection.table(f"staging.{table.name}").to_arrow_table()
            assert found.num_rows == table.rows
            assert found.column_names == expected[table.name].column_names
        told = dict(
            connection.execute(
                "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'study_versions'"
            ).fetchall()
        )
        [shape] = [shape for shape in staging_shapes() if shape.name == "study_versions"]
        assert told == {column.name: column.description for column in shape.columns}
        monkeypatch.chdir("/")
        connection.execute(f"SET file_search_path = '{folder}'")
        assert connection.execute("SELECT count(*) FROM staging.studies").fetchone() == (39,)


def test_nothing_is_written_where_nothing_changed(walked: ReleasedLake, second: Storage) -> None:
    """No new release, no file touched."""
    before = {path: second.modified(path) for path in second.files("")}
    report = walked.release(second)
    assert (report.is_new, report.written, report.removed) == (False, 0, 0)
    assert {path: second.modified(path) for path in second.files("")} == before


def test_a_release_of_changes_is_that_of_everything(
    walked: ReleasedLake, second: Storage, tmp_path: Path
) -> None:
    """Made from the one before, it has the very files that it has made from nothing, and shares most with that."""
    whole = walked.release(Storage.local(tmp_path / "whole")).manifest
    first = _released(Storage.local(walked.folder / "first"))
    changed = _released(second)
    assert file_paths(changed) == file_paths(whole)
    shared = {file.path for file in first.files} & {file.path for file in changed.files}
    conditions = next(table for table in changed.tables if table.name == "conditions")
    assert len(conditions.files) > 4
    kept = [file for file in conditions.files if file.path in shared]
    assert len(kept) >= len(conditions.files) - 3


def test_only_the_rows_of_changed_studies_are_made(
    walked: ReleasedLake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot is asked for the studies that changed, the history for what came later, and no more."""
    shutil.copytree(walked.folder / "first", tmp_path / "releases")
    asked: list[int] = []

    def counted(now: pa.Table, then: pa.Table) -> Any:
        asked.append(now.num_rows + then.num_rows)
        return flatten_both(now, then)

    def refused(*_: object) -> Any:
        pytest.fail("all changes of the history were read")

    monkeypatch.setattr("ctg_assets.load.study_rows.flatten_both", counted)
    monkeypatch.setattr("ctg_assets.load.history_rows.HistoryOfStudies.batches", refused)
    walked.release(Storage.local(tmp_path / "releases"))
    # Two as they are and were, and one as it was.
    assert sum(asked) == 5


@pytest.mark.soak
@only_in_soaks
def test_a_release_after_an_undo_is_that_of_everything(
    walked: ReleasedLake, tmp_path: Path
) -> None:
    """What an import had changed and an undo has taken back is in no file; what came after it is."""
    lake = ReleasedLake(tmp_path)
    shutil.copytree(walked.folder / "data", tmp_path / "data", dirs_exist_ok=True)
    place = Storage.local(tmp_path / "releases")
    lake.walk(3, few_studies(n3="Another Title", n7="", n24="New", n5="Mistaken"))
    lake.release(place)
    taken_back = lake.lake.history.entries()[-1].sequence
    undoer(lake.lake).undo(taken_back, AUTHOR)
    lake.walk(4, few_studies(n3="Another Title", n7="", n24="New", n9="Later"))
    after = lake.release(place).manifest
    whole = lake.release(Storage.local(tmp_path / "whole")).manifest
    assert file_paths(after) == file_paths(whole)
    rows = local_rows(tmp_path / "releases", after)
    assert "Mistaken" not in rows["studies"]["brief_title"].to_pylist()
    assert "Later" in rows["studies"]["brief_title"].to_pylist()
    assert verify_release(place).findings == []


def test_one_at_a_time(walked: ReleasedLake, second: Storage) -> None:
    """While somebody releases to a place, nobody else does."""
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with second.lock(Work.RELEASE):
            holding.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait(60)
    try:
        with pytest.raises(BusyError):
            walked.release(second)
    finally:
        done.set()
        thread.join()
    assert not walked.release(second).is_new


@pytest.mark.parametrize("engine", ["polars", "pandas"])
def test_what_the_readme_says_works(
    engine: str, walked: ReleasedLake, second: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines of the release's README run as they stand, in the folder of releases."""
    monkeypatch.chdir(second.root)
    text = Path("README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (chosen,) = (block for block in blocks if f"import {engine} as" in block)
    known: dict[str, Any] = {}
    exec(blocks[0] + chosen.rstrip().rpartition("\n")[0], known)
    found = eval(chosen.rstrip().rpartition("\n")[2], known)
    assert len(found) == (10 if engine == "polars" else 39)
    assert known["paths"]["staging.studies"][0].startswith("tables/staging/studies/")


def test_older_releases_go_with_their_files(walked: ReleasedLake, second: Storage) -> None:
    """As many stay as are to be kept; files that only older ones have go, too."""
    (old, new) = release_names(second)
    only_old = {f.path for f in _released(Storage.local(walked.folder / "first")).files} - {
        file.path for file in _released(second).files
    }
    report = walked.release(second, keep=1)
    assert not report.is_new
    assert release_names(second) == [new] != [old]
    assert report.removed > 0
    assert not any(second.exists(path) for path in only_old)
    assert verify_release(second).findings == []


def test_a_release_in_an_object_store(walked: ReleasedLake, tmp_path: Path) -> None:
    """The same files, whole, and what changed is told from the one before there, too."""
    store = object_storage(tmp_path / "scratch")
    made = walked.release(store)
    assert made.is_new
    assert file_paths(made.manifest) == file_paths(
        _released(Storage.local(walked.folder / "second"))
    )
    assert not walked.release(store).is_new
    assert verify_release(store).findings == []


@pytest.mark.soak
@only_in_soaks
def test_a_damaged_file_of_the_release_before_is_made_again(
    walked: ReleasedLake, tmp_path: Path
) -> None:
    """What a new release would take from it is not taken over, and the file is whole afterwards."""
    place = Storage.local(tmp_path / "releases")
    shutil.copytree(walked.folder / "first", tmp_path / "releases")
    for table in _released(place).tables:
        if table.name == "conditions":
            for file in table.files:
                path = tmp_path / "releases" / file.path
                content = path.read_bytes()
                path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    made = walked.release(place).manifest
    whole = _released(Storage.local(walked.folder / "second"))
    assert file_paths(made) == file_paths(whole)
    assert [
        f for f in verify_release(place).findings if f.where in {x.path for x in made.files}
    ] == []


def test_a_lake_without_studies_has_no_release(tmp_path: Path) -> None:
    """The error says what to do, and nothing is made."""
    lake = ReleasedLake(tmp_path)
    with pytest.raises(NoReleaseError, match="run `ctg-assets refresh`"):
        lake.release(Storage.local(tmp_path / "releases"))
    assert not (tmp_path / "releases").exists()


_DYING = "from ctg_assets_tests.release.dying import main; main()"


def _was_killed(lake: ReleasedLake, place: Path, moment: int) -> bool:
    """Release in a process that is killed at a moment; returns whether it got that far."""
    program = forked_commands() / "python"
    done = subprocess.run(
        [program, "-c", _DYING, lake.folder, place, str(moment)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode in {0, -signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
    return done.returncode != 0


@pytest.mark.process
@pytest.mark.soak
def test_a_killed_release_leaves_the_one_before(walked: ReleasedLake, tmp_path: Path) -> None:
    """Killed at any moment, the newest release is the old one or the new one, whole; the next attempt finishes (4 s)."""
    whole = file_paths(_released(Storage.local(walked.folder / "second")))
    old = _released(Storage.local(walked.folder / "first")).name
    moments = [*range(1, 3 * KILLS, 3)] if KILLS > 3 else [1, 25, 60]
    for moment in moments:
        folder = tmp_path / str(moment)
        shutil.copytree(walked.folder / "first", folder)
        place = Storage.local(folder)
        was_killed = _was_killed(walked, folder, moment)
        found = verify_release(place)
        assert found.findings == [], moment
        assert was_killed or _released(place).name != old
        made = walked.release(place, keep=1).manifest
        assert file_paths(made) == whole
        assert verify_release(place).findings == []
        assert len(release_names(place)) == 1
        shutil.rmtree(folder)
