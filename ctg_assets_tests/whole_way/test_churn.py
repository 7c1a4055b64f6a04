"""A registry in motion, followed by refreshes in every mode, many of them killed: nothing is lost or made up."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.request import CtgovRequest
from ctg_assets.aact.schema import aact_tables
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.load.staging import load_staging
from ctg_assets.model.changes.typed_events import EventType
from ctg_assets.model.history_tables import HISTORY_TABLES
from ctg_assets.model.identity import identify
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.refresh.planner import Stage
from ctg_assets.setting_values import RefreshMode
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.churn import Churn, first_timestamp
from ctg_assets.simulator.churn_acts import ChurnRates
from ctg_assets.simulator.churn_log import ActKind
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import TABLES, dbt_on
from ctg_assets_tests.simulator.churning import MovingRegistry, moving_registry
from ctg_assets_tests.soak import IS_LONG, times
from ctg_assets_tests.support.following import refresh, refresh_until_killed
from ctg_assets_tests.support.postgres import query
from ctg_assets_tests.whole_way.chronicle import Change, Chronicle, Stretch, World

_STUDIES = 50
_PAGE_SIZE = 12
_OVERLAP_DAYS = 1
_RATES = ChurnRates(
    touched=0.12,
    empty=0.06,
    # More of what is rare, so that each of it happens often in a few rounds.
    shares={
        ActKind.UPDATE: 45,
        ActKind.SILENT_EDIT: 16,
        ActKind.INSERT: 15,
        ActKind.DELETE: 10,
        ActKind.RESTORE: 9,
        ActKind.MERGE: 5,
    },
)
_MODES = {
    RefreshMode.AUTO: 4,
    RefreshMode.INCREMENTAL: 3,
    RefreshMode.CENSUS: 2,
    RefreshMode.FULL: 1,
}
_MOST_MOMENTS = 70
_KILLS = (0, 0, 1, 1, 2)
_SCOPE = "AREA[OverallStatus](COMPLETED OR RECRUITING OR UNKNOWN)"
_SHARE_MOVED_ON = 0.1
_SHARE_TO_THE_TABLES = 0.4
_SHARE_TO_THE_LAKE = 0.85
# Rows of months past, which no tables hold any more.
_MONTHLY = {"fct_study_snapshot_monthly", "dim_snapshot_month"}
# What a warehouse that knows only the present cannot tell.
_OF_HISTORY = {
    "fct_outcome_change",
    "fct_recruitment",
    "fct_study_milestones",
    "fct_study_outcome_changes",
    "fct_results_reporting_period",
    "fct_results_reporting",
}


@dataclass
class Follower:
    """A warehouse that follows a registry, and what it has to have seen."""

    registry: MovingRegistry
    settings: Settings
    address: PostgresAddress
    world: World
    dice: random.Random
    chronicle: Chronicle = field(init=False)
    entries: list[HistoryEntry] = field(default_factory=list)
    killed: int = 0

    def __post_init__(self) -> None:
        self.chronicle = Chronicle(self.world, _OVERLAP_DAYS)

    @property
    def lake(self) -> Lake:
        """The warehouse's lake."""
        return open_lake(self.settings)

    def follow(self, mode: RefreshMode, *, without: Collection[Stage] = ()) -> None:
        """Refresh up to the first of these stages."""
        refresh(self.settings.model_copy(update={"refresh_mode": mode}), without=without)
        self.read_on()
        if Stage.STAGING not in without:
            self.check_current()
            self.check_blind_spots()

    def follow_until_killed(self, mode: RefreshMode) -> None:
        """Refresh in a process that is killed at some moment, unless it ends before."""
        settings = self.settings.model_copy(update={"refresh_mode": mode})
        self.killed += refresh_until_killed(settings, self.dice.randrange(_MOST_MOMENTS))
        self.read_on()

    def read_on(self) -> None:
        """Check what was recorded since the last time against the registry's own log."""
        for entry in self.lake.history.since(len(self.entries)):
            changes = self.lake.history.changes(entry.sequence)
            expected = self.chronicle.changes_of(entry)
            assert sorted(map(_change, changes.iter_rows(named=True))) == expected, entry
            numbers = list(range(entry.first_change_seq, entry.next_change_seq))
            assert changes["change_seq"].to_list() == numbers
            assert set(changes["observed_at"]) <= {entry.observed_at}
            assert entry.observed_at.isoformat()[:19] == entry.data_timestamp
            if self.entries:
                assert entry.first_change_seq == self.entries[-1].next_change_seq
            self.entries.append(entry)

    def check_current(self) -> None:
        """Check that the tables hold what is known, no more and no less."""
        statement = "SELECT nct_id, content_hash FROM staging.study_versions WHERE is_current"
        current = dict(query(self.address, statement))
        assert current == self.chronicle.current
        studies = query(self.address, "SELECT nct_id FROM staging.studies")
        assert {nct_id for (nct_id,) in studies} == current.keys()

    def check_blind_spots(self) -> None:
        """Check that what is known is what is there, but for what the last walk cannot see."""
        now = self.world.now
        there = {nct_id: now.studies[nct_id] for nct_id in now.scope}
        known = self.chronicle.current
        of_now = [entry for entry in self.entries if entry.data_timestamp == now.data_timestamp]
        if any(entry.mode.is_whole for entry in of_now):
            assert known == there
        if any(entry.mode.covers_scope for entry in of_now):
            assert known.keys() == there.keys()
            dates = self.world.dates
            assert all(dates[known[nct_id]] == dates[there[nct_id]] for nct_id in there)

    def check_periods(self) -> None:
        """Check the whole index, and that the content of each period can be read."""
        periods = self.lake.history.periods()
        assert [_stretch(row) for row in periods.iter_rows(named=True)] == self.chronicle.stretches
        columns = ["nct_id", "content_hash", "contents_entry"]
        wanted = periods.select(columns).unique().sort(columns)
        found = 0
        for rows in self.lake.history.contents(wanted, rows_at_a_time=100):
            for row in rows.to_pylist():
                identity = identify(row["study"])
                assert (identity.nct_id, identity.content_hash) == (
                    row["nct_id"],
                    row["content_hash"],
                )
                found += 1
        assert found == wanted.height

    def check_events(self) -> None:
        """Check that an act of one edit, where it was observed by itself, is told as the event of that name."""
        recorded = {
            (row["nct_id"], row["old_content_hash"], row["new_content_hash"]): (entry, row)
            for entry in self.entries
            for row in self.lake.history.changes(entry.sequence).iter_rows(named=True)
        }
        tried = set()
        for act in self.world.acts:
            key = (act.nct_id, act.content_hash_before, act.content_hash_after)
            if len(act.edits) == 1 and act.edits[0] in set(EventType) and key in recorded:
                entry, change = recorded[key]
                events = self.lake.history.typed_events(entry.sequence)
                of_change = events.filter(pl.col("change_seq") == change["change_seq"])
                told = set(of_change["event_type"])
                # Reworded is what the simulator calls a change of any of an outcome's texts.
                parts = {
                    act.edits[0].replace("reworded", f"{part}_changed")
                    for part in ("description", "time_frame")
                }
                assert told & {act.edits[0], *parts}, act
                tried.add(act.edits[0])
        assert tried


