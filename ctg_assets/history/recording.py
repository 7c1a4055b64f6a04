"""Recording: a complete extraction becomes an entry of the history.

The content hash decides whether a study changed. Of an extraction, only ids, dates and hashes are read
for all studies; JSON is read for what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract import credible_times
from ctg_assets.extract.external_sort import SortedRows
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionStore,
)
from ctg_assets.extract.shards import ShardStore
from ctg_assets.history.diff_writer import write_differences
from ctg_assets.history.entries import HistoryEntry, StudyChangeKind
from ctg_assets.history.extraction_diff import ExtractionDiff, MissingReason, reason_of
from ctg_assets.history.period_index import seen_rows
from ctg_assets.history.schemas import (
    CHANGES_FILE,
    CHANGES_SCHEMA,
    CONTENTS_SCHEMA,
    PERIODS_SCHEMA,
    REASONS_FILE,
    REASONS_SCHEMA,
    SEEN_FILE,
    SEEN_SCHEMA,
    STALE_IDS_FILE,
    TOUCHED_FILE,
    TOUCHED_PERIODS_FILE,
)
from ctg_assets.history.sightings import Sightings
from ctg_assets.history.store import HistoryStore
from ctg_assets.history.timeline import Absence
from ctg_assets.model.nct_ids import are_nct_ids
from ctg_assets.prefetch import Prefetch
from ctg_assets.storage.files import Storage
from ctg_assets.times import parse_data_timestamp

# Longer than the microseconds by which contents of one time are told apart (`timeline.py`).
_BETWEEN_WALKS = timedelta(milliseconds=1)

# Of studies that are gone, so many are named.
_EXAMPLES = 3


class IncompleteExtractionError(CtgAssetsError):
    """The extraction has pages missing; recording it would lose studies."""


class UndoneExtractionError(CtgAssetsError):
    """The extraction's entry was taken back; it is not to be recorded again."""


ExplainMissing = Callable[[Sequence[str]], Mapping[str, MissingReason]]
"""Asks what became of studies; those it does not name were removed from the registry."""


@dataclass(frozen=True)
class Disappearance:
    """How many of the studies that were current a whole walk did not see.

    `left_scope` says that the walk is of another registry or query than the one before it; `examples`
    are some of those that it did not see.
    """

    current: int
    gone: int
    left_scope: bool
    examples: tuple[str, ...] = ()


