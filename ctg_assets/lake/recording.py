"""Recording: a complete extraction becomes an entry of the history.

Belongs here: telling what is new, changed and gone, and writing that down. Does not belong here: the
files (`history.py`), observations that lie in the past (`slotting.py`), how contents are compared
(`model/changes`).

The content hash decides whether a study changed. Of an extraction, only ids, dates and hashes are read
for all studies; JSON is read for what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.lake.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionStore,
    parse_data_timestamp,
)
from ctg_assets.lake.history import (
    CHANGES_FILE,
    CHANGES_SCHEMA,
    CONTENTS_SCHEMA,
    FIELD_CHANGES_FILE,
    FIELD_CHANGES_SCHEMA,
    PERIODS_SCHEMA,
    TOUCHED_FILE,
    TYPED_EVENTS_FILE,
    TYPED_EVENTS_SCHEMA,
    UNIDENTIFIED,
    WANTED_FILE,
    ChangeKind,
    HistoryEntry,
    HistoryStore,
)
from ctg_assets.lake.shards import ShardStore
from ctg_assets.lake.slotting import Absence, Content, Period, Transition, lasting, slot_in
from ctg_assets.lake.sorted_rows import SortedRows
from ctg_assets.lake.storage import Storage
from ctg_assets.model.changes.field_changes import FieldChange, field_changes
from ctg_assets.model.changes.typed_events import TypedEvent, typed_events

# Two contents of each are in memory at a time, some 40 MB of JSON and ten times that decoded.
_COMPARED_AT_A_TIME = 1000

# Longer than the microseconds by which contents of one time are told apart (`slotting.py`).
_BETWEEN_WALKS = timedelta(milliseconds=1)


class IncompleteExtractionError(Exception):
    """The extraction has pages missing; recording it would lose studies."""


@dataclass(frozen=True)
class Fate:
    """What became of a study that a whole walk did not see.

    `kind` is one of `history.GONE`; None means that the registry has it after all. `merged_into` is the
    study that bears its id as an alias.
    """

    kind: ChangeKind | None
    merged_into: str | None = None


Fates = Callable[[Sequence[str]], Mapping[str, Fate]]
"""Asks what became of studies; those it does not name were removed from the registry."""


@dataclass(frozen=True)
class Disappearance:
    """How many of the studies that were current a whole walk did not see.

    `left_scope` says that the walk is of another registry or query than the one before it.
    """

    current: int
    gone: int
    left_scope: bool


_TRANSITIONS = pl.Schema(
    {
        "nct_id": pl.String(),
        "kind": pl.String(),
        "observed_at": pl.Datetime("us", "UTC"),
        "old_content_hash": pl.String(),
        "old_contents_entry": pl.Int32(),
        "old_date": pl.Date(),
        "new_content_hash": pl.String(),
        "new_contents_entry": pl.Int32(),
        "new_date": pl.Date(),
        "merged_into": pl.String(),
        "is_backfill": pl.Boolean(),
    }
)

_CONTENT = ["content_hash", "last_update_post_date", "json_bytes", "extraction_id", "page"]


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
        heads = self._history.periods(columns).filter(pl.col("valid_to").is_null())
        seen = self._sorted.facts(extraction_id)
        missing = self._missing(plan, heads, seen, self._observed_at(plan))
        return Disappearance(heads.height, missing.len(), self._leaves_scope(plan))

    def record(
        self,
        extraction_id: str,
        *,
        fates: Fates | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> HistoryEntry:
        """Record a complete extraction; one that was recorded already is returned as it was.

        `fates` is asked about studies that a whole walk did not see; without it all of them count as
        removed. `progress` is called with the contents written and their total. Only one recording
        of a lake may run at a time (the caller sees to it).

        Raises IncompleteExtractionError when the extraction is not complete, or no longer; and what
        `fates` raises.
        """
        existing = self._history.entry_of(extraction_id)
        if existing is not None:
            return existing
        plan = self._extractions.plan(extraction_id)
        completion = self._complete(plan)
        latest = self._history.latest()
        sequence = 1 if latest is None else latest.sequence + 1
        self._history.clean(sequence)
        self._sorted.clean()
        seen = self._sorted.facts(extraction_id, every_content=plan.dated_by_studies)
        work = _Work(
            plan=plan,
            sequence=sequence,
            observed_at=_newest_date(seen, plan)
            if plan.dated_by_studies
            else self._observed_at(plan),
            periods=self._history.periods(),
            seen=seen,
            whole=_walked_whole(plan, completion),
            walks=self._whole_walks(),
            absences=self._absences(),
        )
        if plan.mode is ExtractionMode.CENSUS:
            work.find_wanted()
            self._history.write_ids(sequence, WANTED_FILE, work.wanted)
        else:
            work.find_new_contents()
            self._write_contents(work, completion, progress)
            work.observe()
        if work.whole:
            self._end_what_is_gone(work, fates)
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

    def _observed_at(self, plan: ExtractionPlan) -> datetime:
        """The time that an extraction's observations count for.

        Walks follow each other in time, whatever the registry's clock says: the second one at a data
        version, or one of a registry that went back, is put a millisecond after the one before it.
        """
        observed_at = parse_data_timestamp(plan.data_timestamp)
        if plan.mode is ExtractionMode.IMPORT:
            return observed_at
        walks = (
            entry.observed_at
            for entry in self._history.entries()
            if entry.mode is not ExtractionMode.IMPORT
        )
        last = max(walks, default=None)
        return observed_at if last is None else max(observed_at, last + _BETWEEN_WALKS)

    def _whole_walks(self) -> list[datetime]:
        """The times at which all studies were observed with their contents, ascending."""
        return sorted(
            entry.observed_at
            for entry in self._history.entries()
            if entry.complete and entry.mode.is_whole
        )

    def _absences(self) -> list[tuple[Absence, ExtractionMode]]:
        """The times, ascending, at which studies not seen were not there, and how that was told."""
        return [
            (
                Absence(
                    entry.observed_at,
                    ChangeKind.LEAVE_SCOPE if entry.query else ChangeKind.DELETE,
                ),
                entry.mode,
            )
            for entry in sorted(self._history.entries(), key=lambda entry: entry.observed_at)
            if entry.complete
        ]

    def _leaves_scope(self, plan: ExtractionPlan) -> bool:
        """Whether the last whole walk was of another registry or query; files are of every study."""
        before = [entry for entry in self._history.entries() if entry.complete]
        if not before:
            return plan.query != ""
        return (before[-1].source, before[-1].query) != (plan.source, plan.query)

    def _missing(
        self, plan: ExtractionPlan, heads: pl.DataFrame, seen: pl.DataFrame, observed_at: datetime
    ) -> pl.Series:
        # An import may be of a later time than the walk; what it saw was there afterwards.
        heads = heads.filter(pl.col("last_observed_at") < observed_at)
        missing = heads["nct_id"].filter(~heads["nct_id"].is_in(seen["nct_id"].implode()))
        if plan.mode is ExtractionMode.CENSUS:
            # What has no NCT id is not seen by a census.
            missing = missing.filter(~missing.str.starts_with(UNIDENTIFIED))
        return missing

    def _write_contents(
        self,
        work: _Work,
        completion: Completion,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Write contents never seen before; notes in `work` how large each is."""
        new = work.new_contents
        share = new.height / max(1, completion.rows)
        done = 0
        sizes = []
        with self._history.contents_writer(work.sequence) as writer:
            if new.height:
                for rows in self._sorted.rows(
                    work.plan.extraction_id, new, int(completion.json_bytes * share)
                ):
                    self._history.write_contents(writer, _as_contents(work.plan, rows))
                    sizes.append(_sizes(rows))
                    done += rows.num_rows
                    if progress is not None:
                        progress(done, new.height)
        work.add_sizes(sizes)

    def _end_what_is_gone(self, work: _Work, fates: Fates | None) -> None:
        missing = self._missing(work.plan, work.heads, work.seen, work.observed_at)
        if not missing.len():
            return
        if self._leaves_scope(work.plan):
            found: Mapping[str, Fate] = {
                nct_id: Fate(ChangeKind.LEAVE_SCOPE) for nct_id in missing.to_list()
            }
        else:
            found = {} if fates is None else fates(missing.to_list())
        work.end(missing, found)

    def _finish(
        self, work: _Work, latest: HistoryEntry | None, completion: Completion
    ) -> HistoryEntry:
        first_seq = 1 if latest is None else latest.next_change_seq
        recorded_at = datetime.now(UTC)
        changes = work.numbered_changes(first_seq, recorded_at)
        fields_changed = self._write_differences(work.sequence, changes)
        changes = changes.with_columns(
            fields_changed=pl.col("change_seq")
            .replace_strict(fields_changed, default=0, return_dtype=pl.Int32)
            .cast(pl.Int32)
        )
        with self._history.writer(work.sequence, CHANGES_FILE, CHANGES_SCHEMA) as writer:
            writer.write_table(changes.select(CHANGES_SCHEMA.names).to_arrow().cast(CHANGES_SCHEMA))
        self._history.write_ids(work.sequence, TOUCHED_FILE, work.touched)
        self._history.write_periods(work.sequence, work.periods)
        changed = bool(changes.height or work.touched.len())
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
            studies=work.heads.height,
            changes=dict(changes["kind"].value_counts().sort("kind").iter_rows()),
            silent=int(changes["is_silent"].sum()),
            first_change_seq=first_seq,
            next_change_seq=first_seq + changes.height,
            revision=work.sequence if changed or latest is None else latest.revision,
            wanted=work.wanted.len(),
            duplicate_rows=completion.rows - work.seen.height,
        )
        self._history.commit(entry)
        return entry

    def _write_differences(self, sequence: int, changes: pl.DataFrame) -> dict[int, int]:
        """Write how contents differ; returns the number of changed fields by change."""
        compared = changes.filter(
            pl.col("old_content_hash").is_not_null()
            & pl.col("new_content_hash").is_not_null()
            & (pl.col("old_content_hash") != pl.col("new_content_hash"))
        )
        counts: dict[int, int] = {}
        with (
            self._history.writer(sequence, FIELD_CHANGES_FILE, FIELD_CHANGES_SCHEMA) as of_fields,
            self._history.writer(sequence, TYPED_EVENTS_FILE, TYPED_EVENTS_SCHEMA) as of_events,
        ):
            for some in compared.iter_slices(_COMPARED_AT_A_TIME):
                differences = list(self._differences(some))
                _write_rows(of_fields, FIELD_CHANGES_SCHEMA, _field_rows(differences))
                _write_rows(of_events, TYPED_EVENTS_SCHEMA, _event_rows(differences))
                counts |= {each.change_seq: len(each.fields) for each in differences}
        return counts

    def _differences(self, changes: pl.DataFrame) -> Iterator[_Difference]:
        sides = [
            changes.select(
                "nct_id",
                content_hash=f"{side}_content_hash",
                contents_entry=f"{side}_contents_entry",
            )
            for side in ("old", "new")
        ]
        wanted = pl.concat(sides).unique().sort("nct_id", "content_hash")
        contents: dict[tuple[str, str], bytes] = {}
        for rows in self._history.contents(wanted, wanted.height):
            keys = zip(rows["nct_id"].to_pylist(), rows["content_hash"].to_pylist(), strict=True)
            contents |= dict(zip(keys, rows["study"].to_pylist(), strict=True))
        columns = ["change_seq", "nct_id", "old_content_hash", "new_content_hash", "observed_at"]
        for change_seq, nct_id, old_hash, new_hash, observed_at in changes.select(
            columns
        ).iter_rows():
            old, new = _decoded(contents[nct_id, old_hash]), _decoded(contents[nct_id, new_hash])
            if old is None or new is None:
                continue  # not JSON objects: the hashes say all there is to say
            fields = field_changes(old, new)
            events = typed_events(old, new, fields, observed_at.date())
            yield _Difference(change_seq, nct_id, fields, events)