def _change(row: dict[str, Any]) -> Change:
    return Change(**{each.name: row[each.name] for each in fields(Change)})


def _stretch(row: dict[str, Any]) -> Stretch:
    return Stretch(**{each.name: row[each.name] for each in fields(Stretch)})


@contextmanager
def following(
    folder: Path, server: PostgresAddress, *, seed: int, scope: str = ""
) -> Iterator[Follower]:
    """A warehouse with nothing in it yet, and a registry for it to follow."""
    source = GeneratedSource(_STUDIES, seed)
    world = World(source, first_timestamp(source), scope)
    churn = Churn(source, seed, rates=_RATES, listener=world.happened)
    with moving_registry(churn) as registry, new_database(server) as address:
        settings = _settings(folder, registry, address, scope)
        yield Follower(registry, settings, address, world, random.Random(seed))


def _settings(
    folder: Path, registry: MovingRegistry, address: PostgresAddress, scope: str
) -> Settings:
    return load_settings(
        data_dir=folder,
        api_url=registry.simulator.api_url,
        postgres_url=address.url,
        query=scope,
        page_size=_PAGE_SIZE,
        requests_per_minute=10_000,
        retry_seconds=1,
        full_every_days=9,
        census_every_days=3,
        incremental_overlap_days=_OVERLAP_DAYS,
        aact=True,
        # A large part of few studies may come and go.
        max_shrink_fraction=1,
        keep_extractions=1,
    )


