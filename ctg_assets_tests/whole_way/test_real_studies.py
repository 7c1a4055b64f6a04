"""The recorded real studies all the way from their file into a database."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from ctg_assets.extract.import_file import import_file
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh.checks import check_drift, snapshot_check_results
from ctg_assets.settings import Settings, load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.model.row_counter import Study, count_rows
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.postgres import query

MISTYPED = "NCT76543210"
OLD_SHAPE = {
    "derivedSection.miscInfoModule.modelPredictions": 147,
    "protocolSection.armsInterventionsModule.interventions[].interventionMappedName": 28,
    "protocolSection.contactsLocationsModule.locations_nested": 42,
}


@dataclass(frozen=True)
class Loaded:
    """The recorded studies, the lake and the database that they went into."""

    studies: list[Study]
    lake: Lake
    settings: Settings
    manifest: SnapshotManifest
    address: PostgresAddress


@pytest.fixture(scope="module")
def loaded(server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """All recorded studies imported, compacted and loaded; skips where there are none."""
    path = shared_path("ctg/studies.jsonl.gz")
    lines = gzip.decompress(path.read_bytes()).splitlines()
    settings = load_settings(data_dir=tmp_path_factory.mktemp("data"))
    lake = open_lake(settings)
    plan = import_file(lake, path, page_size=1000)
    manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    with new_database(server) as address:
        load_staging(address, lake, manifest)
        yield Loaded([json.loads(line) for line in lines], lake, settings, manifest, address)


def test_every_table_has_the_rows_counted(loaded: Loaded) -> None:
    """In the database each table has the rows that are counted in the studies' JSON."""
    expected = count_rows(study for study in loaded.studies if _nct_id(study) != MISTYPED)
    expected["extras"] = sum(OLD_SHAPE.values())
    # Each study was seen once, for the first time; the mistyped one as well.
    expected["study_versions"] = expected["study_changes"] = len(loaded.studies)
    expected["study_field_changes"] = expected["study_events"] = 0
    counts = " UNION ALL ".join(
        f"SELECT '{shape.name}', count(*) FROM staging.{shape.name}" for shape in staging_shapes()
    )
    assert dict(query(loaded.address, counts)) == expected


def test_all_foreign_keys_are_there_and_valid(loaded: Loaded) -> None:
    """Postgres has every declared reference as a constraint, and has checked all rows of it."""
    found = query(
        loaded.address,
        "SELECT t.relname, a.attname, r.relname, c.convalidated FROM pg_constraint c "
        "JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class r ON r.oid = c.confrelid "
        "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1] "
        "WHERE c.contype = 'f' AND c.connamespace = 'staging'::regnamespace",
    )
    declared = {
        (shape.name, key.columns[0], key.table, True)
        for shape in staging_shapes()
        for key in shape.foreign_keys
    }
    assert len(found) == len(declared)
    assert set(found) == declared


def test_the_mistyped_study_is_in_quarantine(loaded: Loaded) -> None:
    """A study that cannot be typed is kept aside with its reason; the others pass the checks."""
    [row] = loaded.lake.snapshots.quarantine(loaded.manifest.snapshot_id).to_pylist()
    assert row["nct_id"] == MISTYPED
    assert "patientRegistry" in row["reason"]
    check_results = snapshot_check_results(loaded.manifest, loaded.settings)
    assert [
        name
        for name, check_result in check_results.items()
        if check_result.blocking and not check_result.passed
    ] == []
    ids = {nct_id for (nct_id,) in query(loaded.address, "SELECT nct_id FROM staging.studies")}
    assert ids == {_nct_id(study) for study in loaded.studies} - {MISTYPED}


def test_studies_in_an_old_shape_are_loaded_and_reported(loaded: Loaded) -> None:
    """Fields of the API's beta are reported as drift and kept; their studies are in the tables."""
    assert loaded.manifest.unknown_fields == OLD_SHAPE
    drift = check_drift(loaded.manifest)
    assert (drift.passed, drift.blocking, drift.facts) == (False, False, OLD_SHAPE)
    found = query(
        loaded.address,
        "SELECT path, count(*) FROM staging.extras JOIN staging.studies USING (nct_id) GROUP BY path",
    )
    assert dict(found) == OLD_SHAPE


def _nct_id(study: Study) -> str:
    nct_id: str = study["protocolSection"]["identificationModule"]["nctId"]
    return nct_id