@dataclass(frozen=True)
class _Difference:
    """How the contents before and after a change differ."""

    change_seq: int
    nct_id: str
    fields: Sequence[FieldChange]
    events: Sequence[TypedEvent]


@dataclass
class _Work:
    """A recording under way: the periods while they change, and the changes found."""

    plan: ExtractionPlan
    sequence: int
    observed_at: datetime
    periods: pl.DataFrame
    seen: pl.DataFrame
    whole: bool
    walks: Sequence[datetime]
    absences: Sequence[tuple[Absence, ExtractionMode]]
    wanted: pl.Series = field(default_factory=lambda: pl.Series("nct_id", [], pl.String))
    new_contents: pl.DataFrame = field(default_factory=pl.DataFrame)
    _transitions: list[pl.DataFrame] = field(default_factory=list)
    _touched: list[pl.Series] = field(default_factory=list)

    @property
    def data_timestamp(self) -> str:
        """The time that the extraction as a whole counts for, as the registry spells it."""
        if self.plan.dated_by_studies:
            return self.observed_at.strftime("%Y-%m-%dT%H:%M:%S")
        return self.plan.data_timestamp

    @property
    def heads(self) -> pl.DataFrame:
        """The periods of current contents."""
        return self.periods.filter(pl.col("valid_to").is_null())

    @property
    def touched(self) -> pl.Series:
        """The studies whose periods were changed."""
        none = pl.Series("nct_id", [], pl.String)
        return pl.concat([none, *self._touched]).unique().sort()

    def find_wanted(self) -> None:
        """Which studies a census has seen with other dates than are known, or for the first time."""
        known = self.heads.select("nct_id", known_date="last_update_post_date")
        seen = self.seen.filter(~pl.col("nct_id").str.starts_with(UNIDENTIFIED))
        compared = seen.join(known, on="nct_id", how="left")
        same = pl.col("last_update_post_date").eq_missing(pl.col("known_date"))
        is_known = pl.col("nct_id").is_in(known["nct_id"].implode())
        self.wanted = compared.filter(~(is_known & same))["nct_id"]

    def find_new_contents(self) -> None:
        """Which of the rows seen hold contents that no period has."""
        known = self.periods.select("nct_id", "content_hash").unique()
        self.new_contents = self.seen.join(known, on=["nct_id", "content_hash"], how="anti")

    def add_sizes(self, sizes: Sequence[pl.DataFrame]) -> None:
        """Note the contents that were written, with their `json_bytes`."""
        found = pl.concat(sizes) if sizes else self.new_contents.select("nct_id", "content_hash")
        if not sizes:
            found = found.with_columns(json_bytes=pl.lit(0, pl.Int64))
        written = self.new_contents.join(
            found, on=["nct_id", "content_hash"], how="left"
        ).with_columns(
            extraction_id=pl.lit(self.plan.extraction_id),
            contents_entry=pl.lit(self.sequence, pl.Int32),
        )
        self.new_contents = written.select("nct_id", *_CONTENT, "contents_entry")

    def observe(self) -> None:
        """Bring what was seen into the periods."""
        known = self.periods.select("nct_id", *_CONTENT, "contents_entry").unique(
            ["nct_id", "content_hash"], keep="first", maintain_order=True
        )
        observed = self.seen.select(
            "nct_id", "content_hash", seen_date="last_update_post_date"
        ).join(pl.concat([known, self.new_contents]), on=["nct_id", "content_hash"], how="left")
        last = self.periods.group_by("nct_id", maintain_order=True).last()
        last = last.select(
            "nct_id",
            last_from="valid_from",
            last_to="valid_to",
            last_seen="last_observed_at",
            old_content_hash="content_hash",
            old_contents_entry="contents_entry",
            old_date="last_update_post_date",
        )
        observed = observed.join(last, on="nct_id", how="left")
        last_known = pl.max_horizontal(
            "last_from", "last_to", "last_seen", pl.lit(self.known_until)
        )
        stays = (
            pl.col("last_to").is_null()
            & (pl.col("content_hash") == pl.col("old_content_hash"))
            & (pl.col("last_from") <= self.observed_at)
        ).fill_null(value=False)
        is_late = (last_known >= self.observed_at) & ~stays | pl.lit(self.plan.dated_by_studies)
        observed = observed.with_columns(is_late=is_late)
        self._observe_now(observed.filter(~pl.col("is_late")))
        if observed["is_late"].any():
            self._slot_in(observed.filter("is_late"))

    def _observe_now(self, observed: pl.DataFrame) -> None:
        """Observations later than all that is known of their studies, or of what is known to be so."""
        at = pl.lit(self.observed_at).cast(pl.Datetime("us", "UTC"))
        is_new = pl.col("old_content_hash").is_null()
        is_back = pl.col("last_to").is_not_null()
        is_same = pl.col("content_hash") == pl.col("old_content_hash")
        kinds = observed.with_columns(
            kind=pl.when(is_new)
            .then(pl.lit(str(ChangeKind.INSERT)))
            .when(is_back)
            .then(pl.lit(str(ChangeKind.RESTORE)))
            .when(~is_same)
            .then(pl.lit(str(ChangeKind.UPDATE)))
        )
        unchanged = kinds.filter(pl.col("kind").is_null())["nct_id"]
        changed = kinds.filter(pl.col("kind").is_not_null())
        updated = changed.filter(pl.col("kind") == str(ChangeKind.UPDATE))["nct_id"]
        is_head = pl.col("valid_to").is_null()
        ends = is_head & pl.col("nct_id").is_in(updated.implode())
        stays = is_head & pl.col("nct_id").is_in(unchanged.implode())
        self.periods = self.periods.with_columns(
            last_observed_at=pl.when(stays)
            .then(pl.max_horizontal("last_observed_at", at))
            .otherwise("last_observed_at"),
            ended_by=pl.when(ends).then(pl.lit(str(ChangeKind.UPDATE))).otherwise("ended_by"),
            valid_to=pl.when(ends).then(at).otherwise("valid_to"),
        )
        self._add_periods(
            changed.with_columns(
                valid_from=at,
                valid_to=pl.lit(None, pl.Datetime("us", "UTC")),
                ended_by=pl.lit(None, pl.String),
                last_observed_at=at,
            ),
            without=[],
        )
        self._note(
            changed.select(
                "nct_id",
                "kind",
                "old_content_hash",
                "old_contents_entry",
                "old_date",
                observed_at=at,
                new_content_hash="content_hash",
                new_contents_entry="contents_entry",
                new_date="last_update_post_date",
                merged_into=pl.lit(None, pl.String),
                is_backfill=pl.lit(value=False),
            )
        )

    def _slot_in(self, observed: pl.DataFrame) -> None:
        """Observations of times about which something is known already, one by one."""
        ids = observed["nct_id"].unique()
        of_study: dict[str, list[Period]] = {nct_id: [] for nct_id in ids.to_list()}
        known = self.periods.filter(pl.col("nct_id").is_in(ids.implode()))
        for row in known.sort("nct_id", "valid_from").iter_rows(named=True):
            of_study[row["nct_id"]].append(
                Period(
                    _content(row),
                    row["valid_from"],
                    row["valid_to"],
                    row["ended_by"],
                    row["last_observed_at"],
                )
            )
        before = {nct_id: list(periods) for nct_id, periods in of_study.items()}
        noted: dict[str, list[Transition]] = {nct_id: [] for nct_id in of_study}
        absences = [absence for absence, _ in self.absences]
        # What has no NCT id is not seen by a census.
        of_contents = [absence for absence, mode in self.absences if mode.is_whole]
        dated = observed.sort("nct_id", "seen_date", nulls_last=False)
        for row in dated.iter_rows(named=True):
            nct_id = row["nct_id"]
            at = self._observed_time(row["seen_date"])
            of_study[nct_id], transitions = slot_in(
                of_study[nct_id],
                _content(row),
                at,
                self.walks,
                of_contents if nct_id.startswith(UNIDENTIFIED) else absences,
            )
            noted[nct_id] += transitions
        changed = [
            nct_id
            for nct_id, periods in of_study.items()
            if [_shown(p) for p in periods] != [_shown(p) for p in before[nct_id]]
        ]
        rows = [
            {
                "nct_id": nct_id,
                **_content_columns(period.content),
                "valid_from": period.valid_from,
                "valid_to": period.valid_to,
                "ended_by": period.ended_by,
                "last_observed_at": period.last_observed_at,
            }
            for nct_id, periods in of_study.items()
            for period in periods
        ]
        frame = pl.DataFrame(
            rows, schema={name: _PERIODS[name] for name in _PERIODS if name != "version_number"}
        )
        self._add_periods(frame, without=ids.to_list())
        self._touched.append(pl.Series("nct_id", changed, pl.String))
        left = [
            (nct_id, transition)
            for nct_id, periods in of_study.items()
            for transition in lasting(noted[nct_id], periods)
        ]
        known_until = {nct_id: self._known_until(periods) for nct_id, periods in before.items()}
        self._note(_transition_rows(left, known_until))

    def _observed_time(self, last_update: Any) -> datetime:
        if self.plan.dated_by_studies and last_update is not None:
            return datetime(last_update.year, last_update.month, last_update.day, tzinfo=UTC)
        if self.plan.dated_by_studies:
            return parse_data_timestamp(self.plan.data_timestamp)
        return self.observed_at

    @property
    def known_until(self) -> datetime:
        """The last time at which something is known of studies that were not seen."""
        return self.absences[-1][0].at if self.absences else datetime.min.replace(tzinfo=UTC)

    def _known_until(self, periods: Sequence[Period]) -> datetime:
        """The last time at which something is known of a study with these periods."""
        times = (
            time
            for period in periods[-1:]
            for time in (period.valid_from, period.valid_to, period.last_observed_at)
        )
        return max([self.known_until, *(time for time in times if time is not None)])

    def _add_periods(self, added: pl.DataFrame, *, without: Collection[str]) -> None:
        """Add periods, in the place of all those of the studies in `without`."""
        kept = self.periods
        if without:
            kept = kept.filter(~pl.col("nct_id").is_in(list(without)))
        if not added.height:
            self.periods = kept
            return
        ids = added["nct_id"].unique()
        concerned = pl.col("nct_id").is_in(ids.implode())
        added = added.with_columns(version_number=pl.lit(0, pl.Int32)).select(
            pl.col(name).cast(dtype) for name, dtype in _PERIODS.items()
        )
        changed = pl.concat([kept.filter(concerned), added])
        first = pl.col("valid_from").min().over("nct_id", "content_hash")
        changed = changed.with_columns(
            version_number=first.rank("dense").over("nct_id").cast(pl.Int32)
        )
        if kept.height:
            changed = pl.concat([kept.filter(~concerned), changed])
        self.periods = changed.sort("nct_id", "valid_from")

    def end(self, missing: pl.Series, fates: Mapping[str, Fate]) -> None:
        """End the periods of studies that are gone."""
        gone = []
        for nct_id in missing.to_list():
            fate = fates.get(nct_id, Fate(ChangeKind.DELETE))
            if fate.kind is not None:
                gone.append((nct_id, str(fate.kind), fate.merged_into))
        schema = {"nct_id": pl.String, "kind": pl.String, "merged_into": pl.String}
        ended = pl.DataFrame(gone, schema=schema, orient="row")
        at = pl.lit(self.observed_at).cast(pl.Datetime("us", "UTC"))
        joined = self.periods.join(ended, on="nct_id", how="left", maintain_order="left")
        ends = pl.col("valid_to").is_null() & pl.col("kind").is_not_null()
        self._note(
            joined.filter(ends).select(
                "nct_id",
                "kind",
                "merged_into",
                observed_at=at,
                old_content_hash="content_hash",
                old_contents_entry="contents_entry",
                old_date="last_update_post_date",
                new_content_hash=pl.lit(None, pl.String),
                new_contents_entry=pl.lit(None, pl.Int32),
                new_date=pl.lit(None, pl.Date),
                is_backfill=pl.lit(value=False),
            )
        )
        self.periods = joined.with_columns(
            ended_by=pl.when(ends).then("kind").otherwise("ended_by"),
            valid_to=pl.when(ends).then(at).otherwise("valid_to"),
        ).drop("kind", "merged_into")

    def _note(self, transitions: pl.DataFrame) -> None:
        if transitions.height:
            found = transitions.select(pl.col(name).cast(t) for name, t in _TRANSITIONS.items())
            self._transitions.append(found)
            self._touched.append(found["nct_id"])

    def numbered_changes(self, first_seq: int, recorded_at: datetime) -> pl.DataFrame:
        """All changes, numbered by study and time, with the numbers of their versions."""
        found = pl.concat([pl.DataFrame(schema=_TRANSITIONS), *self._transitions])
        found = found.sort("nct_id", "observed_at", maintain_order=True)
        versions = self.periods.select("nct_id", "content_hash", "version_number").unique()
        for side in ("old", "new"):
            renamed = versions.rename(
                {"content_hash": f"{side}_content_hash", "version_number": f"{side}_version_number"}
            )
            found = found.join(
                renamed, on=["nct_id", f"{side}_content_hash"], how="left", maintain_order="left"
            )
        is_update = pl.col("kind") == str(ChangeKind.UPDATE)
        return found.with_columns(
            change_seq=pl.int_range(pl.len(), dtype=pl.Int64) + first_seq,
            recorded_at=pl.lit(recorded_at).cast(pl.Datetime("us", "UTC")),
            extraction_id=pl.lit(self.plan.extraction_id),
            is_silent=is_update & pl.col("old_date").eq_missing(pl.col("new_date")),
        )


