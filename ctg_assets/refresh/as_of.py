"""The tables as they stood at a time in the past, flat or as AACT has them, in a schema of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from ctg_assets.aact.as_of import load_aact_as_of
from ctg_assets.aact.other_rows import other_rows
from ctg_assets.lake import Lake
from ctg_assets.load.as_of import load_as_of
from ctg_assets.load.request import LoadProgress
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings


def tables_as_of(
    settings: Settings,
    lake: Lake,
    at: datetime,
    schema: str,
    progress: Callable[[LoadProgress], None] | None = None,
    *,
    like_aact: bool = False,
) -> Mapping[str, int]:
    """Fill a schema with the tables as they stood at a time (aware); returns the rows of each.

    Raises what `load_as_of` and `load_aact_as_of` raise.
    """
    with open_postgres(settings) as address:
        if not like_aact:
            return load_as_of(address, lake, at, schema, progress).rows
        others = other_rows(lake, settings, at)
        return load_aact_as_of(address, lake, at, schema, progress, others=others).rows
