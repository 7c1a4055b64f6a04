"""Bulk downloads through the same shards as a crawl."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest

from ctg_assets.extract import json_objects
from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.extractions import ExtractionMode, ExtractionState
from ctg_assets.extract.import_file import import_file
from ctg_assets.extract.json_objects import BulkFileError
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake
from ctg_assets.refresh.checks import check_quarantine, check_times
from ctg_assets.refresh.pending import next_to_record
from ctg_assets.refresh.retention import prune
from ctg_assets.settings import Settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.storage.files import StorageError
from ctg_assets.times import ImpossibleTimeError
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.simulator.in_memory import study
from ctg_assets_tests.support.lakes import json_of, studies_of
from ctg_assets_tests.support.processes import kill_import

_STUDIES = [GeneratedSource(30, seed=3).raw(index) for index in range(30)]


def _array() -> bytes:
    return b"[" + b",\n".join(_STUDIES) + b"]\n"


def _lines() -> bytes:
    return b"\n".join(_STUDIES) + b"\n"


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(_STUDIES):
            archive.writestr(f"ctg-public/{number}.json", content)


_FORMATS: dict[str, Callable[[Path], object]] = {
    "array": lambda path: path.write_bytes(_array()),
    "lines": lambda path: path.write_bytes(_lines()),
    "array.gz": lambda path: path.write_bytes(gzip.compress(_array())),
    "lines.gz": lambda path: path.write_bytes(gzip.compress(_lines())),
    "zip": _zip,
}


def _file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "ctg-studies.json"
    path.write_bytes(content)
    return path


def _content(manifest: SnapshotManifest) -> tuple[str, int, int]:
    return manifest.content_fingerprint, manifest.studies, manifest.quarantined


def _left_behind(lake: Lake) -> list[Path]:
    """The files of a lake but for the locks, which stay."""
    files = (path for path in Path(lake.location).rglob("*") if path.is_file())
    return [path for path in files if path.suffix != ".lock"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", _FORMATS)
def test_a_file_gives_the_snapshot_that_a_crawl_gives(
    lake: Lake, crawler: Crawler, simulator: RunningSimulator, tmp_path: Path, kind: str
) -> None:
    """In every format the same studies make a snapshot of the same content, and keep their bytes."""
    simulator.advance(GeneratedSource(30, seed=3))
    crawl = crawler.plan(query="", page_size=7)
    list(crawler.walk(crawl, 10))
    path = tmp_path / f"download {kind}"
    _FORMATS[kind](path)

    plan = import_file(lake, path, page_size=7)
    assert lake.extractions.latest(ExtractionState.COMPLETE) == plan
    assert studies_of(lake, plan.extraction_id) == sorted(_STUDIES)
    snapshots = [
        Compactor(lake.storage, lake.scratch).compact(each.extraction_id) for each in (crawl, plan)
    ]
    assert _content(snapshots[0]) == _content(snapshots[1])
    assert snapshots[0].studies == 30


def test_the_shards_of_a_file_have_the_size_of_a_page(lake: Lake, tmp_path: Path) -> None:
    """Shards are filled in the file's order, told one by one, and summed up at the end."""
    told: list[ShardInfo] = []
    plan = import_file(lake, _file(tmp_path, _array()), page_size=7, progress=told.append)
    assert [(shard.page, shard.studies) for shard in told] == [
        (1, 7),
        (2, 7),
        (3, 7),
        (4, 7),
        (5, 2),
    ]
    assert list(lake.shards.infos(plan.extraction_id)) == told
    assert all(shard.request is None and shard.next_token is None for shard in told)
    first = lake.shards.read(plan.extraction_id, 1, ["study"])["study"].to_pylist()
    assert first == _STUDIES[:7]
    completion = lake.extractions.completion(plan.extraction_id)
    assert completion is not None
    assert (completion.pages, completion.rows, completion.distinct_studies) == (5, 30, 30)
    assert completion.json_bytes == sum(map(len, _STUDIES))


def test_a_study_twice_in_a_file_counts_once(lake: Lake, tmp_path: Path) -> None:
    """Rows and distinct studies are told apart; compaction keeps one of the rows."""
    content = b"\n".join([*json_of(1, 2), *json_of(1)])
    plan = import_file(lake, _file(tmp_path, content), page_size=2)
    completion = lake.extractions.completion(plan.extraction_id)
    assert completion is not None
    assert (completion.rows, completion.distinct_studies) == (3, 2)
    assert Compactor(lake.storage, lake.scratch).compact(plan.extraction_id).studies == 2


