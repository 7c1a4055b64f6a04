"""The one decision of what is next, told from what lies in the lake and the database.

`mode_policy.py` says which extraction is due, `pending.py` what waits to be recorded, `desired_state.py` what the
database should hold, and `backoff.py` when something may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from ctg_assets.extract.crawl import PLANNING_PATIENCE_SECONDS
from ctg_assets.extract.data_version import ask_data_version
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan, ExtractionState
from ctg_assets.extract.shards import first_missing_page
from ctg_assets.extract.sizing import MOST_PAGES
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.lake import Lake
from ctg_assets.refresh.checks import first_blocking, snapshot_check_results
from ctg_assets.refresh.desired_state import WarehouseState, actual_state, desired_state
from ctg_assets.refresh.mode_policy import Choice, choose
from ctg_assets.refresh.pending import is_current, is_wanted, next_to_record, unrecorded
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import has_events_told, stands_on_what_counts
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.snapshot.typed_contents import model_fingerprint

# Tokens may expire and counts may be off for a moment, but not time after time at one data version.
_MOST_WALKS_GIVEN_UP = 5

# Whatever the cause, a walk that brings the history no further is not repeated for ever. More than two
# complete walks that were lost, or five of a kind that were recorded, is no accident any more.
_MOST_WALKS_LOST = 2
_MOST_WALKS_OF_A_KIND = 5


class Stage(StrEnum):
    """The stages of the way from the registry to the marts."""

    PLAN = "plan"
    PAGES = "pages"
    SNAPSHOT = "snapshot"
    STAGING = "staging"
    LOAD_INFO = "load_info"
    CTGOV = "ctgov"
    MARTS = "marts"
    DROP_MARTS = "drop_marts"


@dataclass(frozen=True)
class Step:
    """The next thing to do, and why.

    `extraction` is the plan concerned, if there is one; `first_page` and `last_page` say which of its
    pages are wanted, `tables` which staging tables, and `marts` which marts, all where it is empty.
    """

    stage: Stage
    reason: str
    extraction: ExtractionPlan | None = None
    first_page: int = 0
    last_page: int = 0
    tables: tuple[str, ...] = ()
    marts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tells this step from others, for counting attempts."""
        extraction = self.extraction.extraction_id if self.extraction else ""
        return f"{self.stage}/{extraction}/{self.first_page}"


@dataclass(frozen=True)
class Idle:
    """Nothing to do, and why; or, if `blocked`, nothing that may be done before a person looked."""

    reason: str
    blocked: bool = False


def next_step(
    settings: Settings,
    lake: Lake,
    *,
    registry_timestamp: Callable[[], str] | None = None,
    actual: Callable[[WarehouseState], WarehouseState] | None = None,
    desired: Callable[[SnapshotManifest], WarehouseState] | None = None,
) -> Step | Idle:
    """The next step towards a warehouse that holds the registry's present data.

    First an extraction that is open is walked to its end, then what is complete is built, and only then
    the registry is asked whether something new is due. `registry_timestamp` is the registry's data version,
    `desired` the state of the database that a snapshot leads to, `actual` (given the desired one) its state
    now. Each is asked only when its answer matters, and who knows a cheaper answer can give it.

    Raises RegistryError when the registry has to be asked and cannot, WarehouseError likewise.
    """
    crawls = [
        plan
        for plan in lake.extractions.open_crawls()
        # Earlier releases planned more pages than can be walked.
        if is_wanted(plan, settings) and (plan.planned_pages or 0) <= MOST_PAGES
    ]
    if crawls:
        plan = crawls[-1]
        first = first_missing_page(lake.shards.pages(plan.extraction_id))
        last = min(first + settings.pages_per_run - 1, plan.planned_pages or first)
        reason = f"pages {first} to {last} of {plan.planned_pages} are next"
        if plan.chains:
            reason += f", in {len(plan.chains)} chains side by side"
        return Step(Stage.PAGES, reason, plan, min(first, last), last)

    building = next_build_step(settings, lake, actual=actual, desired=desired)
    if isinstance(building, Step):
        return building
    held_back = building if building.blocked else None

    now = (registry_timestamp or partial(_ask_registry, settings))()
    # What may not be recorded is not in the history, and taken again it would be no better.
    if held_back is not None and any(
        plan.mode is not ExtractionMode.IMPORT and plan.data_timestamp == now
        for plan in unrecorded(settings, lake)
    ):
        return held_back
    choice = choose(settings, lake.history.entries(), now)
    if choice is None:
        return held_back or Idle(f"everything is as of the registry's data version {now}")
    return (
        _given_up_too_often(settings, lake, now)
        or _without_progress(settings, lake, now, choice)
        or Step(Stage.PLAN, str(choice))
    )


