"""Running dbt against a database of a test, and loading studies for it to build on."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pyarrow as pa
from psycopg.rows import dict_row

from ctg_assets.load.delta import RowBatch, apply_delta
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import ChangesSince, LoadRequest
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts import compiled_sql
from ctg_assets.marts.dbt_project import PROJECT_DIR, profile_environment
from ctg_assets.model.flatten import flatten
from ctg_assets.postgres.builds import BuildRecord
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.support.forked_commands import forked_commands

_SNAPSHOT_ID = "snapshot"

TABLES = ("build", "--resource-type", "model", "--resource-type", "seed")
"""What has dbt make all tables and views, and test nothing; `run` makes none of the seeds."""


WITHOUT_VIEWS = ("--exclude", "config.materialized:view")
"""As a refresh does it while the staging views are as the project has them: two thirds of the models."""


def dbt(
    arguments: list[str],
    environment: Mapping[str, str],
    written: Path,
    project: Path = PROJECT_DIR,
) -> str:
    """What dbt says; whatever it writes goes below `written`, the manifest only if asked to parse.

    Fails the test when dbt fails.

    A process of its own, since dbt's libraries warn when imported, and warnings are errors here.
    """
    done = subprocess.run(
        [
            *(str(forked_commands() / "dbt"), "--no-use-colors", *arguments),
            *("--project-dir", str(project), "--profiles-dir", str(project)),
            *("--target-path", str(written / "target"), "--log-path", str(written / "logs")),
            # An eighth of a build goes into a file that nobody reads.
            *("--log-level-file", "none"),
        ],
        env={**os.environ, "DBT_WRITE_JSON": str(arguments[0] == "parse"), **environment},
        cwd=written,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@contextlib.contextmanager
def forked_dbt() -> Iterator[None]:
    """Have what asks dbt for SQL run a dbt that has everything imported."""
    forked = SimpleNamespace(executable=str(forked_commands() / "python"))
    with patch.object(compiled_sql, "sys", forked):
        yield


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
