"""Dropping marts that the settings leave out."""

import dagster as dg

from ctg_assets.marts.building import drop_marts_but
from ctg_assets.marts.selection import selected_marts
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.runs import marked_in_process_executor
from ctg_assets.postgres.server import open_postgres


@dg.op(name="drop_unwanted_marts")
def _drop_unwanted(context: dg.OpExecutionContext, settings: SettingsResource) -> None:
    configured = settings.load()
    with open_postgres(configured) as address:
        left = drop_marts_but(address, selected_marts(configured))
    for name in left:
        context.log.warning(
            f"{name} is not wanted, but was left: it holds the past, or somebody built on it"
        )


# With a resource of its own: Dagster would copy the sensor to hand in that of the definitions, and warn of that.
@dg.job(executor_def=marked_in_process_executor, resource_defs={"settings": SettingsResource()})
def drop_marts() -> None:
    """Drop the marts that CTG_MARTS leaves out."""
    _drop_unwanted()
