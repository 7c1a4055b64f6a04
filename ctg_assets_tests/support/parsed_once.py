"""What dbt has made of the project, kept for all databases and data folders: it takes dbt four seconds of a build.

dbt itself keeps it for one database and one folder, and compares project, variables and connection with its notes.

The process that commands are forked from has what was kept in memory, its macros compiled, and has used dbt once:
what dbt makes at its first use (code that reads and writes its classes, schemas of these) takes each command a second.
"""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import io
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from multiprocessing import resource_tracker, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dbt.artifacts.resources.base import FileHash
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from dbt.parser.manifest import ManifestLoader, extended_mashumuro_decoder
from dbt.version import __version__
from dbt_common.behavior_flags import BehaviorFlagRendered
from dbt_common.clients import system
from dbt_common.clients.jinja import template_cache
from dbt_common.invocation import get_invocation_id

from ctg_assets.marts.dbt_project import PROJECT_DIR, project_fingerprint, schema_environment
from ctg_assets.postgres.schemas import Schemas

# Ignored by git; where dbt itself would write when run by hand.
_KEPT = PROJECT_DIR / "target" / "parsed"
_NOTES = "partial_parse.msgpack"
# Of the project as it was lately.
_MOST_KEPT = 4


_in_memory: dict[Path, Any] = {}


def use_once(folder: Path) -> None:
    """Use dbt in this process, for which it writes into `folder`, and have what is kept in memory."""
    # As what runs dbt tells it: with other schemas it would parse the project anew.
    os.environ.update(schema_environment(Schemas()))
    kept = _kept()
    if not kept.exists():
        # Parsing starts threads (of dbt's parser in Rust). A fork has none of them, and would wait for them
        # for ever when it parses another project; so this process never does.
        child = os.fork()
        if child == 0:
            try:
                _use(folder)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert kept.exists(), f"dbt did not parse the project; what it said is in {folder}"
    _use(folder)
    _in_memory[kept] = Manifest.from_msgpack(kept.read_bytes(), decoder=extended_mashumuro_decoder)
    for macro in _in_memory[kept].macros.values():
        template_cache.get_node_template(macro)
    # What follows dbt's locks has a pipe, whose number would be that of another file in the forks.
    following: Any = (util, resource_tracker)
    following[0]._run_finalizers()
    following[1]._resource_tracker._stop()


def _use(folder: Path) -> None:
    written = tempfile.mkdtemp(dir=folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        done = dbtRunner().invoke(
            [
                *("ls", "--select", "dim_date", "--no-use-colors"),
                # A file of the log would be open in the forks as well.
                *("--log-level-file", "none"),
                *("--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)),
                *("--target-path", written, "--log-path", written),
            ]
        )
    assert done.success, said.getvalue()


def keep_what_is_parsed() -> None:
    """From now on, dbt in this process begins with what was parsed before, whatever the database."""
    loaders: Any = ManifestLoader
    read = loaders.read_manifest_for_partial_parse
    write = loaders.write_manifest_for_partial_parse
    check = loaders.build_manifest_state_check

    def check_kept(loader: Any) -> Any:
        state = check(loader)
        # Server and database are told in each run, and nothing but names of the database depends on them.
        # Variables (`--vars`) are read when SQL is compiled; what the project parses to is the same.
        state.profile_hash = state.vars_hash = FileHash.from_contents("")
        return state

    def read_kept(loader: Any) -> Any:
        notes, kept = _places(loader)
        if kept is not None and kept.exists() and not notes.exists():
            notes.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(kept, notes)
        manifest = _from_memory(loader, notes, kept) or read(loader)
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


def ask_nobody_who_calls() -> None:
    """From now on, have dbt not look up for its flags which module made them: a tenth of a second, for all are looked at."""
    flags: Any = BehaviorFlagRendered
    flags._default_source = staticmethod(lambda: "dbt")


def write_json_at_once() -> None:
    """From now on, have dbt write JSON in a tenth of the time: `json.dump` to a file does so piece by piece."""

    def dump(data: Any, file: Any, **options: Any) -> None:
        file.write(json.dumps(data, **options))

    parts: Any = system
    parts.json = SimpleNamespace(dump=dump, load=json.load)


def _from_memory(loader: Any, notes: Path, kept: Path | None) -> Any:
    """What was parsed, if it is in memory and dbt's notes are those that are kept."""
    if kept not in _in_memory or kept is None or not filecmp.cmp(notes, kept, shallow=False):
        return None
    manifest = _in_memory[kept]
    is_current, _ = loader.is_partial_parsable(manifest)
    manifest.metadata.generated_at = datetime.now(UTC).replace(tzinfo=None)
    manifest.metadata.invocation_id = get_invocation_id()
    return manifest if is_current else None


def _places(loader: Any) -> tuple[Path, Path | None]:
    """Where dbt looks for its notes, and where they are kept, unless the project is another."""
    notes = Path(loader.root_project.project_target_path) / _NOTES
    return notes, _kept() if Path(loader.root_project.project_root) == PROJECT_DIR else None


def _kept() -> Path:
    told = [
        __version__,
        project_fingerprint(),
        *(
            f"{k}={v}"
            for k, v in sorted(os.environ.items())
            if k.startswith("CTG_") and k.endswith("_SCHEMA")
        ),
    ]
    digest = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    return _KEPT / f"{digest}.msgpack"


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
