"""`dev`: Dagster's UI and the sensor."""

from __future__ import annotations

import os
import sys

import typer

from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.setting_values import LogFormat
from ctg_assets.settings import load_settings


@with_exit_code
def dev(context: typer.Context) -> None:
    """Start the Dagster UI and the sensor; further arguments go to `dagster dev` (as in: dev --port 3001).

    The same as `dagster dev -m ctg_assets.definitions`, but that Dagster's state is found where
    [bold]refresh[/] keeps it: in the data folder, unless DAGSTER_HOME says otherwise. CTG_LOG_FORMAT and
    CTG_LOG_LEVEL hold for Dagster's own processes, too.
    """
    from ctg_assets.orchestration.instance import HOME_VARIABLE, dagster_home
    from ctg_assets.shipped import shipped_path

    os.environ[HOME_VARIABLE] = str(dagster_home())
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(shipped_path("workspace.yaml"))]
    settings = load_settings()
    if settings.log_format is LogFormat.JSON:
        command += ["--log-format", "json"]
    if settings.log_level is not None:
        command += ["--log-level", str(settings.log_level)]
    # In place of this process, so that Ctrl-C and the exit code are Dagster's.
    os.execv(sys.executable, [*command, *context.args])
