"""Damage to files of the lake: found, named, and mended or the remedy said; never a wrong row.

The lake has a whole walk, changes, a census and what it led to, an import, two snapshots, and a walk
that is not finished. Places are drawn from all bytes of each kind of file alike, so small files get as
many flips as large ones.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import polars as pl
import pytest

from ctg_assets.aact.mesh import mesh_rows
from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.extract.import_file import import_file
from ctg_assets.extract.published_model import check_published_model, recorded_model
from ctg_assets.extract.search_file import SavedSearch
from ctg_assets.extract.searches import SearchRecord, evaluate_searches, studies_found
from ctg_assets.history.undo import Author
from ctg_assets.integrity.repair_run import mend_lake
from ctg_assets.integrity.verification import verify
from ctg_assets.lake import Lake, lake_on, open_lake
from ctg_assets.refresh import planner
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.refresh.undo import undoer
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator, running_application, running_simulator
from ctg_assets.simulator.who import GHO_PREFIX, WhoSimulator
from ctg_assets.simulator.who_rows import gho_rows
from ctg_assets.storage.damage import KINDS_OF_FILES, DamagedFileError, kind_of_file
from ctg_assets.storage.records import check_record, read_record
from ctg_assets.storage.sealed_parquet import check_sealed
from ctg_assets.who.indicators import DialectName, Indicator
from ctg_assets.who.refreshing import WhoSource
from ctg_assets_tests.aact.mesh_files import mesh_xml
from ctg_assets_tests.simulator.in_memory import InMemorySource, study
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.following import refresh
from ctg_assets_tests.support.lakes import json_of
from ctg_assets_tests.support.object_store import object_storage
from ctg_assets_tests.support.registries import client_of

pytestmark = pytest.mark.slow

FLIPS = times(40, 200)
_PAGE_SIZE = 8
_EVERYTHING = SavedSearch(name="everything", query="ALL")


def _source(*changed: int, gone: int = 0, posted: str = "2024-02-02") -> InMemorySource:
    return InMemorySource(
        study(
            number,
            title="Another Title" if number in changed else "A Study",
            posted=posted if number in changed else "2024-01-01",
            enrollment=number,
        )
        for number in range(1, 31)
        if number != gone
    )


def _settings(folder: Path, simulator: RunningSimulator) -> Settings:
    return load_settings(
        data_dir=folder,
        api_url=simulator.api_url,
        query="",
        page_size=_PAGE_SIZE,
        requests_per_minute=10_000,
        max_shrink_fraction=1,
        census_every_days=1000,
        keep_extractions=20,
    )


@pytest.fixture(scope="module", autouse=True)
def _no_database() -> Iterator[None]:
    """Nothing is to be loaded: what is loaded comes from the snapshot, and that is looked at."""
    with (
        patch.object(planner, "actual_state", lambda _: WarehouseState()),
        patch.object(planner, "desired_state", lambda *_: WarehouseState()),
    ):
        yield


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """A registry of this module's own."""
    with running_simulator(_source()) as running:
        yield running


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, simulator: RunningSimulator) -> Path:
    """A data folder with every kind of file, none of them damaged."""
    folder = tmp_path_factory.mktemp("sound")
    settings = _settings(folder, simulator)
    lake = open_lake(settings)
    refresh(settings)
    simulator.advance(_source(3, 4))
    refresh(settings)
    with client_of(simulator.api_url) as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        # Edited without a new date, and gone: only a census sees what is missing.
        simulator.advance(_source(3, 4, 5, gone=9))
        plan = crawler.plan(query="", page_size=_PAGE_SIZE, mode=ExtractionMode.CENSUS)
        list(crawler.walk(plan, plan.planned_pages or 0))
    refresh(settings)
    file = folder / "file.json"
    file.write_bytes(b"[" + b",".join(json_of(40, 41)) + b"]")
    import_file(lake, file, page_size=_PAGE_SIZE)
    refresh(settings)
    file.write_bytes(b"[" + json_of(50)[0] + b"]")
    import_file(lake, file, page_size=_PAGE_SIZE)
    refresh(settings)
    newest = lake.history.latest()
    assert newest is not None
    undoer(lake).undo(newest.sequence, Author("test", "somebody", "somewhere"))
    refresh(settings)
    with running_application(WhoSimulator({"LIFE": gho_rows("LIFE")})) as url:
        asking_who = settings.model_copy(update={"who_gho_url": url + GHO_PREFIX})
        life = Indicator(code="LIFE", name="Life expectancy", dialect=DialectName.GHO)
        WhoSource(asking_who).extract(life)
        WhoSource(asking_who).transform(life)
    with client_of(simulator.api_url) as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        simulator.advance(_source(3, 4, 5, 6, gone=9))
        given_up = crawler.plan(query="", page_size=_PAGE_SIZE)
        lake.extractions.supersede(given_up.extraction_id, "for the test")
        simulator.advance(_source(3, 4, 5, 6, 7, gone=9))
        plan = crawler.plan(query="", page_size=_PAGE_SIZE)
        list(crawler.walk(plan, 2))
        check_published_model(client, lake.storage, plan)
        evaluate_searches(client, lake.storage, [_EVERYTHING], plan.data_timestamp)
    file = folder / "desc.xml"
    file.write_text(mesh_xml(), encoding="utf-8")
    mesh_rows(lake.storage, file)
    return folder


