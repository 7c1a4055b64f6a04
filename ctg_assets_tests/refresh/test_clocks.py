"""Clocks that are set, ours and the registry's, around and during refreshes of a real lake.

The registry is a few lines: some studies on one page. Each data version changes one of them, so that
what is current can be told at any time. Of our clock only what it is set to matters. One test goes on
to the tables in Postgres.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from random import Random
from types import SimpleNamespace

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctg_assets.extract import credible_times
from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    Supersession,
)
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import open_lake
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh import pending, planner
from ctg_assets.refresh.checks import check_times
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.refresh.extraction_plan import plan_extraction
from ctg_assets.refresh.mode_policy import Choice
from ctg_assets.refresh.pending import next_to_record
from ctg_assets.refresh.planner import Idle, Stage, next_step
from ctg_assets.refresh.retention import prune
from ctg_assets.refresh.status import odd_times
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.times import parse_data_timestamp
from ctg_assets_tests.soak import times
from ctg_assets_tests.support import following
from ctg_assets_tests.support.odd_registry import OddRegistry, running
from ctg_assets_tests.support.postgres import query
from ctg_assets_tests.support.registries import API_URL, client_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DATA = datetime(2026, 11, 20, 9, 0, 5, tzinfo=UTC)
STUDIES = 3

# Of one data version: incremental, census, picked; or whole. Each is planned, walked and recorded.
_MOST_STEPS = 12
_CLOCKED = (
    "extract.crawl",
    "extract.extractions",
    "history.recording",
    "snapshot.compaction",
    "extract.shards",
    "storage.files",
    "extract.import_file",
    "extract.published_model",
    "postgres.builds",
)


def _timestamp(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def _moment(says: str) -> datetime:
    moment = datetime.fromisoformat(says)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass
class World:
    """A registry, our clock, and a lake that follows the one by the other."""

    folder: Path
    says: str = _timestamp(DATA)
    clock: datetime = NOW
    clock_in_mid_walk: datetime | None = None
    dated: bool = True
    requests: int = 0
    titles: dict[str, str] = field(default_factory=dict)
    posted: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = load_settings(data_dir=self.folder, api_url=API_URL, page_size=10)
        self.lake = open_lake(self.settings)
        for number in range(1, STUDIES + 1):
            self.change(number, "first")

    def change(self, number: int, title: str) -> None:
        """Give a study another title, and a date of its own if studies have dates."""
        self.titles[f"NCT{number:08d}"] = title
        self.posted[f"NCT{number:08d}"] = f"2026-01-{len(self.titles):02d}"

    def moves(self, number: int, says: str) -> None:
        """The registry publishes other data, of which it says this."""
        # The same time in another spelling is the same data version, of which the data are the same.
        before, self.says = self.says, says
        if _moment(says) != _moment(before):
            study = f"NCT{number:08d}"
            self.titles[study] = f"{self.titles[study]}, then of {says}"
            self.posted[study] = says[:10] if self.dated else "2026-02-01"

    def answer(self, request: httpx.Request) -> httpx.Response:
        """What the registry answers."""
        self.requests += 1
        parameters = request.url.params
        if request.url.path.endswith("/version"):
            return httpx.Response(200, json={"apiVersion": "2.0.5", "dataTimestamp": self.says})
        if "countTotal" in parameters:
            return httpx.Response(200, json={"studies": [], "totalCount": STUDIES})
        if self.clock_in_mid_walk is not None:
            self.clock = self.clock_in_mid_walk
        asked = parameters.get("filter.ids", "|".join(self.titles)).split("|")
        return httpx.Response(200, json={"studies": [self.study(nct_id) for nct_id in asked]})

    def study(self, nct_id: str) -> dict[str, object]:
        """A study as the registry has it."""
        return {
            "protocolSection": {
                "identificationModule": {"nctId": nct_id, "briefTitle": self.titles[nct_id]},
                "statusModule": {"lastUpdatePostDateStruct": {"date": self.posted[nct_id]}},
            }
        }

    def refresh(self) -> tuple[Idle, list[ExtractionPlan]]:
        """Follow the next steps until there is none; fails if that never comes. Returns what was planned."""
        planned: list[ExtractionPlan] = []
        with (
            _living_by(lambda: self.clock),
            client_of(API_URL, httpx.MockTransport(self.answer)) as client,
        ):
            crawler = Crawler(client, self.lake.extractions, self.lake.shards)
            for _ in range(_MOST_STEPS):
                step = next_step(
                    self.settings,
                    self.lake,
                    actual=lambda wanted: wanted,
                    desired=_desired,
                    registry_timestamp=lambda: client.version().data_timestamp,
                )
                if isinstance(step, Idle):
                    return step, planned
                if step.stage is Stage.PLAN:
                    planned.append(plan_extraction(self.settings, self.lake, crawler))
                elif step.stage is Stage.PAGES and step.extraction is not None:
                    list(crawler.walk(step.extraction, step.last_page))
                else:
                    waiting = next_to_record(self.settings, self.lake)
                    if waiting is not None:
                        Recorder(self.lake.storage, self.lake.scratch).record(
                            waiting.plan.extraction_id
                        )
                    latest = self.lake.history.latest()
                    assert latest is not None
                    Compactor(self.lake.storage, self.lake.scratch).compact(latest.extraction_id)
                    prune(self.lake, keep_extractions=self.settings.keep_extractions)
        pytest.fail(f"still not at rest: {step.reason}; planned {planned}")

    def entries(self) -> list[HistoryEntry]:
        """What was recorded."""
        return self.lake.history.entries()

    def manifest(self) -> SnapshotManifest:
        """The newest snapshot's."""
        manifest = self.lake.snapshots.latest()
        assert manifest is not None
        return manifest

    def current(self) -> dict[str, str]:
        """The titles of all current studies, by id, as the newest snapshot has them."""
        found = {}
        for batch in self.lake.snapshots.batches(self.manifest().snapshot_id):
            for row in batch.select(["nct_id", "protocolSection"]).to_pylist():
                identification = row["protocolSection"]["identificationModule"]
                found[row["nct_id"]] = identification["briefTitle"]
        return found


