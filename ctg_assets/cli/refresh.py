"""`refresh`: everything is brought up to date."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.setting_values import RefreshMode
from ctg_assets.settings import load_settings


@with_exit_code
def refresh(
    again: Annotated[
        bool, typer.Option("--again", help="Walk the registry even if its data did not move.")
    ] = False,
    mode: Annotated[
        RefreshMode | None,
        typer.Option(
            help="What to ask for if the registry's data moved, in place of CTG_REFRESH_MODE."
        ),
    ] = None,
) -> None:
    """Bring everything up to date: registry → page shards → snapshot → tables → marts.

    Does only what is left to do, so it can be repeated at will, and goes on where a walk was
    interrupted, whoever had begun it. The same assets run as in the UI, and show there.

    What is asked of the registry takes turns: everything, what was posted lately, a census of ids and
    dates. --mode chooses one for this time; with --again it is done though nothing is due.

    Exit codes: 0 done, 1 failed, 2 unusable settings, 3 a check forbids to go on, 4 another run is
    under way, 130 interrupted.
    """
    from ctg_assets.cli.stages import REFRESH_LOCK, run_until_idle
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh.planner import Stage, Step, next_step
    from ctg_assets.storage.data_folder import file_lock

    settings = load_settings(**({} if mode is None else {"refresh_mode": mode}))
    first = Step(Stage.PLAN, "asked for") if again else None
    with file_lock(settings, REFRESH_LOCK):
        run_until_idle(settings, partial(next_step, settings, open_lake(settings)), first)