def test_a_file_is_as_of_its_modification(lake: Lake, tmp_path: Path) -> None:
    """Unless told otherwise, the data version of an import is the file's time of modification, in UTC."""
    path = _file(tmp_path, _array())
    modified = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    os.utime(path, (modified.timestamp(), modified.timestamp()))
    plan = import_file(lake, path, page_size=100)
    assert (plan.mode, plan.source) == (ExtractionMode.IMPORT, str(path))
    assert plan.data_timestamp == "2026-11-20T08:30:00"


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (datetime(204, 5, 31, tzinfo=UTC), "earlier than the registry itself"),
        (datetime(1970, 1, 2, tzinfo=UTC), "earlier than the registry itself"),
        (datetime(1999, 8, 31, 23, 59, tzinfo=UTC), "earlier than the registry itself"),
        (datetime.now(UTC) + timedelta(days=1, hours=1), "later than now"),
        (datetime(2099, 1, 1, tzinfo=UTC), "later than now"),
        (datetime(2999, 1, 1, tzinfo=UTC), "later than now"),
    ],
)
@pytest.mark.parametrize("dated_by_studies", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_times_that_cannot_be_are_refused(
    lake: Lake, tmp_path: Path, at: datetime, why: str, dated_by_studies: bool, said: bool
) -> None:
    """Said or read off the file, before the registry or ahead of now: nothing is recorded, the message says what to do."""
    path = _file(tmp_path, _array())
    if not said:
        os.utime(path, (at.timestamp(), at.timestamp()))
    with pytest.raises(ImpossibleTimeError, match=why) as refused:
        import_file(
            lake,
            path,
            page_size=100,
            data_timestamp=at if said else None,
            dated_by_studies=dated_by_studies,
        )
    # Filesystems bring the times of files into the centuries that they know.
    shown = at.isoformat(" ", "seconds")[:19] if said else "was modified"
    assert shown in str(refused.value)
    assert "--observed-at" in str(refused.value)
    assert lake.extractions.plans() == []


@pytest.mark.parametrize("at", [datetime(1999, 9, 1, tzinfo=UTC), datetime.now(UTC)])
def test_the_first_and_last_times_that_can_be_are_taken(
    lake: Lake, tmp_path: Path, at: datetime
) -> None:
    """From the registry's first month until now."""
    plan = import_file(lake, _file(tmp_path, _array()), page_size=100, data_timestamp=at)
    assert Recorder(lake.storage, lake.scratch).record(plan.extraction_id).studies == len(_STUDIES)


def test_dates_that_cannot_be_do_not_count(lake: Lake, tmp_path: Path) -> None:
    """Of studies that count on their last update dates, one of the year 204 or 2099 counts as of the file."""
    dates = {1: "0204-05-31", 2: "2099-01-01", 3: "2024-05-31", 4: "1999-08-31"}
    studies = [study(number) for number in dates]
    for each, posted in zip(studies, dates.values(), strict=True):
        each["protocolSection"]["statusModule"]["lastUpdatePostDateStruct"] = {"date": posted}
    path = _file(tmp_path, b"\n".join(map(msgspec.json.encode, studies)))
    modified = datetime(2026, 11, 20, 8, 30, tzinfo=UTC)
    os.utime(path, (modified.timestamp(), modified.timestamp()))
    plan = import_file(lake, path, page_size=100, dated_by_studies=True)
    entry = Recorder(lake.storage, lake.scratch).record(plan.extraction_id)
    assert entry.observed_at == modified
    rows = lake.history.periods(["nct_id", "valid_from", "last_update_post_date"])
    assert dict(rows.select("nct_id", "valid_from").iter_rows()) == {
        "NCT00000001": modified,
        "NCT00000002": modified,
        "NCT00000003": datetime(2024, 5, 31, tzinfo=UTC),
        "NCT00000004": modified,
    }
    assert [str(day) for day in rows["last_update_post_date"]] == list(dates.values())
    check_result = check_times(plan, entry)
    assert (check_result.passed, check_result.blocking) == (False, False)
    assert check_result.description.startswith(
        "3 contents have a last update date that cannot be, such as NCT00000001: 0204-05-31;"
    )


@pytest.mark.parametrize("timestamp", ["204-05-31T00:00:00", "0204-05-31T00:00:00", "2999-01-01"])
def test_what_an_earlier_release_took_is_left_out(
    lake: Lake, settings: Settings, tmp_path: Path, timestamp: str
) -> None:
    """An import of a time that cannot be, complete and not recorded, stops nothing that comes after it."""
    plan = import_file(lake, _file(tmp_path, _array()), page_size=100)
    old = msgspec.structs.replace(plan, data_timestamp=timestamp)
    lake.storage.delete_file(f"extractions/{plan.extraction_id}/plan.json")
    lake.extractions.create(old)
    waiting = next_to_record(settings, lake)
    assert waiting is not None
    assert waiting.forbidden is not None
    assert f"as of {timestamp}, which is " in waiting.forbidden
    right = import_file(lake, _file(tmp_path, _array()), page_size=100)
    waiting = next_to_record(settings, lake)
    assert waiting is not None
    assert (waiting.plan, waiting.forbidden) == (right, None)


def test_a_given_time_is_kept_in_utc(lake: Lake, tmp_path: Path) -> None:
    """A time in another zone is converted."""
    as_of = datetime(2026, 11, 20, 8, 30, tzinfo=timezone(timedelta(hours=-5)))
    plan = import_file(lake, _file(tmp_path, _array()), page_size=100, data_timestamp=as_of)
    assert plan.data_timestamp == "2026-11-20T13:30:00"


_STRANGERS = {
    "a wrapped study": b'{"nctId":"NCT1","study":%s}',
    "a version": b'{"studyVersion":3,"study":%s}',
    "former API": b'{"FullStudiesResponse":{"FullStudies":[]}}',
    "a list of versions": b'{"changes":[]}',
    "an id": b'{"nctId":"NCT00000001"}',
    "metadata": b'{"exportedAt":"2020-01-01"}',
    "nothing": b"{}",
    "a section that is none": b'{"protocolSection":"x"}',
}
_HINTS = {
    "a wrapped study": "in the field 'study'",
    "a version": "in the field 'study'",
    "former API": "version 1",
    "a list of versions": "list of a study's versions",
    "an id": "does not hold it",
}


def _strangers(kind: str, count: int) -> list[bytes]:
    record = _STRANGERS[kind]
    return [record % study if b"%s" in record else record for study in (_STUDIES * 5)[:count]]


@pytest.mark.parametrize("kind", _STRANGERS)
@pytest.mark.parametrize(("strange", "studies"), [(1, 0), (30, 0), (30, 29), (150, 30)])
def test_a_file_of_something_else_is_refused(
    lake: Lake, tmp_path: Path, kind: str, strange: int, studies: int
) -> None:
    """Nothing or less than half studies: nothing is left behind, and the message shows a line and the cure."""
    content = b"\n".join([*_STUDIES[:studies], *_strangers(kind, strange)])
    with pytest.raises(BulkFileError, match="is no file of studies") as caught:
        import_file(lake, _file(tmp_path, content), page_size=7)
    assert f"line {studies + 1}: " in str(caught.value)
    assert _HINTS.get(kind, "protocolSection") in str(caught.value)
    assert _left_behind(lake) == []


def test_a_wrong_file_is_refused_early(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large file in which no study comes first, only the beginning is read."""
    monkeypatch.setattr(json_objects, "_BLOCK_BYTES", 1 << 16)
    content = b"\n".join(_strangers("a wrapped study", 150)) + b"\nnever read"
    with pytest.raises(BulkFileError, match="of 100 records read, none is a study"):
        import_file(lake, _file(tmp_path, content), page_size=7)


@pytest.mark.parametrize("kind", _STRANGERS)
def test_a_few_odd_records_do_not_stop_studies(lake: Lake, tmp_path: Path, kind: str) -> None:
    """They are kept beside the studies for quarantine, and told with their number and lines."""
    odd = _strangers(kind, 2)
    content = b"\n".join([odd[0], *_STUDIES, odd[1]])
    told: list[str] = []
    path = _file(tmp_path, content)
    plan = import_file(lake, path, page_size=7, warn=told.append)
    assert told == [f"records that are no studies, set aside: 2 ({path}, line 1, {path}, line 32)"]
    assert studies_of(lake, plan.extraction_id) == sorted([*_STUDIES, *odd])


def test_a_line_of_no_study_does_not_stop_the_load(
    lake: Lake, settings: Settings, tmp_path: Path
) -> None:
    """Case 01 in a file: one line about the export among 60 studies is told, and 60 studies are loaded.

    It is more than the share of studies that may be in quarantine.
    """
    source = GeneratedSource(60, seed=3)
    studies = [source.raw(index) for index in range(60)]
    records = [*_strangers("metadata", 1), *studies]
    plan = import_file(lake, _file(tmp_path, b"\n".join(records)), page_size=7)
    manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    assert (manifest.studies, manifest.quarantined, manifest.strays) == (60, 1, 1)
    check_result = check_quarantine(manifest, settings)
    assert (check_result.passed, check_result.blocking) == (False, False)
    assert "1 study is in quarantine" in check_result.description


def test_case_08_is_refused(lake: Lake) -> None:
    """Case 08 of the odd inputs: studies wrapped in other objects get no further than the door."""
    with pytest.raises(BulkFileError, match=r"is no file of studies.*line 1.*jq -c \.study"):
        import_file(lake, shared_path("cases/08-wrong-shape.jsonl"), page_size=7)
    assert _left_behind(lake) == []


def test_case_12_keeps_both_contents(lake: Lake) -> None:
    """Case 12 of the odd inputs: two contents of one study, both in the history, told with the id."""
    told: list[str] = []
    path = shared_path("cases/12-duplicates-dropped-silently.jsonl")
    plan = import_file(lake, path, page_size=7, warn=told.append)
    entry = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    assert entry.studies == 1
    periods = lake.history.periods()
    assert periods["content_hash"].n_unique() == periods.height == 2
    assert periods["valid_to"].null_count() == 1
    [sentence] = told
    assert "several contents in the file: 1 (NCT" in sentence


def test_members_left_out_are_told(lake: Lake, tmp_path: Path) -> None:
    """What is no JSON in a zip is counted and named."""
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", _STUDIES[0])
        for number in range(7):
            archive.writestr(f"notes {number}.txt", b"about this")
    told: list[str] = []
    import_file(lake, path, page_size=7, warn=told.append)
    [sentence] = told
    assert sentence.startswith("members of the zip that hold no readable JSON, left out: 7 (")
    assert "notes 4.txt (no JSON: b'about this'), and 2 more" in sentence


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"<!DOCTYPE html><html></html>",
        _array()[:-5000],
        _lines()[:-200],
        gzip.compress(_array())[:-100],
        b"\n".join([*_STUDIES, b'{"a": tru}']),
        b"\n".join([*_STUDIES, b"42"]),
    ],
    ids=["empty", "no study", "HTML", "cut array", "cut lines", "cut gzip", "broken", "no object"],
)
def test_a_broken_file_leaves_nothing(lake: Lake, tmp_path: Path, content: bytes) -> None:
    """However late the break is found, no extraction and no shard stay, and the message names the file."""
    path = _file(tmp_path, content)
    with pytest.raises(BulkFileError, match=path.name):
        import_file(lake, path, page_size=3)
    assert lake.extractions.plans() == []
    assert _left_behind(lake) == []


def test_a_missing_file_is_named(lake: Lake, tmp_path: Path) -> None:
    """A path at which there is nothing fails before anything is recorded."""
    with pytest.raises(BulkFileError, match="nowhere"):
        import_file(lake, tmp_path / "nowhere.json", page_size=3)
    assert _left_behind(lake) == []


def test_an_interrupted_import_leaves_nothing(lake: Lake, tmp_path: Path) -> None:
    """Ctrl-C in the middle removes the shards written so far; what was there before stays."""
    before = import_file(lake, _file(tmp_path, _array()), page_size=7)

    def interrupt(shard: ShardInfo) -> None:
        if shard.page == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_file(lake, _file(tmp_path, _lines()), page_size=7, progress=interrupt)
    assert lake.extractions.plans() == [before]
    assert lake.extractions.latest(ExtractionState.COMPLETE) == before


@pytest.fixture
def killed_import(lake: Lake, settings: Settings, tmp_path: Path) -> str:
    """The id of an import that was killed after two shards."""
    kill_import(settings.data_dir, _file(tmp_path, _array()), page_size=7, page=2)
    [plan] = lake.extractions.plans()
    return plan.extraction_id


def test_a_killed_import_is_never_complete(lake: Lake, killed_import: str) -> None:
    """It stays open with the shards it has, and counts neither as a walk nor as an extraction."""
    assert lake.extractions.state(killed_import) is ExtractionState.OPEN
    assert lake.shards.pages(killed_import) == [1, 2]
    assert lake.extractions.open_crawls() == []
    assert lake.extractions.latest(ExtractionState.COMPLETE) is None


def test_the_next_import_removes_a_killed_one(
    lake: Lake, killed_import: str, tmp_path: Path
) -> None:
    """Trying again after a kill gives one whole extraction and no remains."""
    plan = import_file(lake, _file(tmp_path, _array()), page_size=7)
    assert lake.extractions.plans() == [plan]
    assert all(killed_import not in str(path) for path in _left_behind(lake))
    assert studies_of(lake, plan.extraction_id) == sorted(_STUDIES)


def test_pruning_removes_a_killed_import(lake: Lake, killed_import: str, crawler: Crawler) -> None:
    """Once a newer extraction is complete, what the kill left is thrown away."""
    newest = crawler.plan(query="", page_size=10)
    list(crawler.walk(newest, 3))
    Compactor(lake.storage, lake.scratch).compact(newest.extraction_id)
    assert prune(lake, keep_extractions=1) == [killed_import]


def test_an_import_into_a_full_disk_says_so(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard that cannot be written ends the import with the path and the cause."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        import_file(lake, _file(tmp_path, _array()), page_size=7)
    assert lake.extractions.plans() == []
