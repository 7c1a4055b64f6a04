"""From the snapshot into a real Postgres, and the fingerprints that tell whether that is to be done."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.lake import Lake
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.load.staging import load_staging
from ctg_assets.marts import dbt_project
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.metrics import RECORDS, SAVED, WRITE_ERRORS, WRITES
from ctg_assets.model.dependencies import row_digests
from ctg_assets.model.tables import staging_tables
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import LoadRejectedError
from ctg_assets.refresh.desired_state import WarehouseState, actual_state, desired_state
from ctg_assets.settings import Settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.snapshot.typed_contents import TypedContents, type_contents
from ctg_assets.times import parse_data_timestamp
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.support.counting import NotedCounters
from ctg_assets_tests.support.lakes import FIRST_DATA, NEXT_DATA, completed, json_of, planned
from ctg_assets_tests.support.postgres import query, take_as_built


@pytest.fixture
def database(settings: Settings, address: PostgresAddress) -> Settings:
    """Settings that lead to the test's own database."""
    return settings.model_copy(update={"postgres_url": address.url})


def _snapshot(
    lake: Lake, settings: Settings, studies: Sequence[bytes], data_timestamp: str = FIRST_DATA
) -> SnapshotManifest:
    plan = planned(lake, settings, studies=len(studies), data_timestamp=data_timestamp)
    completed(lake, plan, studies)
    return Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)


def _generated(studies: int) -> list[bytes]:
    source = GeneratedSource(studies, seed=9)
    return [source.raw(index) for index in range(studies)]


