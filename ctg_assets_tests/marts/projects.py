"""Running dbt against a database of a test, and loading studies for it to build on."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from psycopg.rows import dict_row

from ctg_assets.load.delta import RowBatch, apply_delta
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import ChangesSince, LoadRequest
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts.dbt_project import PROJECT_DIR, profile_environment
from ctg_assets.model.flatten import flatten
from ctg_assets.postgres.builds import BuildRecord
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.marts import forking

_SNAPSHOT_ID = "snapshot"
_PARSED = "partial_parse.msgpack"


def dbt(
    arguments: list[str],
    environment: Mapping[str, str],
    written: Path,
    project: Path = PROJECT_DIR,
) -> str:
    """What dbt says; whatever it writes goes below `written`. Fails the test when dbt fails.

    A process of its own (`forking.py`), since dbt's libraries warn when imported, and warnings are errors here.
    """
    parsed, kept = written / "target" / _PARSED, _parsed_folder() / _key(project, environment)
    if kept.exists() and not parsed.exists():
        parsed.parent.mkdir(exist_ok=True)
        shutil.copy(kept, parsed)
    output = written / "printed.txt"
    command = {
        "arguments": [
            *("--no-use-colors", *arguments),
            *("--project-dir", str(project), "--profiles-dir", str(project)),
            *("--target-path", str(written / "target"), "--log-path", str(written / "logs")),
        ],
        "environment": dict(environment),
        "folder": str(written),
        "output": str(output),
    }
    exit_code = _forking().run(command)
    printed = output.read_text()
    assert exit_code == 0, printed
    if parsed.exists() and not kept.exists():
        shutil.copy(parsed, kept)
    return printed


class _Forking:
    """The process that has imported dbt."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, forking.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.communicate)

    def run(self, command: Mapping[str, object]) -> int:
        """Run a command to its end; returns its exit code."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@cache
def _forking() -> _Forking:
    return _Forking()


@cache
def _parsed_folder() -> Path:
    """Where the tests of this process keep what dbt has parsed, which takes it longer than most runs."""
    folder = tempfile.mkdtemp(prefix="ctg-assets-parsed-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _key(project: Path, environment: Mapping[str, str]) -> str:
    """Names what dbt parses; it compares files and connection itself, and parses what is not the same."""
    told = repr((str(project), sorted(environment.items())))
    return hashlib.sha256(told.encode()).hexdigest()


def dbt_on(address: PostgresAddress, written: Path, *arguments: str) -> str:
    """What dbt says when run on this database."""
    return dbt(list(arguments), profile_environment(address), written)


def load(address: PostgresAddress, studies: pa.Table, data_timestamp: datetime | None) -> None:
    """Replace the staging tables by those of these snapshot rows."""
    load_tables(
        LoadRequest(address, staging_shapes(), build=_build(studies.num_rows, data_timestamp)),
        [flatten(studies)],
    )


def load_changes(
    address: PostgresAddress,
    studies: pa.Table,
    changed: Collection[str],
    data_timestamp: datetime | None,
    *,
    total: int,
) -> None:
    """Replace the rows of changed studies by those of these snapshot rows; `total` are there then."""
    apply_delta(
        LoadRequest(address, staging_shapes(), build=_build(total, data_timestamp)),
        ChangesSince(base_snapshot_id=_SNAPSHOT_ID, studies=changed),
        [RowBatch(flatten(studies))],
    )


def _build(studies: int, data_timestamp: datetime | None) -> BuildRecord:
    return BuildRecord(
        snapshot_id=_SNAPSHOT_ID,
        content_fingerprint="content",
        model_fingerprint="model",
        data_timestamp=data_timestamp,
        studies=studies,
        tables={shape.name: "content/model" for shape in staging_shapes()},
    )


def rows(address: PostgresAddress, statement: str) -> list[dict[str, Any]]:
    """The rows of one statement, by column name."""
    with connect(address) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement).fetchall()


def values(address: PostgresAddress, statement: str) -> list[tuple[Any, ...]]:
    """The rows of one statement, as tuples."""
    with connect(address) as connection:
        return connection.execute(statement).fetchall()