def next_known_step(settings: Settings, lake: Lake) -> Step | Idle:
    """The next step as far as it can be told without asking the registry; raises WarehouseError."""
    return next_step(settings, lake, registry_timestamp=partial(_last_known_timestamp, lake))


def _last_known_timestamp(lake: Lake) -> str:
    """The registry's data version as far as it is known without asking; empty if nothing was extracted."""
    known = [entry.data_timestamp for entry in lake.history.entries() if not entry.is_import]
    known += [
        plan.data_timestamp
        for plan in lake.extractions.plans()
        if plan.mode is not ExtractionMode.IMPORT
        and lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    ]
    return known[-1] if known else ""


def _ask_registry(settings: Settings) -> str:
    patience = min(PLANNING_PATIENCE_SECONDS, settings.retry_seconds)
    return ask_data_version(settings, retry_seconds=patience).data_timestamp


def _given_up_too_often(settings: Settings, lake: Lake, now: str) -> Idle | None:
    """Why one more walk over this data version would end as the ones before it did, if it would.

    A registry whose count and pages disagree would otherwise be walked again and again for ever.
    """
    given_up = [
        supersession
        for plan in lake.extractions.plans()
        if is_wanted(plan, settings) and plan.data_timestamp == now
        if (supersession := lake.extractions.supersession(plan.extraction_id)) is not None
    ]
    if len(given_up) < _MOST_WALKS_GIVEN_UP:
        return None
    return Idle(
        f"{len(given_up)} walks over data version {now} were given up, the last one because "
        f"{given_up[-1].reason}. The next data version will be tried; `ctg-assets refresh --again` "
        "tries this one once more.",
        blocked=True,
    )


def _without_progress(settings: Settings, lake: Lake, now: str, choice: Choice) -> Idle | None:
    """Why one more walk over this data version would bring nothing, if walks of it brought nothing.

    This should never come to pass. But what is due is told from the history, and if for whatever
    reason a walk does not get there, or does not settle what made it due, it would be due again, and
    the registry asked for everything as fast as it allows.
    """
    entries = lake.history.entries()
    recorded = {entry.extraction_id for entry in entries}
    pending = {plan.extraction_id for plan in unrecorded(settings, lake)}
    undone = lake.history.undone_extractions()
    plans = lake.extractions.plans()
    last_recorded = max((p.number for p in plans if p.extraction_id in recorded), default=0)
    lost = [
        plan.extraction_id
        for plan in plans
        if is_wanted(plan, settings)
        and plan.data_timestamp == now
        and plan.number > last_recorded
        and plan.extraction_id not in pending
        and plan.extraction_id not in undone
        and lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    ]
    remedy = (
        "Nothing more is asked of the registry at this data version; the next one will be tried. "
        "`ctg-assets refresh --again` tries this one once more. Please report this."
    )
    if len(lost) >= _MOST_WALKS_LOST:
        return Idle(
            f"{len(lost)} complete walks over data version {now} did not get into the history "
            f"({', '.join(lost)}), and still it is due: {choice}. {remedy}",
            blocked=True,
        )
    same = 0
    for entry in reversed(entries):
        if entry.is_import or entry.data_timestamp != now:
            break
        same += entry.mode is choice.mode and is_current(entry, settings)
    if same >= _MOST_WALKS_OF_A_KIND:
        return Idle(
            f"data version {now} was walked {same} times in the same way, and still it is due: "
            f"{choice}. {remedy}",
            blocked=True,
        )
    return None


def next_build_step(
    settings: Settings,
    lake: Lake,
    *,
    actual: Callable[[WarehouseState], WarehouseState] | None = None,
    desired: Callable[[SnapshotManifest], WarehouseState] | None = None,
) -> Step | Idle:
    """The next step from what is extracted to the marts; for the arguments see `next_step`.

    Raises WarehouseError.
    """
    held_back = None
    pending = next_to_record(settings, lake)
    if pending is not None:
        if pending.forbidden is None:
            reason = f"extraction {pending.plan.extraction_id} is not recorded yet"
            return Step(Stage.SNAPSHOT, reason, pending.plan)
        held_back = Idle(f"not recorded, {pending.forbidden}", blocked=True)
    entry = lake.history.latest()
    if entry is None or not is_current(entry, settings):
        return held_back or Idle("nothing is recorded that the settings ask for")
    step = _after_recording(
        settings,
        lake,
        entry,
        actual=actual or (lambda _: actual_state(settings)),
        desired=desired or partial(desired_state, settings),
    )
    return step if isinstance(step, Step) else held_back or step


