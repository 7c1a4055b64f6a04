"""Histories for tests: extractions made of a few studies and recorded one after another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.recording import ExplainMissing, Recorder
from ctg_assets.history.store import HistoryStore
from ctg_assets.model.identity import identify
from ctg_assets.storage.files import Storage
from ctg_assets_tests.support.made_lakes import extraction

_FIRST_DAY = datetime(2026, 11, 1, 9, 0, 5, tzinfo=UTC)

Row = tuple[Any, ...]


def on(day: int, moments: int = 0) -> datetime:
    """The time of a day's data version, some milliseconds later."""
    return _FIRST_DAY + timedelta(days=day - 1, milliseconds=moments)


def hash_of(study: bytes) -> str:
    """The content hash of a study."""
    return identify(study).content_hash


class Chronicler:
    """Makes extractions in a lake and records them."""

    def __init__(self, storage: Storage, scratch: Path) -> None:
        self.storage = storage
        self.history = HistoryStore(storage)
        self.recorder = Recorder(storage, scratch)
        self._numbers = itertools.count(1)

    def extracted(
        self,
        day: int,
        *studies: bytes,
        pages: Sequence[Sequence[bytes]] | None = None,
        **changes: Any,
    ) -> str:
        """A complete extraction of that day's data version; a walk of everything unless said otherwise.

        The registry counted as many studies as came, unless `expected_studies` says otherwise.
        """
        name = f"{next(self._numbers):04d}"
        if changes.get("mode") is not ExtractionMode.IMPORT:
            changes.setdefault("expected_studies", len(studies))
        timestamp = on(day).strftime("%Y-%m-%dT%H:%M:%S")
        extraction(
            self.storage,
            [studies] if pages is None else pages,
            extraction_id=name,
            **{"data_timestamp": timestamp, **changes},
        )
        return name

    def record(
        self, day: int, *studies: bytes, explain: ExplainMissing | None = None, **changes: Any
    ) -> HistoryEntry:
        """Make an extraction as `extracted` does, and record it."""
        return self.recorder.record(self.extracted(day, *studies, **changes), explain=explain)

    def periods(self, *columns: str) -> list[Row]:
        """Some columns of all periods."""
        return self.history.periods().select(columns).rows()

    def changes(self, entry: HistoryEntry, *columns: str) -> list[Row]:
        """Some columns of an entry's changes."""
        return self.history.changes(entry.sequence).select(columns).rows()

    def all_changes(self) -> pl.DataFrame:
        """The changes of all entries."""
        return pl.concat([self.history.changes(e.sequence) for e in self.history.entries()])

    def current(self, at: datetime | None = None) -> dict[str, str]:
        """The content hash of each study that is current, or was at a time."""
        is_there = pl.col("valid_to").is_null()
        if at is not None:
            is_there = (pl.col("valid_from") <= at) & (is_there | (pl.col("valid_to") > at))
        found = self.history.periods().filter(is_there)
        assert found["nct_id"].is_unique().all()
        return dict(found.select("nct_id", "content_hash").iter_rows())
