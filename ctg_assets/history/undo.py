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
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.extractions import ExtractionStore
from ctg_assets.history.entries import HistoryEntry, UndoRecord
from ctg_assets.history.replay import PLACE, Replay, Replayer, Scope
from ctg_assets.history.schemas import PERIODS_SCHEMA
from ctg_assets.history.store import HistoryStore, IndexLostError
from ctg_assets.storage.files import Storage


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


class Undoer:
    """Takes back entries of the history of one lake."""

    def __init__(self, storage: Storage, withdraw: Callable[[], object] = lambda: None) -> None:
        """Undo within `storage`; `withdraw` removes what stands on entries that count no more."""
        self._history = HistoryStore(storage)
        self._replayer = Replayer(self._history)
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
        if not entries[place].is_import:
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

        `progress` is called with the entries recorded once more and their number. Killed at any
        point, it has either happened or not; what is left is cleared away by the next recording or undo.

        Raises UndoError when the entry cannot be taken back, BusyError when another process records,
        compacts or undoes, and StorageError when files cannot be read.
        """
        with self._history.lock():
            scope = self.scope(sequence)
            self._history.clean()
            before = self._index_before(scope)
            now = datetime.now(UTC)
            undo_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
            replayed: dict[int, int] = {}

            def write(replay: Replay) -> None:
                self._replayer.write(replay, is_last=len(replayed) + 1 == len(scope.replayed))
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
        write: Callable[[Replay], None] | None,
    ) -> tuple[Consequences, pl.DataFrame]:
        """What an undo does, and the undoings of changes (UNDONE_SCHEMA, not numbered)."""
        present = self._history.periods()
        places = present.unique(["nct_id", "content_hash"])
        withdrawn = [
            _about(self._history.changes(entry.sequence), places, entry) for entry in scope.undone
        ]
        found = kept = 0
        after = before
        for replay in self._replayer.replays(scope, self._earlier(scope), before, undo_id):
            if write is not None:
                write(replay)
            withdrawn.append(_about(replay.withdrawn, replay.places, replay.before))
            found += replay.found
            kept += replay.kept
            after = replay.work.periods
        gone = pl.concat(withdrawn).sort("undone_change_seq")
        current = [
            periods.filter(pl.col("valid_to").is_null()).select("nct_id", "content_hash")
            for periods in (present, after)
        ]
        had, has = (
            frame.rename({"content_hash": name}) for frame, name in zip(current, "ab", strict=True)
        )
        both = had.join(has, on="nct_id", how="full", coalesce=True)
        consequences = Consequences(
            scope=scope,
            studies=current[1].height,
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


def _about(changes: pl.DataFrame, places: pl.DataFrame, entry: HistoryEntry) -> pl.DataFrame:
    """Withdrawn changes of an entry as what there is to say of their undoing, but for what is now."""
    content = pl.coalesce("new_content_hash", "old_content_hash")
    return (
        changes.with_columns(content_hash=content)
        .join(places.select(PLACE), on=["nct_id", "content_hash"], how="left")
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
