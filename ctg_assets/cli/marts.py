"""`rebuild-months`: past months of the marts are written again."""

from __future__ import annotations

from typing import Annotated

import typer

from ctg_assets.cli.console import out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.cli.times import first_of_month
from ctg_assets.settings import load_settings


@with_exit_code
def rebuild_past_months(
    first: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="The first month, as 2024-05; the one in which the history began if not given. "
            "Of earlier ones only what was imported is known.",
        ),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", help="The last month, as 2024-05; the last past one if not given."),
    ] = None,
) -> None:
    """Write past months of marts.fct_study_snapshot_monthly again, from the history.

    Each month becomes what it was at the last observation in it. The current month is left to refresh.
    Months in which nothing was observed keep the rows that they have: nothing could replace them.
    """
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh import past_months

    settings = load_settings()
    begin = None if first is None else first_of_month(first, "--from")
    end = None if last is None else first_of_month(last, "--to")
    if begin is not None and end is not None and begin > end:
        message = f"--from {first} is later than --to {last}"
        raise typer.BadParameter(message)
    with out.status("compiling the marts") as live:

        def show(done: int, total: int) -> None:
            live.update(f"reading the history: {done:,} of {total:,} contents")

        lake = open_lake(settings)
        months = past_months.rebuild_past_months(settings, lake, begin, end, show)
    for each in months:
        out.print(
            f"{each.month:%Y-%m}: {each.rows:,} studies as of {each.observed_at:%Y-%m-%d %H:%M:%S} "
            f"UTC; it had {each.rows_before:,}"
        )
    if not months:
        out.print("nothing to rebuild: the history has no observation in a past month asked for")
