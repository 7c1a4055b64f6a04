"""The way of the recorded real studies through the lake: from a file to a typed snapshot."""

from __future__ import annotations

import gzip
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from ctg_assets.extract.bulk_file import read_studies
from ctg_assets.extract.shards import ShardStore
from ctg_assets.model.fields import study_arrow_schema
from ctg_assets.model.identity import identify
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest, SnapshotStore
from ctg_assets.storage.files import Storage
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.snapshot.test_parsing import counted_by_hand, fitted
from ctg_assets_tests.support.made_lakes import extraction, in_pages

pytestmark = pytest.mark.slow

STUDIES = 3395
MISTYPED = "NCT76543210"
NOVEL = (b"modelPredictions", b"interventionMappedName", b"locations_nested")


@dataclass(frozen=True)
class Recorded:
    """The recorded studies: their lines in the file, and the lake that was made of them."""

    lines: list[bytes]
    storage: Storage
    extraction_id: str
    manifest: SnapshotManifest


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """The recorded studies brought in in their order and compacted; skips where there are none."""
    path = shared_path("ctg/studies.jsonl.gz")
    storage = Storage.local(tmp_path_factory.mktemp("recorded"))
    made = extraction(storage, in_pages(list(read_studies(path)), 1000))
    scratch = Path(tmp_path_factory.mktemp("scratch"))
    manifest = Compactor(storage, scratch).compact(made.extraction_id)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    return Recorded(lines, storage, made.extraction_id, manifest)


def test_every_study_comes_back_byte_for_byte(recorded: Recorded) -> None:
    """What the shards hold is what the file held, line by line."""
    shards = ShardStore(recorded.storage)
    found = [
        study
        for page in shards.pages(recorded.extraction_id)
        for study in shards.read(recorded.extraction_id, page, ["study"])["study"].to_pylist()
    ]
    assert len(found) == STUDIES
    assert found == recorded.lines


def test_all_but_one_are_typed(recorded: Recorded) -> None:
    """One study has a text where a truth value belongs; it is in quarantine with its bytes."""
    facts = recorded.manifest
    assert (facts.studies, facts.quarantined, facts.duplicate_rows) == (STUDIES - 1, 1, 0)
    assert facts.distinct_ids == STUDIES
    store = SnapshotStore(recorded.storage)
    [row] = store.quarantine(facts.snapshot_id, with_studies=True).to_pylist()
    assert row["nct_id"] == MISTYPED
    assert row["study"] in recorded.lines
    assert row["reason"] == (
        'protocolSection.designModule.patientRegistry: expected true or false; found "Yes"'
    )


def test_drift_is_what_the_old_shapes_hold(recorded: Recorded) -> None:
    """Some studies, as the API's beta had them, bear three fields more; nothing else is unknown."""
    assert recorded.manifest.unknown_fields == {
        "derivedSection.miscInfoModule.modelPredictions": 147,
        "protocolSection.armsInterventionsModule.interventions[].interventionMappedName": 28,
        "protocolSection.contactsLocationsModule.locations_nested": 42,
    }
    by_hand = Counter[str]()
    for line in recorded.lines:
        if any(name in line for name in NOVEL) and identify(line).nct_id != MISTYPED:
            by_hand.update(counted_by_hand(msgspec.json.decode(line), study_arrow_schema()))
    assert recorded.manifest.unknown_fields == by_hand


def test_typed_values_are_the_decoded_ones(recorded: Recorded) -> None:
    """Every value in the snapshot, here of each third study, equals what another JSON parser reads."""
    kind = pa.struct(list(study_arrow_schema()))
    by_id = {identify(line).nct_id: line for line in recorded.lines}
    nct_ids: list[str] = []
    for batch in SnapshotStore(recorded.storage).batches(recorded.manifest.snapshot_id):
        nct_ids += batch["nct_id"].to_pylist()
        for row in batch.take(pa.array(range(0, batch.num_rows, 3))).to_pylist():
            nct_id = row["nct_id"]
            line = by_id[nct_id]
            typed = {name: row[name] for name in study_arrow_schema().names}
            assert typed == fitted(msgspec.json.decode(line), kind), nct_id
            assert row["content_hash"] == identify(line).content_hash
    assert nct_ids == sorted(nct_id for nct_id in by_id if nct_id and nct_id != MISTYPED)
