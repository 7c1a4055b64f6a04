"""The file of counters: nothing is lost by a kill, and nothing that becomes of it stops the work."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ctg_assets import counters_file
from ctg_assets.counters_file import CountersFile, Series, counters_of, counters_path, read_counters
from ctg_assets.metrics import RECORDS, REQUESTS, SAVED
from ctg_assets.settings import Settings
from ctg_assets_tests.support.made_lakes import kill_at_signal

ONE = REQUESTS.by(1, endpoint="/version")

_COUNTING = """
import sys
from pathlib import Path
from ctg_assets.counters_file import CountersFile
from ctg_assets.metrics import RECORDS, REQUESTS
counters = CountersFile(Path(sys.argv[1]))
counters.add(REQUESTS.by(1, endpoint="/version"), RECORDS.by(1000, stage="extract"))
print("ready", flush=True)
input()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where counters come to lie; the folder is not there yet."""
    return tmp_path / "stäte" / "counters.sqlite"


def values(file: Path) -> dict[tuple[str, ...], float]:
    """What a file holds, by name and the values of the labels."""
    return {(each.name, *each.labels.values()): each.value for each in read_counters(file)}


def test_counts_add_up_over_threads_objects_and_calls(file: Path) -> None:
    """Whoever counts and how, the file has the sum of it."""
    counting = [CountersFile(file) for _ in range(3)]
    with ThreadPoolExecutor(6) as threads:
        for turn in range(60):
            threads.submit(counting[turn % 3].add, ONE, SAVED.by(0.5, schema="staging"))
    assert values(file) == {
        ("etl_api_requests_total", "/version"): 60,
        ("etl_data_saved_total", "staging"): 30,
    }


@pytest.mark.process
def test_what_was_counted_outlives_a_kill(file: Path) -> None:
    """A process that is killed right after counting has counted, and the next one goes on from there."""
    kill_at_signal(_COUNTING, str(file))
    CountersFile(file).add(ONE)
    assert read_counters(file) == [
        Series("etl_api_requests_total", {"endpoint": "/version"}, 2),
        Series("etl_records_processed_total", {"stage": "extract"}, 1000),
    ]


def test_a_file_that_others_hold_is_warned_of_once_and_filled_later(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody holds the file counting goes on in memory, and what was counted is in it afterwards."""
    monkeypatch.setattr(counters_file, "_BUSY_SECONDS", 0.01)
    monkeypatch.setattr(counters_file, "_PAUSE_SECONDS", 0.0)
    counters = CountersFile(file)
    counters.add(ONE)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        counters.add(ONE)
        counters.add(RECORDS.by(7, stage="load"))
        holder.execute("ROLLBACK")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "database is locked" in caplog.text
    assert values(file) == {("etl_api_requests_total", "/version"): 1}
    counters.flush()
    assert values(file) == {
        ("etl_api_requests_total", "/version"): 2,
        ("etl_records_processed_total", "load"): 7,
    }


def test_a_held_file_is_not_waited_for_at_every_count(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After one wait that was in vain, counting costs nothing for a while."""
    monkeypatch.setattr(counters_file, "_BUSY_SECONDS", 0.01)
    counters = CountersFile(file)
    counters.add(ONE)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        counters.add(ONE)
        monkeypatch.setattr(counters, "_write", lambda: pytest.fail("it was tried again"))
        for _ in range(100):
            counters.add(ONE)
        holder.execute("ROLLBACK")
    monkeypatch.undo()
    counters.flush()
    assert values(file) == {("etl_api_requests_total", "/version"): 102}


@pytest.mark.parametrize("content", ["no database", "other tables"])
def test_a_damaged_file_is_set_aside(
    file: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no file of counters is kept under another name, said once, and counting begins at zero."""
    file.parent.mkdir()
    if content == "no database":
        file.write_bytes(b"\0" * 4096)
    else:
        with contextlib.closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE series (something)")
    before = file.read_bytes()
    counters = CountersFile(file)
    counters.add(ONE)
    counters.add(ONE)
    assert values(file) == {("etl_api_requests_total", "/version"): 2}
    assert [path.read_bytes() for path in file.parent.glob("*.damaged-*")] == [before]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_folder_that_cannot_be_made_stops_nothing(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no file can be, that is said once."""
    file.parent.write_bytes(b"in the way")
    counters = CountersFile(file)
    counters.add(ONE)
    counters.flush()
    assert len(caplog.records) == 1
    assert "The work goes on" in caplog.text


def test_no_file_has_no_counters(file: Path) -> None:
    """Before anything was counted nothing is read, and nothing is made by reading."""
    assert read_counters(file) == []
    assert not file.parent.exists()


def test_a_process_has_one_object_for_a_data_folder(settings: Settings) -> None:
    """What one part of the work could not write, the next one does."""
    counters = counters_of(settings)
    assert counters_of(settings) is counters
    counters.add(ONE)
    assert values(counters_path(settings)) == {("etl_api_requests_total", "/version"): 1}
    assert counters_path(settings).is_relative_to(settings.data_dir)
