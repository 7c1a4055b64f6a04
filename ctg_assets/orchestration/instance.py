"""The Dagster instance: where its state lies, and how the command line finds it.

Belongs here: what `dagster.yaml` names for its storage, and opening the instance. Does not belong here:
what is in it (`dagster.yaml`).

Dagster's state (runs, events, partitions, cursors) is about one data folder, so it lies in it. Whoever
opens the instance (commands of ours and of Dagster, web server, daemon, run workers) finds the folder by
the settings; two data folders share nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

from ctg_assets.settings import load_settings

_INSTANCE_FILE = "dagster.yaml"
_PROJECT_DIR = Path(__file__).resolve().parents[2]
_STATE = "dagster"


def _state_folder() -> Path:
    return load_settings().data_dir / _STATE


class DataFolderStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage, in the data folder."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to be configured."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Any
    ) -> DataFolderStorage:
        """The storage of the data folder that the settings name."""
        del config_value
        return cls.from_local(str(_state_folder() / "storage"), inst_data)


class DataFolderArtifacts(LocalArtifactStorage):
    """Where Dagster puts files of its own, in the data folder."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to be configured."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DataFolderArtifacts:
        """The folder within the data folder that the settings name."""
        del config_value
        return cls(str(_state_folder()), inst_data)


class DataFolderComputeLogs(LocalComputeLogManager):
    """What steps print, in the data folder."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to be configured."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DataFolderComputeLogs:
        """The logs of the data folder that the settings name."""
        del config_value
        return cls(str(_state_folder() / "compute_logs"), inst_data=inst_data)


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

    Its state is that of the data folder, unless that file says otherwise. What steps print is not
    captured.
    """
    configured = os.environ.get("DAGSTER_HOME")
    if configured:
        home = Path(configured).expanduser()
    else:
        home = Path.cwd() if (Path.cwd() / _INSTANCE_FILE).exists() else _PROJECT_DIR
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_NO_CAPTURING))
