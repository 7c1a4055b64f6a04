"""The machine that figures come from, and whether it has room for them.

Belongs here: what a reader has to know to compare figures, without names or paths. Does not belong
here: measuring.
"""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

# Shards, snapshot, tables with their indexes, marts and WAL, measured on generated studies.
DISK_BYTES_PER_STUDY = 130_000

_PACKAGES = ("pyarrow", "polars", "psycopg", "dbt-core", "dlt", "pandas", "pydantic")


class NoRoomError(Exception):
    """The disk cannot hold what is to be measured."""


def describe() -> dict[str, str]:
    """Cores, memory and versions."""
    memory = psutil.virtual_memory().total / 2**30
    facts = {
        "cores": str(psutil.cpu_count() or 1),
        "processor": _processor(),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
    }
    for name in _PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def require_room(folder: Path, studies: int) -> None:
    """Raise NoRoomError unless the disk that `folder` is on has room to measure that many studies."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    needed = studies * DISK_BYTES_PER_STUDY
    if free < needed:
        message = (
            f"{studies:,} studies need about {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are "
            "free; choose fewer (--sizes) or another disk (--folder)"
        )
        raise NoRoomError(message)
