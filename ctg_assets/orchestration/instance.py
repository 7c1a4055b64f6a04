"""The Dagster instance that the command line works with.

Belongs here: finding it. Does not belong here: what is in it (`dagster.yaml`).
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

_INSTANCE_FILE = "dagster.yaml"
_PROJECT_DIR = Path(__file__).resolve().parents[2]


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance of DAGSTER_HOME; unset, that of `dagster.yaml` here or in the project.

    Its paths are relative to that file, so the working directory changes to its folder.
    """
    if not os.environ.get("DAGSTER_HOME"):
        home = Path.cwd() if (Path.cwd() / _INSTANCE_FILE).exists() else _PROJECT_DIR
        os.chdir(home)
        os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.get()