def _live(follower: Follower, rounds: int) -> None:
    """Let the registry live for so many rounds, and the warehouse follow as well as it can."""
    dice = follower.dice
    simulator = follower.registry.simulator
    for number in range(rounds):
        if number:
            simulator.advance()
        (mode,) = dice.choices(list(_MODES), list(_MODES.values()))
        if dice.random() < _SHARE_MOVED_ON:
            # The data move on in the middle of a walk.
            simulator.set_faults("page=2@studies:new-data")
        for _ in range(dice.choice(_KILLS)):
            follower.follow_until_killed(mode)
        # What a killed refresh left, or the tables, is not always seen to before the data move on.
        fate = dice.random()
        if fate < _SHARE_TO_THE_TABLES:
            follower.follow(mode)
        elif fate < _SHARE_TO_THE_LAKE:
            follower.follow(mode, without=[Stage.STAGING])
        simulator.set_faults()


def _rows(address: PostgresAddress, table: str, schema: str = "staging") -> list[tuple[Any, ...]]:
    return query(address, f"SELECT to_jsonb(t)::text FROM {schema}.{table} AS t ORDER BY 1")


def _marts(address: PostgresAddress, folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the marts, built from the tables as they are, but for those of months."""
    dbt_on(address, folder, *TABLES)
    names = query(address, "SELECT tablename FROM pg_tables WHERE schemaname = 'marts'")
    return {
        name: query(address, f"SELECT m::text FROM marts.{name} AS m ORDER BY 1")
        for (name,) in names
        if name not in _MONTHLY
    }


def _check_tables(
    follower: Follower, scratch: PostgresAddress, server: PostgresAddress, folder: Path | None
) -> None:
    """Check the tables against whole loads: of this lake, and of one that knows only the present.

    With a folder for what dbt writes, the marts are checked likewise.
    """
    history = {shape.name for shape in HISTORY_TABLES}
    manifest = follower.lake.snapshots.latest()
    assert manifest is not None
    with new_database(server) as whole:
        load_staging(whole, follower.lake, manifest)
        build_ctgov(CtgovRequest(replace(whole, schemas=Schemas())))
        for table in aact_tables():
            rows = _rows(follower.address, table.name, "ctgov")
            assert rows == _rows(whole, table.name, "ctgov"), table.name
        for shape in staging_shapes():
            rows = _rows(follower.address, shape.name)
            assert rows == _rows(whole, shape.name), shape.name
            if shape.name not in history:
                assert rows == _rows(scratch, shape.name), shape.name
        if folder is not None:
            followed, of_present = _marts(follower.address, folder), _marts(scratch, folder)
            assert followed == _marts(whole, folder)
            for name in _OF_HISTORY:
                followed.pop(name, None)
                of_present.pop(name, None)
            assert followed == of_present


@pytest.mark.soak
@pytest.mark.parametrize(
    ("rounds", "scope"),
    # In fewer than ten rounds not every mode occurs. Part of a registry is followed in longer soaks.
    [(max(10, times(10, 50)), ""), (times(6, 16), _SCOPE)][: 2 if IS_LONG else 1],
)
def test_a_warehouse_follows_a_registry_in_motion(
    tmp_path: Path, server: PostgresAddress, rounds: int, scope: str
) -> None:
    """After many rounds, refreshed in mixed modes and killed at any moment, all is as the registry's log tells.

    Each entry of the history holds exactly the changes that its kind of extraction could see, the next census
    or whole walk sees the rest, and in the end tables, and in long soaks marts, equal those from scratch.
    """
    # Each of the four builds of marts takes ten seconds; how they follow changes has tests of its own.
    written = tmp_path if IS_LONG and not scope else None
    with (
        following(tmp_path / "followed", server, seed=11, scope=scope) as follower,
        new_database(server) as scratch,
    ):
        _live(follower, rounds // 2)
        follower.follow(RefreshMode.AUTO)
        if written is not None:
            # Marts that are there are changed by the studies that changed since.
            _marts(follower.address, written)
        follower.registry.simulator.advance()
        _live(follower, rounds // 2)
        follower.registry.churn.plan()
        follower.registry.simulator.advance()
        follower.follow(RefreshMode.FULL)
        assert follower.entries[-1].mode.is_whole
        follower.check_periods()
        follower.check_events()

        refresh(_settings(tmp_path / "scratch", follower.registry, scratch, scope))
        _check_tables(follower, scratch, server, written)
    # Else little of this was tried.
    assert follower.killed > rounds / 3
    assert len({entry.mode for entry in follower.entries}) == 4
