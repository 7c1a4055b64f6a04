"""What a refresh, or building what is extracted, has to do next, and planning what is due."""

from __future__ import annotations

from functools import partial

from ctg_assets.extract.crawl import PLANNING_PATIENCE_SECONDS, Crawler
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan, ExtractionState
from ctg_assets.extract.sizing import Pace
from ctg_assets.lake import Lake
from ctg_assets.refresh.desired_state import wanted_state, warehouse_state
from ctg_assets.refresh.mode_policy import choose_again
from ctg_assets.refresh.planner import Idle, Step, next_build_step, next_step
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry_access import open_registry
from ctg_assets.settings import Settings


def next_refresh_step(settings: Settings, lake: Lake) -> Step | Idle:
    """The next step towards a warehouse that holds the registry's present data.

    Raises RegistryError when the registry has to be asked and cannot, WarehouseError likewise.
    """

    def registry_timestamp() -> str:
        patience = min(PLANNING_PATIENCE_SECONDS, settings.retry_seconds)
        with open_registry(settings) as client:
            return client.version(retry_seconds=patience).data_timestamp

    return next_step(
        settings,
        lake,
        warehouse=lambda _: warehouse_state(settings),
        goal=partial(wanted_state, settings),
        registry_timestamp=registry_timestamp,
    )


def next_known_step(settings: Settings, lake: Lake) -> Step | Idle:
    """The next step as far as it can be told without asking the registry; raises WarehouseError."""
    known = [entry.data_timestamp for entry in lake.history.entries() if _is_walk(entry.mode)]
    known += [
        plan.data_timestamp
        for plan in lake.extractions.plans()
        if _is_walk(plan.mode)
        and lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    ]
    return next_step(
        settings,
        lake,
        warehouse=lambda _: warehouse_state(settings),
        goal=partial(wanted_state, settings),
        registry_timestamp=lambda: known[-1] if known else "",
    )


def next_extracted_step(settings: Settings, lake: Lake) -> Step | Idle:
    """The next step from what is extracted to the marts; raises WarehouseError."""
    return next_build_step(
        settings,
        lake,
        warehouse=lambda _: warehouse_state(settings),
        goal=partial(wanted_state, settings),
    )


def plan_extraction(settings: Settings, lake: Lake, client: RegistryClient) -> ExtractionPlan:
    """Plan what is due by the policy, or, when nothing is, what the settings ask for all the same.

    Raises RegistryError as `Crawler.plan` does.
    """
    now = client.version(retry_seconds=PLANNING_PATIENCE_SECONDS).data_timestamp
    choice = choose_again(settings, lake.history.entries(), now)
    wanted = () if choice.ids_from is None else lake.history.stale_ids(choice.ids_from)
    return Crawler(client, lake.extractions, lake.shards).plan(
        query=settings.query,
        page_size=settings.page_size,
        mode=choice.mode,
        since=choice.since,
        ids=wanted,
        reason=choice.reason,
        pace=Pace(settings.chains_asked_for, settings.requests_per_minute),
    )


def _is_walk(mode: ExtractionMode) -> bool:
    return mode is not ExtractionMode.IMPORT
