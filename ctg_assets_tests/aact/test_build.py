"""Making AACT's tables from staging, as a whole and what changed, with readers, odd values and kills in the way."""

from __future__ import annotations

import os
import shutil
import signal
import string
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import psycopg
import pytest

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.checks import check_row_counts, check_values_fit
from ctg_assets.aact.request import CtgovReport, CtgovRequest, StagingMovedError
from ctg_assets.aact.schema import aact_tables
from ctg_assets.aact.state import held_fingerprint
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.emptying import emptied
from ctg_assets.load.request import LoadProgress
from ctg_assets.load.staging import load_staging
from ctg_assets.metrics import SAVED, WRITES
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import ForeignObjectError, PermanentWarehouseError
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.settings import Settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.support.counting import NotedCounters
from ctg_assets_tests.support.lakes import FIRST_DATA, completed, json_of, planned
from ctg_assets_tests.support.postgres import index_kinds, query
from ctg_assets_tests.support.processes import forked
from ctg_assets_tests.support.shared_states import made_database, run_folder

_SOURCE = GeneratedSource(48, seed=9)
LONG = "".join(Random(7).choices(string.ascii_letters, k=10_000))
# Of fewer, one that changes is so large a part that all are loaded anew.
_MANY = range(44)


def _studies(*indexes: int, **changes: str) -> list[bytes]:
    """Generated studies; `changes` gives some of them (`s3=`) another title."""
    found = []
    for index in indexes:
        study = msgspec.json.decode(_SOURCE.raw(index))
        title = changes.get(f"s{index}")
        if title is not None:
            study["protocolSection"]["identificationModule"]["briefTitle"] = title
        found.append(msgspec.json.encode(study))
    return found


@dataclass(frozen=True)
class Warehouse:
    """A lake and a database with AACT's tables in it."""

    lake: Lake
    settings: Settings
    address: PostgresAddress
    counters: NotedCounters = field(default_factory=NotedCounters)

    def load(self, studies: Sequence[bytes], data_timestamp: str = FIRST_DATA) -> None:
        """Bring staging to these studies."""
        plan = planned(
            self.lake, self.settings, studies=len(studies), data_timestamp=data_timestamp
        )
        completed(self.lake, plan, studies)
        manifest = Compactor(self.lake.storage, self.lake.scratch).compact(plan.extraction_id)
        load_staging(self.address, self.lake, manifest)

    def build(self) -> CtgovReport:
        """Bring AACT's tables to what staging holds."""
        return build_ctgov(CtgovRequest(self.address, counters=self.counters))

    def written_with(self, title: str) -> int:
        """How many rows of all tables were written in the transaction that wrote the study of a title."""
        [(writer,)] = query(
            self.address, f"SELECT xmin::text FROM ctgov.studies WHERE brief_title = '{title}'"
        )
        counted = (
            f"SELECT count(*) FROM ctgov.{table.name} WHERE xmin::text = '{writer}'"
            for table in aact_tables()
        )
        return sum(query(self.address, statement)[0][0] for statement in counted)

    def rows(self, schema: str = "ctgov") -> dict[str, list[str]]:
        """Every row of every table, as text, in order."""
        return {
            table.name: [
                text
                for (text,) in query(
                    self.address, f"SELECT t::text FROM {schema}.{table.name} AS t ORDER BY 1"
                )
            ]
            for table in aact_tables()
        }

    def tables(self) -> dict[str, int]:
        """AACT's tables, each with what tells its table from another of the name."""
        statement = (
            "SELECT relname, oid FROM pg_class WHERE relnamespace = 'ctgov'::regnamespace"
            " AND relkind = 'r'"
        )
        return dict(query(self.address, statement))


@pytest.fixture
def warehouse(lake: Lake, settings: Settings, address: PostgresAddress) -> Warehouse:
    """A database of the test's own in which AACT's tables are wanted."""
    return Warehouse(lake, settings, replace(address, schemas=Schemas()))


