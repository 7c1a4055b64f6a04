"""What the history of a churned registry has to hold, told from the simulator's log and from nothing of ours."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.simulator.churn import Round
from ctg_assets.simulator.churn_log import ActKind, ActRecord
from ctg_assets.simulator.query import StudyIndex
from ctg_assets.simulator.source import StudySource
from ctg_assets_tests.simulator.churn_logs import hashes_after
from ctg_assets_tests.simulator.churning import content_hashes


@dataclass(frozen=True)
class WorldState:
    """The registry after a round: the content of each study, those in the scope, and who was merged into whom."""

    data_timestamp: str
    since: datetime
    studies: Mapping[str, str]
    scope: frozenset[str]
    merged: Mapping[str, str]

    def survivor_of(self, nct_id: str) -> str | None:
        """The study that has this obsolete id as an alias, if it is still there."""
        while nct_id in self.merged and nct_id not in self.studies:
            nct_id = self.merged[nct_id]
        return nct_id if nct_id in self.studies else None


class World:
    """A registry's life, followed by its log; to be told of each round as it happens."""

    def __init__(self, source: StudySource, timestamp: datetime, query: str = "") -> None:
        self.query = query
        self.dates: dict[str, str] = {}
        self.acts: list[ActRecord] = []
        hashes = content_hashes(source)
        for index in range(len(source)):
            self.dates[hashes[source.nct_id(index)]] = source.last_update_post_date(index)
        self.states = [self._state(source, timestamp, hashes, {})]

    def happened(self, done: Round) -> None:
        """Note what a round did."""
        self.acts += done.records
        before = self.states[-1]
        hashes = hashes_after(before.studies, done.records)
        merged = dict(before.merged)
        for record in done.records:
            if record.act is ActKind.MERGE:
                assert record.into is not None
                merged[record.nct_id] = record.into
            index = done.source.index_of(record.nct_id)
            if record.content_hash_after is not None and index is not None:
                posted = done.source.last_update_post_date(index)
                self.dates[record.content_hash_after] = posted
        self.states.append(self._state(done.source, done.timestamp, hashes, merged))

    def _state(
        self,
        source: StudySource,
        timestamp: datetime,
        hashes: Mapping[str, str],
        merged: Mapping[str, str],
    ) -> WorldState:
        scope = frozenset(hashes)
        if self.query:
            selected = StudyIndex(source).select({"query.term": self.query})
            scope = frozenset(source.nct_id(index) for index in selected)
        return WorldState(timestamp.isoformat(), datetime.now(UTC), hashes, scope, merged)

    @property
    def now(self) -> WorldState:
        """The registry as it is."""
        return self.states[-1]

    def as_of(self, data_timestamp: str) -> WorldState:
        """The registry at a data version."""
        (found,) = (state for state in self.states if state.data_timestamp == data_timestamp)
        return found

    def at(self, moment: datetime) -> WorldState:
        """The registry as it was answering at a moment of ours."""
        return self.states[bisect_right(self.states, moment, key=lambda state: state.since) - 1]


@dataclass(frozen=True, order=True)
class Change:
    """A change as the history has to tell it."""

    nct_id: str
    kind: str
    old_content_hash: str | None
    new_content_hash: str | None
    old_version_number: int | None
    new_version_number: int | None
    is_silent: bool = False
    merged_into: str | None = None


@dataclass(frozen=True, order=True)
class Stretch:
    """A period as the history has to tell it."""

    nct_id: str
    valid_from: datetime
    version_number: int
    content_hash: str
    valid_to: datetime | None = None
    ended_by: str | None = None


@dataclass
class _Life:
    """One study as it was observed."""

    versions: list[str] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)

    @property
    def current(self) -> str | None:
        """The content that it has, as far as is known; None while it is gone."""
        if not self.stretches or self.stretches[-1].ended_by is not None:
            return None
        return self.stretches[-1].content_hash

    def number_of(self, content_hash: str) -> int:
        """The number of a content among the study's; a new one gets the next."""
        if content_hash not in self.versions:
            self.versions.append(content_hash)
        return self.versions.index(content_hash) + 1


