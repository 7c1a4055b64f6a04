"""Compaction: which rows are chosen, what becomes of bad ones, crashes, and memory."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.extract import external_sort
from ctg_assets.history.recording import IncompleteExtractionError
from ctg_assets.model.identity import identify
from ctg_assets.model.nct_ids import is_nct_id
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot import compaction, parsing, typed_contents
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import (
    QUARANTINE_SCHEMA,
    SnapshotManifest,
    SnapshotStore,
    snapshot_schema,
)
from ctg_assets.snapshot.typed_contents import model_fingerprint
from ctg_assets.storage.files import Storage
from ctg_assets_tests.soak import SHARE, times
from ctg_assets_tests.support.made_lakes import (
    extraction,
    in_pages,
    kill_at_signal,
    memory_storage,
    small_studies,
    study,
)

ID = "20261120T090000Z-full-aaaaaa"


def compacted(
    storage: Storage, scratch: Path, pages: Sequence[Sequence[bytes]], **changes: Any
) -> SnapshotManifest:
    """The snapshot of an extraction of these pages."""
    made = extraction(storage, pages, **changes)
    return Compactor(storage, scratch).compact(made.extraction_id)


def rows_of(storage: Storage, snapshot_id: str = ID) -> list[dict[str, Any]]:
    """The studies of a snapshot."""
    batches = SnapshotStore(storage).batches(snapshot_id)
    return [row for batch in batches for row in batch.to_pylist()]


def title_of(row: dict[str, Any]) -> Any:
    """A snapshot row's brief title."""
    return row["protocolSection"]["identificationModule"]["briefTitle"]


def test_a_snapshot(any_storage: Storage, tmp_path: Path) -> None:
    """One typed row a study, sorted by NCT id, with its hash, date and page; the manifest tells the rest."""
    studies = [
        study(f"NCT0000002{digit}", f"2026-01-0{digit}", f"T{digit}") for digit in (3, 1, 4, 2)
    ]
    before = datetime.now(UTC)
    manifest = compacted(any_storage, tmp_path / "scratch", in_pages(studies, 2), query="x")
    store = SnapshotStore(any_storage)
    assert store.manifest(ID) == store.latest() == manifest
    [batch] = store.batches(ID)
    assert batch.schema.equals(snapshot_schema())
    rows = batch.to_pylist()
    assert [row["nct_id"] for row in rows] == [f"NCT0000002{digit}" for digit in (1, 2, 3, 4)]
    assert [row["page"] for row in rows] == [1, 2, 1, 2]
    assert [title_of(row) for row in rows] == ["T1", "T2", "T3", "T4"]
    for row in rows:
        [raw] = [raw for raw in studies if identify(raw).nct_id == row["nct_id"]]
        assert row["content_hash"] == identify(raw).content_hash
        assert row["last_update_post_date"] == identify(raw).last_update_post_date
        assert row["extraction_id"] == ID
    facts = (manifest.studies, manifest.distinct_ids, manifest.duplicate_rows, manifest.quarantined)
    assert facts == (4, 4, 0, 0)
    assert (manifest.snapshot_id, manifest.extraction_id, manifest.query) == (ID, ID, "x")
    assert manifest.json_bytes == sum(map(len, studies))
    assert manifest.file_bytes == any_storage.size(f"snapshots/{ID}/studies.parquet")
    assert manifest.model_fingerprint == model_fingerprint()
    assert manifest.unknown_fields == manifest.quarantine_reasons == {}
    assert before <= manifest.created_at <= datetime.now(UTC)
    assert store.quarantine(ID, with_studies=True).equals(QUARANTINE_SCHEMA.empty_table())
    assert any_storage.names(f"snapshots/{ID}") == [
        "extras.parquet",
        "manifest.json",
        "quarantine.parquet",
        "studies.parquet",
    ]
    assert store.studies_path(ID) == any_storage.path(f"snapshots/{ID}/studies.parquet")


def test_columns_can_be_chosen(storage: Storage, tmp_path: Path) -> None:
    """Dotted paths read only what they name, within what encloses it."""
    compacted(storage, tmp_path, [[study("NCT00000001", title="T")]])
    path = "protocolSection.identificationModule.briefTitle"
    [batch] = SnapshotStore(storage).batches(ID, ["nct_id", path])
    assert batch.to_pylist() == [
        {
            "nct_id": "NCT00000001",
            "protocolSection": {"identificationModule": {"briefTitle": "T"}},
        }
    ]