def _desired(manifest: SnapshotManifest) -> WarehouseState:
    return WarehouseState({"studies": manifest.content_fingerprint}, manifest.data_timestamp)


@contextmanager
def _living_by(clock: Callable[[], datetime]) -> Iterator[None]:
    """Let what plans, walks and records live by a clock of ours."""

    def now(zone: tzinfo) -> datetime:
        return clock().astimezone(zone)

    ours = SimpleNamespace(now=now, fromisoformat=datetime.fromisoformat)
    # Records resolve their fields' types when they are first read; those must be the real ones.
    for record in (ExtractionPlan, Completion, Supersession, ShardInfo):
        msgspec.json.Decoder(record)
    with pytest.MonkeyPatch.context() as patch:
        for module in _CLOCKED:
            patch.setattr(f"ctg_assets.{module}.datetime", ours)
        yield


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A registry that nobody has asked yet."""
    return World(tmp_path)


_HOUR, _DAY, _YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)
_AMOUNTS = [_HOUR, _DAY, 40 * _DAY, _YEAR, 20 * _YEAR, 60 * _YEAR]
_SET_BY = [timedelta(0), *_AMOUNTS, *(-amount for amount in _AMOUNTS)]
_ODD_TIMES = [
    *("0204-05-31T09:00:05", "1970-01-01T00:00:00", "1999-08-31T23:59:59"),
    *("2026-11-19T09:00:05", "2027-11-20T09:00:05", "2096-01-01T00:00:00"),
    *("9999-12-30T23:59:59", "2026-11-21T09:00:05+14:00", "2026-11-21T09:00:05Z"),
]
_clocks = st.sampled_from(_SET_BY)
_words = st.sampled_from(_ODD_TIMES) | st.integers(-2, 20).map(
    lambda days: _timestamp(DATA + days * _DAY)
)


@pytest.mark.soak
@pytest.mark.slow
@hypothesis_settings(
    max_examples=times(6, 60), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    versions=st.lists(
        st.tuples(_words, _clocks, st.none() | _clocks, st.integers(1, STUDIES)),
        min_size=1,
        max_size=5,
    ),
    dated=st.booleans(),
)
def test_whatever_the_clocks_say_the_lake_follows(
    versions: list[tuple[str, timedelta, timedelta | None, int]], dated: bool
) -> None:
    """Every refresh comes to rest after a few walks, and then what the registry has is current.

    The space: up to five data versions, of times from the year 204 to 9999, in any order, repeated, with
    offsets; our clock set back or forth by an hour to sixty years before each and in the midst of it;
    studies whose dates bear the registry out, and others.
    """
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), dated=dated)
        for says, set_by, in_mid_walk, number in versions:
            world.moves(number, says)
            world.clock = NOW + set_by
            world.clock_in_mid_walk = None if in_mid_walk is None else NOW + in_mid_walk
            asked = world.requests
            rest, planned = world.refresh()
            assert not rest.blocked, rest
            assert len(planned) <= 4
            assert world.requests - asked <= 40
            assert world.current() == world.titles
            assert world.refresh() == (rest, [])
        observed = [entry.observed_at for entry in world.entries()]
        assert observed == sorted(set(observed))
        parse_data_timestamp(world.manifest().data_timestamp)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(times(1, 8)))
def test_whatever_the_clocks_say_the_tables_follow(
    world: World, address: PostgresAddress, seed: int
) -> None:
    """After every refresh the tables in Postgres have what the registry has, and the history each content.

    Five data versions, of odd times and repeated ones among them; our clock is set anew at every moment at
    which something is half done, by an hour to sixty years back or forth.
    """
    draw = Random(seed)
    contents: set[tuple[str, str]] = set()
    with running(OddRegistry()) as registry:
        settings = load_settings(
            data_dir=world.folder,
            api_url=registry.api_url,
            page_size=2,
            postgres_url=address.url,
            requests_per_minute=10_000,
        )

        def set_clock() -> None:
            world.clock = NOW + draw.choice(_SET_BY)

        for says in [
            *draw.sample(_ODD_TIMES, 2),
            _timestamp(DATA),
            *draw.choices(_ODD_TIMES, k=2),
        ]:
            world.moves(draw.randint(1, STUDIES), says)
            contents |= set(world.titles.items())
            registry.data_timestamp = says
            registry.studies = {
                nct_id: json.dumps(world.study(nct_id)).encode() for nct_id in world.titles
            }
            with _living_by(lambda: world.clock):
                following.refresh(settings, set_clock)
                told = query(address, "SELECT nct_id, brief_title FROM staging.studies")
                assert dict(told) == world.titles
                before = registry.requests
                following.refresh(settings, set_clock)
                assert registry.requests - before <= 1, (
                    "a second refresh asked for more than the version"
                )
            current = query(address, "SELECT nct_id FROM staging.study_versions WHERE is_current")
            assert sorted(current) == sorted((nct_id,) for nct_id in world.titles)
        kept = query(
            address, "SELECT count(DISTINCT (nct_id, content_hash)) FROM staging.study_versions"
        )
        assert kept == [(len(contents),)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lie", "by_earlier_release"),
    [("2096-01-01T00:00:00", True), ("9999-01-01T00:00:00", False)],
)
def test_a_lie_of_the_registry_is_got_over(
    world: World, lie: str, by_earlier_release: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a time of far ahead, said once, whole walks and censuses come as before; also where it was believed."""
    world.dated = False
    world.refresh()
    world.moves(1, lie)
    with monkeypatch.context() as patch:
        if by_earlier_release:
            patch.setattr(
                credible_times,
                "observed_at",
                lambda plan, _last, _posted: parse_data_timestamp(plan.data_timestamp),
            )
        _, planned = world.refresh()
    assert [plan.mode for plan in planned] == [ExtractionMode.FULL]
    entry = world.entries()[-1]
    if not by_earlier_release:
        assert entry.observed_at == NOW
        assert world.manifest().data_timestamp == _timestamp(NOW)
        check_result = check_times(planned[-1], entry)
        assert (check_result.passed, check_result.blocking) == (False, False)
        assert lie in check_result.description
        assert "later than now" in check_result.description
        (line,) = odd_times(world.lake, NOW)
        assert line.startswith(f"the registry said that its data were of {lie}, which cannot be")
    modes = []
    for day in range(1, 9):
        world.clock = NOW + day * _DAY
        world.moves(1 + day % STUDIES, _timestamp(DATA + day * _DAY))
        _, planned = world.refresh()
        modes.append({plan.mode for plan in planned})
        assert world.current() == world.titles
        assert world.manifest().data_timestamp == world.says
    told = odd_times(world.lake, world.clock)
    assert len(told) == by_earlier_release
    assert all("which is later than now" in line for line in told)
    assert sum(ExtractionMode.FULL in done for done in modes) == 1
    assert all(done & {ExtractionMode.FULL, ExtractionMode.CENSUS} for done in modes)


