"""An undo, down to the tables, and as receivers of the feed hear of it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from ctg_assets.cli.status import warehouse_facts
from ctg_assets.extract.extractions import ExtractionMode, ExtractionState
from ctg_assets.feed.config import FilterSettings
from ctg_assets.feed.events import ChangeEvent
from ctg_assets.feed.filters import Filter
from ctg_assets.feed.history_events import HistoryEvents
from ctg_assets.history.recording import Recorder
from ctg_assets.history.undo import Author, UndoError
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.months import remove_months
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.postgres.builds import rewritten
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.postgres.ownership import note_relations, note_schema
from ctg_assets.refresh.desired_state import WarehouseState, actual_state, desired_state
from ctg_assets.refresh.pending import unrecorded
from ctg_assets.refresh.planner import Idle, Stage, Step, next_build_step
from ctg_assets.refresh.retention import prune
from ctg_assets.refresh.status import warehouse_status
from ctg_assets.refresh.undo import take_back, undoer
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.support.lakes import FIRST_DATA, NEXT_DATA, completed, json_of, planned
from ctg_assets_tests.support.postgres import query

AUTHOR = Author(command="ctg-assets history undo 2", user="tester", host="here")
LAST_DATA = "2026-11-22T09:00:05"

# What tells two loads apart that hold the same.
_BOOKKEEPING = {"change_seq", "recorded_at", "extraction_id", "page"}
_TABLES = (
    "study_versions",
    "study_changes",
    "study_field_changes",
    "study_events",
    "studies",
    "sponsors",
)


def _record(
    lake: Lake,
    settings: Settings,
    *studies: bytes,
    at: str = FIRST_DATA,
    mode: ExtractionMode = ExtractionMode.FULL,
) -> str:
    plan = planned(lake, settings, studies=len(studies), data_timestamp=at, mode=mode)
    completed(lake, plan, studies)
    Recorder(lake.storage, lake.scratch).record(plan.extraction_id)
    return plan.extraction_id


def _history(lake: Lake, settings: Settings, *, with_mistake: bool = True) -> None:
    """A walk, an import that is a mistake, a walk that finds one study changed and one gone."""
    _record(lake, settings, *json_of(1, 2, 3))
    if with_mistake:
        wrong = [*json_of(1, title="Wrong"), *json_of(9)]
        _record(lake, settings, *wrong, at=NEXT_DATA, mode=ExtractionMode.IMPORT)
    _record(lake, settings, *json_of(1), *json_of(2, title="New"), at=LAST_DATA)


def _load(lake: Lake, address: PostgresAddress) -> SnapshotManifest:
    entry = lake.history.latest()
    assert entry is not None
    manifest = Compactor(lake.storage, lake.scratch).compact(entry.extraction_id)
    load_staging(address, lake, manifest)
    return manifest


def _held(address: PostgresAddress, table: str) -> list[Any]:
    columns = [
        name
        for (name,) in query(
            address,
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'staging' "
            f"AND table_name = '{table}' ORDER BY ordinal_position",
        )
        if name not in _BOOKKEEPING
    ]
    return sorted(query(address, f"SELECT {', '.join(columns)} FROM staging.{table}"), key=repr)


def test_tables_are_as_without_what_was_undone(
    settings: Settings, address: PostgresAddress, server: PostgresAddress, tmp_path: Any
) -> None:
    """Loaded with the mistake, undone, loaded again by the steps that are then to be done.

    The undone extraction is not recorded again, and its shards go with the next pruning.
    """
    lake = open_lake(settings)
    _history(lake, settings)
    _load(lake, address)
    assert len(_held(address, "studies")) == 2
    database = settings.model_copy(update={"postgres_url": address.url})

    def step() -> Any:
        return next_build_step(database, lake)

    record, _ = undoer(lake).undo(2, AUTHOR)
    assert unrecorded(settings, lake) == []
    following = step()
    assert isinstance(following, Step)
    assert following.stage is Stage.SNAPSHOT
    entry = lake.history.latest()
    assert entry is not None
    Compactor(lake.storage, lake.scratch).compact(entry.extraction_id)
    following = step()
    assert isinstance(following, Step)
    assert following.stage is Stage.STAGING
    _load(lake, address)
    other = open_lake(settings.model_copy(update={"data_dir": tmp_path / "other"}))
    _history(other, settings, with_mistake=False)
    with new_database(server) as expected:
        _load(other, expected)
        for table in _TABLES:
            assert _held(address, table) == _held(expected, table), table
    assert _held(address, "study_field_changes")
    [undone] = record.extractions
    assert lake.extractions.state(undone) is ExtractionState.SUPERSEDED
    assert undone in prune(lake, keep_extractions=2)


def test_a_delta_follows_an_undo_that_the_tables_never_saw(
    settings: Settings, address: PostgresAddress, server: PostgresAddress, tmp_path: Any
) -> None:
    """Changes that kept their numbers are loaded though those numbers are below the new ones."""
    lake = open_lake(settings)
    _record(lake, settings, *json_of(*range(1, 41)))
    _load(lake, address)
    _record(lake, settings, *json_of(1, title="Wrong"), at=NEXT_DATA, mode=ExtractionMode.IMPORT)
    _record(
        lake,
        settings,
        *json_of(
            2,
            title="New",
        ),
        *json_of(1, *range(3, 41)),
        at=LAST_DATA,
    )
    undoer(lake).undo(2, AUTHOR)
    _load(lake, address)
    other = open_lake(settings.model_copy(update={"data_dir": tmp_path / "other"}))
    _record(other, settings, *json_of(*range(1, 41)))
    _record(other, settings, *json_of(2, title="New"), *json_of(1, *range(3, 41)), at=LAST_DATA)
    with new_database(server) as expected:
        _load(other, expected)
        for table in _TABLES:
            assert _held(address, table) == _held(expected, table), table


def _run(address: PostgresAddress, statements: str) -> None:
    with connect(address) as connection:
        connection.execute(statements.encode())


def _marts(address: PostgresAddress, statements: str) -> None:
    """Marts as dbt would make them, and beside them a table of somebody else."""
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA marts")
        note_schema(connection, "marts", "marts")
        connection.execute(statements.encode())
        note_relations(connection, "marts", ["fct_study_snapshot_monthly", "dim_snapshot_month"])
        connection.execute("CREATE TABLE marts.of_others AS SELECT 1 AS one")


_MONTHLY = """
CREATE TABLE marts.fct_study_snapshot_monthly (nct_id text, snapshot_month date);
CREATE TABLE marts.dim_snapshot_month (snapshot_month date, data_date date);
"""


def test_nothing_is_shown_when_nothing_is_left(
    settings: Settings, address: PostgresAddress
) -> None:
    """The only entry taken back: our tables are empty, what others have stays, and a load fills them again."""
    database = settings.model_copy(update={"postgres_url": address.url})
    lake = open_lake(database)
    studies = json_of(1, 2, 3)
    _record(lake, settings, *studies, mode=ExtractionMode.IMPORT)
    _load(lake, address)
    _marts(
        address, _MONTHLY + "INSERT INTO marts.fct_study_snapshot_monthly VALUES ('NCT00000001')"
    )
    _run(address, "CREATE VIEW public.theirs AS SELECT nct_id FROM staging.studies")
    held = {table: _held(address, table) for table in _TABLES}
    note_built(address)
    assert actual_state(database).marts

    with pytest.raises(UndoError):
        take_back(database, lake, 7, AUTHOR)
    _run(address, "CREATE TABLE public.keyed (nct_id text REFERENCES staging.studies)")
    with pytest.raises(PermanentWarehouseError, match="foreign key keyed_nct_id_fkey"):
        take_back(database, lake, 1, AUTHOR)
    assert {table: _held(address, table) for table in _TABLES} == held
    assert lake.history.undos() == []

    _run(address, "DROP TABLE public.keyed")
    take_back(database, lake, 1, AUTHOR)
    shown = warehouse_status(database)
    assert shown.staging_rows
    assert set(shown.staging_rows.values()) == {0}
    assert set((shown.marts_rows or {}).values()) == {0}
    assert "taken back" in str(warehouse_facts(shown))
    assert query(address, "SELECT count(*) FROM public.theirs") == [(0,)]
    assert query(address, "SELECT one FROM marts.of_others") == [(1,)]
    assert actual_state(database) == WarehouseState()
    following = next_build_step(database, lake)
    assert isinstance(following, Idle)
    assert not following.blocked

    _record(lake, settings, *studies, mode=ExtractionMode.IMPORT)
    manifest = _load(lake, address)
    assert {table: _held(address, table) for table in _TABLES} == held
    # The marts, too, count as not built.
    again = actual_state(database)
    assert again.tables == desired_state(database, manifest).tables
    assert {*again.marts.values()} == {""}


def test_what_is_of_another_registry_is_no_reason_to_go_on_showing_an_import(
    settings: Settings, address: PostgresAddress
) -> None:
    """What is left is of a registry that the settings do not name any more: it is not loaded either."""
    lake = open_lake(settings)
    _record(lake, settings, *json_of(1, 2))
    _record(lake, settings, *json_of(9), at=NEXT_DATA, mode=ExtractionMode.IMPORT)
    _load(lake, address)
    elsewhere = settings.model_copy(
        update={"postgres_url": address.url, "api_url": "http://127.0.0.1:9/other"}
    )
    take_back(elsewhere, lake, 2, AUTHOR)
    assert query(address, "SELECT count(*) FROM staging.studies") == [(0,)]
    assert len(lake.history.entries()) == 1


def test_months_of_which_nothing_is_left_are_removed(
    settings: Settings, address: PostgresAddress
) -> None:
    """Those that were written as of what was undone; months of other days, and observed ones, stay."""
    lake = open_lake(settings)
    _history(lake, settings)
    _load(lake, address)
    days = {
        "gone": date(2026, 10, 9),
        "of another day": date(2026, 9, 30),
        "observed": date(2026, 11, 5),
    }
    filled = [
        f"INSERT INTO marts.dim_snapshot_month VALUES ('{day.replace(day=1)}', '{day}');"
        "INSERT INTO marts.fct_study_snapshot_monthly "
        f"VALUES ('NCT1', '{day.replace(day=1)}'), ('NCT2', '{day.replace(day=1)}');"
        for day in days.values()
    ]
    undone = [
        datetime(2026, month, day, 9, tzinfo=UTC) for month, day in [(10, 9), (9, 15), (11, 5)]
    ]
    assert remove_months(address, lake, undone) == {}
    _marts(address, "".join([_MONTHLY, *filled]))
    assert rewritten(address) == {}
    assert remove_months(address, lake, undone) == {date(2026, 10, 1): 2}
    assert rewritten(address).keys() == {"dim_snapshot_month", "fct_study_snapshot_monthly"}
    left = {day.replace(day=1) for name, day in days.items() if name != "gone"}
    for table in ("dim_snapshot_month", "fct_study_snapshot_monthly"):
        found = query(address, f"SELECT DISTINCT snapshot_month FROM marts.{table}")
        assert {month for (month,) in found} == left


def _all(lake: Lake, after: int = 0) -> list[ChangeEvent]:
    source = HistoryEvents(lake.history)
    found: list[ChangeEvent] = []
    while part := source.events(found[-1].change_seq if found else after, 2):
        found += part
    return found


def _state(events: list[ChangeEvent]) -> dict[str, str]:
    there: dict[str, str] = {}
    for event in events:
        if event.new_content_hash is None:
            there.pop(event.nct_id, None)
        elif not event.is_backfill:
            there[event.nct_id] = event.new_content_hash
    return there


def test_receivers_are_told(lake: Lake, settings: Settings) -> None:
    """Whoever had everything, and whoever begins anew, ends with what is there, each number once."""
    _history(lake, settings)
    before = _all(lake)
    undoer(lake).undo(2, AUTHOR)
    after = _all(lake, before[-1].change_seq)
    current = lake.history.periods().filter(pl.col("valid_to").is_null())
    there = dict(current.select("nct_id", "content_hash").iter_rows())
    assert _state([*before, *after]) == there
    assert _state(_all(lake)) == there
    numbers = [event.change_seq for event in [*before, *after]]
    assert numbers == sorted(set(numbers))
    undone = [event for event in after if event.kind == "undone"]
    withdrawn = {event.undoes.change_seq: event for event in undone if event.undoes is not None}
    assert {e.change_seq for e in before} - {e.change_seq for e in _all(lake)} == set(withdrawn)
    assert HistoryEvents(lake.history).newest() == after[-1].change_seq


def test_who_wanted_a_change_hears_that_it_is_undone(lake: Lake, settings: Settings) -> None:
    """By the filters that let the change pass; once nothing is known of it any more, by fewer."""
    _history(lake, settings)
    before = {event.change_seq: event for event in _all(lake)}
    record, _ = undoer(lake).undo(2, AUTHOR)
    filters = [
        Filter(FilterSettings(events=("insert",))),
        Filter(FilterSettings(events=("update",))),
        Filter(FilterSettings(nct_ids=("NCT00000009",))),
        Filter(FilterSettings(sponsors=("nobody",))),
    ]
    undone = [event for event in _all(lake) if event.undoes is not None]
    assert undone
    for event in undone:
        assert event.undoes is not None
        change = before[event.undoes.change_seq]
        assert event.title == change.title
        for each in filters[:3]:
            assert each.passes(event) == each.passes(change)
    assert Filter(FilterSettings(events=("undone",))).passes(undone[0])
    lake.history.prune_withdrawn(record.undone_at.replace(year=2099))
    pruned = [event for event in _all(lake) if event.undoes is not None]
    assert [event.event_id for event in pruned] == [event.event_id for event in undone]
    assert any(filters[3].passes(event) for event in pruned)
