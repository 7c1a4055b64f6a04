"""The Dagster instance that the command line works with.

Belongs here: finding it. Does not belong here: what is in it (`dagster.yaml`).
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
from dagster._core.instance.ref import InstanceRef

_INSTANCE_FILE = "dagster.yaml"
_PROJECT_DIR = Path(__file__).resolve().parents[2]


# The file-descriptor tricks of Dagster's own capturing hold back what a person should see at once, and
# its helper processes write a traceback each on Ctrl-C.
_NO_CAPTURING = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance of DAGSTER_HOME; unset, that of `dagster.yaml` here or in the project.

    Relative paths in that file hold from the working directory, as Dagster has it; if DAGSTER_HOME is
    unset, that changes to the file's folder. What steps print is not captured.
    """
    configured = os.environ.get("DAGSTER_HOME")
    if configured:
        home = Path(configured).expanduser()
    else:
        home = Path.cwd() if (Path.cwd() / _INSTANCE_FILE).exists() else _PROJECT_DIR
        os.chdir(home)
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_NO_CAPTURING))