@pytest.fixture
def of_two(server: PostgresAddress, settings: Settings) -> Iterator[Warehouse]:
    """The same, in which two studies were loaded, and AACT's tables made of them, once for all."""

    def make(address: PostgresAddress, folder: Path) -> None:
        own = settings.model_copy(update={"data_dir": folder / "data"})
        made = Warehouse(open_lake(own), own, replace(address, schemas=Schemas()))
        made.load(_studies(1, 2))
        made.build()

    made_database(server, "aact_of_two", make)
    shutil.copytree(run_folder() / "aact_of_two" / "data", settings.data_dir, dirs_exist_ok=True)
    with new_database(server, "aact_of_two") as address:
        yield Warehouse(open_lake(settings), settings, replace(address, schemas=Schemas()))


@contextmanager
def anew(warehouse: Warehouse, server: PostgresAddress) -> Iterator[Warehouse]:
    """Another database that holds the newest snapshot, loaded and made as a whole."""
    with new_database(server) as address:
        other = replace(warehouse, address=replace(address, schemas=Schemas()))
        manifest = other.lake.snapshots.latest()
        assert manifest is not None
        load_staging(other.address, other.lake, manifest)
        assert other.build().changed_studies is None
        yield other


def test_tables_follow_what_changed(warehouse: Warehouse, server: PostgresAddress) -> None:
    """After studies changed, came and went, only their rows are replaced, and all is as made anew.

    The tables stay the same tables; so do rows of other studies. 3 s.
    """
    warehouse.load(_studies(*_MANY))
    first = warehouse.build()
    assert first.changed_studies is None
    before = warehouse.tables()
    saved = sum(map(len, warehouse.rows().values()))
    assert warehouse.counters.of(SAVED.name) == {("ctgov",): saved}
    warehouse.load(
        _studies(*range(1, 45), s3="Another Title", s5="Yet Another"), "2026-11-22T09:00:05"
    )
    # Study 0 went, 44 came, 3 and 5 changed.
    report = warehouse.build()
    assert report.changed_studies == 4
    assert warehouse.tables() == before
    saved += warehouse.written_with("Another Title")
    assert warehouse.counters.of(SAVED.name) == {("ctgov",): saved}
    assert warehouse.counters.of(WRITES.name) == {("ctgov", "full"): 1, ("ctgov", "delta"): 1}
    with anew(warehouse, server) as whole:
        assert warehouse.rows() == whole.rows()
        assert report.rows == {name: len(rows) for name, rows in whole.rows().items()}
        assert held_fingerprint(warehouse.address) == held_fingerprint(whole.address)
    titles = query(warehouse.address, "SELECT brief_title FROM ctgov.studies")
    assert {("Another Title",), ("Yet Another",)} <= set(titles)


def test_a_text_too_long_for_a_b_tree_stops_no_build(warehouse: Warehouse) -> None:
    """Changes that an index of AACT's alone refuses make whole tables, once; later ones are changes in place. 3 s."""
    # Staging has no index on classes of sponsors, so that it takes the change in place.
    index = "sponsors_agency_class_idx"
    found = []
    for day, name in ((20, "OTHER"), (21, LONG), (22, LONG[::-1])):
        studies = _studies(*_MANY)
        content = msgspec.json.decode(studies[3])
        content["protocolSection"]["sponsorCollaboratorsModule"]["leadSponsor"]["class"] = name
        warehouse.load([*studies[:3], msgspec.json.encode(content), *studies[4:]], f"2026-11-{day}")
        is_whole = warehouse.build().changed_studies is None
        found.append((is_whole, index_kinds(warehouse.address, "ctgov")[index]))
        there = f"SELECT count(*) > 0 FROM ctgov.sponsors WHERE agency_class = '{name}'"
        assert query(warehouse.address, there) == [(True,)]
    assert found == [(True, "btree"), (True, "spgist"), (False, "spgist")]
    kinds = query(warehouse.address, "SELECT kind FROM ctg_meta.loads ORDER BY load_number")
    assert kinds == [("full",), ("delta",), ("delta",)]
    assert index_kinds(warehouse.address, "ctgov")["sponsors_name_idx"] == "btree"