def _observed(lake: Lake, around: str = "") -> dict[str, Any]:
    """All that readers get to see of a lake's files, or of those around a path."""
    folder, _, rest = around.partition("/")
    seen: dict[str, Any] = {}
    if folder in ("", "extractions"):
        for plan in lake.extractions.plans():
            one = plan.extraction_id
            if not around or one == rest.partition("/")[0]:
                seen[one] = (
                    plan,
                    lake.extractions.ids(one),
                    lake.extractions.state(one),
                    lake.extractions.completion(one),
                    lake.extractions.supersession(one),
                    list(lake.shards.infos(one)),
                    [lake.shards.read(one, page) for page in lake.shards.pages(one)],
                )
    if folder in ("", "searches"):
        for path in lake.storage.files("searches"):
            if path.endswith(".json"):
                record = read_record(lake.storage, path, SearchRecord)
                assert record.answer is not None
                seen[record.name] = (record, studies_found(lake.storage, record.answer))
    if folder in ("", "history"):
        seen |= _observed_history(lake)
    if folder in ("", "snapshots"):
        for manifest in lake.snapshots.manifests():
            seen[manifest.snapshot_id + " snapshot"] = (
                manifest,
                list(lake.snapshots.batches(manifest.snapshot_id)),
                list(lake.snapshots.extras(manifest.snapshot_id)),
                lake.snapshots.quarantine(manifest.snapshot_id, with_studies=True),
            )
    return seen


def _observed_history(lake: Lake) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for undo in lake.history.undos():
        seen[undo.undo_id] = (undo, lake.history.undone_changes(undo.undo_id).to_dicts())
    for entry, _ in lake.history.with_withdrawn():
        number = entry.sequence
        names = lake.storage.names(f"history/{number:06d}")
        seen[str(number)] = (
            entry,
            lake.history.plan(number),
            [
                list(lake.history.tables(number, name))
                for name in names
                if name.endswith(".parquet")
            ],
        )
    contents = lake.history.periods(["nct_id", "content_hash", "contents_entry"]).unique()
    seen["contents"] = list(lake.history.contents(contents.sort("nct_id", "content_hash"), 50))
    return seen


def _results(lake: Lake) -> dict[str, Any]:
    """What a lake comes to, but for what differs between one walk and another."""
    entries = lake.history.entries()
    manifest = lake.snapshots.manifest(entries[-1].extraction_id)
    assert manifest is not None
    typed = pl.concat(
        pl.DataFrame(batch).drop("extraction_id", "page")
        for batch in lake.snapshots.batches(manifest.snapshot_id)
    )
    contents = lake.history.periods(["nct_id", "content_hash", "contents_entry"]).unique()
    studies = {
        (row["nct_id"], row["content_hash"]): row["study"]
        for rows in lake.history.contents(contents.sort("nct_id", "content_hash"), 100)
        for row in rows.to_pylist()
    }
    return {
        "typed": typed.sort("nct_id").to_dicts(),
        "studies": studies,
        "changes": [
            lake.history.changes(entry.sequence)
            .drop("recorded_at", "observed_at", "extraction_id")
            .to_dicts()
            for entry in entries
        ],
        "fields": [lake.history.field_changes(entry.sequence).to_dicts() for entry in entries],
        "events": [lake.history.typed_events(entry.sequence).to_dicts() for entry in entries],
    }


