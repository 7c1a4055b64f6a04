"""The assets without dbt: its libraries take seconds to import and warn."""

from __future__ import annotations

import dagster as dg

from ctg_assets.orchestration.ctgov import build_ctgov_assets
from ctg_assets.orchestration.extraction import extraction_plan, page_shards
from ctg_assets.orchestration.jobs import build_warehouse, extract_pages, plan_extraction
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.sensors import build_registry_refresh
from ctg_assets.orchestration.snapshot import history, studies
from ctg_assets.orchestration.staging import build_staging_assets
from ctg_assets.orchestration.unwanted_marts import drop_marts


@dg.asset(key=["marts", "dim_study"], deps=[dg.AssetKey(["staging", "studies"])])
def dim_study() -> None:
    """Stands for the marts."""


def definitions_without_dbt() -> dg.Definitions:
    """Everything up to the staging tables, jobs and sensor included; settings from the environment."""
    return dg.Definitions(
        assets=[
            extraction_plan,
            page_shards,
            history,
            studies,
            build_staging_assets(),
            build_ctgov_assets(),
            dim_study,
        ],
        jobs=[plan_extraction, extract_pages, build_warehouse, drop_marts],
        sensors=[build_registry_refresh(30)],
        resources={"settings": SettingsResource()},
    )
