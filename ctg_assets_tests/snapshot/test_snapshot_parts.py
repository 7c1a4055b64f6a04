"""Snapshots that build on each other: read as one, they are what a snapshot made from scratch is."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.snapshot import compaction, store
from ctg_assets.snapshot.compaction import Compactor, OvertakenError
from ctg_assets.snapshot.store import SnapshotManifest, SnapshotStore
from ctg_assets.storage.files import Storage
from ctg_assets.storage.sealed_parquet import open_sealed
from ctg_assets_tests.history.histories import Chronicler, hash_of
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.made_lakes import memory_storage, study

ONE, TWO, THREE = "NCT00000001", "NCT00000002", "NCT00000003"

# What tells one snapshot of the same contents from another.
_OF_THE_MAKING = ("created_at", "file_bytes", "parts", "lineage")


class Maker:
    """Makes extractions, records them, and makes snapshots."""

    def __init__(self, storage: Storage, scratch: Path) -> None:
        self.lake = Chronicler(storage, scratch)
        self.snapshots = SnapshotStore(storage)
        self.compactor = Compactor(storage, scratch)

    def snapshot(self, day: int, *studies: bytes, **changes: Any) -> SnapshotManifest:
        """The snapshot of an extraction."""
        return self.compactor.compact(self.lake.extracted(day, *studies, **changes))

    def content(self, manifest: SnapshotManifest, since: str | None = None) -> Any:
        """Studies, extras and quarantine of a snapshot, each sorted."""
        name = manifest.snapshot_id
        batches = self.snapshots.batches(name, since=since, row_groups=2)
        extras = self.snapshots.extras(name, since=since)
        return [
            sorted((row for table in tables for row in table.to_pylist()), key=str)
            for tables in (batches, extras, [self.snapshots.quarantine(name, with_studies=True)])
        ]


@pytest.fixture
def maker(storage: Storage, tmp_path: Path) -> Maker:
    """An empty lake."""
    return Maker(storage, tmp_path / "scratch")


@pytest.fixture
def building_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much changed, a snapshot builds on the one before it."""
    monkeypatch.setattr(compaction, "_MOST_REPLACED", 100)


@pytest.mark.usefixtures("building_on")
def test_only_what_changed_is_written(maker: Maker) -> None:
    """The new part holds the studies that changed; read since the snapshot before, it holds just those."""
    old, new = study(ONE, title="a"), study(ONE, title="b", novel=1)
    first = maker.snapshot(1, old, study(TWO), study(THREE))
    second = maker.snapshot(2, new, study(TWO))
    assert second.parts == ["0001", "0002"]
    assert list(second.lineage) == ["0001", "0002"]
    studies, extras, _ = maker.content(second)
    assert [row["content_hash"] for row in studies] == [hash_of(new), hash_of(study(TWO))]
    assert [row["path"] for row in extras] == ["novel"]
    [only], extras, _ = maker.content(second, since="0001")
    assert (only["nct_id"], len(extras)) == (ONE, 1)
    assert maker.snapshots.replaced("0002", "0001") == [ONE, THREE]
    assert maker.snapshots.replaced("0002", "0002") == []
    assert second.unknown_fields == {"novel": 1}
    # The older one is as it was.
    assert [row["content_hash"] for row in maker.content(first)[0]] == [
        hash_of(raw) for raw in (old, study(TWO), study(THREE))
    ]


@pytest.mark.usefixtures("building_on")
def test_nothing_new_takes_no_part(maker: Maker) -> None:
    """A later data version of the same studies is the snapshot before under another name."""
    first = maker.snapshot(1, study(ONE))
    second = maker.snapshot(2, study(ONE))
    assert second.parts == ["0001"]
    assert second.content_fingerprint == first.content_fingerprint
    assert second.data_timestamp > first.data_timestamp
    assert maker.content(second) == maker.content(first)
    assert maker.content(second, since="0001")[:2] == [[], []]
    assert maker.lake.storage.names("snapshots/0002") == ["manifest.json"]


@pytest.mark.usefixtures("building_on")
def test_a_study_in_and_out_of_quarantine(maker: Maker) -> None:
    """It is in one of the two, and reasons are counted for those who are in it now."""
    bad = study(ONE, hasResults=[])
    sizes = []
    for day, raw in enumerate([study(ONE), bad, study(ONE, title="b"), b"{}"], start=1):
        manifest = maker.snapshot(day, raw, study(TWO))
        sizes.append((manifest.studies, manifest.quarantined, manifest.distinct_ids))
        assert sum(manifest.quarantine_reasons.values()) == manifest.quarantined
    assert sizes == [(2, 0, 2), (1, 1, 2), (2, 0, 2), (1, 1, 1)]
    assert len(manifest.parts) == 4


