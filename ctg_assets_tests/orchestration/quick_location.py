"""A code location for tests whose sensor ticks every second, and whose dbt is a fork; all else is as in the product."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from ctg_assets.definitions import build_definitions
from ctg_assets.orchestration import marts


def _fork_dbt() -> None:
    beside: Any = marts
    dbt = shutil.which("dbt")
    assert dbt is not None
    beside.sys = SimpleNamespace(executable=str(Path(dbt).with_name("python")))


@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The product's definitions, in a hurry."""
    _fork_dbt()
    return build_definitions(sensor_interval_seconds=1)