_PERIODS: pl.Schema = pl.DataFrame(PERIODS_SCHEMA.empty_table()).schema


def _newest_date(seen: pl.DataFrame, plan: ExtractionPlan) -> datetime:
    """The newest last update date, as a time; studies without one count at that of the plan."""
    undated = pl.lit(parse_data_timestamp(plan.data_timestamp)).cast(pl.Datetime("us", "UTC"))
    dates = pl.col("last_update_post_date").cast(pl.Datetime("us", "UTC")).fill_null(undated)
    newest = seen.select(dates.max()).item()
    return newest or parse_data_timestamp(plan.data_timestamp)


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


def _content(row: Mapping[str, Any]) -> Content:
    return Content(**{name: row[name] for name in (*_CONTENT, "contents_entry")})


def _content_columns(content: Content) -> dict[str, Any]:
    return {name: getattr(content, name) for name in (*_CONTENT, "contents_entry")}


def _shown(period: Period) -> tuple[Any, ...]:
    """What readers see of a period: of a current one not when it was last observed."""
    return (
        period.content.content_hash,
        period.valid_from,
        period.valid_to,
        period.ended_by,
        None if period.valid_to is None else period.last_observed_at,
    )


def _transition_rows(
    noted: Sequence[tuple[str, Transition]], known_until: Mapping[str, datetime]
) -> pl.DataFrame:
    rows = [
        {
            "nct_id": nct_id,
            "kind": str(each.kind),
            "observed_at": each.observed_at,
            "old_content_hash": each.old.content_hash if each.old else None,
            "old_contents_entry": each.old.contents_entry if each.old else None,
            "old_date": each.old.last_update_post_date if each.old else None,
            "new_content_hash": each.new.content_hash if each.new else None,
            "new_contents_entry": each.new.contents_entry if each.new else None,
            "new_date": each.new.last_update_post_date if each.new else None,
            "merged_into": None,
            "is_backfill": each.observed_at <= known_until[nct_id],
        }
        for nct_id, each in noted
    ]
    return pl.DataFrame(rows, schema=_TRANSITIONS)


def _decoded(study: bytes) -> dict[str, Any] | None:
    try:
        content = msgspec.json.decode(study)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _write_rows(writer: pq.ParquetWriter, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    if rows:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _field_rows(differences: Sequence[_Difference]) -> list[dict[str, Any]]:
    return [
        {
            "change_seq": difference.change_seq,
            "position": position,
            "nct_id": difference.nct_id,
            **asdict(each),
        }
        for difference in differences
        for position, each in enumerate(difference.fields, start=1)
    ]


def _event_rows(differences: Sequence[_Difference]) -> list[dict[str, Any]]:
    return [
        {
            "change_seq": difference.change_seq,
            "position": position,
            "nct_id": difference.nct_id,
            **asdict(each),
        }
        for difference in differences
        for position, each in enumerate(difference.events, start=1)
    ]