@pytest.mark.parametrize(("studies", "parts"), [(20, ["0001", "0002"]), (19, ["0002"])])
def test_a_snapshot_is_made_anew_when_much_changed(
    maker: Maker, studies: int, parts: list[str]
) -> None:
    """Up to the bound it pays to build on the one before."""
    same = [study(f"NCT{number:08d}") for number in range(2, studies)]
    maker.snapshot(1, study("NCT00009999"), study(ONE), *same)
    changed = [study("NCT00009999", title="b"), study(ONE, title="b")]
    assert maker.snapshot(2, *changed, *same).parts == parts


@pytest.mark.slow
def test_small_changes_add_up(maker: Maker) -> None:
    """What all parts replace counts, not only the last one."""
    same = [study(f"NCT{number:08d}") for number in range(1, 20)]
    maker.snapshot(1, study("NCT00009999"), *same)
    for day in (2, 3):
        same[day] = study(f"NCT{day + 1:08d}", title="b")
        parts = maker.snapshot(day, study("NCT00009999"), *same).parts
        assert len(parts) == day
    same[9] = study("NCT00000010", title="b")
    assert maker.snapshot(4, study("NCT00009999"), *same).parts == ["0004"]


@pytest.mark.slow
@pytest.mark.usefixtures("building_on")
def test_parts_do_not_become_too_many(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers open each of them, so after some the next snapshot is whole again."""
    monkeypatch.setattr(compaction, "_MOST_PARTS", 3)
    numbers = [
        len(maker.snapshot(day, study(ONE, title=str(day)), study(TWO)).parts)
        for day in range(1, 6)
    ]
    assert numbers == [1, 2, 3, 1, 2]


@pytest.mark.usefixtures("building_on")
@pytest.mark.parametrize("kind", ["studies", "extras", "quarantine"])
def test_no_file_of_a_part_is_opened_twice(
    maker: Maker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Reading thirty parts opens some sixty files, not five hundred."""
    for day in range(1, 6):
        manifest = maker.snapshot(day, study(ONE, title=str(day)), study(TWO))
    opened: Counter[str] = Counter()

    def counted(storage: Storage, path: str) -> AbstractContextManager[pq.ParquetFile]:
        opened[path] += 1
        return open_sealed(storage, path)

    monkeypatch.setattr(store, "open_sealed", counted)
    read: dict[str, Callable[[str], Iterable[object]]] = {
        "studies": maker.snapshots.batches,
        "extras": maker.snapshots.extras,
        "quarantine": maker.snapshots.quarantine,
    }
    list(read[kind](manifest.snapshot_id))
    assert len(manifest.parts) == 5
    assert sorted(opened.values()) == [1] * 9


@pytest.mark.usefixtures("building_on")
def test_another_model_builds_on_nothing(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one snapshot are typed by the same field tree."""
    maker.snapshot(1, study(ONE))
    monkeypatch.setattr(compaction, "model_fingerprint", lambda: "another model")
    assert maker.snapshot(2, study(ONE)).parts == ["0002"]


@pytest.mark.usefixtures("building_on")
def test_extractions_without_a_snapshot_are_made_good(maker: Maker) -> None:
    """What was recorded since the snapshot that one builds on is in its part, too."""
    maker.snapshot(1, study(ONE), study(TWO))
    maker.lake.record(2, study(ONE, title="b"), study(TWO))
    third = maker.snapshot(3, study(ONE, title="b"), study(TWO, title="b"))
    assert maker.snapshots.replaced("0003", "0001") == [ONE, TWO]
    assert [row["extraction_id"] for row in maker.content(third)[0]] == ["0002", "0003"]
    with pytest.raises(OvertakenError, match="extraction 0002 was recorded, and a later one"):
        maker.compactor.compact("0002")


@pytest.mark.usefixtures("building_on")
def test_a_snapshot_can_go_while_its_part_is_needed(maker: Maker) -> None:
    """The part stays until no snapshot consists of it."""
    maker.snapshot(1, study(ONE), study(TWO))
    second = maker.snapshot(2, study(ONE, title="b"), study(TWO))
    before = maker.content(second)
    maker.snapshots.delete("0001")
    assert [manifest.snapshot_id for manifest in maker.snapshots.manifests()] == ["0002"]
    assert maker.content(second) == before
    assert maker.snapshots.replaced("0002", "0001") == [ONE]
    maker.snapshots.delete("0002")
    assert maker.lake.storage.names("snapshots") == []


def test_what_is_not_of_the_lineage_is_refused(maker: Maker) -> None:
    """One cannot ask what changed since a snapshot that another does not build on."""
    maker.snapshot(1, study(ONE))
    maker.snapshot(2, study(ONE, title="b"))
    for name, since in (("0002", "0001"), ("0002", "0009")):
        with pytest.raises(KeyError, match=f"{name} does not build on {since}"):
            maker.snapshots.replaced(name, since)
    with pytest.raises(KeyError, match="no snapshot 0009"):
        maker.snapshots.quarantine("0009")


_studies = st.builds(
    lambda nct_id, title, more: study(nct_id, title=title, **more),
    st.sampled_from([ONE, TWO, THREE, "NCT00000004", None]),
    st.sampled_from("ab"),
    st.sampled_from([{}, {}, {"novel": [1]}, {"hasResults": "mistyped"}]),
)
_extractions = st.lists(
    st.tuples(
        st.integers(1, 9),
        st.sampled_from(
            [
                ExtractionMode.FULL,
                ExtractionMode.FULL,
                ExtractionMode.INCREMENTAL,
                ExtractionMode.CENSUS,
                ExtractionMode.IMPORT,
            ]
        ),
        st.lists(_studies, max_size=5),
        # Whether it builds on the one before if it can, and whether it is compacted at all.
        st.booleans(),
        st.booleans(),
    ),
    min_size=2,
    max_size=6,
)


@pytest.mark.soak
@settings(max_examples=times(6, 20), deadline=None)
@given(_extractions, st.integers(1, 3))
def test_parts_make_no_difference(
    extractions: list[tuple[int, ExtractionMode, list[bytes], bool, bool]], group_rows: int
) -> None:
    """After any extractions, what was built in parts holds what a snapshot from scratch holds.

    And what it tells to have changed since any snapshot of its lineage is all that differs from that.
    """
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "ROW_GROUP_ROWS", group_rows)
        maker = Maker(memory_storage(), Path(scratch))
        made: dict[str, Any] = {}
        for day, mode, studies, builds_on, is_compacted in extractions:
            patch.setattr(compaction, "_MOST_REPLACED", 100 if builds_on else -1)
            name = maker.lake.extracted(day, *studies, mode=mode)
            maker.lake.recorder.record(name)
            if is_compacted or len(maker.lake.history.entries()) == len(extractions):
                last = maker.compactor.compact(name)
                made[name] = maker.content(last)
                _check_lineage(maker, last, made)
        for manifest in maker.snapshots.manifests():
            assert maker.content(manifest) == made[manifest.snapshot_id]
            maker.snapshots.delete(manifest.snapshot_id)
        again = maker.compactor.compact(name)
        assert again.parts == [name]
        assert maker.content(again) == made[name]
        assert _facts(again) == _facts(last)


def _check_lineage(maker: Maker, manifest: SnapshotManifest, made: dict[str, Any]) -> None:
    for earlier, ancestor in manifest.lineage.items():
        fingerprint = ancestor.content_fingerprint
        replaced = set(maker.snapshots.replaced(manifest.snapshot_id, earlier))
        changed = maker.content(manifest, since=earlier)
        for now, before, new in zip(
            made[manifest.snapshot_id][:2], made[earlier][:2], changed[:2], strict=True
        ):
            kept = [row for row in before if row["nct_id"] not in replaced]
            assert sorted(kept + new, key=str) == now
            assert {row["nct_id"] for row in new} <= replaced
        assert (fingerprint == manifest.content_fingerprint) == (
            _hashes(made[earlier]) == _hashes(made[manifest.snapshot_id])
        )


def _hashes(content: Any) -> list[tuple[str, str]]:
    return [(row["nct_id"], row["content_hash"]) for row in content[0]]


def _facts(manifest: SnapshotManifest) -> dict[str, Any]:
    facts = msgspec.structs.asdict(manifest)
    return {name: fact for name, fact in facts.items() if name not in _OF_THE_MAKING}