def test_nothing_changed(of_two: Warehouse) -> None:
    """Making the tables again when nothing changed replaces no study."""
    before = of_two.rows()
    assert of_two.build().changed_studies == 0
    assert of_two.rows() == before


def test_a_table_that_somebody_dropped_comes_back(of_two: Warehouse) -> None:
    """Then the tables are made as a whole."""
    before = of_two.rows()
    query(of_two.address, "DROP TABLE ctgov.keywords CASCADE")
    assert held_fingerprint(of_two.address) is None
    assert of_two.build().changed_studies is None
    assert of_two.rows() == before
    assert query(of_two.address, "SELECT count(*) >= 0 FROM ctgov.all_keywords") == [(True,)]
    assert query(of_two.address, "SELECT count(*) >= 0 FROM ctgov_2023.keywords") == [(True,)]


def test_every_row_of_staging_is_there(warehouse: Warehouse) -> None:
    """Each table has as many rows as its staging table, and a check would say if it had not."""
    warehouse.load(_studies(*range(16)))
    rows = warehouse.build().rows
    staging = {
        table.name: query(warehouse.address, f"SELECT count(*) FROM staging.{table.name}")[0][0]
        for table in aact_tables()
        if table.query is not None
    }
    assert {name: rows[name] for name in staging} == staging
    assert len(staging) == 46
    assert check_row_counts(staging, rows).passed
    found = check_row_counts({**staging, "keywords": staging["keywords"] + 1}, rows)
    assert not found.passed
    assert "keywords" in found.description


def test_numbers_beyond_the_types_of_aact_stop_nothing(warehouse: Warehouse) -> None:
    """A count that no integer of Postgres holds, or a place beyond the poles, is NULL here and told of."""
    study = msgspec.json.decode(_SOURCE.raw(1))
    protocol = study["protocolSection"]
    protocol["designModule"]["enrollmentInfo"] = {"count": 3_000_000_000, "type": "ACTUAL"}
    protocol.setdefault("contactsLocationsModule", {})["locations"] = [
        {"facility": "Nowhere", "geoPoint": {"lat": 123456.5, "lon": -12.3456789}},
        {"facility": "Somewhere", "geoPoint": {"lat": 48.2083537, "lon": 16.3725042}},
    ]
    warehouse.load([msgspec.json.encode(study), *_studies(2)])
    report = warehouse.build()
    assert report.not_fitting == {"studies.enrollment": 1, "facilities.latitude": 1}
    check = check_values_fit(report.not_fitting)
    assert (check.passed, check.blocking) == (False, False)
    assert "studies.enrollment (1)" in check.description
    nct_id = protocol["identificationModule"]["nctId"]
    enrollment = f"SELECT enrollment FROM ctgov.studies WHERE nct_id = '{nct_id}'"
    assert query(warehouse.address, enrollment) == [(None,)]
    places = f"SELECT latitude::text, longitude::text FROM ctgov.facilities WHERE nct_id = '{nct_id}' ORDER BY id"
    assert query(warehouse.address, places) == [(None, "-12.345679"), ("48.208354", "16.372504")]


def test_readers_see_the_old_state_or_the_new_at_once(warehouse: Warehouse) -> None:
    """Somebody who keeps reading two tables during whole builds and deltas finds them in step, and never waits a second."""
    warehouse.load(json_of(*range(1, 45)))
    warehouse.build()
    stop = threading.Event()
    seen: set[tuple[int, int, int]] = set()
    waits: list[float] = []

    def poll() -> None:
        with connect(warehouse.address) as connection:
            while not stop.is_set():
                began = time.perf_counter()
                row = connection.execute(
                    "SELECT (SELECT count(*) FROM ctgov.studies), (SELECT count(*) FROM ctgov.calculated_values),"
                    " (SELECT count(*) FROM ctgov_2023.designs JOIN ctgov.studies USING (nct_id))"
                ).fetchone()
                waits.append(time.perf_counter() - began)
                assert row is not None
                seen.add(row)

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        warehouse.load(json_of(*range(1, 47)), "2026-11-22T09:00:05")
        assert warehouse.build().changed_studies == 2
        query(warehouse.address, "DELETE FROM ctg_meta.watermarks WHERE node = 'ctgov'")
        assert warehouse.build().changed_studies is None
    finally:
        stop.set()
        reader.join()
    assert {studies for studies, _, _ in seen} == {44, 46}
    assert all(studies == calculated for studies, calculated, _ in seen)
    # 0.7 s at most on a quiet machine; a swap that held readers off would take the time of the whole build.
    assert max(waits) < 3