@pytest.mark.parametrize(
    ("dates", "newest"),
    [
        (["2026-01-01", "2026-02-01", "2026-01-15"], 1),
        (["2026-02-01", "2026-02-01", "2026-01-01"], 1),
        ([None, "2026-01-01", None], 1),
        ([None, None, None], 2),
        (["2026-01-01", "2026-01-01", "2026-01-01"], 2),
        (["2026-01", "2025-01-01", "2024-01-01"], 1),
    ],
)
@pytest.mark.parametrize("pages", [[[0], [1], [2]], [[0, 1, 2]], [[0], [1, 2]]])
def test_the_newest_of_a_study_wins(
    storage: Storage,
    tmp_path: Path,
    dates: list[str | None],
    newest: int,
    pages: list[list[int]],
) -> None:
    """A study seen twice counts once: the one updated last, among equals the one seen last."""
    contents = [study("NCT00000001", date, f"T{place}") for place, date in enumerate(dates)]
    other = study("NCT00000002")
    manifest = compacted(
        storage, tmp_path, [*([contents[i] for i in page] for page in pages), [other]]
    )
    rows = rows_of(storage)
    assert [title_of(row) for row in rows] == [f"T{newest}", "A study"]
    assert (manifest.studies, manifest.distinct_ids, manifest.duplicate_rows) == (2, 2, 2)
    assert manifest.json_bytes == len(contents[newest]) + len(other)


BAD_STUDIES = {
    "no id": (study(None), None, "nctId: expected NCT and eight digits"),
    "empty id": (study(""), None, "nctId: expected NCT and eight digits"),
    "id of a wrong type": (study(17), None, "nctId: expected NCT and eight digits"),
    "not a study": (b"{}", None, "nctId: expected NCT and eight digits"),
    "short id": (study("NCT123"), "NCT123", "nctId: expected NCT and eight digits"),
    "id of another registry": (
        study("ISRCTN12345678"),
        "ISRCTN12345678",
        "nctId: expected NCT and eight digits",
    ),
    "digits of another script": (
        study("NCT\u0661" + "0" * 7),
        "NCT\u0661" + "0" * 7,
        "nctId: expected NCT and eight digits",
    ),
    "id and more": (study("NCT000000011"), "NCT000000011", "nctId: expected NCT and eight digits"),
    "broken": (b'{"protocolSection":', None, "truncated"),
    "bad encoding": (b'{"a":"\xff"}', None, "a: expected text in UTF-8; found"),
    "nested deeply": (b"[" * 9_000, None, "expected at most 64 levels of nesting"),
    "mistyped": (
        study("NCT00000005", hasResults=[]),
        "NCT00000005",
        "hasResults: expected true or false; found []",
    ),
}


