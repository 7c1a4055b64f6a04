"""Everything Dagster loads: assets, checks, jobs, the sensor and their resources."""

from __future__ import annotations

from functools import cache
from typing import Any

import dagster as dg

from ctg_assets.logs import set_up_in_dagster
from ctg_assets.marts.selection import selected_marts
from ctg_assets.orchestration.attributes import with_attributes
from ctg_assets.orchestration.ctgov import build_ctgov_assets
from ctg_assets.orchestration.ctgov_downloads import build_download_assets
from ctg_assets.orchestration.extraction import (
    extraction_plan,
    page_shards,
    pages_are_complete_and_consistent,
)
from ctg_assets.orchestration.jobs import (
    build_warehouse,
    export_aact,
    extract_pages,
    plan_extraction,
    release_files,
    write_report,
)
from ctg_assets.orchestration.notifications import build_notifications
from ctg_assets.orchestration.release import build_release_assets
from ctg_assets.orchestration.report import build_report_assets
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.run_logs import run_loggers
from ctg_assets.orchestration.runs import marked_in_process_executor
from ctg_assets.orchestration.sensors import INTERVAL_SECONDS, build_registry_refresh
from ctg_assets.orchestration.snapshot import history, studies
from ctg_assets.orchestration.staging import build_staging_assets
from ctg_assets.orchestration.unwanted_marts import drop_marts
from ctg_assets.orchestration.who import (
    refresh_who,
    who_indicators,
    who_observations,
    who_refresh,
    who_tables,
)
from ctg_assets.postgres.embedded import schemas_of
from ctg_assets.setting_values import StepsBy
from ctg_assets.settings import Settings, load_settings


def build_definitions(
    *, sensor_interval_seconds: int = INTERVAL_SECONDS, **overrides: Any
) -> dg.Definitions:
    """Fresh definitions; `overrides` are settings that win over the environment.

    Raises SettingsError for a setting that cannot be used, and DataFolderError for a data folder.
    """
    settings = SettingsResource(overrides=overrides)
    configured = settings.load()
    marts, resources = _marts(configured)
    warehouse: list[dg.AssetsDefinition] = []
    who: list[Any] = []
    reports: list[dg.AssetsDefinition] = []
    if configured.has_warehouse:
        warehouse = [build_staging_assets(), build_ctgov_assets(), build_download_assets()]
        who = [who_indicators, who_observations, who_tables]
        reports = build_report_assets(selected_marts(configured))
    releases = build_release_assets(configured, selected_marts(configured))
    return dg.Definitions(
        assets=with_attributes(
            [
                extraction_plan,
                page_shards,
                history,
                studies,
                *warehouse,
                *who,
                *marts,
                *reports,
                *releases,
            ]
        ),
        asset_checks=[pages_are_complete_and_consistent],
        jobs=[
            *(plan_extraction, extract_pages, build_warehouse, drop_marts),
            *([export_aact, refresh_who] if warehouse else []),
            *([write_report] if reports else []),
            *([release_files] if releases else []),
        ],
        schedules=[who_refresh] if warehouse else [],
        sensors=[
            build_registry_refresh(sensor_interval_seconds),
            *build_notifications(configured),
        ],
        resources={
            "settings": settings,
            **resources,
        },
        executor=_executor(configured),
        loggers=run_loggers(configured),
    )


def _executor(settings: Settings) -> dg.ExecutorDefinition:
    if settings.executor is StepsBy.IN_PROCESS:
        return marked_in_process_executor
    from ctg_assets.orchestration.celery_executor import (  # noqa: PLC0415 - needs an extra
        build_celery_executor,
    )

    return build_celery_executor(settings)


def _marts(settings: Settings) -> tuple[list[dg.AssetsDefinition], dict[str, Any]]:
    """The marts and the dbt that builds them; without any, dbt is not even imported, which takes seconds."""
    wanted = selected_marts(settings)
    if not (wanted and settings.has_warehouse):
        return [], {}
    from ctg_assets.orchestration import marts  # noqa: PLC0415 - see above

    project = marts.dbt_project(marts.manifest_folder(settings), schemas_of(settings))
    return [marts.build_marts_assets(project, wanted)], {"dbt": marts.dbt_cli()}


@dg.definitions
@cache
def defs() -> dg.Definitions:
    """What `dagster` commands load (some of them six times); settings come from the environment."""
    set_up_in_dagster(load_settings())
    return build_definitions()
