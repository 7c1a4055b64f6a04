"""What runs log: which fields it carries, what dbt says in its own process, and whether Dagster prints it.

Records of Dagster and of assets come by `logs.RunRecords`, which dagster.yaml names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg

from ctg_assets.logs import DBT, log_context
from ctg_assets.setting_values import LogFormat
from ctg_assets.settings import Settings

_dbt_log = logging.getLogger(DBT)


def about(
    context: dg.AssetExecutionContext, asset: str | None = None, extraction: str | None = None
) -> AbstractContextManager[None]:
    """What is logged within is about this run, and this asset and extraction if there is one."""
    known = {
        "run_id": context.run.run_id,
        "job": context.run.job_name,
        "step": context.op_execution_context.op_handle.name,
        "asset": asset,
        "extraction": extraction,
    }
    return log_context(**{name: value for name, value in known.items() if value is not None})


def log_what_dbt_says(invocation: Any) -> None:
    """Log each event of a `DbtCliInvocation`, while it is streamed, as dbt rates it."""
    events = invocation.stream_raw_events

    def logged() -> Iterator[Any]:
        for event in events():
            _log_event(event.raw_event)
            yield event

    invocation.stream_raw_events = logged


def _log_event(event: Mapping[str, Any]) -> None:
    info = event.get("info", {})
    node = event.get("data", {}).get("node_info", {})
    levels = logging.getLevelNamesMapping()
    _dbt_log.log(
        levels.get(
            {"warn": "WARNING"}.get(info.get("level", ""), str(info.get("level")).upper()),
            logging.INFO,
        ),
        "%s",
        info.get("msg", ""),
        extra={"dbt_event": info.get("name"), "dbt_node": node.get("unique_id") or None},
    )


def run_loggers(settings: Settings) -> Mapping[str, dg.LoggerDefinition]:
    """Dagster's loggers for runs: its own, but none where our JSON lines take its place on the console."""
    return {"console": _no_console} if settings.log_format is LogFormat.JSON else {}


@dg.logger(
    config_schema={"log_level": dg.Field(str, is_required=False)},
    description="Prints nothing: records are printed as JSON lines.",
)
def _no_console(_: dg.InitLoggerContext) -> logging.Logger:
    quiet = logging.Logger("ctg_assets.no_console")
    quiet.addHandler(logging.NullHandler())
    return quiet
