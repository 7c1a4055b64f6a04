"""What dbt has made of the project, kept for all databases and data folders: it takes dbt four seconds of a build.

dbt itself keeps it for one database and one folder, and compares project, variables and connection with its notes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from dbt.artifacts.resources.base import FileHash
from dbt.parser.manifest import ManifestLoader

from ctg_assets.marts.dbt_project import PROJECT_DIR, project_fingerprint

# Ignored by git; where dbt itself would write when run by hand.
_KEPT = PROJECT_DIR / "target" / "parsed"
_NOTES = "partial_parse.msgpack"
# Of the project as it was lately.
_MOST_KEPT = 4


def keep_what_is_parsed() -> None:
    """From now on, dbt in this process begins with what was parsed before, whatever the database."""
    loaders: Any = ManifestLoader
    read = loaders.read_manifest_for_partial_parse
    write = loaders.write_manifest_for_partial_parse
    check = loaders.build_manifest_state_check

    def check_kept(loader: Any) -> Any:
        state = check(loader)
        # Server and database are told in each run, and nothing but names of the database depends on them.
        state.profile_hash = FileHash.from_contents("")
        return state

    def read_kept(loader: Any) -> Any:
        notes, kept = _places(loader)
        if kept is not None and kept.exists() and not notes.exists():
            notes.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(kept, notes)
        manifest = read(loader)
        if manifest is not None:
            _put_database(manifest, loader.root_project.credentials.database)
        return manifest

    def write_kept(loader: Any) -> None:
        write(loader)
        notes, kept = _places(loader)
        if kept is not None and not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            unfinished = kept.with_suffix(f".{os.getpid()}")
            shutil.copy(notes, unfinished)
            unfinished.replace(kept)
            _drop_old()

    loaders.build_manifest_state_check = check_kept
    loaders.read_manifest_for_partial_parse = read_kept
    loaders.write_manifest_for_partial_parse = write_kept


def _places(loader: Any) -> tuple[Path, Path | None]:
    """Where dbt looks for its notes, and where they are kept, unless the project is another."""
    notes = Path(loader.root_project.project_target_path) / _NOTES
    if Path(loader.root_project.project_root) != PROJECT_DIR:
        return notes, None
    told = [
        project_fingerprint(),
        *(
            f"{k}={v}"
            for k, v in sorted(os.environ.items())
            if k.startswith("CTG_") and k.endswith("_SCHEMA")
        ),
    ]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    return notes, _KEPT / f"{digest}.msgpack"


def _drop_old() -> None:
    kept = sorted(_KEPT.glob("*.msgpack"), key=lambda path: path.stat().st_mtime)
    for path in kept[:-_MOST_KEPT]:
        path.unlink(missing_ok=True)


def _put_database(manifest: Any, database: str) -> None:
    """Have all that was parsed lie in this database."""
    for node in [*manifest.nodes.values(), *manifest.sources.values()]:
        if getattr(node, "relation_name", None):
            node.relation_name = node.relation_name.replace(f'"{node.database}".', f'"{database}".')
        node.database = database
