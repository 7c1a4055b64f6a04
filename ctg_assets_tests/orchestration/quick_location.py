"""A code location for tests whose sensor ticks every second; all else is as in the product.

But for time: Dagster starts each run as a new Python, which imports everything for five seconds. Here they are
forks of a process that has; its dbt is a fork as well.
"""

from __future__ import annotations

import multiprocessing
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
from dagster._grpc import server

from ctg_assets.definitions import build_definitions
from ctg_assets.orchestration import marts


def _fork_runs() -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "ctg_assets.orchestration.instance"])
    # Set by the server's own `__init__`, which a property of the class overrules.
    servers: Any = server.DagsterApiServer
    servers._mp_ctx = property(lambda _: context, lambda _, _chosen: None)


def _fork_dbt() -> None:
    beside: Any = marts
    dbt = shutil.which("dbt")
    assert dbt is not None
    beside.sys = SimpleNamespace(executable=str(Path(dbt).with_name("python")))


@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The product's definitions, in a hurry."""
    _fork_runs()
    _fork_dbt()
    return build_definitions(sensor_interval_seconds=1)