def test_our_clock_set_back_leaves_the_registrys_times(world: World) -> None:
    """Where studies were posted just before what the registry says, it is our clock that is wrong."""
    world.clock = NOW - 6 * _YEAR
    world.moves(1, _timestamp(DATA + _DAY))
    _, (plan,) = world.refresh()
    (entry,) = world.entries()
    assert _timestamp(entry.observed_at) == world.says == world.manifest().data_timestamp
    check_result = check_times(plan, entry)
    assert not check_result.passed
    assert "the clock of this machine is probably wrong" in check_result.description


@pytest.mark.parametrize("back", [_HOUR, 3 * _DAY, 6 * _YEAR])
def test_a_clock_set_back_does_not_hide_a_walk(world: World, back: timedelta) -> None:
    """What is planned after the clock was set back is recorded, once, and asked for once."""
    world.refresh()
    world.moves(1, _timestamp(DATA + _DAY))
    world.clock = NOW - back
    rest, planned = world.refresh()
    assert [plan.mode for plan in planned] == [ExtractionMode.INCREMENTAL, ExtractionMode.CENSUS]
    assert "everything is as of" in rest.reason
    assert [entry.extraction_id for entry in world.entries()[1:]] == [
        plan.extraction_id for plan in planned
    ]


def test_walks_that_get_lost_are_not_repeated_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever hides complete walks from the history, two are made of a data version and no more."""
    for module in (pending, planner):
        monkeypatch.setattr(module, "unrecorded", lambda *_: [])
    rest, planned = world.refresh()
    assert rest.blocked
    assert len(planned) == 2
    for plan in planned:
        assert plan.extraction_id in rest.reason
    assert "`ctg-assets refresh --again`" in rest.reason
    world.moves(1, _timestamp(DATA + _DAY))
    assert len(world.refresh()[1]) == 2


def test_walks_that_settle_nothing_are_not_repeated_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A policy that is never content ends after five walks of a kind at one data version."""
    monkeypatch.setattr("ctg_assets_tests.refresh.test_clocks._MOST_STEPS", 30)
    choice = Choice(ExtractionMode.FULL, "never content")
    monkeypatch.setattr(planner, "choose", lambda *_: choice)
    rest, planned = world.refresh()
    assert rest.blocked
    assert "walked 5 times in the same way" in rest.reason
    assert len(planned) == 5