@pytest.mark.parametrize("kind", list(BAD_STUDIES))
@pytest.mark.parametrize("portion_bytes", [64 << 20, 200])
def test_a_bad_study_goes_to_quarantine(
    storage: Storage, tmp_path: Path, kind: str, portion_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its id as far as it has one, page, reason and bytes, while all others go on."""
    monkeypatch.setattr(external_sort, "_PORTION_JSON_BYTES", portion_bytes)
    bad, nct_id, reason = BAD_STUDIES[kind]
    good = [study(f"NCT0000000{digit}") for digit in (7, 1, 4)]
    manifest = compacted(storage, tmp_path, [[good[0]], [good[1], bad, good[2]], []])
    assert [row["nct_id"] for row in rows_of(storage)] == [
        "NCT00000001",
        "NCT00000004",
        "NCT00000007",
    ]
    [row] = SnapshotStore(storage).quarantine(ID, with_studies=True).to_pylist()
    assert reason in row.pop("reason")
    assert row == {"nct_id": nct_id, "extraction_id": ID, "page": 2, "study": bad}
    assert (manifest.studies, manifest.quarantined) == (3, 1)
    assert manifest.distinct_ids == 3 + bool(nct_id and is_nct_id(nct_id))
    assert sum(manifest.quarantine_reasons.values()) == 1
    assert manifest.json_bytes == sum(map(len, good))
    assert "study" not in SnapshotStore(storage).quarantine(ID).column_names


def test_bad_studies_without_id_are_told_apart_by_content(storage: Storage, tmp_path: Path) -> None:
    """None replaces another unless it is the same; reasons are counted."""
    nameless = [b"{}", b'{"a":1}', b'{"a":2}']
    pages = [nameless, [b"{ }", study("NCT00000001")]]
    manifest = compacted(storage, tmp_path, pages)
    assert manifest.quarantined == 3
    assert list(manifest.quarantine_reasons.values()) == [3]
    assert (manifest.studies, manifest.duplicate_rows, manifest.distinct_ids) == (1, 1, 1)


@pytest.mark.parametrize("pages", [[[]], [[b"{}"]], [[], []]])
def test_a_snapshot_without_studies(
    storage: Storage, tmp_path: Path, pages: list[list[bytes]]
) -> None:
    """A query that finds nothing, or nothing usable, gives an empty snapshot of the right schema."""
    manifest = compacted(storage, tmp_path, pages)
    assert manifest.studies == 0
    assert rows_of(storage) == []
    assert SnapshotStore(storage).quarantine(ID).num_rows == manifest.quarantined


def test_unknown_fields_are_summed_up(storage: Storage, tmp_path: Path) -> None:
    """Drift is counted over all studies, by path, in order of the paths."""
    pages = [
        [study("NCT00000001", novel=1), study("NCT00000002")],
        [study("NCT00000003", novel={"a": 1}, another=[1])],
    ]
    manifest = compacted(storage, tmp_path, pages)
    assert list(manifest.unknown_fields.items()) == [("another", 1), ("novel", 2)]


def test_values_outside_the_model_are_kept(storage: Storage, tmp_path: Path) -> None:
    """Fields that the model does not know are in the snapshot, sorted, with their JSON as sent."""
    with_site = (
        b'{"protocolSection":{"identificationModule":{"nctId":"NCT00000003"},'
        b'"contactsLocationsModule":{"locations":[{},{"novel":1.50}]}},"novel":{"a" : "\xc3\xa9"}}'
    )
    pages = [
        [with_site, study(None, novel=1)],
        [study("NCT00000001", novel=[]), study("NCT00000002")],
    ]
    compacted(storage, tmp_path, pages)
    site = "protocolSection.contactsLocationsModule.locations[].novel"
    extras = pa.concat_tables(SnapshotStore(storage).extras(ID))
    assert [tuple(row.values()) for row in extras.to_pylist()] == [
        ("NCT00000001", "novel", None, "[]"),
        ("NCT00000003", "novel", None, '{"a" : "é"}'),
        ("NCT00000003", site, "2", "1.50"),
    ]


def _outcome(pages: Sequence[Sequence[bytes]]) -> tuple[Any, ...]:
    storage = memory_storage()
    with tempfile.TemporaryDirectory() as scratch:
        manifest = compacted(storage, Path(scratch), pages)
        assert list(Path(scratch).iterdir()) == []
    extras = [row for part in SnapshotStore(storage).extras(ID) for row in part.to_pylist()]
    quarantine = SnapshotStore(storage).quarantine(ID, with_studies=True).to_pylist()
    quarantine.sort(key=lambda row: (row["nct_id"] or "", row["page"], row["study"]))
    facts = json.loads(
        json.dumps({n: str(getattr(manifest, n)) for n in manifest.__struct_fields__})
    )
    del facts["created_at"], facts["file_bytes"], facts["quarantine_reasons"]
    return rows_of(storage), extras, quarantine, facts


@pytest.mark.soak
@settings(max_examples=times(6, 25), deadline=None)
@given(
    st.lists(small_studies, min_size=1, max_size=12),
    st.integers(1, 5),
    st.sampled_from([1, 150, 400]),
    st.integers(1, 3),
)
def test_portions_make_no_difference(
    studies: list[bytes], page_size: int, portion_bytes: int, group_rows: int
) -> None:
    """Many small portions and row groups give the rows, quarantine and facts that sorting in memory gives."""
    pages = in_pages(studies, page_size)
    in_memory = _outcome(pages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external_sort, "_PORTION_JSON_BYTES", portion_bytes)
        patch.setattr(compaction, "ROW_GROUP_ROWS", group_rows)
        assert _outcome(pages) == in_memory
    rows, _, quarantine, facts = in_memory
    kept = [row["nct_id"] for row in rows]
    assert kept == sorted(set(kept))
    assert len(rows) + len(quarantine) + int(facts["duplicate_rows"]) == len(studies)


@pytest.mark.soak
@settings(max_examples=times(8, 25), deadline=None)
@given(st.lists(small_studies, max_size=10, unique_by=lambda raw: identify(raw).nct_id), st.data())
def test_the_order_of_pages_makes_no_difference(studies: list[bytes], data: Any) -> None:
    """The fingerprint depends on ids and contents alone, not on the order in which they came."""
    shuffled = data.draw(st.permutations(studies))
    one, other = (_outcome(in_pages(order, 3))[-1] for order in (studies, shuffled))
    assert one["content_fingerprint"] == other["content_fingerprint"]


def test_the_fingerprint_sees_content(tmp_path: Path) -> None:
    """A study changed, added or taken away changes it; the registry's day does not."""
    one, two = study("NCT00000001"), study("NCT00000002")
    day = study("NCT00000002", derivedSection={"miscInfoModule": {"versionHolder": "2026-11-20"}})
    next_day = day.replace(b"2026-11-20", b"2026-11-21")
    prints = [
        compacted(memory_storage(), tmp_path, [pages]).content_fingerprint
        for pages in (
            [one, two],
            [one],
            [one, study("NCT00000002", title="B")],
            [one, day],
            [one, next_day],
        )
    ]
    assert len(set(prints)) == 4
    assert prints[3] == prints[4]


def test_row_groups_are_sized(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers get a bounded number of rows at a time, still in order; progress counts up to all."""
    monkeypatch.setattr(compaction, "ROW_GROUP_ROWS", 3)
    made = extraction(storage, in_pages([study(f"NCT0000002{d}") for d in range(8)], 4))
    progress: list[tuple[int, int]] = []
    Compactor(storage, tmp_path).compact(made.extraction_id, lambda *done: progress.append(done))
    assert [batch.num_rows for batch in SnapshotStore(storage).batches(ID)] == [3, 3, 2]
    assert progress == [(3, 8), (6, 8), (8, 8)]


def test_a_second_compaction_does_nothing(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot is returned as it is, until the model changes."""
    manifest = compacted(storage, tmp_path, [[study("NCT00000001")]])
    compactor = Compactor(storage, tmp_path)
    assert compactor.compact(ID) == manifest
    monkeypatch.setattr(compaction, "model_fingerprint", lambda: "another model")
    again = compactor.compact(ID)
    assert again.created_at > manifest.created_at
    assert again.model_fingerprint == "another model"
    assert again.content_fingerprint == manifest.content_fingerprint


def test_an_incomplete_extraction_is_refused(storage: Storage, tmp_path: Path) -> None:
    """Going on would lose studies; the message says how much is there and what to do."""
    made = extraction(storage, [[study("NCT00000001")], []], complete=False, page_size=1)
    with pytest.raises(IncompleteExtractionError, match=r"has 2 of 2 pages; materialize"):
        Compactor(storage, tmp_path).compact(made.extraction_id)
    assert SnapshotStore(storage).manifests() == []


def test_an_extraction_with_shards_lost_is_refused(storage: Storage, tmp_path: Path) -> None:
    """What was complete once and is no more must not pass for the whole registry."""
    made = extraction(storage, in_pages([study(f"NCT0000002{d}") for d in range(5)], 2))
    storage.delete_file(f"extractions/{made.extraction_id}/pages/00002.parquet")
    with pytest.raises(
        IncompleteExtractionError, match=r"complete with 3 pages, but 2 are in .*--again"
    ):
        Compactor(storage, tmp_path).compact(made.extraction_id)
    assert SnapshotStore(storage).manifests() == []


def test_a_deleted_snapshot_is_gone(storage: Storage, tmp_path: Path) -> None:
    """Nothing of it is left, and deleting what is not there does nothing."""
    compacted(storage, tmp_path, [[study("NCT00000001")]])
    store = SnapshotStore(storage)
    store.delete(ID)
    store.delete(ID)
    assert store.manifest(ID) is None
    assert storage.names("snapshots") == []


KILLED_COMPACTION = """
import sys
from pathlib import Path
from ctg_assets.snapshot import compaction
from ctg_assets.snapshot import parsing
from ctg_assets.storage.files import Storage

compaction.ROW_GROUP_ROWS = 1

def progress(done, total):
    if done == total // 2:
        print("ready", flush=True)
        sys.stdin.read()

compactor = compaction.Compactor(Storage.local(Path(sys.argv[1])), Path(sys.argv[2]))
compactor.compact(sys.argv[3], progress)
"""


@pytest.mark.process
def test_a_killed_compaction_leaves_no_snapshot(tmp_path: Path) -> None:
    """After kill -9 nothing is visible; the next run succeeds and removes what was left."""
    lake, scratch = tmp_path / "läke", tmp_path / "scratch"
    storage = Storage.local(lake)
    made = extraction(storage, in_pages([study(f"NCT0000002{digit}") for digit in range(8)], 3))
    kill_at_signal(KILLED_COMPACTION, str(lake), str(scratch), made.extraction_id)
    store = SnapshotStore(storage)
    assert store.manifests() == []
    assert storage.names(f"snapshots/{ID}") == []
    assert len(list((lake / "snapshots" / ID).iterdir())) == 3, "temporary files should be left"

    manifest = Compactor(storage, scratch).compact(made.extraction_id)
    assert manifest.studies == len(rows_of(storage)) == 8
    assert sorted(file.name for file in (lake / "snapshots" / ID).iterdir()) == [
        "extras.parquet",
        "manifest.json",
        "quarantine.parquet",
        "studies.parquet",
    ]
    assert store.latest() == manifest


def test_a_failure_leaves_no_snapshot(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the middle is raised as it is, and leaves no files behind."""
    monkeypatch.setattr(compaction, "ROW_GROUP_ROWS", 1)
    made = extraction(storage, in_pages([study(f"NCT0000002{digit}") for digit in range(4)], 2))

    def stop(done: int, total: int) -> None:
        message = f"stopped at {done} of {total}"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="stopped at 1 of 4"):
        Compactor(storage, tmp_path / "scratch").compact(made.extraction_id, stop)
    assert storage.names(f"snapshots/{ID}") == []
    assert SnapshotStore(storage).manifest(ID) is None


@pytest.mark.process
def test_the_model_fingerprint_is_stable() -> None:
    """The same model has the same fingerprint, in this process and the next."""
    code = (
        "from ctg_assets.snapshot.compaction import model_fingerprint; print(model_fingerprint())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == model_fingerprint()


# `ru_maxrss` begins with the peak of the process that this one came from; VmHWM with its own.
MEASURED_COMPACTION = r"""
import re
import sys
from pathlib import Path
from ctg_assets.snapshot import compaction
from ctg_assets.snapshot import parsing
from ctg_assets.extract import external_sort
from ctg_assets.storage.files import Storage

external_sort._PORTION_JSON_BYTES = 8 << 20
external_sort._BLOCK_JSON_BYTES = 256 << 10
external_sort._ROWS_AT_A_TIME = compaction.ROW_GROUP_ROWS = 400
compaction.Compactor(Storage.local(Path(sys.argv[1])), Path(sys.argv[2])).compact(sys.argv[3])
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
print(int(peak) >> 10)
"""


@pytest.mark.soak
@pytest.mark.process
def test_memory_is_bounded(tmp_path: Path) -> None:
    """65 MB of JSON more, in soaks 130 MB, take hardly more memory: what counts is the size of a portion and of a page.

    About 30 and 50 MiB more; with portions of any size it is 150 and 380.
    """
    source = GeneratedSource(1200, seed=1)
    studies = [source.raw(index) for index in range(len(source))]
    peaks = []
    fewer, more = (3, 9) if SHARE else (2, 5)
    for copies in (fewer, more):
        storage = Storage.local(tmp_path / str(copies))
        pages = [
            [
                raw.replace(source.nct_id(index).encode(), b"NCT%d%07d" % (copy + 1, index), 1)
                for index, raw in enumerate(studies)
            ]
            for copy in range(copies)
        ]
        made = extraction(storage, pages)
        arguments = [str(tmp_path / str(copies)), str(tmp_path / "scratch"), made.extraction_id]
        child = subprocess.run(
            [sys.executable, "-c", MEASURED_COMPACTION, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(child.stdout))
        [manifest] = SnapshotStore(storage).manifests()
        assert manifest.studies == copies * len(studies)
    assert peaks[1] - peaks[0] < (more - fewer) * 28, f"peaks of {peaks} MiB"


@pytest.mark.parametrize("module", typed_contents.TYPING_CODE, ids=lambda module: module.__name__)
def test_other_code_that_types_is_another_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: ModuleType
) -> None:
    """What was typed by other code may differ, so nothing is built on it."""
    before = model_fingerprint()
    other = tmp_path / "other.py"
    other.write_text("# types in another way\n")
    monkeypatch.setattr(module, "__file__", str(other))
    assert model_fingerprint() != before


def test_all_code_that_types_is_known() -> None:
    """What parsing imports from its own room is digested with it."""
    tree = ast.parse(Path(str(parsing.__file__)).read_text(encoding="utf-8"))
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {name for name in used if name is not None and name.startswith("ctg_assets.snapshot")}
    assert own
    assert own <= {module.__name__ for module in typed_contents.TYPING_CODE}