def _plan_of(lake: Lake, entry: HistoryEntry) -> ExtractionPlan:
    """The plan of an entry's extraction, whose folder may be gone when what came later was undone."""
    try:
        return lake.extractions.plan(entry.extraction_id)
    except KeyError:
        return lake.history.plan(entry.sequence)


def _after_recording(
    settings: Settings,
    lake: Lake,
    entry: HistoryEntry,
    *,
    actual: Callable[[WarehouseState], WarehouseState],
    desired: Callable[[SnapshotManifest], WarehouseState],
) -> Step | Idle:
    """The next step from the newest entry of the history to the marts."""
    latest = _plan_of(lake, entry)
    manifest = lake.snapshots.manifest(entry.extraction_id)
    entries = lake.history.entries()
    if not all(stands_on_what_counts(each, entries) for each in lake.snapshots.manifests()):
        reason = f"snapshots of entries that were undone are to be replaced; {entry.extraction_id} counts"
        return Step(Stage.SNAPSHOT, reason, latest)
    if manifest is None or manifest.model_fingerprint != model_fingerprint():
        how = "yet" if manifest is None else "by the present field tree"
        reason = f"extraction {entry.extraction_id} is not compacted {how}"
        return Step(Stage.SNAPSHOT, reason, latest)
    if not has_events_told(manifest):
        reason = "what recorded changes mean is to be told by the present rules"
        return Step(Stage.SNAPSHOT, reason, latest)

    wanted = desired(manifest)
    state = actual(wanted)
    if state.tables != wanted.tables:
        forbidden = loading_forbidden(manifest, settings)
        if forbidden is not None:
            return Idle(f"not loaded, {forbidden}", blocked=True)
        return _staging_step(latest, state, wanted)
    return _after_staging(latest, state, wanted)


def loading_forbidden(manifest: SnapshotManifest, settings: Settings) -> str | None:
    """Why a snapshot may not be loaded, if it may not."""
    return first_blocking(snapshot_check_results(manifest, settings))


def _staging_step(latest: ExtractionPlan, state: WarehouseState, wanted: WarehouseState) -> Step:
    """The load of those tables that are not as they should be."""
    outdated = [name for name, made in wanted.tables.items() if state.tables.get(name) != made]
    needless = sorted(state.tables.keys() - wanted.tables.keys())
    if len(outdated) == len(wanted.tables):
        reason = f"the tables do not hold snapshot {latest.extraction_id} yet"
    else:
        changes = [("to be loaded", outdated), ("no longer in the data model", needless)]
        reason = "; ".join(f"{what}: {', '.join(names)}" for what, names in changes if names)
    return Step(Stage.STAGING, reason, latest, tables=tuple(outdated))


def _after_staging(
    latest: ExtractionPlan, state: WarehouseState, wanted: WarehouseState
) -> Step | Idle:
    if state.data_timestamp != wanted.data_timestamp:
        reason = "the studies did not change, only the data version"
        return Step(Stage.LOAD_INFO, reason, latest)
    needless = sorted(state.marts.keys() - wanted.marts.keys())
    if needless:
        reason = f"marts are no longer wanted: {', '.join(needless)}"
        return Step(Stage.DROP_MARTS, reason, latest)
    outdated = [name for name, made in wanted.marts.items() if state.marts.get(name) != made]
    if outdated and len(outdated) < len(wanted.marts):
        reason = f"marts are not built yet: {', '.join(outdated)}"
        return Step(Stage.MARTS, reason, latest, marts=tuple(outdated))
    if outdated:
        return Step(Stage.MARTS, "the marts are not built from the tables yet", latest)
    # Last, so that nothing else waits for what AACT's tables alone need, such as a file of MeSH.
    if state.ctgov_fingerprint != wanted.ctgov_fingerprint:
        reason = "AACT's tables are not made from these tables, searches and MeSH yet"
        return Step(Stage.CTGOV, reason, latest)
    return Idle("everything wanted is up to date")
