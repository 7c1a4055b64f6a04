"""Undoing: entries of the history are taken back as if they had never been.

An import is taken back wherever it is: what was recorded after it is recorded once more without it, from
what those entries keep of what their extractions saw. A walk is taken back with all that came after it,
since what was walked later was chosen by what it had found.

Nothing is moved or overwritten. Entries that are recorded once more are new folders that count only
when the undo's record is there, which is written last. A change that is as it was keeps its number; all
others get numbers above all before, and so do the undoings of the changes that are withdrawn.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import polars as pl
import pyarrow as pa

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.extractions import ExtractionMode, ExtractionStore
from ctg_assets.history.entries import ChangeKind, HistoryEntry, UndoRecord
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
    write_fates,
)
from ctg_assets.history.schemas import CONTENTS_SCHEMA, PERIODS_SCHEMA
from ctg_assets.history.store import HistoryStore, IndexLostError
from ctg_assets.storage.files import Storage

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

_PLACE = ["nct_id", "content_hash", "contents_entry"]


class UndoError(CtgAssetsError):
    """An entry cannot be taken back; the message says why and what can be done."""


@dataclass(frozen=True)
class Author:
    """By whom and why something is undone: command line, user, host, and the reason given."""

    command: str
    user: str
    host: str
    reason: str = ""


@dataclass(frozen=True)
class Scope:
    """What an undo takes back, and what came later and is recorded once more; oldest first."""

    undone: Sequence[HistoryEntry]
    replayed: Sequence[HistoryEntry]


@dataclass(frozen=True)
class Consequences:
    """What an undo does, or would do.

    `added`, `changed` and `removed` count the current studies that there are only afterwards, that have
    another content, and that are not there any more; `studies` those that are current then.
    `withdrawn` counts the changes taken back, `kept` those that are as they were, `found` those that
    there are instead. `since` is the earliest time at which anything is not as it was.
    """

    scope: Scope
    studies: int
    added: int
    changed: int
    removed: int
    withdrawn: int
    kept: int
    found: int
    since: datetime | None


@dataclass(frozen=True)
class _Replay:
    """An entry recorded once more: what it is now, its observations, and its changes.

    `withdrawn` are the changes that it had before and has no more, `found` counts those that are new,
    `kept` those that are as they were. `places` says where contents lay before, `fates` what had been
    asked.
    """

    before: HistoryEntry
    now: HistoryEntry
    work: ExtractionDiff
    changes: pl.DataFrame
    withdrawn: pl.DataFrame
    places: pl.DataFrame
    fates: dict[str, MissingReason]

    @property
    def found(self) -> int:
        return self.now.next_change_seq - self.now.first_change_seq

    @property
    def kept(self) -> int:
        return self.changes.height - self.found


class Undoer:
    """Takes back entries of the history of one lake."""

    def __init__(self, storage: Storage, withdraw: Callable[[], object] = lambda: None) -> None:
        """Undo within `storage`; `withdraw` removes what stands on entries that count no more."""
        self._history = HistoryStore(storage)
        self._extractions = ExtractionStore(storage)
        self._withdraw = withdraw

    def scope(self, sequence: int) -> Scope:
        """What taking back an entry means; raises UndoError if it cannot be taken back."""
        entries = self._history.entries()
        places = {entry.sequence: place for place, entry in enumerate(entries)}
        if sequence not in places:
            raise UndoError(self._why_not(sequence))
        place = places[sequence]
        later = entries[place + 1 :]
        if entries[place].mode is not ExtractionMode.IMPORT:
            scope = Scope(entries[place:], ())
        else:
            scope = Scope(entries[place : place + 1], later)
        for entry in (*scope.undone, *scope.replayed) if scope.replayed else ():
            if not self._history.tells_what_it_did(entry.sequence):
                message = (
                    f"entry {sequence} cannot be taken back: entry {entry.sequence} was recorded by an "
                    "earlier release, which did not keep what is needed to record it once more"
                )
                raise UndoError(message)
        return scope

    def preview(self, sequence: int) -> Consequences:
        """What taking back an entry would do; nothing is written. Raises as `undo`."""
        scope = self.scope(sequence)
        before = self._index_before(scope)
        return self._carried_out(scope, before, "", None)[0]

    def undo(
        self,
        sequence: int,
        author: Author,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[UndoRecord, Consequences]:
        """Take back an entry, and what has to go with it; returns the record and what was done.

        `progress` is called with the entries recorded once more and their number. Only one process may
        record, compact or undo in a lake at a time (the caller sees to it). Killed at any point, it has
        either happened or not; what is left is cleared away by the next recording or undo.

        Raises UndoError when the entry cannot be taken back, StorageError when files cannot be read.
        """
        scope = self.scope(sequence)
        self._history.clean()
        before = self._index_before(scope)
        now = datetime.now(UTC)
        undo_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        replayed: dict[int, int] = {}

        def write(replay: _Replay) -> None:
            self._write(replay, is_last=len(replayed) + 1 == len(scope.replayed))
            replayed[replay.before.sequence] = replay.now.sequence
            if progress is not None:
                progress(len(replayed), len(scope.replayed))

        consequences, undoings = self._carried_out(scope, before, undo_id, write)
        first_seq = self._history.next_change_seq() + consequences.found
        undoings = undoings.with_columns(
            change_seq=pl.int_range(pl.len(), dtype=pl.Int64) + first_seq
        )
        self._history.write_undone_changes(undo_id, undoings)
        earlier = self._earlier(scope)
        if not replayed and earlier:
            # Written for the newest entry that is left, whose own is removed when it is overtaken.
            self._history.write_periods(earlier[-1].sequence, before)
        record = UndoRecord(
            undo_id=undo_id,
            undone_at=now,
            undone=[entry.sequence for entry in scope.undone],
            extractions=[entry.extraction_id for entry in scope.undone],
            replayed=replayed,
            first_change_seq=first_seq,
            next_change_seq=first_seq + undoings.height,
            command=author.command,
            user=author.user,
            host=author.host,
            reason=author.reason,
        )
        self._history.commit_undo(record)
        self.finish()
        return record, consequences

    def finish(self) -> None:
        """Give up extractions of undone entries and remove what stands on them; nothing where that is done.

        What an undo that was killed after it had happened did not come to.
        """
        reasons = {
            extraction_id: f"it was undone ({undo.undo_id})"
            for undo in self._history.undos()
            for extraction_id in undo.extractions
        }
        for plan in self._extractions.plans():
            reason = reasons.get(plan.extraction_id)
            if reason is not None and self._extractions.supersession(plan.extraction_id) is None:
                self._extractions.supersede(plan.extraction_id, reason)
        self._withdraw()

    def _why_not(self, sequence: int) -> str:
        """Why there is no entry of this number to be taken back."""
        for entry, undo in self._history.with_withdrawn():
            if entry.sequence != sequence or undo is None:
                continue
            if (now := undo.replayed.get(sequence)) is not None:
                return (
                    f"entry {sequence} was recorded once more as entry {now}, without what was undone on "
                    f"{undo.undone_at:%Y-%m-%d %H:%M} UTC; `ctg-assets history list` shows both"
                )
            return (
                f"entry {sequence} was undone already, on {undo.undone_at:%Y-%m-%d %H:%M} UTC by "
                f"{undo.user}; a file can be imported again"
            )
        return f"there is no entry {sequence} in the history; `ctg-assets history list` shows all"

    def _earlier(self, scope: Scope) -> list[HistoryEntry]:
        """The entries before all that is taken back."""
        first = scope.undone[0].sequence
        return [entry for entry in self._history.entries() if entry.sequence < first]

    def _index_before(self, scope: Scope) -> pl.DataFrame:
        """The index before all that is taken back."""
        earlier = self._earlier(scope)
        if not earlier:
            return pl.DataFrame(PERIODS_SCHEMA.empty_table())
        try:
            return self._history.periods_after(earlier[-1].sequence)
        except IndexLostError as error:
            message = f"entry {scope.undone[0].sequence} cannot be taken back: {error}"
            raise UndoError(message) from error

    def _carried_out(
        self,
        scope: Scope,
        before: pl.DataFrame,
        undo_id: str,
        write: Callable[[_Replay], None] | None,
    ) -> tuple[Consequences, pl.DataFrame]:
        """What an undo does, and the undoings of changes (UNDONE_SCHEMA, not numbered)."""
        present = self._history.periods()
        places = present.unique(["nct_id", "content_hash"])
        withdrawn = [
            _about(self._history.changes(entry.sequence), places, entry) for entry in scope.undone
        ]
        found = kept = 0
        after = before
        for replay in self._replays(scope, before, undo_id):
            if write is not None:
                write(replay)
            withdrawn.append(_about(replay.withdrawn, replay.places, replay.before))
            found += replay.found
            kept += replay.kept
            after = replay.work.periods
        gone = pl.concat(withdrawn).sort("undone_change_seq")
        heads = [
            periods.filter(pl.col("valid_to").is_null()).select("nct_id", "content_hash")
            for periods in (present, after)
        ]
        had, has = (
            frame.rename({"content_hash": name}) for frame, name in zip(heads, "ab", strict=True)
        )
        both = had.join(has, on="nct_id", how="full", coalesce=True)
        consequences = Consequences(
            scope=scope,
            studies=heads[1].height,
            added=both["a"].null_count(),
            changed=both.filter(pl.col("a") != pl.col("b")).height,
            removed=both["b"].null_count(),
            withdrawn=gone.height,
            kept=kept,
            found=found,
            since=_first_difference(present, after),
        )
        now = after.filter(pl.col("valid_to").is_null()).select(
            "nct_id", new_content_hash="content_hash", new_version_number="version_number"
        )
        return consequences, gone.join(now, on="nct_id", how="left", maintain_order="left")

    def _replays(self, scope: Scope, before: pl.DataFrame, undo_id: str) -> Iterator[_Replay]:
        """Each later entry, observed once more on an index that lacks what is undone."""
        if not scope.replayed:
            return
        past = self._earlier(scope)
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
            )
            fates = self._observe(work, places, past, entry)
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
                studies=work.heads.height,
                changes=kinds_counted(changes),
                silent=int(changes["is_silent"].sum()),
                first_change_seq=next_seq,
                next_change_seq=next_seq + int((changes["change_seq"] >= next_seq).sum()),
                revision=revision_after(work, changes, past[-1] if past else None),
                wanted=work.wanted.len(),
                undo=undo_id,
                replays=entry.sequence,
                kept_numbers=entry.numbers,
            )
            yield _Replay(entry, now, work, changes, withdrawn, places, fates)
            past.append(now)
            periods = work.periods
            sequence, next_seq = sequence + 1, now.next_change_seq

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
            work.find_wanted()
        else:
            work.find_new_contents()
            work.add_sizes([places.select("nct_id", "content_hash", "json_bytes")])
            work.observe()
        if not work.whole:
            return {}
        missing = missing_studies(work.plan, work.heads, work.seen, work.observed_at)
        if not missing.len():
            return {}
        if leaves_scope(work.plan, past):
            work.end(missing, all_left_scope(missing))
            return {}
        known = {
            nct_id: MissingReason(None if kind is None else ChangeKind(kind), merged_into)
            for nct_id, kind, merged_into in self._history.fates(entry.sequence).iter_rows()
        }
        # The registry has moved on, so it is not asked about others: only that they were gone is known.
        unknown = MissingReason(ChangeKind.LEAVE_SCOPE if work.plan.query else ChangeKind.DELETE)
        fates = {nct_id: known.get(nct_id, unknown) for nct_id in missing.to_list()}
        work.end(missing, fates)
        return fates

    def _write(self, replay: _Replay, *, is_last: bool) -> None:
        """Write an entry that counts when the undo is committed."""
        sequence = replay.now.sequence
        if replay.now.mode is not ExtractionMode.CENSUS:
            self._copy_contents(replay)
        if replay.fates:
            write_fates(self._history, sequence, replay.fates)
        write_entry_files(self._history, replay.work, replay.changes, with_index=is_last)
        self._history.write_entry(replay.now)

    def _copy_contents(self, replay: _Replay) -> None:
        """Write the contents that an entry has seen first, now, from where they lay before."""
        new = (
            replay.work.new_contents.select("nct_id", "content_hash", "page")
            .join(replay.places.select(_PLACE), on=["nct_id", "content_hash"], how="left")
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


def _about(changes: pl.DataFrame, places: pl.DataFrame, entry: HistoryEntry) -> pl.DataFrame:
    """Withdrawn changes of an entry as what there is to say of their undoing, but for what is now."""
    content = pl.coalesce("new_content_hash", "old_content_hash")
    return (
        changes.with_columns(content_hash=content)
        .join(places.select(_PLACE), on=["nct_id", "content_hash"], how="left")
        .select(
            "nct_id",
            "kind",
            "observed_at",
            "content_hash",
            "contents_entry",
            undone_change_seq="change_seq",
            entry=pl.lit(entry.sequence, pl.Int32),
            old_content_hash="new_content_hash",
            old_version_number="new_version_number",
        )
    )


def _first_difference(before: pl.DataFrame, after: pl.DataFrame) -> datetime | None:
    """The earliest time at which studies had another content, or were there or not, than before."""

    def borders(periods: pl.DataFrame) -> pl.DataFrame:
        begun = periods.select("nct_id", "content_hash", at="valid_from")
        ended = periods.select(
            "nct_id", pl.lit(None, pl.String).alias("content_hash"), at="valid_to"
        )
        return pl.concat([begun, ended.drop_nulls("at")])

    sides = borders(before), borders(after)
    keys = ["nct_id", "content_hash", "at"]
    times = [
        one.join(other, on=keys, how="anti", nulls_equal=True)["at"]
        for one, other in (sides, sides[::-1])
    ]
    first = pl.concat(times).min()
    assert first is None or isinstance(first, datetime)  # noqa: S101 - the column's type
    return first
