"""When studies were seen by extractions that are no walks of everything: imports, and what changed.

The index has the first and the last time at which a content was observed. Of the times between, walks of everything
are known for all studies; those of other extractions are in what these saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import polars as pl

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.store import HistoryStore


class Sightings:
    """What some entries of a history saw beside its walks of everything."""

    def __init__(self, history: HistoryStore, entries: Sequence[tuple[HistoryEntry, int]]) -> None:
        """Look through `entries`, each with the number under which what it saw is kept."""
        self._history = history
        self._entries = entries

    def of(self, nct_ids: Sequence[str]) -> Mapping[str, Sequence[datetime]]:
        """The times, ascending, at which each of these studies was seen; those that never were are left out.

        Nothing is told of files in which each study counts for the date of its content, nor of entries of old
        releases, which do not keep what they saw.
        """
        found: dict[str, list[datetime]] = {}
        wanted = pl.Series(nct_ids, dtype=pl.String).implode()
        for entry, sequence in sorted(self._telling(), key=lambda each: each[0].observed_at):
            seen = self._history.seen(sequence).filter(pl.col("nct_id").is_in(wanted))
            for nct_id in seen["nct_id"].unique().to_list():
                found.setdefault(nct_id, []).append(entry.observed_at)
        return found

    def _telling(self) -> Iterator[tuple[HistoryEntry, int]]:
        for entry, sequence in self._entries:
            is_walk = entry.complete and entry.mode.is_whole
            if is_walk or entry.mode is ExtractionMode.CENSUS:
                continue
            if not self._history.tells_what_it_did(sequence):
                continue
            if not self._history.plan(sequence).dated_by_studies:
                yield entry, sequence
