"""Past months of the monthly snapshot, written again when somebody asks for it or an undo changed them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from ctg_assets.history.undo import Consequences
from ctg_assets.lake import Lake
from ctg_assets.marts.months import (
    RebuiltMonth,
    observed_months,
    rebuild_months,
    remove_months,
    require_monthly_marts,
)
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings


def rebuild_past_months(
    settings: Settings,
    lake: Lake,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[RebuiltMonth]:
    """Write the observed months from `first` to `last`, of all past ones, again (see `rebuild_months`).

    Raises SettingsError when these marts are not wanted, and what `rebuild_months` raises.
    """
    require_monthly_marts(settings)
    with open_postgres(settings) as address:
        return rebuild_months(address, lake, first=first, last=last, progress=progress)


def remove_undone_months(
    settings: Settings, lake: Lake, consequences: Consequences
) -> dict[date, int]:
    """Remove the months of the monthly snapshot in which nothing is observed since an undo.

    Returns how many studies each had. Raises WarehouseError.
    """
    undone = [entry.observed_at for entry in consequences.scope.undone]
    with open_postgres(settings) as address:
        return remove_months(address, lake, undone)


def rebuild_undone_months(
    settings: Settings, lake: Lake, consequences: Consequences
) -> list[RebuiltMonth]:
    """Write the months of the monthly snapshot again that had counted what an undo took back.

    Raises what `rebuild_months` raises.
    """
    observations = [entry.observed_at for entry in lake.history.entries()]
    if consequences.since is None:
        return []
    # No month that rebuilding would not have begun with: of those only what was imported is known.
    first = max(consequences.since, observations[0]).date()
    if not observed_months(observations, first):
        return []
    with open_postgres(settings) as address:
        return rebuild_months(address, lake, first=first)
