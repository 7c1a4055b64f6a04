"""Copies of a lake that are taken while others work on it, killed, repeated and brought back."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history.recording import Recorder
from ctg_assets.history.store import HistoryStore
from ctg_assets.history.undo import Undoer
from ctg_assets.integrity.copying import OtherHistoryError, copy_lake
from ctg_assets.integrity.verification import verify
from ctg_assets.settings import load_settings
from ctg_assets.simulator.serving import running_application
from ctg_assets.simulator.who import GHO_PREFIX, WhoSimulator
from ctg_assets.simulator.who_rows import gho_rows
from ctg_assets.storage.files import Storage
from ctg_assets.who.indicators import DialectName, Indicator
from ctg_assets.who.refreshing import WhoSource
from ctg_assets.who.releases import ReleaseStore
from ctg_assets_tests.history.histories import Chronicler
from ctg_assets_tests.history.undone import AUTHOR
from ctg_assets_tests.soak import IS_LONG, times
from ctg_assets_tests.support.made_lakes import extraction, study
from ctg_assets_tests.support.object_store import object_storage

ONE, TWO, THREE = (f"NCT0000000{digit}" for digit in range(1, 4))
PLACES = times(4, 1000) if IS_LONG else 4


def mistaken(root: Path) -> Storage:
    """A lake with a walk, an import that is a mistake, and two walks after it; one walk is not recorded yet."""
    storage = Storage.local(root)
    made = Chronicler(storage, root.with_name("scratch"))
    made.record(1, study(ONE, title="a"), study(TWO, title="a"))
    made.record(2, study(ONE, title="wrong"), study(THREE), mode=ExtractionMode.IMPORT)
    made.record(3, study(ONE, title="a"), study(TWO, title="a"), study(THREE))
    made.record(4, study(ONE, title="b"), study(TWO, title="b"))
    made.extracted(5, study(ONE, title="c"), study(TWO, title="b"))
    return storage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where such a lake lies; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("made") / "lake"
    mistaken(folder)
    return folder


class Watched(Storage):
    """Storage in which somebody does something at the n-th time that it is read."""

    def __init__(self, root: Path, at: int, work: Callable[[], object]) -> None:
        super().__init__(Storage.local(root).backend)
        self.reads = 0
        self._at = at
        self._work = work

    def _read(self) -> None:
        self.reads += 1
        if self.reads == self._at:
            self._work()

    def names(self, folder: str) -> list[str]:
        """As ever."""
        self._read()
        return super().names(folder)

    def files(self, folder: str) -> list[str]:
        """As ever."""
        self._read()
        return super().files(folder)

    def read_bytes(self, relative: str) -> bytes:
        """As ever."""
        self._read()
        return super().read_bytes(relative)

    @contextlib.contextmanager
    def open_input(self, relative: str) -> Iterator[pa.NativeFile]:
        """As ever."""
        self._read()
        with super().open_input(relative) as file:
            yield file


def record_more(root: Path) -> None:
    """Record the walk that waits, and another one."""
    recorder = Recorder(Storage.local(root), root.with_name("scratch"))
    recorder.record("0005")
    storage = Storage.local(root)
    extraction(
        storage,
        [[study(ONE, title="d"), study(THREE)]],
        extraction_id="0006",
        expected_studies=2,
        data_timestamp="2026-11-08T09:00:05",
    )
    recorder.record("0006")


def undo_import(root: Path) -> None:
    """Take the import back."""
    Undoer(Storage.local(root)).undo(2, AUTHOR)


def told(storage: Storage) -> tuple[Any, ...]:
    """What a history says: periods, and all changes that count."""
    history = HistoryStore(storage)
    return (
        history.periods().select("nct_id", "content_hash", "valid_from", "version_number").rows(),
        [history.changes(entry.sequence).rows() for entry in history.entries()],
        [undo.undo_id for undo in history.undos()],
    )


def problems(storage: Storage) -> list[str]:
    """What `verify` says of a lake."""
    return [f"{found.relative}: {found.problem}" for found in verify(storage).findings]


def reads_of(root: Path, target: Path) -> int:
    """How often a lake is read while it is copied."""
    watched = Watched(root, 0, lambda: None)
    copy_lake(watched, Storage.local(target))
    return watched.reads


def test_a_lake_moves_to_an_object_store_and_back(made: Path, tmp_path: Path) -> None:
    """A backup of a disk is brought back into a bucket, and one of the bucket onto a disk; a second copies nothing."""
    bucket, disk = object_storage(tmp_path / "scratch"), Storage.local(tmp_path / "disk")
    copied = copy_lake(Storage.local(made), bucket)
    copy_lake(bucket, disk)
    assert problems(bucket) == problems(disk) == []
    assert told(bucket) == told(disk) == told(Storage.local(made))
    again = copy_lake(Storage.local(made), bucket)
    assert (again.files, again.kept) == (0, copied.files)


def test_releases_of_who_are_copied(tmp_path: Path) -> None:
    """What WHO had cannot be fetched again: releases and their raw rows are in the copy, as they were."""
    settings = load_settings(data_dir=tmp_path, who_requests_per_minute=10_000)
    life = Indicator(code="LIFE", name="Life expectancy", dialect=DialectName.GHO)
    with running_application(WhoSimulator({"LIFE": gho_rows("LIFE")})) as url:
        source = WhoSource(settings.model_copy(update={"who_gho_url": url + GHO_PREFIX}))
        source.extract(life)
        source.transform(life)
    lake, copy = Storage.local(tmp_path / "lake"), Storage.local(tmp_path / "copy")
    assert copy_lake(lake, copy).files == len(lake.files("who")) == 7
    assert problems(copy) == []
    [release] = ReleaseStore(copy).releases("LIFE")
    assert sum(rows.num_rows for rows in ReleaseStore(copy).batches(release)) == 528
    assert copy_lake(lake, copy).files == 0


@pytest.mark.soak
@pytest.mark.parametrize("work", [record_more, undo_import])
def test_what_comes_meanwhile_makes_no_copy_half(
    work: Callable[[Path], None], made: Path, tmp_path: Path
) -> None:
    """Whenever somebody records or takes back while it is copied, the copy is whole: as before or as afterwards.

    The first reads (of undos and entries) are all tried, the many reads of files after them at places
    spread over them.
    """
    before = told(Storage.local(made))
    reads = reads_of(made, tmp_path / "counted")
    early = 12
    places = sorted({*range(1, early), *range(early, reads, max(1, (reads - early) // PLACES))})
    states = set()
    for place in places:
        folder = tmp_path / str(place)
        shutil.copytree(made, folder / "lake")
        watched = Watched(folder / "lake", place, partial(work, folder / "lake"))
        copy = Storage.local(folder / "copy")
        copy_lake(watched, copy)
        assert problems(copy) == [], place
        there, after = told(copy), told(Storage.local(folder / "lake"))
        states.add(
            "before" if there == before else "after" if there == after else f"neither, at {place}"
        )
        shutil.rmtree(folder)
    assert states == {"before", "after"}


@pytest.mark.slow
def test_a_copy_is_brought_up_to_date(made: Path, tmp_path: Path) -> None:
    """A second copy takes what is new alone, and leaves off what is no longer needed."""
    root, copy = tmp_path / "lake", Storage.local(tmp_path / "copy")
    shutil.copytree(made, root)
    lake = Storage.local(root)
    first = copy_lake(lake, copy)
    assert first.kept == 0
    assert told(copy) == told(lake)
    # Extractions that are in the history are left out, the one that waits is not.
    assert copy.names("extractions") == ["0005"]
    again = copy_lake(lake, copy)
    assert (again.files, again.kept) == (0, first.files)
    record_more(root)
    undo_import(root)
    second = copy_lake(lake, copy)
    assert told(copy) == told(lake)
    assert problems(copy) == []
    assert copy.names("extractions") == []
    assert second.kept > 0
    assert copy.files("history") == lake.files("history")


@pytest.mark.soak
@pytest.mark.parametrize("work", [record_more, undo_import])
def test_a_copy_that_is_killed_is_a_whole_lake(
    work: Callable[[Path], None], made: Path, tmp_path: Path
) -> None:
    """Wherever it ends while it brings a copy up to date, what is there then is the history of some time."""
    root, copied = tmp_path / "lake", tmp_path / "copy"
    shutil.copytree(made, root)
    copy_lake(Storage.local(root), Storage.local(copied))
    work(root)
    reads = reads_of(root, shutil.copytree(copied, tmp_path / "counted"))

    class Killed(BaseException):
        """Nobody catches it."""

    def die() -> None:
        raise Killed

    states = {str(told(Storage.local(copied))): "before", str(told(Storage.local(root))): "after"}
    ends = set()
    for place in range(2, reads, max(1, reads // (4 * PLACES))):
        target = tmp_path / f"target-{place}"
        shutil.copytree(copied, target)
        with pytest.raises(Killed):
            copy_lake(Watched(root, place, die), Storage.local(target))
        assert problems(Storage.local(target)) == [], place
        ends.add(states.get(str(told(Storage.local(target))), "another"))
        copy_lake(Storage.local(root), Storage.local(target))
        assert told(Storage.local(target)) == told(Storage.local(root))
        shutil.rmtree(target)
    # Two walks were recorded, so that one alone may be there.
    assert {"before", "after"} <= ends
    assert "another" not in ends or work is record_more


def test_what_is_pruned_meanwhile_is_told(made: Path, tmp_path: Path) -> None:
    """An undo and the pruning of what it undid, both while it is copied: the check of the copy says so."""
    root, copy = tmp_path / "lake", Storage.local(tmp_path / "copy")
    shutil.copytree(made, root)

    def undo_and_prune() -> None:
        undo_import(root)
        HistoryStore(Storage.local(root)).prune_withdrawn(datetime.now(UTC) + timedelta(days=1))

    history = HistoryStore(Storage.local(root))
    listings = 2 + len(history.entries())
    copy_lake(Watched(root, listings + 8, undo_and_prune), copy)
    assert any("contents.parquet: it is not there" in problem for problem in problems(copy))
    copy_lake(Storage.local(root), copy)
    assert problems(copy) == []
    assert told(copy) == told(Storage.local(root))


def test_another_history_is_not_overwritten(made: Path, tmp_path: Path) -> None:
    """A lake that began anew is not copied over a backup of the one that was lost, nor a backup over a newer lake."""
    backup = Storage.local(tmp_path / "backup")
    copy_lake(Storage.local(made), backup)
    anew = Chronicler(Storage.local(tmp_path / "anew"), tmp_path / "scratch")
    anew.record(9, study(ONE))
    there = backup.files("")
    for other in (anew.storage, Storage.local(tmp_path / "nothing")):
        with pytest.raises(OtherHistoryError, match=r"entry 1, of 0001\. Nothing was copied"):
            copy_lake(other, backup)
    assert backup.files("") == there

    newer = tmp_path / "newer"
    shutil.copytree(made, newer)
    record_more(newer)
    with pytest.raises(OtherHistoryError, match="entry 5, of 0005"):
        copy_lake(backup, Storage.local(newer))
