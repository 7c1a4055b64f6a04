"""The partitions of `page_shards`: one for each page of the extractions that matter.

The lake is the truth and these keys are derived from it: a lost Dagster instance gets them back when
the plan is materialized again.
"""

from __future__ import annotations

import dagster as dg

from ctg_assets.extract.extractions import ExtractionPlan, ExtractionState, parse_page_key
from ctg_assets.lake import Lake

_NAME = "page"
PAGES = dg.DynamicPartitionsDefinition(name=_NAME)

# A range run is bounded by its first and last key in the order of registration; Dagster knows no
# other way to say which partitions of a run are meant.
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def register_pages(instance: dg.DagsterInstance, plan: ExtractionPlan) -> None:
    """Make the pages of a plan known as partitions, in order; those known already stay as they are."""
    instance.add_dynamic_partitions(_NAME, plan.page_keys())


def registered_pages(instance: dg.DagsterInstance) -> list[str]:
    """All page keys that Dagster knows, in the order of registration."""
    return list(instance.get_dynamic_partitions(_NAME))


def prune_pages(instance: dg.DagsterInstance, lake: Lake) -> list[str]:
    """Forget the pages of extractions that were given up or no longer exist; returns those keys."""
    usable = {
        plan.extraction_id
        for plan in lake.extractions.plans()
        if lake.extractions.state(plan.extraction_id) is not ExtractionState.SUPERSEDED
    }
    stale = [key for key in registered_pages(instance) if parse_page_key(key)[0] not in usable]
    for key in stale:
        instance.delete_dynamic_partition(_NAME, key)
    return stale


def range_tags(plan: ExtractionPlan, first_page: int, last_page: int) -> dict[str, str]:
    """The run tags that ask for a range of a plan's pages."""
    return {
        RANGE_START_TAG: plan.page_key(first_page),
        RANGE_END_TAG: plan.page_key(last_page),
    }
