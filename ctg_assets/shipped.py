"""Files that are no Python and that an installation needs: the dbt project and Dagster's settings.

They stay at the top of a checkout, where people of dbt and Dagster look for them. The wheel carries a
copy of them within the package (see `pyproject.toml`).
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped_path(name: str) -> Path:
    """The path of a shipped file or folder: within an installed package, else in the checkout."""
    installed = _PACKAGE / "_shipped" / name
    return installed if installed.exists() else _PACKAGE.parent / name


def shipped_marts() -> dict[str, list[str]]:
    """The names of the marts by the folder of the dbt project that they are in, both sorted."""
    folders: dict[str, list[str]] = {}
    for path in sorted(shipped_path("dbt_project").glob("models/marts/*/*.sql")):
        folders.setdefault(path.parent.name, []).append(path.stem)
    return folders
