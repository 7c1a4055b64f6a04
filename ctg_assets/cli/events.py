"""`prune-events`: Dagster's event log is made smaller."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ctg_assets.cli.console import out, quiet_dagster
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.settings import load_settings


@with_exit_code
def prune_events(
    *,
    days: Annotated[
        int, typer.Option(min=1, help="Leave runs alone that ended in the last so many days.")
    ] = 30,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:
    """Remove from Dagster's event log what nobody needs of runs that ended long ago.

    Dagster keeps every event for ever. Removed are messages, notes about inputs and outputs, and, of runs that
    succeeded, what they had planned. Kept are materializations, observations, checks, and how runs and steps ended: all that
    the UI's lineage, partitions and timelines and the sensors read. Harmless at any time, beside whatever runs.
    """
    from ctg_assets.orchestration.event_log import prune_events as prune
    from ctg_assets.orchestration.instance import open_instance

    load_settings()
    before = datetime.now(UTC) - timedelta(days=days)
    with quiet_dagster(), open_instance() as instance:
        pruned = prune(instance, ended_before=before, dry_run=dry_run)
    would = "would be removed" if dry_run else "removed"
    out.print(
        f"{pruned.events:,} events of {pruned.runs:,} runs that ended before {before:%Y-%m-%d %H:%M} UTC {would}, "
        f"{pruned.bytes / 1e6:,.1f} MB"
    )
