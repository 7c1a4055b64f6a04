"""Recording entries once more, without what was undone before them.

A change that is as it was keeps its number; all others get numbers above all before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import polars as pl
import pyarrow as pa

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history.entries import HistoryEntry, StudyChangeKind
from ctg_assets.history.extraction_diff import ExtractionDiff, MissingReason
from ctg_assets.history.period_index import index_after, seen_again
from ctg_assets.history.recording import (
    absences,
    all_left_scope,
    kinds_counted,
    leaves_scope,
    missing_studies,
    revision_after,
    whole_walks,
    write_entry_files,
    write_reasons,
)
from ctg_assets.history.schemas import CONTENTS_SCHEMA
from ctg_assets.history.sightings import Sightings
from ctg_assets.history.store import HistoryStore

# Contents copied at a time; most are 16 kB.
_CONTENTS_AT_A_TIME = 2000

# What makes a change the same one, beside the study.
_SAME = (
    "kind",
    "observed_at",
    "old_content_hash",
    "new_content_hash",
    "merged_into",
    "is_backfill",
)

PLACE = ["nct_id", "content_hash", "contents_entry"]


@dataclass(frozen=True)
class Scope:
    """What an undo takes back, and what came later and is recorded once more; oldest first."""

    undone: Sequence[HistoryEntry]
    replayed: Sequence[HistoryEntry]


@dataclass(frozen=True)
class Replay:
    """An entry recorded once more: what it is now, its observations, and its changes.

    `withdrawn` are the changes that it had before and has no more, `found` counts those that are new,
    `kept` those that are as they were. `places` says where contents lay before, `reasons` what had been
    asked.
    """

    before: HistoryEntry
    now: HistoryEntry
    work: ExtractionDiff
    changes: pl.DataFrame
    withdrawn: pl.DataFrame
    places: pl.DataFrame
    reasons: dict[str, MissingReason]

    @property
    def found(self) -> int:
        """How many of its changes are new."""
        return self.now.next_change_seq - self.now.first_change_seq

    @property
    def kept(self) -> int:
        """How many of its changes are as they were."""
        return self.changes.height - self.found


class Replayer:
    """Records the entries of a history that came after what is undone once more."""

    def __init__(self, history: HistoryStore) -> None:
        """Replay entries of `history`; what they hold is read from there and written there."""
        self._history = history

    def replays(
        self,
        scope: Scope,
        earlier: Sequence[HistoryEntry],
        before: pl.DataFrame,
        undo_id: str,
    ) -> Iterator[Replay]:
        """Each later entry, observed once more on an index that lacks what is undone.

        `earlier` are the entries before all that is undone, `before` is the index after them.
        """
        if not scope.replayed:
            return
        past = list(earlier)
        # What is recorded once more is not written yet; what it saw is kept as it was.
        kept = [(entry, entry.sequence) for entry in earlier]
        was = periods = before
        for entry in scope.undone:
            was = self._as_recorded(was, entry)
        sequence, next_seq = self._history.next_sequence(), self._history.next_change_seq()
        diverged = pl.Series("nct_id", [], pl.String)
        recorded_at = datetime.now(UTC)
        for entry in scope.replayed:
            seen = seen_again(self._history.seen(entry.sequence), was)
            was = self._as_recorded(was, entry)
            places = was.unique(["nct_id", "content_hash"])
            work = ExtractionDiff(
                plan=self._history.plan(entry.sequence),
                sequence=sequence,
                observed_at=entry.observed_at,
                periods=periods,
                seen=seen,
                whole=entry.complete,
                walks=whole_walks(past),
                absences=absences(past),
                sightings=Sightings(self._history, kept),
            )
            reasons = self._observe(work, places, past, entry)
            changes, withdrawn, diverged = _numbered(
                self._history.changes(entry.sequence),
                work.numbered_changes(next_seq, recorded_at),
                diverged,
                next_seq,
            )
            now = msgspec.structs.replace(
                entry,
                sequence=sequence,
                recorded_at=recorded_at,
                studies=work.current.height,
                changes=kinds_counted(changes),
                silent=int(changes["is_silent"].sum()),
                first_change_seq=next_seq,
                next_change_seq=next_seq + int((changes["change_seq"] >= next_seq).sum()),
                revision=revision_after(work, changes, past[-1] if past else None),
                stale=work.stale_ids.len(),
                undo=undo_id,
                replays=entry.sequence,
                kept_numbers=entry.numbers,
            )
            yield Replay(entry, now, work, changes, withdrawn, places, reasons)
            past.append(now)
            kept = [*kept, (now, entry.sequence)]
            periods = work.periods
            sequence, next_seq = sequence + 1, now.next_change_seq

    def write(self, replay: Replay, *, is_last: bool) -> None:
        """Write an entry that counts when the undo is committed."""
        sequence = replay.now.sequence
        if replay.now.mode is not ExtractionMode.CENSUS:
            self._copy_contents(replay)
        if replay.reasons:
            write_reasons(self._history, sequence, replay.reasons)
        write_entry_files(self._history, replay.work, replay.changes, with_index=is_last)
        self._history.write_entry(replay.now)

    def _as_recorded(self, before: pl.DataFrame, entry: HistoryEntry) -> pl.DataFrame:
        """The index after an entry as it is recorded, from the one before it."""
        touched = self._history.touched_periods(entry.sequence)
        return index_after(before, self._history.seen(entry.sequence), touched)

    def _observe(
        self,
        work: ExtractionDiff,
        places: pl.DataFrame,
        past: Sequence[HistoryEntry],
        entry: HistoryEntry,
    ) -> dict[str, MissingReason]:
        """Bring in what was seen; returns what was said to have become of studies that were not."""
        if work.plan.mode is ExtractionMode.CENSUS:
            work.find_stale_ids()
        else:
            work.find_new_contents()
            work.add_sizes([places.select("nct_id", "content_hash", "json_bytes")])
            work.observe()
        if not work.whole:
            return {}
        missing = missing_studies(work.plan, work.current, work.seen, work.observed_at)
        if not missing.len():
            return {}
        if leaves_scope(work.plan, past):
            work.end(missing, all_left_scope(missing))
            return {}
        known = {
            nct_id: MissingReason(None if kind is None else StudyChangeKind(kind), merged_into)
            for nct_id, kind, merged_into in self._history.reasons(entry.sequence).iter_rows()
        }
        # The registry has moved on, so it is not asked about others: only that they were gone is known.
        unknown = MissingReason(
            StudyChangeKind.LEAVE_SCOPE if work.plan.query else StudyChangeKind.DELETE
        )
        reasons = {nct_id: known.get(nct_id, unknown) for nct_id in missing.to_list()}
        work.end(missing, reasons)
        return reasons

    def _copy_contents(self, replay: Replay) -> None:
        """Write the contents that an entry has seen first, now, from where they lay before."""
        new = (
            replay.work.new_contents.select("nct_id", "content_hash", "page")
            .join(replay.places.select(PLACE), on=["nct_id", "content_hash"], how="left")
            .sort("nct_id", "content_hash")
        )
        with self._history.contents_writer(replay.now.sequence) as writer:
            for rows in self._history.contents(new, _CONTENTS_AT_A_TIME):
                extraction = pa.repeat(replay.now.extraction_id, rows.num_rows)
                columns = [
                    rows["nct_id"],
                    rows["content_hash"],
                    extraction,
                    rows["page"],
                    rows["study"],
                ]
                table = pa.Table.from_arrays(columns, names=CONTENTS_SCHEMA.names)
                self._history.write_contents(writer, table.cast(CONTENTS_SCHEMA))


def _numbered(
    before: pl.DataFrame, now: pl.DataFrame, diverged: pl.Series, next_seq: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.Series]:
    """The changes of an entry with their numbers, those it has no more, and the studies that differ.

    Of a study, changes keep their numbers up to the first one that is another: so those that are new
    come after all that stay, and whoever follows the numbers ends where the study is. `diverged`
    studies differ already in an earlier entry.
    """
    place = pl.int_range(pl.len()).over("nct_id")
    facts = [pl.col(name).alias(f"{name}_before") for name in _SAME]
    old = before.sort("change_seq").with_columns(place=place)
    known = old.select("nct_id", "place", *facts, known_seq="change_seq", known_time="recorded_at")
    is_same = pl.all_horizontal(
        pl.col("known_seq").is_not_null(),
        *(pl.col(name).eq_missing(pl.col(f"{name}_before")) for name in _SAME),
    ) & ~pl.col("nct_id").is_in(diverged.implode())
    compared = (
        now.with_columns(place=place)
        .join(known, on=["nct_id", "place"], how="left", maintain_order="left")
        .with_columns(is_kept=is_same.cum_prod().over("nct_id").cast(pl.Boolean))
    )
    is_kept = pl.col("is_kept")
    new_number = (~is_kept).cum_sum().cast(pl.Int64) + (next_seq - 1)
    changes = compared.with_columns(
        change_seq=pl.when(is_kept).then("known_seq").otherwise(new_number),
        recorded_at=pl.when(is_kept).then("known_time").otherwise("recorded_at"),
    ).sort("change_seq")
    kept = compared.filter(is_kept)["known_seq"]
    withdrawn = old.filter(~pl.col("change_seq").is_in(kept.implode())).drop("place")
    others = [diverged, withdrawn["nct_id"], compared.filter(~is_kept)["nct_id"]]
    return changes, withdrawn, pl.concat(others).unique()
