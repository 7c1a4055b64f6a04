"""`worker`: does steps of Dagster's runs."""

from __future__ import annotations

import os

from ctg_assets.cli.console import err, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.settings import load_settings


@with_exit_code
def worker() -> None:
    """Do steps of Dagster's runs, one at a time, until Ctrl-C or SIGTERM: what is under way is then done first.

    For runs that are started where CTG_EXECUTOR is celery. Each machine that is to do something runs one or more, with the same
    CTG_BROKER_URL, CTG_POSTGRES_URL, CTG_DATA_URL and storage of Dagster's (docs/several_machines.md).

    Whatever dies, and however, another worker goes on from what is there.

    Exit codes: 0 stopped, 2 unusable settings.
    """
    from ctg_assets.orchestration.celery_steps import celery_app, work
    from ctg_assets.orchestration.instance import HOME_VARIABLE, dagster_home

    settings = load_settings()
    # What is missing is said at once, not after seconds of imports.
    celery_app(settings)
    os.environ[HOME_VARIABLE] = str(dagster_home())
    from ctg_assets.definitions import defs

    # Once, for each step is done by a fork.
    defs()

    out.print("waiting for steps")
    err.print("stop with Ctrl-C", style="dim")
    work(settings)