def test_what_people_have_built_on_the_tables_stays(warehouse: Warehouse) -> None:
    """Views, materialized views, foreign keys and grants outlive whole builds, and show the new rows."""
    address = warehouse.address
    warehouse.load(json_of(*range(1, 45)))
    warehouse.build()
    query(address, "CREATE SCHEMA mine")
    query(address, "CREATE VIEW mine.titles AS SELECT nct_id, brief_title FROM ctgov.studies")
    query(
        address, "CREATE VIEW mine.named AS SELECT nct_id, overall_status FROM ctgov_2023.studies"
    )
    query(
        address, "CREATE MATERIALIZED VIEW mine.counted AS SELECT count(*) AS n FROM ctgov.studies"
    )
    query(address, "CREATE TABLE mine.picked (nct_id varchar REFERENCES ctgov.studies)")
    query(address, "CREATE TABLE ctgov.notes_of_mine (note text)")
    query(address, "GRANT SELECT ON ctgov.studies, ctgov_2023.studies TO PUBLIC")
    for studies, whole in ((45, True), (46, False)):
        if whole:
            query(address, "DELETE FROM ctg_meta.watermarks WHERE node = 'ctgov'")
        warehouse.load(json_of(*range(1, studies + 1)), f"2026-11-{studies - 20}T09:00:05")
        assert (warehouse.build().changed_studies is None) is whole
        assert query(address, "SELECT count(*) FROM mine.titles") == [(studies,)]
        assert query(address, "SELECT count(*) FROM mine.named") == [(studies,)]
        assert query(address, "SELECT n FROM mine.counted") == [(studies,)]
        assert query(address, "SELECT count(*) FROM ctgov.notes_of_mine") == [(0,)]
        keys = query(
            address,
            "SELECT confrelid::regclass::text FROM pg_constraint WHERE conrelid = 'mine.picked'::regclass",
        )
        assert keys == [("ctgov.studies",)]
        for relation in ("ctgov.studies", "ctgov_2023.studies"):
            granted = query(
                address, f"SELECT has_table_privilege('public', '{relation}', 'SELECT')"
            )
            assert granted == [(True,)], relation


def test_a_schema_of_somebody_is_left_alone(warehouse: Warehouse) -> None:
    """Who has restored AACT's own dump into schema ctgov keeps it, and is told what to set."""
    query(warehouse.address, "CREATE SCHEMA ctgov")
    query(warehouse.address, "CREATE TABLE ctgov.studies (nct_id varchar)")
    with pytest.raises(ForeignObjectError, match="CTG_CTGOV_SCHEMA"):
        warehouse.load(_studies(1))
    other = replace(
        warehouse,
        address=replace(warehouse.address, schemas=Schemas(ctgov="aact", ctgov_2023="aact_old")),
    )
    other.load(_studies(1))
    other.build()
    assert query(warehouse.address, "SELECT count(*) FROM aact_old.studies") == [(1,)]
    assert query(warehouse.address, "SELECT count(*) FROM ctgov.studies") == [(0,)]


def test_staging_that_is_not_loaded_is_said(warehouse: Warehouse) -> None:
    """Without tables to make AACT's from the error says what to do; so it does where they are switched off."""
    with pytest.raises(PermanentWarehouseError, match="load them first"):
        warehouse.build()
    switched_off = replace(warehouse.address, schemas=Schemas(ctgov=None, ctgov_2023=None))
    with pytest.raises(PermanentWarehouseError, match="CTG_AACT=true"):
        build_ctgov(CtgovRequest(switched_off))