class Recorder:
    """Adds extractions to the history of one lake."""

    def __init__(self, storage: Storage, scratch: Path) -> None:
        """Record within `storage`; `scratch` is a local folder for temporary files."""
        self._storage = storage
        self._extractions = ExtractionStore(storage)
        self._shards = ShardStore(storage)
        self._history = HistoryStore(storage)
        self._sorted = SortedRows(storage, scratch)

    def disappearance(self, extraction_id: str) -> Disappearance | None:
        """How many studies recording would find gone; None if it could not find any.

        Raises IncompleteExtractionError when the extraction is not complete, or no longer.
        """
        plan = self._extractions.plan(extraction_id)
        completion = self._complete(plan)
        if not _walked_whole(plan, completion):
            return None
        columns = ["nct_id", "valid_to", "last_observed_at"]
        current = self._history.periods(columns).filter(pl.col("valid_to").is_null())
        seen = self._sorted.facts(extraction_id)
        missing = missing_studies(plan, current, seen, self._observed_at(plan, seen))
        return Disappearance(
            current.height, missing.len(), leaves_scope(plan, self._history.entries())
        )

    def record(
        self,
        extraction_id: str,
        *,
        explain: ExplainMissing | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> HistoryEntry:
        """Record a complete extraction; one that was recorded already is returned as it was.

        `explain` is asked about studies that a whole walk did not see; without it all of them count as
        removed. `progress` is called with the contents written and their total.

        Raises IncompleteExtractionError when the extraction is not complete, or no longer,
        UndoneExtractionError when its entry was taken back, BusyError when another process records,
        compacts or undoes, and what `explain` raises.
        """
        with self._history.lock():
            existing = self._history.entry_of(extraction_id)
            if existing is not None:
                return existing
            if extraction_id in self._history.undone_extractions():
                message = f"extraction {extraction_id} was recorded and undone (`ctg-assets history list`)"
                raise UndoneExtractionError(message)
            plan = self._extractions.plan(extraction_id)
            completion = self._complete(plan)
            before = self._history.entries()
            latest = before[-1] if before else None
            self._history.clean()
            sequence = self._history.next_sequence()
            self._sorted.clean()
            # A walk is of one time, a file may be a collection.
            is_import = plan.mode is ExtractionMode.IMPORT
            seen = self._sorted.facts(extraction_id, every_content=is_import)
            work = ExtractionDiff(
                plan=plan,
                sequence=sequence,
                observed_at=_newest_date(seen, plan)
                if plan.dated_by_studies
                else self._observed_at(plan, seen),
                periods=self._history.periods(),
                seen=seen,
                whole=_walked_whole(plan, completion),
                walks=whole_walks(before),
                absences=absences(before),
                sightings=Sightings(self._history, [(each, each.sequence) for each in before]),
            )
            if plan.mode is ExtractionMode.CENSUS:
                work.find_stale_ids()
            else:
                work.find_new_contents()
                self._write_contents(work, completion, progress)
                work.observe()
            if work.whole:
                self._end_what_is_gone(work, before, explain)
            return self._finish(work, latest, completion)

    def holds(self, extraction_id: str) -> bool:
        """Whether the history has every content of an extraction's shards."""
        if self._extractions.plan(extraction_id).mode is ExtractionMode.CENSUS:
            return True  # ids and dates are no contents
        facts = self._sorted.facts(extraction_id, every_content=True)
        known = self._history.periods(["nct_id", "content_hash"])
        return facts.join(known, on=["nct_id", "content_hash"], how="anti").is_empty()

    def _complete(self, plan: ExtractionPlan) -> Completion:
        """What a complete extraction brought home, if it is all still there."""
        extraction_id = plan.extraction_id
        completion = self._extractions.completion(extraction_id)
        present = len(self._shards.pages(extraction_id))
        if completion is None:
            message = (
                f"extraction {extraction_id} has {present} of {plan.planned_pages} pages; materialize "
                "the missing page_shards first"
            )
            raise IncompleteExtractionError(message)
        if present != completion.pages:
            message = (
                f"extraction {extraction_id} was complete with {completion.pages} pages, but {present} "
                f"are in {self._storage.root} now; bring the files back, or begin a new extraction "
                "(`ctg-assets refresh --again`)"
            )
            raise IncompleteExtractionError(message)
        return completion

    def _observed_at(self, plan: ExtractionPlan, seen: pl.DataFrame) -> datetime:
        """The time that an extraction's observations count for; `seen` are its facts.

        Walks follow each other in time, whatever the registry's clock says: the second one at a data
        version, or one of a registry that went back, is put a millisecond after the one before it.
        """
        if plan.mode is ExtractionMode.IMPORT:
            return parse_data_timestamp(plan.data_timestamp)
        walks = (entry.observed_at for entry in self._history.entries() if not entry.is_import)
        last = max(walks, default=None)
        observed_at = credible_times.observed_at(plan, last, seen["last_update_post_date"])
        return observed_at if last is None else max(observed_at, last + _BETWEEN_WALKS)

    def _write_contents(
        self,
        work: ExtractionDiff,
        completion: Completion,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Write contents never seen before; notes in `work` how large each is."""
        new = work.new_contents
        share = new.height / max(1, completion.rows)
        done = 0
        sizes = []
        json_bytes = int(completion.json_bytes * share)
        with self._history.contents_writer(work.sequence) as writer:
            if new.height:
                rows_in_order = self._sorted.rows(work.plan.extraction_id, new, json_bytes)
                with Prefetch(rows_in_order) as read:
                    for rows in read:
                        self._history.write_contents(writer, _as_contents(work.plan, rows))
                        sizes.append(_sizes(rows))
                        done += rows.num_rows
                        if progress is not None:
                            progress(done, new.height)
        work.add_sizes(sizes)

    def _end_what_is_gone(
        self, work: ExtractionDiff, before: Sequence[HistoryEntry], explain: ExplainMissing | None
    ) -> None:
        missing = missing_studies(work.plan, work.current, work.seen, work.observed_at)
        if not missing.len():
            return
        if leaves_scope(work.plan, before):
            found: Mapping[str, MissingReason] = all_left_scope(missing)
        else:
            asked = missing.to_list()
            found = {} if explain is None else explain(asked)
            # Kept: whoever records this once more must not ask a registry that has moved on.
            write_reasons(
                self._history, work.sequence, {nct_id: reason_of(found, nct_id) for nct_id in asked}
            )
        work.end(missing, found)

    def _finish(
        self, work: ExtractionDiff, latest: HistoryEntry | None, completion: Completion
    ) -> HistoryEntry:
        first_seq = self._history.next_change_seq()
        recorded_at = datetime.now(UTC)
        changes = work.numbered_changes(first_seq, recorded_at)
        entry = HistoryEntry(
            sequence=work.sequence,
            extraction_id=work.plan.extraction_id,
            mode=work.plan.mode,
            source=work.plan.source,
            query=work.plan.query,
            data_timestamp=work.data_timestamp,
            observed_at=work.observed_at,
            recorded_at=recorded_at,
            complete=work.whole,
            studies=work.current.height,
            changes=kinds_counted(changes),
            silent=int(changes["is_silent"].sum()),
            first_change_seq=first_seq,
            next_change_seq=first_seq + changes.height,
            revision=revision_after(work, changes, latest),
            stale=work.stale_ids.len(),
            duplicate_rows=completion.rows - work.seen.height,
            impossible_dates=work.impossible_dates.height,
            impossible_date=_format(work.impossible_dates),
        )
        write_entry_files(self._history, work, changes)
        self._history.commit(entry)
        return entry


def write_entry_files(
    history: HistoryStore, work: ExtractionDiff, changes: pl.DataFrame, *, with_index: bool = True
) -> None:
    """Write what an entry consists of, but for its contents, and `entry.json` that makes it visible.

    `changes` are numbered, in the order of their numbers. The contents must be in place.
    """
    fields_changed = write_differences(history, work.sequence, changes)
    changes = changes.with_columns(
        fields_changed=pl.col("change_seq")
        .replace_strict(fields_changed, default=0, return_dtype=pl.Int32)
        .cast(pl.Int32)
    )
    history.write_rows(work.sequence, CHANGES_FILE, changes, CHANGES_SCHEMA)
    if work.plan.mode is ExtractionMode.CENSUS:
        history.write_ids(work.sequence, STALE_IDS_FILE, work.stale_ids)
    touched = work.touched
    history.write_ids(work.sequence, TOUCHED_FILE, touched)
    history.write_rows(
        work.sequence,
        TOUCHED_PERIODS_FILE,
        work.periods.filter(pl.col("nct_id").is_in(touched.implode())),
        PERIODS_SCHEMA,
    )
    seen = seen_rows(
        work.seen,
        work.before,
        work.periods,
        touched,
        with_contents=work.plan.mode is not ExtractionMode.CENSUS,
    )
    history.write_rows(work.sequence, SEEN_FILE, seen, SEEN_SCHEMA)
    history.write_plan(work.sequence, work.plan)
    if with_index:
        history.write_periods(work.sequence, work.periods)


def write_reasons(
    history: HistoryStore, sequence: int, reasons: Mapping[str, MissingReason]
) -> None:
    """Keep what was said to have become of studies."""
    rows = [
        (nct_id, None if reason.kind is None else str(reason.kind), reason.merged_into)
        for nct_id, reason in sorted(reasons.items())
    ]
    schema = {"nct_id": pl.String, "kind": pl.String, "merged_into": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    history.write_rows(sequence, REASONS_FILE, frame, REASONS_SCHEMA)


def kinds_counted(changes: pl.DataFrame) -> dict[str, int]:
    """How many changes there are of each kind."""
    return dict(changes["kind"].value_counts().sort("kind").iter_rows())


def revision_after(work: ExtractionDiff, changes: pl.DataFrame, latest: HistoryEntry | None) -> int:
    """The sequence of the last entry that changed anything, after the one at work."""
    changed = bool(changes.height or work.touched.len())
    return work.sequence if changed or latest is None else latest.revision


def whole_walks(before: Sequence[HistoryEntry]) -> list[datetime]:
    """The times at which all studies were observed with their contents, ascending."""
    return sorted(entry.observed_at for entry in before if entry.complete and entry.mode.is_whole)


def absences(before: Sequence[HistoryEntry]) -> list[tuple[Absence, ExtractionMode]]:
    """The times, ascending, at which studies not seen were not there, and how that was told."""
    return [
        (
            Absence(
                entry.observed_at,
                StudyChangeKind.LEAVE_SCOPE if entry.query else StudyChangeKind.DELETE,
            ),
            entry.mode,
        )
        for entry in sorted(before, key=lambda entry: entry.observed_at)
        if entry.complete
    ]


def leaves_scope(plan: ExtractionPlan, before: Sequence[HistoryEntry]) -> bool:
    """Whether the last whole walk was of another registry or query; files are of every study."""
    complete = [entry for entry in before if entry.complete]
    if not complete:
        return plan.query != ""
    return (complete[-1].source, complete[-1].query) != (plan.source, plan.query)


def all_left_scope(missing: pl.Series) -> dict[str, MissingReason]:
    """What became of all studies when another scope is walked than before."""
    return {nct_id: MissingReason(StudyChangeKind.LEAVE_SCOPE) for nct_id in missing.to_list()}


def missing_studies(
    plan: ExtractionPlan, current: pl.DataFrame, seen: pl.DataFrame, observed_at: datetime
) -> pl.Series:
    """The current studies that a walk of its whole scope did not see."""
    # An import may be of a later time than the walk; what it saw was there afterwards.
    current = current.filter(pl.col("last_observed_at") < observed_at)
    missing = current["nct_id"].filter(~current["nct_id"].is_in(seen["nct_id"].implode()))
    if plan.mode is ExtractionMode.CENSUS:
        # What has no NCT id is not seen by a census.
        missing = missing.to_frame().filter(are_nct_ids(pl.col("nct_id")))["nct_id"]
    return missing


def _newest_date(seen: pl.DataFrame, plan: ExtractionPlan) -> datetime:
    """The newest last update date that can be, as a time; studies without one count at the plan's."""
    undated = pl.lit(parse_data_timestamp(plan.data_timestamp)).cast(pl.Datetime("us", "UTC"))
    possible = credible_times.is_possible_date("last_update_post_date", plan.planned_at)
    dates = pl.when(possible).then(pl.col("last_update_post_date").cast(pl.Datetime("us", "UTC")))
    newest = seen.select(dates.otherwise(undated).max()).item()
    return newest or parse_data_timestamp(plan.data_timestamp)


def _format(dates: pl.DataFrame) -> str | None:
    """The first of some studies' dates, with the study; None when there is none."""
    if not dates.height:
        return None
    nct_id, posted = dates.row(0)
    return f"{nct_id}: {posted.isoformat()}"


def _walked_whole(plan: ExtractionPlan, completion: Completion) -> bool:
    """Whether an extraction saw all of its scope, as the registry counted it."""
    expected = plan.expected_studies
    counted = expected is None or completion.distinct_studies == expected
    return plan.mode.covers_scope and counted


def _as_contents(plan: ExtractionPlan, rows: pa.Table) -> pa.Table:
    return pa.table(
        [
            rows["nct_id"],
            rows["content_hash"],
            pa.repeat(plan.extraction_id, rows.num_rows),
            rows["page"],
            rows["study"],
        ],
        schema=CONTENTS_SCHEMA,
    )


def _sizes(rows: pa.Table) -> pl.DataFrame:
    lengths = pa.compute.binary_length(rows["study"]).cast(pa.int64())
    return pl.DataFrame(
        {"nct_id": rows["nct_id"], "content_hash": rows["content_hash"], "json_bytes": lengths}
    )
