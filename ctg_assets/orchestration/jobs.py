"""Jobs: which assets each stage of the way materializes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from ctg_assets.orchestration.extraction import extraction_plan, page_shards
from ctg_assets.orchestration.runs import marked_in_process_executor
from ctg_assets.orchestration.unwanted_marts import drop_marts
from ctg_assets.refresh.planner import Stage, Step

STAGING_PREFIX = "staging"
MARTS_PREFIX = "marts"
CTGOV_GROUP = "ctgov"
DOWNLOADS_GROUP = "ctgov_downloads"
REPORT_GROUP = "report"
RELEASE_GROUP = "release"

_STAGING = dg.AssetSelection.key_prefixes(STAGING_PREFIX)
_LOAD_INFO = dg.AssetSelection.assets(dg.AssetKey([STAGING_PREFIX, "load_info"]))
_SNAPSHOT = dg.AssetSelection.assets("study_versions", "study_changes", "studies")
# Files that take minutes and gigabytes, and are made only when somebody asks for them.
_DOWNLOADS = dg.AssetSelection.groups(DOWNLOADS_GROUP)
# A page to look at, which no refresh should wait for or fail by.
_REPORT = dg.AssetSelection.groups(REPORT_GROUP)
# Files for others, likewise.
_RELEASE = dg.AssetSelection.groups(RELEASE_GROUP)
_CTGOV = dg.AssetSelection.groups(CTGOV_GROUP)
_MARTS = _STAGING.downstream(include_self=False) - _CTGOV - _DOWNLOADS - _REPORT - _RELEASE

# What each stage materializes; checks on these assets run with them.
STAGE_SELECTIONS: Mapping[Stage, dg.AssetSelection] = {
    Stage.PLAN: dg.AssetSelection.assets(extraction_plan),
    Stage.PAGES: dg.AssetSelection.assets(page_shards),
    Stage.SNAPSHOT: _SNAPSHOT,
    Stage.STAGING: _STAGING | _CTGOV | _MARTS,
    Stage.LOAD_INFO: _LOAD_INFO,
    Stage.CTGOV: _CTGOV,
    Stage.MARTS: _MARTS,
}

plan_extraction = dg.define_asset_job(
    "plan_extraction",
    selection=STAGE_SELECTIONS[Stage.PLAN],
    description="Ask the registry how much there is and register its pages.",
)
extract_pages = dg.define_asset_job(
    "extract_pages",
    selection=STAGE_SELECTIONS[Stage.PAGES],
    description="Walk a range of the registry's pages into Parquet shards.",
)
build_warehouse = dg.define_asset_job(
    "build_warehouse",
    selection=_SNAPSHOT | _STAGING | _CTGOV | _MARTS,
    description="Compact the newest complete extraction, load the tables, make AACT's, build the marts.",
)
# What these two write lies on the disk of the machine that does it: that is where the run was started.
export_aact = dg.define_asset_job(
    "export_aact",
    selection=_DOWNLOADS,
    executor_def=marked_in_process_executor,
    description="Write AACT's downloads: flat files, CSV and dump.",
)
write_report = dg.define_asset_job(
    "write_report",
    selection=_REPORT,
    executor_def=marked_in_process_executor,
    description="Write the page about what is in the warehouse.",
)

release_files = dg.define_asset_job(
    "release_files",
    selection=_RELEASE,
    description="Write the tables as files for other engines.",
)

STAGE_JOBS: Mapping[Stage, dg.JobDefinition | UnresolvedAssetJobDefinition] = {
    Stage.PLAN: plan_extraction,
    Stage.PAGES: extract_pages,
    Stage.SNAPSHOT: build_warehouse,
    Stage.STAGING: build_warehouse,
    Stage.LOAD_INFO: build_warehouse,
    Stage.CTGOV: build_warehouse,
    Stage.MARTS: build_warehouse,
    Stage.DROP_MARTS: drop_marts,
}


def step_assets(step: Step, graph: BaseAssetGraph[Any]) -> list[dg.AssetKey] | None:
    """The assets that a step materializes: those of its stage, but of tables and marts only those it names.

    None for the one stage that materializes nothing.
    """
    if step.stage is Stage.DROP_MARTS:
        return None
    selected = STAGE_SELECTIONS[step.stage].resolve(graph)
    if step.stage is Stage.STAGING:
        named = {dg.AssetKey([STAGING_PREFIX, name]) for name in step.tables}
        selected -= _STAGING.resolve(graph) - _LOAD_INFO.resolve(graph) - named
    if step.marts:
        marts = dg.AssetSelection.assets(*([MARTS_PREFIX, name] for name in step.marts))
        selected &= marts.upstream().resolve(graph)
        selected -= dg.AssetSelection.key_prefixes(MARTS_PREFIX).resolve(graph) - marts.resolve(
            graph
        )
    return sorted(selected, key=str)