def _files(lake: Lake) -> dict[str, list[str]]:
    """The lake's files by their kind; those of extractions oldest first."""
    # Two ids of the same second sort by chance, so not by their names.
    plans = lake.extractions.plans()
    number = {f"extractions/{plan.extraction_id}": plan.number for plan in plans}
    found: dict[str, list[str]] = {}
    for folder in ("registries", "searches", "mesh", "who", "extractions", "history", "snapshots"):
        for path in sorted(
            lake.storage.files(folder),
            key=lambda path: (number.get("/".join(path.split("/")[:2]), 0), path),
        ):
            found.setdefault(kind_of_file(path).pattern, []).append(path)
    return found


@pytest.fixture
def copy(sound: Path, simulator: RunningSimulator, tmp_path: Path) -> Callable[[], Settings]:
    """Makes a copy of the data folder, to be damaged."""
    numbers = itertools.count()

    def copied() -> Settings:
        folder = tmp_path / f"copy {next(numbers)}"
        shutil.copytree(sound, folder)
        return _settings(folder, simulator)

    return copied


@pytest.fixture(scope="module")
def expected(
    sound: Path, simulator: RunningSimulator, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a refresh comes to where nothing is damaged."""
    folder = tmp_path_factory.mktemp("refreshed")
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    settings = _settings(folder, simulator)
    refresh(settings)
    return _results(open_lake(settings))


def test_every_kind_of_file_is_there(sound: Path, simulator: RunningSimulator) -> None:
    """No file of the lake is of an unknown kind, and none of the kinds is left untested."""
    lake = open_lake(_settings(sound, simulator))
    assert set(_files(lake)) == {kind.pattern for kind in KINDS_OF_FILES}
    found = verify(lake.storage)
    assert not found.findings
    assert not found.unchecked


@pytest.mark.soak
def test_a_flipped_bit_is_found_and_never_gives_a_wrong_row(
    copy: Callable[[], Settings],
) -> None:
    """At random places over all kinds of files: readers are told, or see what they saw before."""
    lake = open_lake(copy())
    kinds = sorted(_files(lake).values())
    before = _observed(lake)
    places = random.Random(1911)
    for flip in range(FLIPS):
        path = places.choice(kinds[flip % len(kinds)])
        file = Path(lake.storage.path(path))
        content = file.read_bytes()
        bit = places.randrange(len(content) * 8)
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        # To look at all each time would take minutes.
        around = "" if flip % 20 == 0 else path
        if around:
            with pytest.raises(DamagedFileError):
                (check_sealed if path.endswith(".parquet") else check_record)(lake.storage, path)
        else:
            assert [found.relative for found in verify(lake.storage).findings] == [path]
        try:
            seen = _observed(lake, around)
        except DamagedFileError as error:
            assert error.relative == path  # noqa: PT017 - either may happen
            assert str(file) in str(error)  # noqa: PT017
        else:
            # A damaged manifest is as good as none, and what a registry said of itself is not data.
            assert {key: before[key] for key in seen} == seen, (path, bit)
            # Beyond that only bytes that no reader asks for, such as the first four of Parquet.
            if path.endswith("manifest.json"):
                assert path.split("/")[1] + " snapshot" not in seen
        file.write_bytes(content)
    assert _observed(lake) == before


def test_damage_in_an_object_store_is_mended(
    sound: Path, simulator: RunningSimulator, tmp_path: Path
) -> None:
    """The files of a disk are a lake in an object store; what is damaged there is found and made again."""
    settings = _settings(sound, simulator)
    on_disk = open_lake(settings)
    storage = object_storage(tmp_path / "scratch")
    for paths in _files(on_disk).values():
        for path in paths:
            storage.write_bytes(path, on_disk.storage.read_bytes(path), create=True)
    lake = lake_on(storage, tmp_path / "scratch")
    assert _observed(lake) == _observed(on_disk)
    # What is made again by the next steps is gone, and so is what hangs on it.
    kinds = [kind for kind in KINDS_OF_FILES if kind.mended and "snapshots" not in kind.pattern]
    for place, kind in enumerate(kinds):
        path = _files(lake)[kind.pattern][-1]
        content = storage.read_bytes(path)
        storage.write_bytes(path, list(_DAMAGES.values())[place % len(_DAMAGES)](content))
        # What was mended was found before.
        report = mend_lake(settings, lake)
        assert path in [mended.relative for mended in report.mended]
        assert path not in [found.relative for found in verify(storage).findings]
        storage.write_bytes(path, content)
    assert len(storage.files("damaged")) >= len(kinds) // 2


_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda content: (
        content[: len(content) // 2]
        + bytes([content[len(content) // 2] ^ 4])
        + content[len(content) // 2 + 1 :]
    ),
    "empty": lambda _: b"",
    "cut": lambda content: content[: len(content) * 2 // 3],
    "garbled": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("kind", KINDS_OF_FILES, ids=lambda kind: kind.what.replace(" ", "-"))
def test_damage_is_mended_or_its_remedy_said(
    kind: Any, copy: Callable[[], Settings], expected: dict[str, Any]
) -> None:
    """One file of each kind, flipped, empty, cut or garbled: refresh comes to what it comes to without."""
    place = [each.pattern for each in KINDS_OF_FILES].index(kind.pattern)
    name = list(_DAMAGES)[place % len(_DAMAGES)]
    settings = copy()
    lake = open_lake(settings)
    # The newest, since it is what the next steps read; of plans one that the history has. (Without the
    # plan of an open walk, another mode may be due.)
    path = _files(lake)[kind.pattern][0 if "plan" in kind.pattern else -1]
    file = Path(lake.storage.path(path))
    file.write_bytes(_DAMAGES[name](file.read_bytes()))
    assert path in [found.relative for found in verify(lake.storage).findings]
    report = mend_lake(settings, lake)
    assert [mended.relative for mended in report.mended] == ([path] if kind.mended else [])
    if not kind.mended:
        [(finding, reason)] = report.left
        assert finding.relative == path
        assert str(file) in reason
        assert "backup" in reason
        return
    assert not verify(lake.storage).findings
    refresh(settings)
    assert _results(lake) == expected
    assert not verify(lake.storage).findings
    assert recorded_model(lake.storage, settings.api_url) is not None or kind.pattern.startswith(
        "regis"
    )


def test_a_lost_content_is_taken_from_the_registry(copy: Callable[[], Settings]) -> None:
    """Where no page is kept, studies that still have the content are asked for by id."""
    settings = copy()
    lake = open_lake(settings)
    before = _observed(lake)["contents"]
    for plan in lake.extractions.plans():
        shutil.rmtree(lake.storage.path(f"extractions/{plan.extraction_id}"))
    # The second entry's contents are still what the registry has; those of the first are not all.
    for sequence, mended in ((2, True), (1, False)):
        path = f"history/{sequence:06d}/contents.parquet"
        Path(lake.storage.path(path)).write_bytes(b"")
        report = mend_lake(settings, lake)
        assert [each.relative for each in report.mended] == ([path] if mended else [])
        if mended:
            assert _observed(lake)["contents"] == before
        else:
            assert re.search(r"registry does not have them any more: NCT0000000", report.left[0][1])


def test_a_damaged_entry_never_makes_the_history_shorter(copy: Callable[[], Settings]) -> None:
    """Nothing is recorded over it, and refreshes say which file it is."""
    settings = copy()
    lake = open_lake(settings)
    newest = lake.history.entries()[-1].sequence
    path = f"history/{newest:06d}/entry.json"
    file = Path(lake.storage.path(path))
    sound = file.read_bytes()
    file.write_bytes(sound[:-40])
    with pytest.raises(DamagedFileError, match=r"entry\.json is damaged: .*backup"):
        refresh(settings)
    with pytest.raises(DamagedFileError, match=r"entry\.json is damaged"):
        lake.history.clean()
    file.write_bytes(sound)
    refresh(settings)
    # An entry that went altogether: what it had is set aside and not deleted.
    newest = lake.history.entries()[-1].sequence
    contents = Path(lake.storage.path(f"history/{newest:06d}/contents.parquet")).read_bytes()
    Path(lake.storage.path(f"history/{newest:06d}/entry.json")).unlink()
    assert [found.relative for found in verify(lake.storage).findings] == [
        f"history/{newest:06d}/entry.json"
    ]
    lake.history.clean()
    [aside] = [p for p in lake.storage.files("damaged") if p.endswith("contents.parquet")]
    assert Path(lake.storage.path(aside)).read_bytes() == contents


def test_several_files_of_an_extraction_are_found_at_once(copy: Callable[[], Settings]) -> None:
    """A plan that is JSON of another kind beside a damaged page and a damaged end."""
    settings = copy()
    lake = open_lake(settings)
    folder = f"extractions/{lake.history.entries()[0].extraction_id}"
    paths = [f"{folder}/complete.json", f"{folder}/pages/00001.parquet", f"{folder}/plan.json"]
    for path in paths:
        Path(lake.storage.path(path)).write_bytes(b"{}")
    found = [finding.relative for finding in verify(lake.storage).findings]
    assert set(found) >= {paths[1], paths[2]}
    mend_lake(settings, lake)
    mend_lake(settings, lake)
    assert not verify(lake.storage).findings


def test_what_an_undo_withdrew_is_missed_when_it_is_gone(copy: Callable[[], Settings]) -> None:
    """The file of an undo's changes, lost or of another undo, is found; sound, it is not."""
    lake = open_lake(copy())
    imported = [e.sequence for e in lake.history.entries() if e.mode is ExtractionMode.IMPORT]
    undo, _ = undoer(lake).undo(imported[-1], Author("test", "somebody", "somewhere"))
    assert verify(lake.storage).findings == []
    path = f"history/undone/{undo.undo_id}.parquet"
    rows = lake.history.undone_changes(undo.undo_id)
    assert rows.height
    lake.history.write_undone_changes(undo.undo_id, rows.clear())
    assert [found.relative for found in verify(lake.storage).findings] == [path]
    Path(lake.storage.path(path)).unlink()
    [found] = verify(lake.storage).findings
    assert (found.relative, found.problem) == (path, "it is not there")


def test_an_open_walk_without_its_plan_is_set_aside(copy: Callable[[], Settings]) -> None:
    """Its pages are not used, nothing is deleted, and refreshes go on."""
    settings = copy()
    lake = open_lake(settings)
    [plan] = lake.extractions.open_crawls()
    Path(lake.storage.path(f"extractions/{plan.extraction_id}/plan.json")).write_bytes(b"{}")
    with pytest.raises(DamagedFileError, match=r"plan\.json is damaged: "):
        lake.extractions.plans()
    assert len(mend_lake(settings, lake).mended) == 1
    assert len([path for path in lake.storage.files("damaged") if "/pages/" in path]) == 2
    refresh(settings)
    assert not verify(lake.storage).findings


def test_pages_after_a_damaged_one_are_not_asked_for_again(
    copy: Callable[[], Settings], simulator: RunningSimulator
) -> None:
    """Of an open walk only the damaged page is fetched anew."""
    settings = copy()
    lake = open_lake(settings)
    [plan] = lake.extractions.open_crawls()
    path = f"extractions/{plan.extraction_id}/pages/00001.parquet"
    Path(lake.storage.path(path)).write_bytes(b"garbled")
    assert [each.relative for each in mend_lake(settings, lake).mended] == [path]
    with client_of(simulator.api_url) as client:
        crawler = Crawler(client, lake.extractions, lake.shards)
        fresh = [page.fresh for page in crawler.walk(plan, 3)]
    assert fresh == [True, False, True]
    assert msgspec.json.encode(lake.shards.info(plan.extraction_id, 1))
