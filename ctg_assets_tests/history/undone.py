"""Histories with undos for tests, and the same histories without what was undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history.entries import HistoryEntry, StudyChangeKind
from ctg_assets.history.extraction_diff import MissingReason
from ctg_assets.history.undo import Author, Undoer
from ctg_assets.storage.files import Storage
from ctg_assets_tests.history.histories import Chronicler
from ctg_assets_tests.support.made_lakes import study

IDS = [f"NCT0000000{digit}" for digit in range(1, 5)]

AUTHOR = Author(command="ctg-assets undo", user="tester", host="here", reason="a test")

_MODES = [
    *[ExtractionMode.IMPORT] * 4,
    *[ExtractionMode.FULL] * 3,
    ExtractionMode.CENSUS,
    ExtractionMode.INCREMENTAL,
    ExtractionMode.PICKED,
]
_FATES = [
    MissingReason(None),
    MissingReason(StudyChangeKind.DELETE),
    MissingReason(StudyChangeKind.MERGE, "NCT00000009"),
    MissingReason(StudyChangeKind.LEAVE_SCOPE),
]


@dataclass(frozen=True)
class Step:
    """An extraction to be recorded: of which day, how, and what it sees (id, posting day, title).

    `counted` says that the registry counted as many studies, `reasons` what it tells of those not seen.
    """

    day: int
    mode: ExtractionMode
    seen: Sequence[tuple[str | None, int, str]]
    dated: bool = False
    counted: bool = True
    query: str = ""
    reasons: Mapping[str, MissingReason] = field(default_factory=dict)

    @property
    def studies(self) -> list[bytes]:
        """What is seen, as JSON."""
        return [
            study(nct_id, f"2026-11-0{day}" if day else None, t) for nct_id, day, t in self.seen
        ]


@dataclass(frozen=True)
class Undo:
    """An undo of one of the entries that count, or of the imports: it is at `share` of their number."""

    share: float
    of_import: bool


def _step(drawn: tuple[Any, ...]) -> Step:
    day, mode, seen, dated, counted, query, reasons = drawn
    is_import = mode is ExtractionMode.IMPORT
    if not (is_import and dated):
        # A walk sees a study once.
        seen = [*{nct_id: (nct_id, posted, title) for nct_id, posted, title in seen}.values()]
    return Step(
        day=day,
        mode=mode,
        seen=seen,
        dated=is_import and dated,
        counted=counted,
        query="" if is_import else query,
        reasons=reasons,
    )


_seen = st.lists(
    st.tuples(st.sampled_from([*IDS, None]), st.integers(0, 9), st.sampled_from("ab")), max_size=6
)
_steps = st.tuples(
    st.integers(1, 9),
    st.sampled_from(_MODES),
    _seen,
    st.booleans(),
    st.sampled_from([True, True, True, True, False]),
    st.sampled_from(["", "", "", "", "", "cancer"]),
    st.dictionaries(st.sampled_from(IDS), st.sampled_from(_FATES), min_size=1, max_size=4),
).map(_step)
_undos = st.builds(
    Undo, st.floats(0, 1, exclude_max=True), st.sampled_from([True, True, True, False])
)

steps = st.tuples(
    st.lists(_steps, min_size=3, max_size=6),
    st.lists(_undos, min_size=1, max_size=2),
    st.lists(st.one_of(_steps, _undos), max_size=3),
).map(lambda drawn: [each for some in drawn for each in some])
"""Extractions of every kind over nine days and five studies, and undos of any entry."""


class History:
    """A lake to which steps are done; `left` are those not undone, with the answers that they got."""

    def __init__(self, storage: Storage, scratch: Path) -> None:
        self.lake = Chronicler(storage, scratch)
        self.undoer = Undoer(storage)
        self.left: list[tuple[Step, dict[str, MissingReason]]] = []

    def record(
        self, step: Step, answers: Mapping[str, MissingReason] | None = None
    ) -> HistoryEntry:
        """Record an extraction; with `answers` what the registry says is in there, or the least."""
        told: dict[str, MissingReason] = {}
        least = MissingReason(StudyChangeKind.LEAVE_SCOPE if step.query else StudyChangeKind.DELETE)

        def explain(nct_ids: Sequence[str]) -> Mapping[str, MissingReason]:
            source = step.reasons if answers is None else answers
            told.update((nct_id, source.get(nct_id, least)) for nct_id in nct_ids)
            return told

        walked = step.mode is not ExtractionMode.IMPORT
        more = {} if step.counted or not walked else {"expected_studies": 99}
        entry = self.lake.record(
            step.day,
            *step.studies,
            mode=step.mode,
            dated_by_studies=step.dated,
            query=step.query,
            explain=explain,
            **more,
        )
        self.left.append((step, told if answers is None else dict(answers)))
        return entry

    def chosen(self, undo: Undo) -> HistoryEntry | None:
        """The entry that an undo is of; None if there is none left."""
        entries = self.lake.history.entries()
        if undo.of_import:
            imports = [each for each in entries if each.mode is ExtractionMode.IMPORT]
            entries = imports or entries
        return entries[int(undo.share * len(entries))] if entries else None

    def undo(self, sequence: int) -> None:
        """Undo an entry."""
        place = [entry.sequence for entry in self.lake.history.entries()].index(sequence)
        self.undoer.undo(sequence, AUTHOR)
        self.forget(place)

    def forget(self, place: int) -> None:
        """Take what an undo of the entry at a place among those that count takes back out of `left`."""
        if self.left[place][0].mode is ExtractionMode.IMPORT:
            del self.left[place]
        else:
            del self.left[place:]

    def without(self, storage: Storage, scratch: Path) -> History:
        """The history of what is left, as if nothing else had ever been."""
        other = History(storage, scratch)
        for step, answers in self.left:
            other.record(step, answers)
        return other


def told(lake: Chronicler) -> list[Any]:
    """All that a history says, but for numbers, extractions, and when it was written down."""
    found: list[Any] = [
        lake.history.periods().drop("extraction_id", "page", "contents_entry").rows(),
        contents(lake),
    ]
    for entry in lake.history.entries():
        changes = lake.history.changes(entry.sequence).sort("nct_id", "change_seq")
        numbers = {seq: place for place, seq in enumerate(changes["change_seq"])}
        found.append(
            (
                entry.mode,
                entry.data_timestamp,
                entry.observed_at,
                entry.complete,
                entry.studies,
                entry.changes,
                entry.silent,
                entry.stale,
                entry.duplicate_rows,
                changes.drop("change_seq", "recorded_at", "extraction_id").rows(),
                _renumbered(lake.history.field_changes(entry.sequence), numbers),
                _renumbered(lake.history.typed_events(entry.sequence), numbers),
                lake.history.touched(entry.sequence).to_list(),
                lake.history.stale_ids(entry.sequence)
                if entry.mode is ExtractionMode.CENSUS
                else None,
            )
        )
    return found


def contents(lake: Chronicler) -> list[tuple[str, str, bytes]]:
    """Every content that a period has, as it lies in the history."""
    keys = ["nct_id", "content_hash", "contents_entry"]
    wanted = lake.history.periods().select(keys).unique().sort(keys)
    rows = [
        (row["nct_id"], row["content_hash"], row["study"])
        for table in lake.history.contents(wanted, 5)
        for row in table.to_pylist()
    ]
    return sorted(rows)


def _renumbered(rows: pl.DataFrame, numbers: Mapping[int, int]) -> list[tuple[Any, ...]]:
    if rows.is_empty():
        return []
    renumbered = rows.with_columns(change_seq=pl.col("change_seq").replace_strict(numbers))
    return renumbered.sort("change_seq", "position").rows()
