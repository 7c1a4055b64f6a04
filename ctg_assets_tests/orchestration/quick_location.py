"""A code location for tests whose sensor ticks every second; all else is as in the product."""

from __future__ import annotations

from functools import cache

import dagster as dg

from ctg_assets.definitions import build_definitions


@dg.definitions
@cache
def defs() -> dg.Definitions:
    """The product's definitions, in a hurry."""
    return build_definitions(sensor_interval_seconds=1)
