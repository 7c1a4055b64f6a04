"""Which extraction is due: all of it, what was posted lately, a census, or single studies.

Each mode has its blind spot. An incremental walk costs a few requests and sees what was posted since
the last one, but no removals, and no edits that leave the posting date as it was. A census asks for
ids and dates of everything, sees removals and every missed date, and leads to a list of studies to
fetch. Only a whole walk sees silent edits. So all of them take turns.

Intervals are counted in days between data versions, not by our clock: while the registry publishes
nothing there is nothing to see, and a walk begun some minutes later than last time is not late.
But what the registry says of its data may be wrong for a day. So the days are counted from walk to walk,
and a step back counts as one: after each change of day a walk is a day older, whatever was said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from ctg_assets.extract.extractions import ExtractionMode, planned_pages
from ctg_assets.extract.sizing import IDS_PER_REQUEST
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.setting_values import RefreshMode
from ctg_assets.settings import Settings
from ctg_assets.times import REGISTRY_BEGAN, parse_data_timestamp


@dataclass(frozen=True)
class Choice:
    """An extraction to plan, and why.

    `since` is the first posting day of an incremental one; `ids_from` the sequence of the history's
    entry that names the studies of a picked one.
    """

    mode: ExtractionMode
    reason: str
    since: date | None = None
    ids_from: int | None = None

    def __str__(self) -> str:
        """Mode and reason, as people are told."""
        return f"{self.mode}: {self.reason}"


def choose(settings: Settings, entries: Sequence[HistoryEntry], now: str) -> Choice | None:
    """What to extract from a registry whose data version is `now`; None when nothing is due.

    `entries` are those of the history, oldest first.
    """
    return _Policy(settings, entries, now).due()


def choose_again(settings: Settings, entries: Sequence[HistoryEntry], now: str) -> Choice:
    """What to extract when somebody asks for it: what is due, else everything, or what is set."""
    policy = _Policy(settings, entries, now)
    return policy.due() or policy.asked_for("asked for, though nothing is due")


class _Policy:
    """One decision."""

    def __init__(self, settings: Settings, entries: Sequence[HistoryEntry], now: str) -> None:
        self._settings = settings
        self._mode = settings.refresh_mode
        self._now = now
        self._walks = _walks_of_scope(settings, entries)
        self._wholes = [walk for walk in self._walks if walk.mode.is_whole]
        self._imports = [entry for entry in entries if entry.mode is ExtractionMode.IMPORT]

    def due(self) -> Choice | None:
        """What is due, if anything is."""
        if not self._wholes:
            return self._first()
        if self._mode in {RefreshMode.AUTO, RefreshMode.FULL} and (whole := self._whole_if_due()):
            return whole
        if self._mode is RefreshMode.FULL:
            return None
        if picked := self._picked_if_wanted():
            return picked
        if self._mode is not RefreshMode.CENSUS and (incremental := self._incremental_if_moved()):
            return incremental
        return None if self._mode is RefreshMode.INCREMENTAL else self._census_if_due()

    def asked_for(self, reason: str) -> Choice:
        """What the settings ask for, when something was walked before and nothing is due."""
        match self._mode:
            case RefreshMode.INCREMENTAL:
                return self._incremental(reason)
            case RefreshMode.CENSUS:
                return Choice(ExtractionMode.CENSUS, reason)
            case RefreshMode.AUTO | RefreshMode.FULL:
                return self._whole(reason)

    def _first(self) -> Choice:
        query = self._settings.query or "every study"
        reason = f"the history has no walk over {query} of {self._settings.api_url} to follow on"
        if self._mode in {RefreshMode.INCREMENTAL, RefreshMode.CENSUS}:
            reason += f", so {self._mode} has to wait"
        return self._whole(reason)

    def _whole(self, reason: str) -> Choice:
        mode = ExtractionMode.SCOPED if self._settings.query else ExtractionMode.FULL
        return Choice(mode, reason)

    def _whole_if_due(self) -> Choice | None:
        last = self._wholes[-1]
        # By what counted, not by what was said.
        observed_at = parse_data_timestamp(last.counted_timestamp)
        if any(
            entry.sequence > last.sequence and entry.observed_at >= observed_at
            for entry in self._imports
        ):
            return self._whole("a file was brought in since the last whole walk")
        # Also if its pages did not match the registry's count: a second walk would find the same.
        if last.data_timestamp == self._now:
            return None
        if self._mode is RefreshMode.FULL:
            return self._whole(_moved(last.data_timestamp, self._now))
        complete = [walk for walk in self._wholes if walk.complete]
        if not complete:
            return self._whole("no whole walk had as many studies as the registry counted")
        days = self._days_since(complete[-1])
        if days < self._settings.full_every_days:
            return None
        return self._whole(
            f"the last whole walk, of {complete[-1].data_timestamp}, is {days} days old"
        )

    def _picked_if_wanted(self) -> Choice | None:
        """The studies that the last census found wanting, unless they were fetched since."""
        others = [walk for walk in self._walks if walk.mode is not ExtractionMode.INCREMENTAL]
        last = others[-1]
        if last.mode is not ExtractionMode.CENSUS or not last.stale:
            return None
        reason = (
            f"the census of {last.data_timestamp} found {last.stale} studies missing or outdated"
        )
        # Fewer ids than studies go into a request, so beyond a share of them a walk is the shorter way.
        page_size = self._settings.page_size
        requests = -(-last.stale // min(page_size, IDS_PER_REQUEST))
        if requests > planned_pages(last.studies, page_size):
            return self._whole(f"{reason}, too many to fetch one by one")
        return Choice(ExtractionMode.PICKED, reason, ids_from=last.sequence)

    def _incremental_if_moved(self) -> Choice | None:
        last = self._last_walk_of_contents().data_timestamp
        if last == self._now:
            return None
        return self._incremental(_moved(last, self._now))

    def _incremental(self, reason: str) -> Choice:
        # Not by what was said of the data then, which may be a time that cannot be.
        seen = _day(self._last_walk_of_contents().counted_timestamp)
        if _day(self._now) >= REGISTRY_BEGAN:
            seen = min(seen, _day(self._now))
        since = max(seen, REGISTRY_BEGAN) - timedelta(days=self._settings.incremental_overlap_days)
        return Choice(ExtractionMode.INCREMENTAL, reason, since=since)

    def _last_walk_of_contents(self) -> HistoryEntry:
        """The last walk that asked for everything posted up to its data version."""
        asked_by_date = [
            walk
            for walk in self._walks
            if walk.mode.is_whole or walk.mode is ExtractionMode.INCREMENTAL
        ]
        return asked_by_date[-1]

    def _census_if_due(self) -> Choice | None:
        covering = [walk for walk in self._walks if walk.mode.covers_scope]
        last = covering[-1].data_timestamp
        if last == self._now:
            return None
        if self._mode is RefreshMode.CENSUS:
            return Choice(ExtractionMode.CENSUS, _moved(last, self._now))
        complete = [walk for walk in covering if walk.complete]
        if complete and self._days_since(complete[-1]) < self._settings.census_every_days:
            return None
        reason = f"removals and missed updates were looked for last in the data of {last}"
        return Choice(ExtractionMode.CENSUS, reason)

    def _days_since(self, walk: HistoryEntry) -> int:
        """The days of data since a walk, by all that the registry said since, or by when it was."""
        said = [each.data_timestamp for each in self._walks if each.sequence >= walk.sequence]
        steps = [(_day(to) - _day(from_)).days for from_, to in pairwise([*said, self._now])]
        counted = (_day(self._now) - _day(walk.counted_timestamp)).days
        return max(counted, sum(1 if step < 0 else step for step in steps))


def _walks_of_scope(settings: Settings, entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """The newest entries that are all of the present registry and query, imports left out.

    What was seen of this scope before another one was walked is no longer what is current.
    """
    walks: list[HistoryEntry] = []
    for entry in reversed(entries):
        if entry.mode is ExtractionMode.IMPORT:
            continue
        if (entry.source, entry.query) != (settings.api_url, settings.query):
            break
        walks.append(entry)
    return walks[::-1]


def _moved(last: str, now: str) -> str:
    return f"the registry's data moved from {last} to {now}"


def _day(data_timestamp: str) -> date:
    return parse_data_timestamp(data_timestamp).date()