def test_a_load_in_between_is_noticed(of_two: Warehouse) -> None:
    """If staging is loaded while AACT's tables are made, nothing is mixed: the old state stays."""
    before = of_two.rows()
    query(of_two.address, "DELETE FROM ctg_meta.watermarks WHERE node = 'ctgov'")
    loaded: list[LoadProgress] = []

    def load_once(progress: LoadProgress) -> None:
        if not loaded:
            loaded.append(progress)
            of_two.load(_studies(1, 2, 3), "2026-11-22T09:00:05")

    with pytest.raises(StagingMovedError):
        build_ctgov(CtgovRequest(of_two.address, progress=load_once))
    assert of_two.rows() == before
    of_two.build()
    assert query(of_two.address, "SELECT count(*) FROM ctgov.studies") == [(3,)]
    assert query(of_two.address, "SELECT to_regnamespace('ctgov_next')") == [(None,)]


def test_what_was_taken_back_meanwhile_is_not_put_in_place(of_two: Warehouse) -> None:
    """If staging is emptied while AACT's tables are made from it, they stay empty."""
    query(of_two.address, "DELETE FROM ctg_meta.watermarks WHERE node = 'ctgov'")
    told: list[LoadProgress] = []

    def empty_at_the_end(progress: LoadProgress) -> None:
        told.append(progress)
        if progress.done == progress.total:
            with emptied(of_two.address):
                pass

    with pytest.raises(StagingMovedError):
        build_ctgov(CtgovRequest(of_two.address, progress=empty_at_the_end))
    assert told
    assert query(of_two.address, "SELECT count(*) FROM ctgov.studies") == [(0,)]


def _build_and_die(address: PostgresAddress, steps: int) -> None:
    left = iter(range(steps))

    def die(_: LoadProgress) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    build_ctgov(CtgovRequest(address, progress=die))


@pytest.mark.process
@pytest.mark.parametrize("whole", [True, False])
def test_a_killed_build_leaves_the_old_state(warehouse: Warehouse, *, whole: bool) -> None:
    """Killed at its beginning or in the middle, a build has changed nothing; the next one does it. 3 s."""
    warehouse.load(json_of(*range(1, 45)))
    warehouse.build()
    before = warehouse.rows()
    warehouse.load(json_of(*range(1, 46)), "2026-11-22T09:00:05")
    if whole:
        query(warehouse.address, "DELETE FROM ctg_meta.watermarks WHERE node = 'ctgov'")
    for steps in (0, 26):
        assert forked(_build_and_die, warehouse.address, steps) == -signal.SIGKILL
        assert warehouse.rows() == before
    report = warehouse.build()
    assert (report.changed_studies is None) is whole
    assert query(warehouse.address, "SELECT count(*) FROM ctgov.studies") == [(45,)]


def test_what_is_emptied_is_made_anew(of_two: Warehouse) -> None:
    """When everything recorded is taken back AACT's tables are empty, too, and the next build fills them."""
    with emptied(of_two.address):
        assert query(of_two.address, "SELECT count(*) FROM ctgov.studies") == [(0,)]
        assert query(of_two.address, "SELECT count(*) FROM ctgov_2023.sponsors") == [(0,)]
    assert held_fingerprint(of_two.address) == ""
    of_two.load(_studies(1, 2))
    of_two.build()
    assert query(of_two.address, "SELECT count(*) FROM ctgov.studies") == [(2,)]


def test_who_may_not_switch_off_triggers_gets_whole_tables(
    of_two: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user without the right to replace rows in place makes the tables as a whole instead."""
    of_two.load(_studies(1, 2, 3), "2026-11-22T09:00:05")

    def refuse(*_: Any) -> CtgovReport:
        raise psycopg.errors.InsufficientPrivilege("permission denied to set parameter")

    monkeypatch.setattr("ctg_assets.aact.build.replace_changed", refuse)
    assert of_two.build().changed_studies is None
    assert query(of_two.address, "SELECT count(*) FROM ctgov.studies") == [(3,)]
