"""What a refresh, or the building of one extraction, has to do next.

Belongs here: the rule of `next_step.py` with its questions answered by the real registry and database,
for whoever asks once. Does not belong here: the rule, and remembering answers from one time to the next
(the sensor does).
"""

from __future__ import annotations

from ctg_assets.lake.extractions import ExtractionPlan, ExtractionState
from ctg_assets.pipeline.crawl import PLANNING_PATIENCE_SECONDS
from ctg_assets.pipeline.load import wanted_state, warehouse_state
from ctg_assets.pipeline.next_step import Rest, Step, next_build_step, next_step
from ctg_assets.pipeline.services import Lake, open_registry
from ctg_assets.settings import Settings


def next_refresh_step(settings: Settings, lake: Lake) -> Step | Rest:
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
        goal=wanted_state,
        registry_timestamp=registry_timestamp,
    )


def next_known_step(settings: Settings, lake: Lake) -> Step | Rest:
    """The next step as far as it can be told without asking the registry; raises WarehouseError."""
    latest = lake.extractions.latest(ExtractionState.COMPLETE)
    return next_step(
        settings,
        lake,
        warehouse=lambda _: warehouse_state(settings),
        goal=wanted_state,
        registry_timestamp=lambda: "" if latest is None else latest.data_timestamp,
    )


def next_extraction_step(settings: Settings, lake: Lake, extraction: ExtractionPlan) -> Step | Rest:
    """The next step from a complete extraction to the marts; raises WarehouseError."""
    return next_build_step(
        settings,
        lake,
        extraction,
        warehouse=lambda _: warehouse_state(settings),
        goal=wanted_state,
    )
