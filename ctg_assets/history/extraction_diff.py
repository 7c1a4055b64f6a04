"""What an extraction's observations do to the periods of all studies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from ctg_assets.extract import credible_times
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan
from ctg_assets.history.entries import StudyChangeKind
from ctg_assets.history.sightings import Sightings
from ctg_assets.history.timeline import (
    SHORTEST,
    Absence,
    Period,
    Transition,
    insert_observation,
    lasting,
    lies_between,
)
from ctg_assets.history.timeline_rows import (
    CONTENT,
    PERIODS,
    TRANSITIONS,
    content_of,
    period_rows,
    periods_by_study,
    shown,
    transition_rows,
)
from ctg_assets.model.nct_ids import are_nct_ids, is_nct_id
from ctg_assets.times import parse_data_timestamp


@dataclass(frozen=True)
class MissingReason:
    """What became of a study that a whole walk did not see.

    `kind` is delete, merge or leave_scope; None means that the registry has it after all. `merged_into` is the
    study that bears its id as an alias.
    """

    kind: StudyChangeKind | None
    merged_into: str | None = None


def reason_of(reasons: Mapping[str, MissingReason], nct_id: str) -> MissingReason:
    """What became of a study; one that is not named was removed from the registry."""
    return reasons.get(nct_id, MissingReason(StudyChangeKind.DELETE))


@dataclass
class ExtractionDiff:
    """The periods of all studies while an extraction changes them, and the changes found."""

    plan: ExtractionPlan
    sequence: int
    observed_at: datetime
    periods: pl.DataFrame
    seen: pl.DataFrame
    whole: bool
    walks: Sequence[datetime]
    absences: Sequence[tuple[Absence, ExtractionMode]]
    sightings: Sightings
    stale_ids: pl.Series = field(default_factory=lambda: pl.Series("nct_id", [], pl.String))
    new_contents: pl.DataFrame = field(default_factory=pl.DataFrame)
    before: pl.DataFrame = field(init=False)
    _transitions: list[pl.DataFrame] = field(default_factory=list)
    _touched: list[pl.Series] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Keep the index as it was before."""
        self.before = self.periods

    @property
    def data_timestamp(self) -> str:
        """The time that the extraction as a whole counts for, as the registry spells it."""
        if self.plan.dated_by_studies:
            return self.observed_at.replace(tzinfo=None).isoformat(timespec="seconds")
        return self.plan.data_timestamp

    @property
    def impossible_dates(self) -> pl.DataFrame:
        """The last update dates that do not count since they cannot be, where such dates count: id and date."""
        dates = self.seen.select("nct_id", "last_update_post_date")
        if not self.plan.dated_by_studies:
            return dates.clear()
        return dates.filter(~self._is_possible("last_update_post_date"))

    def _is_possible(self, column: str) -> pl.Expr:
        return credible_times.is_possible_date(column, self.plan.planned_at)

    @property
    def current(self) -> pl.DataFrame:
        """The periods of current contents."""
        return self.periods.filter(pl.col("valid_to").is_null())

    @property
    def touched(self) -> pl.Series:
        """The studies whose periods were changed."""
        none = pl.Series("nct_id", [], pl.String)
        return pl.concat([none, *self._touched]).unique().sort()

    def find_stale_ids(self) -> None:
        """Which studies a census has seen with other dates than are known, or for the first time."""
        known = self.current.select("nct_id", known_date="last_update_post_date")
        seen = self.seen.filter(are_nct_ids(pl.col("nct_id")))
        compared = seen.join(known, on="nct_id", how="left")
        same = pl.col("last_update_post_date").eq_missing(pl.col("known_date"))
        is_known = pl.col("nct_id").is_in(known["nct_id"].implode())
        self.stale_ids = compared.filter(~(is_known & same))["nct_id"]

    def find_new_contents(self) -> None:
        """Which of the rows seen hold contents that no period has."""
        self.new_contents = self.seen.join(self.periods, on=["nct_id", "content_hash"], how="anti")

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
        self.new_contents = written.select("nct_id", *CONTENT, "contents_entry")

    def observe(self) -> None:
        """Bring what was seen into the periods."""
        # Of few studies that were seen the others need not be looked through, time and again.
        of_seen = self.periods.join(self.seen, on="nct_id", how="semi", maintain_order="left")
        known = of_seen.select("nct_id", *CONTENT, "contents_entry").unique(
            ["nct_id", "content_hash"], keep="first", maintain_order=True
        )
        observed = self.seen.select(
            "nct_id", "content_hash", seen_date="last_update_post_date"
        ).join(
            pl.concat([known, self.new_contents]),
            on=["nct_id", "content_hash"],
            how="left",
            maintain_order="left",
        )
        observed = self._placed(observed, known)
        last = of_seen.group_by("nct_id", maintain_order=True).last()
        last = last.select(
            "nct_id",
            last_from="valid_from",
            last_to="valid_to",
            last_seen="last_observed_at",
            old_content_hash="content_hash",
            old_contents_entry="contents_entry",
            old_date="last_update_post_date",
        )
        observed = observed.join(last, on="nct_id", how="left", maintain_order="left")
        last_known = pl.max_horizontal(
            "last_from", "last_to", "last_seen", pl.lit(self.known_until)
        )
        stays = (
            pl.col("last_to").is_null()
            & (pl.col("content_hash") == pl.col("old_content_hash"))
            & (pl.col("last_from") <= self.observed_at)
        ).fill_null(value=False)
        is_late = (
            (last_known >= self.observed_at) & ~stays
            | (pl.len().over("nct_id") > 1)
            | pl.lit(self.plan.dated_by_studies)
        )
        observed = observed.with_columns(is_late=is_late)
        self._observe_now(observed.filter(~pl.col("is_late")))
        if observed["is_late"].any():
            self._insert_late(observed.filter("is_late"))

    def _placed(self, observed: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """What was seen, with `newer`: how many newer contents of its study were seen at the same time.

        Of several contents that a file has of a study, older ones that the history has already say
        nothing: bringing the same file in again changes nothing.
        """
        newer = pl.len().over("nct_id") - pl.int_range(pl.len()).over("nct_id") - 1
        placed = observed.with_columns(newer=newer.cast(pl.Int64))
        if self.plan.dated_by_studies:
            return placed.with_columns(newer=pl.lit(0, pl.Int64))
        said = placed.select("nct_id", "content_hash").join(
            known.select("nct_id", "content_hash", is_known=pl.lit(value=True)),
            on=["nct_id", "content_hash"],
            how="left",
            maintain_order="left",
        )["is_known"]
        return placed.filter((pl.col("newer") == 0) | said.is_null())

    def _observe_now(self, observed: pl.DataFrame) -> None:
        """Bring in observations later than all that is known of their studies, or of what is known to be so."""
        at = pl.lit(self.observed_at).cast(pl.Datetime("us", "UTC"))
        is_new = pl.col("old_content_hash").is_null()
        is_back = pl.col("last_to").is_not_null()
        is_same = pl.col("content_hash") == pl.col("old_content_hash")
        kinds = observed.with_columns(
            kind=pl.when(is_new)
            .then(pl.lit(str(StudyChangeKind.INSERT)))
            .when(is_back)
            .then(pl.lit(str(StudyChangeKind.RESTORE)))
            .when(~is_same)
            .then(pl.lit(str(StudyChangeKind.UPDATE)))
        )
        unchanged = kinds.filter(pl.col("kind").is_null())["nct_id"]
        changed = kinds.filter(pl.col("kind").is_not_null())
        updated = changed.filter(pl.col("kind") == str(StudyChangeKind.UPDATE))["nct_id"]
        is_head = pl.col("valid_to").is_null()
        ends = is_head & pl.col("nct_id").is_in(updated.implode())
        stays = is_head & pl.col("nct_id").is_in(unchanged.implode())
        self.periods = self.periods.with_columns(
            last_observed_at=pl.when(stays)
            .then(pl.max_horizontal("last_observed_at", at))
            .otherwise("last_observed_at"),
            ended_by=pl.when(ends).then(pl.lit(str(StudyChangeKind.UPDATE))).otherwise("ended_by"),
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

    def _insert_late(self, observed: pl.DataFrame) -> None:
        """Bring in observations of times about which something is known already, one by one."""
        ids = observed["nct_id"].unique()
        known = self.periods.filter(pl.col("nct_id").is_in(ids.implode()))
        of_study = periods_by_study(ids.to_list(), known)
        before = {nct_id: list(periods) for nct_id, periods in of_study.items()}
        noted: dict[str, list[Transition]] = {nct_id: [] for nct_id in of_study}
        absences = [absence for absence, _ in self.absences]
        # What has no NCT id is not seen by a census.
        of_contents = [absence for absence, mode in self.absences if mode.is_whole]
        # A date that cannot be does not count; neither does it stand in the way of all that follows.
        possible = pl.when(self._is_possible("seen_date")).then("seen_date")
        dated = observed.with_columns(seen_date=possible)
        order = ["seen_date"] if self.plan.dated_by_studies else []
        dated = dated.sort("nct_id", *order, nulls_last=False, maintain_order=True)
        sightings: Mapping[str, Sequence[datetime]] | None = None
        for row in dated.iter_rows(named=True):
            nct_id = row["nct_id"]
            at = self._observed_time(row["seen_date"]) - row["newer"] * SHORTEST
            walks = self.walks
            if lies_between(of_study[nct_id], content_of(row), at):
                sightings = self.sightings.of(ids.to_list()) if sightings is None else sightings
                walks = sorted({*walks, *sightings.get(nct_id, ())})
            of_study[nct_id], transitions = insert_observation(
                of_study[nct_id],
                content_of(row),
                at,
                walks,
                absences if is_nct_id(nct_id) else of_contents,
            )
            noted[nct_id] += transitions
        changed = [
            nct_id
            for nct_id, periods in of_study.items()
            if [shown(p) for p in periods] != [shown(p) for p in before[nct_id]]
        ]
        self._add_periods(period_rows(of_study), without=ids.to_list())
        self._touched.append(pl.Series("nct_id", changed, pl.String))
        left = [
            (nct_id, transition)
            for nct_id, periods in of_study.items()
            for transition in lasting(noted[nct_id], periods)
        ]
        known_until = {nct_id: self._known_until(periods) for nct_id, periods in before.items()}
        self._note(transition_rows(left, known_until))

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
            pl.col(name).cast(dtype) for name, dtype in PERIODS.items()
        )
        changed = pl.concat([kept.filter(concerned), added])
        # In two steps: one window within another takes a hundred times as long, 36 s of 600,000 studies.
        first = pl.col("valid_from").min().over("nct_id", "content_hash")
        number = pl.col("first").rank("dense").over("nct_id").cast(pl.Int32)
        changed = changed.with_columns(first=first).with_columns(version_number=number)
        changed = changed.drop("first")
        if kept.height:
            changed = pl.concat([kept.filter(~concerned), changed])
        self.periods = changed.sort("nct_id", "valid_from")

    def end(self, missing: pl.Series, reasons: Mapping[str, MissingReason]) -> None:
        """End the periods of studies that are gone."""
        gone = []
        for nct_id in missing.to_list():
            reason = reason_of(reasons, nct_id)
            if reason.kind is not None:
                gone.append((nct_id, str(reason.kind), reason.merged_into))
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
            found = transitions.select(pl.col(name).cast(t) for name, t in TRANSITIONS.items())
            self._transitions.append(found)
            self._touched.append(found["nct_id"])

    def numbered_changes(self, first_seq: int, recorded_at: datetime) -> pl.DataFrame:
        """All changes, numbered by study and time, with the numbers of their versions."""
        found = pl.concat([pl.DataFrame(schema=TRANSITIONS), *self._transitions])
        found = found.sort("nct_id", "observed_at", maintain_order=True)
        of_changed = self.periods.join(found, on="nct_id", how="semi")
        versions = of_changed.select("nct_id", "content_hash", "version_number").unique()
        for side in ("old", "new"):
            renamed = versions.rename(
                {"content_hash": f"{side}_content_hash", "version_number": f"{side}_version_number"}
            )
            found = found.join(
                renamed, on=["nct_id", f"{side}_content_hash"], how="left", maintain_order="left"
            )
        is_update = pl.col("kind") == str(StudyChangeKind.UPDATE)
        return found.with_columns(
            change_seq=pl.int_range(pl.len(), dtype=pl.Int64) + first_seq,
            recorded_at=pl.lit(recorded_at).cast(pl.Datetime("us", "UTC")),
            extraction_id=pl.lit(self.plan.extraction_id),
            is_silent=is_update & pl.col("old_date").eq_missing(pl.col("new_date")),
        )
