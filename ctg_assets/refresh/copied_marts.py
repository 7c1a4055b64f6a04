"""Which marts are copied out of Postgres, and how copies are told to be as they should be."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from ctg_assets.clickhouse import MartsSource
from ctg_assets.marts.selection import selected_marts
from ctg_assets.marts.up_to_date import marts_made_from, standing_marts
from ctg_assets.postgres.builds import StandingMarts, builds_digest
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings

__all__ = ["marts_made_from", "marts_source"]


def marts_source(settings: Settings) -> MartsSource | None:
    """The marts that the settings name, for the feed to copy to a ClickHouse; None where they want no database."""
    if not settings.has_warehouse:
        return None
    return MartsSource(
        open=partial(open_postgres, settings), standing=_Standing(selected_marts(settings))
    )


class _Standing:
    """What marts hold, worked out when something was noted since the last time: that reads the dbt project."""

    def __init__(self, marts: Collection[str]) -> None:
        self._marts = marts
        self._last: tuple[str | None, StandingMarts | None] | None = None

    def __call__(self, address: PostgresAddress) -> StandingMarts | None:
        digest = builds_digest(address)
        last = self._last
        if last is None or last[0] != digest:
            # What is noted from here on is a reason to work it out again.
            last = self._last = (digest, standing_marts(address, self._marts))
        return last[1]
