"""The recorded real studies all the way from their file into a database."""

from __future__ import annotations

from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.refresh.checks import check_drift, snapshot_check_results
from ctg_assets_tests.model.row_counter import count_rows
from ctg_assets_tests.support.loaded_studies import MISTYPED, LoadedStudies, nct_id
from ctg_assets_tests.support.postgres import query

OLD_SHAPE = {
    "derivedSection.miscInfoModule.modelPredictions": 147,
    "protocolSection.armsInterventionsModule.interventions[].interventionMappedName": 28,
    "protocolSection.contactsLocationsModule.locations_nested": 42,
}


def test_every_table_has_the_rows_counted(real_studies: LoadedStudies) -> None:
    """In the database each table has the rows that are counted in the studies' JSON."""
    expected = count_rows(real_studies.in_tables)
    expected["extras"] = sum(OLD_SHAPE.values())
    # Each study was seen once, for the first time; the mistyped one as well.
    expected["study_versions"] = expected["study_changes"] = len(real_studies.studies)
    expected["study_field_changes"] = expected["study_events"] = 0
    expected["study_version_reporting"] = 0
    counts = " UNION ALL ".join(
        f"SELECT '{shape.name}', count(*) FROM staging.{shape.name}" for shape in staging_shapes()
    )
    assert dict(query(real_studies.address, counts)) == expected


def test_all_foreign_keys_are_there_and_hold(real_studies: LoadedStudies) -> None:
    """Postgres has every declared reference as a constraint, and finds no row that it does not hold for."""
    found = query(
        real_studies.address,
        "SELECT t.relname, a.attname, r.relname, p.attname FROM pg_constraint c "
        "JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class r ON r.oid = c.confrelid "
        "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1] "
        "JOIN pg_attribute p ON p.attrelid = r.oid AND p.attnum = c.confkey[1] "
        "WHERE c.contype = 'f' AND c.connamespace = 'staging'::regnamespace",
    )
    declared = {
        (shape.name, key.columns[0], key.table)
        for shape in staging_shapes()
        for key in shape.foreign_keys
    }
    assert len(found) == len(declared)
    assert {names[:3] for names in found} == declared
    leading_nowhere = " UNION ALL ".join(
        f"SELECT '{table}.{column}', {column}::text FROM staging.{table} AS t WHERE {column} IS NOT NULL "
        f"AND NOT EXISTS (SELECT FROM staging.{parent} AS p WHERE p.{key} = t.{column})"
        for table, column, parent, key in found
    )
    assert query(real_studies.address, leading_nowhere) == []


def test_only_references_to_earlier_batches_are_checked_by_postgres(
    real_studies: LoadedStudies,
) -> None:
    """All others are proved by the batches of the load, so that no table is read again for them."""
    checked = query(
        real_studies.address,
        "SELECT conrelid::regclass::text FROM pg_constraint "
        "WHERE contype = 'f' AND convalidated AND connamespace = 'staging'::regnamespace ORDER BY 1",
    )
    assert checked == [("staging.extras",)]


def test_the_mistyped_study_is_in_quarantine(real_studies: LoadedStudies) -> None:
    """A study that cannot be typed is kept aside with its reason; the others pass the checks."""
    [row] = real_studies.lake.snapshots.quarantine(real_studies.manifest.snapshot_id).to_pylist()
    assert row["nct_id"] == MISTYPED
    assert "patientRegistry" in row["reason"]
    check_results = snapshot_check_results(real_studies.manifest, real_studies.settings)
    assert [
        name
        for name, check_result in check_results.items()
        if check_result.blocking and not check_result.passed
    ] == []
    ids = {found for (found,) in query(real_studies.address, "SELECT nct_id FROM staging.studies")}
    assert ids == {nct_id(study) for study in real_studies.in_tables}


def test_studies_in_an_old_shape_are_loaded_and_reported(real_studies: LoadedStudies) -> None:
    """Fields of the API's beta are reported as drift and kept; their studies are in the tables."""
    assert real_studies.manifest.unknown_fields == OLD_SHAPE
    drift = check_drift(real_studies.manifest)
    assert (drift.passed, drift.blocking, drift.facts) == (False, False, OLD_SHAPE)
    found = query(
        real_studies.address,
        "SELECT path, count(*) FROM staging.extras JOIN staging.studies USING (nct_id) GROUP BY path",
    )
    assert dict(found) == OLD_SHAPE
