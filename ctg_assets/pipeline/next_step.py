"""What is left to do, told from what is there.

Belongs here: the one rule that both the sensor and `ctg-assets refresh` follow. Does not belong here:
doing it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ctg_assets.lake.compaction import model_fingerprint
from ctg_assets.lake.extractions import ExtractionMode, ExtractionPlan, ExtractionState
from ctg_assets.lake.shards import first_missing_page
from ctg_assets.lake.snapshots import SnapshotManifest
from ctg_assets.pipeline.checks import check_shards, snapshot_verdicts
from ctg_assets.pipeline.services import Lake
from ctg_assets.settings import Settings


class Stage(StrEnum):
    """The stages of the way from the registry to the marts."""

    PLAN = "plan"
    PAGES = "pages"
    SNAPSHOT = "snapshot"
    STAGING = "staging"
    LOAD_INFO = "load_info"
    MARTS = "marts"


@dataclass(frozen=True)
class WarehouseState:
    """What the database was last loaded with; None where it never was.

    `data_timestamp` is the registry's; the fingerprints are those that `pipeline/load.py` records.
    """

    staging_fingerprint: str | None = None
    data_timestamp: str | None = None
    marts_fingerprint: str | None = None


@dataclass(frozen=True)
class Step:
    """The next thing to do, and why.

    `stage` is None when there is nothing to do (or nothing that may be done: then `blocked`).
    `extraction` is the plan concerned; `first_page` and `last_page` say which pages are wanted.
    """

    stage: Stage | None
    reason: str
    extraction: ExtractionPlan | None = None
    first_page: int = 0
    last_page: int = 0
    blocked: bool = False


@dataclass(frozen=True)
class Goal:
    """What the warehouse should hold, by the fingerprints that `WarehouseState` compares with."""

    staging_fingerprint: str
    data_timestamp: str
    marts_fingerprint: str


def next_step(
    settings: Settings,
    lake: Lake,
    *,
    warehouse: Callable[[], WarehouseState],
    goal: Callable[[SnapshotManifest], Goal],
    registry_timestamp: Callable[[], str],
) -> Step:
    """The next step towards a warehouse that holds the registry's present data.

    Callables are asked only when their answer matters: `registry_timestamp` costs a request,
    `warehouse` a connection.
    """
    crawls = [plan for plan in lake.extractions.open_crawls() if _is_wanted(plan, settings)]
    if crawls:
        plan = crawls[-1]
        first = first_missing_page(lake.shards.pages(plan.extraction_id))
        last = min(first + settings.pages_per_run - 1, plan.planned_pages or first)
        reason = f"pages {first} to {last} of {plan.planned_pages} are next"
        return Step(Stage.PAGES, reason, plan, min(first, last), last)

    latest = lake.extractions.latest(ExtractionState.COMPLETE)
    held_back = None
    if latest is not None:
        step = _towards_marts(settings, lake, latest, warehouse, goal)
        if step.stage is not None:
            return step
        held_back = step if step.blocked else None

    now = registry_timestamp()
    if latest is None or not _is_wanted(latest, settings):
        return Step(Stage.PLAN, f"nothing has been extracted from {settings.api_url} yet")
    if now != latest.data_timestamp:
        return Step(Stage.PLAN, f"the registry's data moved from {latest.data_timestamp} to {now}")
    return held_back or Step(None, f"everything is as of the registry's data version {now}")


def _is_wanted(plan: ExtractionPlan, settings: Settings) -> bool:
    """Whether an extraction is of the registry and query that the settings ask for."""
    return plan.mode is not ExtractionMode.IMPORT and (plan.source, plan.query) == (
        settings.api_url,
        settings.query,
    )


def _towards_marts(
    settings: Settings,
    lake: Lake,
    latest: ExtractionPlan,
    warehouse: Callable[[], WarehouseState],
    goal: Callable[[SnapshotManifest], Goal],
) -> Step:
    """The next step from a complete extraction to the marts, if one is needed and allowed."""
    extraction_id = latest.extraction_id
    manifest = lake.snapshots.manifest(extraction_id)
    if manifest is None or manifest.model_fingerprint != model_fingerprint():
        shards = check_shards(lake, latest)
        if not shards.passed and shards.fatal:
            return Step(None, f"not compacted: {shards.description}", latest, blocked=True)
        return Step(Stage.SNAPSHOT, f"extraction {extraction_id} is not compacted yet", latest)

    state, wanted = warehouse(), goal(manifest)
    if state.staging_fingerprint != wanted.staging_fingerprint:
        for name, verdict in snapshot_verdicts(manifest, settings).items():
            if not verdict.passed and verdict.fatal:
                reason = f"not loaded, check {name} failed: {verdict.description}"
                return Step(None, reason, latest, blocked=True)
        reason = f"the tables do not hold snapshot {extraction_id} yet"
        return Step(Stage.STAGING, reason, latest)
    return _after_staging(latest, state, wanted)


def _after_staging(latest: ExtractionPlan, state: WarehouseState, wanted: Goal) -> Step:
    if state.data_timestamp != wanted.data_timestamp:
        reason = "the studies did not change, only the data version"
        return Step(Stage.LOAD_INFO, reason, latest)
    if state.marts_fingerprint != wanted.marts_fingerprint:
        return Step(Stage.MARTS, "the marts are not built from the tables yet", latest)
    return Step(None, "the marts are up to date", latest)
