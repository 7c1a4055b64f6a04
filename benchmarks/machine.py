"""The machine that figures come from, and whether it has room for them."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_PACKAGES = ("pyarrow", "polars", "psycopg", "dbt-core", "dlt", "pandas", "pydantic")

# Load a core, over the last minute, below which figures are taken at their word.
_QUIET_LOAD = 0.25


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


def busyness(load: float, cores: int) -> str | None:
    """What a reader must know if others were at work when a run began; None if hardly anybody was."""
    if load < _QUIET_LOAD * cores:
        return None
    return (
        f"**The machine was busy when the run began (load {load:.1f} on {cores} cores): these figures "
        "and ratios cannot be relied on.**"
    )


def require_room(folder: Path, studies: int, needed: int) -> None:
    """Raise NoRoomError unless the disk of `folder` has the bytes that measuring the studies needs."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        message = (
            f"{studies:,} studies need about {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} GB are "
            "free; choose fewer (--sizes) or another disk (--folder)"
        )
        raise NoRoomError(message)