class Chronicle:
    """Follows the history, entry by entry, and says what each has to hold."""

    def __init__(self, world: World, overlap_days: int) -> None:
        self._world = world
        self._overlap = timedelta(days=overlap_days)
        self._lives: dict[str, _Life] = {}
        self._wanted: frozenset[str] = frozenset()
        self._posted_until: date | None = None

    @property
    def current(self) -> dict[str, str]:
        """The studies that are there, as far as is known, with their contents."""
        lives = self._lives.items()
        return {nct_id: life.current for nct_id, life in lives if life.current is not None}

    @property
    def stretches(self) -> list[Stretch]:
        """All periods, by study and time."""
        return sorted(stretch for life in self._lives.values() for stretch in life.stretches)

    def changes_of(self, entry: HistoryEntry) -> list[Change]:
        """What an entry has to tell, by study; entries are to be asked for in their order."""
        state = self._world.as_of(entry.data_timestamp)
        day = date.fromisoformat(entry.data_timestamp[:10])
        in_scope = {nct_id: state.studies[nct_id] for nct_id in state.scope}
        seen: Mapping[str, str] = {}
        gone: Collection[str] = ()
        match entry.mode:
            case ExtractionMode.FULL | ExtractionMode.SCOPED:
                seen, gone = in_scope, self.current.keys() - in_scope
                self._posted_until = day
            case ExtractionMode.INCREMENTAL:
                assert self._posted_until is not None
                since = (min(self._posted_until, day) - self._overlap).isoformat()
                seen = {i: hash_ for i, hash_ in in_scope.items() if self._posted(hash_) >= since}
                self._posted_until = day
            case ExtractionMode.CENSUS:
                gone = self.current.keys() - in_scope
                self._wanted = self._outdated(in_scope)
            case ExtractionMode.PICKED:
                survivors = map(state.survivor_of, self._wanted)
                seen = {i: state.studies[i] for i in survivors if i is not None}
            case _:
                message = f"a registry is not walked in mode {entry.mode}"
                raise AssertionError(message)
        asked_later = self._world.at(entry.recorded_at)
        changes = [self._observe(i, hash_, entry.observed_at) for i, hash_ in seen.items()]
        changes += [self._miss(i, asked_later, entry.observed_at) for i in gone]
        return sorted(change for change in changes if change is not None)

    def _posted(self, content_hash: str | None) -> str:
        return "" if content_hash is None else self._world.dates[content_hash]

    def _outdated(self, in_scope: Mapping[str, str]) -> frozenset[str]:
        current = self.current
        return frozenset(
            nct_id
            for nct_id, content_hash in in_scope.items()
            if nct_id not in current or self._posted(current[nct_id]) != self._posted(content_hash)
        )

    def _observe(self, nct_id: str, content_hash: str, at: datetime) -> Change | None:
        life = self._lives.setdefault(nct_id, _Life())
        former = life.current
        if former == content_hash:
            return None
        last = life.stretches[-1] if life.stretches else None
        number = life.number_of(content_hash)
        kind = "insert" if last is None else "restore" if former is None else "update"
        if last is not None and former is not None:
            life.stretches[-1] = _ended(last, at, kind)
        life.stretches.append(Stretch(nct_id, at, number, content_hash))
        return Change(
            nct_id,
            kind,
            None if last is None else last.content_hash,
            content_hash,
            None if last is None else last.version_number,
            number,
            is_silent=kind == "update" and self._posted(former) == self._posted(content_hash),
        )

    def _miss(self, nct_id: str, asked_later: WorldState, at: datetime) -> Change | None:
        """What becomes of a study that a whole walk did not see; the registry is asked when that is recorded."""
        life = self._lives[nct_id]
        last = life.stretches[-1]
        survivor = asked_later.survivor_of(nct_id)
        kind = "delete" if survivor is None else "merge"
        if nct_id in asked_later.studies:
            if not self._world.query:
                return None  # it came back after the walk
            kind, survivor = "leave_scope", None
        life.stretches[-1] = _ended(last, at, kind)
        return Change(
            nct_id, kind, last.content_hash, None, last.version_number, None, merged_into=survivor
        )


def _ended(stretch: Stretch, at: datetime, kind: str) -> Stretch:
    return Stretch(
        stretch.nct_id, stretch.valid_from, stretch.version_number, stretch.content_hash, at, kind
    )
