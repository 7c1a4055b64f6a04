"""Former contents: studies as an earlier snapshot had them, however much has happened since."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.snapshot import compaction
from ctg_assets.snapshot import previous as former
from ctg_assets.snapshot.previous import PreviousStudies
from ctg_assets.snapshot.store import SnapshotManifest, snapshot_schema
from ctg_assets.storage.files import Storage
from ctg_assets_tests.history.histories import hash_of
from ctg_assets_tests.snapshot.test_snapshot_parts import Maker
from ctg_assets_tests.support.made_lakes import study

ONE, TWO, THREE, FOUR = (f"NCT0000000{number}" for number in range(1, 5))


@pytest.fixture
def maker(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    """An empty lake, whose snapshots build on each other however much changed."""
    monkeypatch.setattr(compaction, "_MOST_REPLACED", 100)
    return Maker(storage, tmp_path / "scratch")


def then(maker: Maker, manifest: SnapshotManifest, since: str, *nct_ids: str) -> list[str]:
    """The content hashes of these studies in an earlier snapshot."""
    history, snapshots = maker.lake.history, maker.snapshots
    with PreviousStudies.opened(history, snapshots, manifest, since, nct_ids) as earlier:
        found = earlier.studies(nct_ids)
    assert found.schema == snapshot_schema()
    return [str(content_hash) for content_hash in found["content_hash"].to_pylist()]


@pytest.mark.slow
def test_studies_are_as_each_earlier_snapshot_had_them(maker: Maker) -> None:
    """Of several snapshots, one says what was current in it; what came later was not there."""
    days = [
        [study(ONE, title="a"), study(TWO, title="a"), study(THREE)],
        [study(ONE, title="b"), study(TWO, title="a")],
        [study(ONE, title="a"), study(TWO, title="c"), study(FOUR)],
    ]
    for day, studies in enumerate(days, start=1):
        manifest = maker.snapshot(day, *studies)
    # An older content that came to light later was in no snapshot.
    manifest = maker.snapshot(1, study(TWO, title="old"), mode=ExtractionMode.IMPORT)
    for day, studies in enumerate(days, start=1):
        hashes = [hash_of(each) for each in studies]
        assert then(maker, manifest, f"{day:04d}", ONE, TWO, THREE, FOUR) == hashes
    assert then(maker, manifest, "0001", THREE) == [hash_of(study(THREE))]
    assert then(maker, manifest, "0001", FOUR) == []


def test_the_earlier_snapshot_may_be_gone(maker: Maker) -> None:
    """Its parts are those that the later one begins with."""
    maker.snapshot(1, study(ONE, title="a"))
    manifest = maker.snapshot(2, study(ONE, title="b"))
    maker.snapshots.delete("0001")
    assert then(maker, manifest, "0001", ONE) == [hash_of(study(ONE, title="a"))]


def test_what_was_in_quarantine_was_not_there(maker: Maker) -> None:
    """A content that could not be typed gave no rows then."""
    maker.snapshot(1, study(ONE, hasResults=[]), study(TWO))
    manifest = maker.snapshot(2, study(ONE), study(TWO, title="b"))
    assert then(maker, manifest, "0001", ONE, TWO) == [hash_of(study(TWO))]


def test_many_are_read_in_portions(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are read at a time, all are found, in order."""
    monkeypatch.setattr(former, "SCATTERED_AT_A_TIME", 2)
    ids = [f"NCT{number:08d}" for number in range(1, 8)]
    old = [study(nct_id, title="a") for nct_id in ids]
    maker.snapshot(1, *old)
    manifest = maker.snapshot(2, *(study(nct_id, title="b") for nct_id in ids))
    assert then(maker, manifest, "0001", *ids) == [hash_of(each) for each in old]


def test_a_content_that_the_history_lost_is_named(maker: Maker) -> None:
    """Rows of unknown contents cannot be compared, and are not taken for none."""
    first = maker.snapshot(1, study(ONE, title="a"))
    periods = maker.lake.history.periods()
    maker.lake.history.write_periods(first.history_sequence, periods.clear())
    with pytest.raises(pa.ArrowInvalid, match="1 contents of snapshot 0001 are not in the history"):
        then(maker, first, "0001", ONE)
