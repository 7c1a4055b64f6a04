"""The history of Dagster's storage, read once: each new instance would read it from 80 files, which takes a tenth of a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from dagster import DagsterInstance


def keep_revisions(folder: Path) -> None:
    """From now on, alembic reads each folder of revisions once; those of SQLite are read now, by an instance in `folder`."""
    kept: dict[str, ScriptDirectory] = {}
    scripts: Any = ScriptDirectory
    read = scripts.from_config

    def from_config(config: Any) -> ScriptDirectory:
        location = config.get_main_option("script_location")
        if location not in kept:
            kept[location] = read(config)
        return kept[location]

    scripts.from_config = from_config
    home = folder / "instance"
    home.mkdir()
    with DagsterInstance.local_temp(str(home)):
        pass