def test_the_database_holds_what_was_wanted(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """After a load and a build of the marts the database's state is the one wanted of the snapshot."""
    assert actual_state(database) == WarehouseState()
    manifest = _snapshot(lake, database, _generated(40))
    wanted = desired_state(database, manifest)

    report = load_staging(address, lake, manifest)
    assert report.rows.keys() == {shape.name for shape in staging_shapes()}
    assert report.rows["studies"] == manifest.studies == 40
    counted = query(address, "SELECT count(*), count(DISTINCT nct_id) FROM staging.studies")
    assert counted == [(40, 40)]
    assert actual_state(database) == WarehouseState(wanted.tables, wanted.data_timestamp)

    note_built(address)
    assert actual_state(database) == wanted


def test_other_studies_are_wanted_and_the_same_ones_are_not(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """A later data version of the same studies changes only the timestamp; a changed study, the tables."""
    first = _snapshot(lake, database, json_of(1, 2, 3))
    load_staging(address, lake, first)
    state = actual_state(database)

    same = desired_state(database, _snapshot(lake, database, json_of(3, 2, 1), NEXT_DATA))
    assert same.tables == state.tables
    assert (same.data_timestamp, state.data_timestamp) == (NEXT_DATA, FIRST_DATA)

    changed = _snapshot(lake, database, [*json_of(1, 2), *json_of(3, title="Changed")], NEXT_DATA)
    assert not desired_state(database, changed).tables.items() & state.tables.items()
    load_staging(address, lake, changed)
    assert actual_state(database).tables == desired_state(database, changed).tables
    titles = query(address, "SELECT brief_title FROM staging.studies ORDER BY nct_id")
    assert titles == [("A Study",), ("A Study",), ("Changed",)]


def test_some_tables_of_a_newer_snapshot_are_not_the_whole(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """After a subset the others are still older, so the tables as a whole are wanted again."""
    load_staging(address, lake, _snapshot(lake, database, json_of(1, 2)))
    note_built(address)
    newer = _snapshot(
        lake, database, [*json_of(1), *json_of(2, title="Changed")], data_timestamp=NEXT_DATA
    )
    report = load_staging(address, lake, newer, tables=["studies"])
    assert report.rows == {"studies": 2}
    held, wanted = actual_state(database).tables, desired_state(database, newer).tables
    assert held.keys() == wanted.keys()
    assert (held.items() & wanted.items()) == {("studies", wanted["studies"])}

    marts = actual_state(database).marts
    note_built(address)
    assert actual_state(database).marts == marts
    load_staging(address, lake, newer)
    note_built(address)
    assert actual_state(database) == desired_state(database, newer)


def test_some_tables_of_the_same_snapshot_leave_the_whole_up_to_date(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """Loading a table once more from what is loaded changes nothing that is wanted."""
    manifest = _snapshot(lake, database, json_of(1, 2))
    load_staging(address, lake, manifest)
    load_staging(address, lake, manifest, tables=["studies", "conditions"])
    assert actual_state(database).tables == desired_state(database, manifest).tables


def _edited(studies: Sequence[bytes], *places: int, **changes: Any) -> list[bytes]:
    """The studies, those at some places with another title and status and `changes` at their top."""
    edited = list(studies)
    for place in places:
        content = msgspec.json.decode(edited[place])
        content["protocolSection"]["identificationModule"]["briefTitle"] = f"Edited {changes}"
        content["protocolSection"]["statusModule"]["overallStatus"] = "WITHDRAWN"
        edited[place] = msgspec.json.encode({**content, **changes})
    return edited


def _all_rows(address: PostgresAddress) -> dict[str, list[str]]:
    """The rows of all staging tables, sorted."""
    return {
        shape.name: sorted(map(str, query(address, f'SELECT * FROM staging."{shape.name}"')))
        for shape in staging_shapes()
    }


def test_changed_studies_give_the_tables_that_all_studies_give(
    lake: Lake,
    database: Settings,
    address: PostgresAddress,
    server: PostgresAddress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Updates, removals, drift, quarantine, older contents: row by row the tables are as loaded whole."""
    monkeypatch.setattr("ctg_assets.snapshot.compaction._MOST_REPLACED", 1.0)
    first = _generated(40)
    second = [*_edited(first, 3, 8)[:-2], *_generated(41)[-1:]]
    third = [*_edited(second, 12, novel={"a": 1}), *first[-1:]]
    fourth = _edited(third, 20, hasResults="mistyped")
    fifth = [*_edited(fourth, 12)[:-1], *first[-2:-1], b"{}"]
    for day, studies in enumerate([first, second, third, fourth, fifth], start=20):
        manifest = _snapshot(lake, database, studies, f"2026-11-{day}T09:00:05")
        load_staging(address, lake, manifest)
    older = planned(
        lake, database, data_timestamp="2026-11-21T12:00:00", mode=ExtractionMode.IMPORT
    )
    completed(lake, older, [*_edited(first, 3, 30, old=True), *json_of(77_777_777)])
    manifest = Compactor(lake.storage, lake.scratch).compact(older.extraction_id)
    load_staging(address, lake, manifest)
    assert len(manifest.parts) == 6
    kinds = query(address, "SELECT kind FROM ctg_meta.loads ORDER BY load_number")
    assert kinds == [("full",), *[("delta",)] * 5]
    assert actual_state(database).tables == desired_state(database, manifest).tables

    with new_database(server) as other:
        assert not load_staging(other, lake, manifest).inserted_rows
        found, expected = _all_rows(address), _all_rows(other)
    assert [name for name, rows in expected.items() if found[name] != rows] == []
    assert len(expected["study_changes"]) > 50
    assert {name for name, rows in expected.items() if rows} >= {
        "extras",
        "study_versions",
        "study_events",
        "study_field_changes",
    }


def test_an_old_content_is_read_once_for_all_tables(
    lake: Lake, database: Settings, address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Former contents are told by what was read to compare rows; one that was never loaded is read by itself."""
    studies = _generated(40)
    load_staging(address, lake, _snapshot(lake, database, studies))
    edited = [studies[0].replace(b'"briefTitle":"', b'"briefTitle":"New: '), *studies[1:]]
    twice = [edited[0].replace(b"New: ", b"Newer: "), *studies[1:]]
    _snapshot(lake, database, edited, NEXT_DATA)
    typed: list[int] = []

    def counted(rows: pa.Table) -> TypedContents:
        typed.append(rows.num_rows)
        return type_contents(rows)

    monkeypatch.setattr("ctg_assets.load.history_rows.type_contents", counted)
    latest = _snapshot(lake, database, twice, "2026-11-21T09:00:05")
    report = load_staging(address, lake, latest)
    assert "commit" in report.seconds
    # The content between the two was in no table, so that nobody has compared its rows.
    assert typed == [1]
    held = query(address, "SELECT * FROM staging.study_version_reporting ORDER BY id")
    assert len(held) == 2
    with new_database(address) as other:
        load_staging(other, lake, latest)
        whole = query(other, "SELECT * FROM staging.study_version_reporting ORDER BY id")
    assert held == whole


def test_only_rows_that_differ_are_written(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """A study with another title and status has a new row of its own, and all others stay; both are counted."""
    studies = _generated(20)
    counters = NotedCounters()
    load_staging(address, lake, _snapshot(lake, database, studies), counters=counters)
    rows = _all_rows(address)
    saved = sum(map(len, rows.values()))
    assert counters.of(SAVED.name) == {("staging",): saved}
    assert counters.of(RECORDS.name) == {("load",): 20}
    manifest = _snapshot(lake, database, _edited(studies, 3), NEXT_DATA)
    report = load_staging(address, lake, manifest, counters=counters)
    new = {name: Counter(found) - Counter(rows[name]) for name, found in _all_rows(address).items()}
    saved += sum(each.total() for each in new.values())
    assert counters.of(SAVED.name) == {("staging",): saved}
    assert counters.of(RECORDS.name) == {("load",): 21}
    assert counters.of(WRITES.name) == {("staging", "full"): 1, ("staging", "delta"): 1}
    written = {name: count for name, count in report.inserted_rows.items() if count}
    assert written.keys() <= {
        "studies",
        "study_versions",
        "study_changes",
        "study_field_changes",
        # The content that is not current any more.
        "study_version_reporting",
        "study_events",
    }
    assert (written["studies"], report.deleted_rows["studies"]) == (1, 1)
    assert report.rows == {name: len(found) for name, found in _all_rows(address).items()}
    assert rows != _all_rows(address)


def test_tables_that_were_changed_by_hand_are_loaded_whole(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """If a row is not there that should be replaced, nothing is known of the others either."""
    studies = _generated(20)
    load_staging(address, lake, _snapshot(lake, database, studies))
    nct_id = msgspec.json.decode(studies[3])["protocolSection"]["identificationModule"]["nctId"]
    query(address, "SET session_replication_role = replica; DELETE FROM staging.studies")
    manifest = _snapshot(lake, database, _edited(studies, 3), NEXT_DATA)
    load_staging(address, lake, manifest)
    kinds = query(address, "SELECT kind FROM ctg_meta.loads ORDER BY load_number")
    assert kinds == [("full",), ("full",)]
    assert query(address, "SELECT count(*) FROM staging.studies") == [(20,)]
    status = f"SELECT overall_status FROM staging.studies WHERE nct_id = '{nct_id}'"
    assert query(address, status) == [("WITHDRAWN",)]


def test_a_staging_view_that_no_longer_fits_waits_for_dbt(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """A load goes through although a staging view reads a column that is gone; dbt makes it again."""
    manifest = _snapshot(lake, database, json_of(1))
    load_staging(address, lake, manifest)
    query(address, "CREATE SCHEMA staging_views")
    query(
        address, "CREATE VIEW staging_views.stg_conditions AS SELECT name FROM staging.conditions"
    )
    query(address, "ALTER TABLE staging.keywords ADD COLUMN mood text")
    query(address, "CREATE VIEW staging_views.stg_keywords AS SELECT mood FROM staging.keywords")
    take_as_built(address, "staging_views")

    report = load_staging(address, lake, manifest)
    assert report.recreated_views == ("staging_views.stg_conditions",)
    assert report.left_out_views == ("staging_views.stg_keywords",)


def test_a_table_without_the_one_it_refers_to_is_refused(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """A subset for an empty database must hold what its foreign keys need; the failure is counted."""
    manifest = _snapshot(lake, database, json_of(1, 2))
    counters = NotedCounters()
    with pytest.raises(LoadRejectedError, match="studies, which is not loaded"):
        load_staging(address, lake, manifest, ["conditions"], counters=counters)
    assert dict(counters.counted) == {(WRITE_ERRORS.name, "staging"): 1}
    assert actual_state(database) == WarehouseState()


def test_marts_of_nothing_are_not_recorded(database: Settings, address: PostgresAddress) -> None:
    """Without tables there is nothing that marts could have been built from."""
    note_built(address)
    assert actual_state(database) == WarehouseState()


# --- fingerprints ---------------------------------------------------------------------------------
@pytest.mark.process
def test_fingerprints_are_the_same_in_every_process() -> None:
    """They depend on no addresses and no order of sets, else every refresh would load everything."""
    code = (
        "from ctg_assets.model.dependencies import row_digests as digests; "
        "from ctg_assets.model.tables import staging_tables as tables; "
        "print(sorted(digests(tables()).items()))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    printed = [process.communicate()[0].strip() for process in processes]
    assert printed == [str(sorted(row_digests(staging_tables()).items()))] * 2


def test_marts_are_wanted_anew_with_the_day_and_with_their_sql(
    lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due moves on with the day, not within it, and changed SQL makes other marts."""

    def wanted(data_timestamp: str) -> dict[str, str]:
        return desired_state(settings, _snapshot(lake, settings, json_of(1), data_timestamp)).marts

    day = wanted("2026-09-20T09:00:05")
    assert wanted("2026-09-20T23:59:59") == day
    assert not wanted("2026-09-21T09:00:05").items() & day.items()
    monkeypatch.setattr("ctg_assets.marts.up_to_date.project_fingerprint", lambda: "other SQL")
    assert not wanted("2026-09-20T09:00:05").items() & day.items()


@pytest.mark.parametrize(
    ("sent", "understood"),
    [
        ("2026-11-20T09:00:05", "2026-11-20T09:00:05+00:00"),
        ("2026-11-20T09:00:05Z", "2026-11-20T09:00:05+00:00"),
        ("2026-11-20T09:00:05.123", "2026-11-20T09:00:05.123000+00:00"),
        ("2026-11-20T04:00:05-05:00", "2026-11-20T09:00:05+00:00"),
    ],
)
def test_a_data_timestamp_is_utc_unless_it_says_otherwise(sent: str, understood: str) -> None:
    """The registry leaves the offset away; should it ever write one, that one holds."""
    assert parse_data_timestamp(sent).isoformat() == understood


def test_what_is_wanted_is_spelled_as_it_will_be_read_back(
    lake: Lake, database: Settings, address: PostgresAddress
) -> None:
    """Another spelling of the registry's timestamp must not make the data look outdated for ever."""
    manifest = _snapshot(lake, database, json_of(1), "2026-11-20T04:00:05.123-05:00")
    load_staging(address, lake, manifest)
    note_built(address)
    assert actual_state(database) == desired_state(database, manifest)


def test_the_project_fingerprint_follows_sources_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models, their names and their descriptions count; what dbt writes beside them does not."""
    monkeypatch.setattr(dbt_project, "PROJECT_DIR", tmp_path)
    (tmp_path / "models").mkdir()
    model = tmp_path / "models" / "dim_study.sql"
    model.write_text("select 1")
    seen = [dbt_project.project_fingerprint()]
    for written in ("target/run/model.sql", "logs/dbt.yml", ".user.yml", "models/notes.txt"):
        (tmp_path / written).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / written).write_text("written by dbt")
    assert dbt_project.project_fingerprint() == seen[0]

    model.write_text("select 2")
    seen.append(dbt_project.project_fingerprint())
    model.rename(model.with_name("dim_site.sql"))
    seen.append(dbt_project.project_fingerprint())
    (tmp_path / "models" / "dim_site.yml").write_text("version: 2")
    seen.append(dbt_project.project_fingerprint())
    assert len(set(seen)) == 4
