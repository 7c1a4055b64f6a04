"""The SQL of dbt's models, for those who run it on other rows than those of staging."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import msgspec

from ctg_assets.errors import CtgAssetsError
from ctg_assets.marts.dbt_project import PROJECT_DIR, profile_environment
from ctg_assets.postgres.connection import PostgresAddress

# With the first, models read all rows, whatever is built already.
_NOTHING_BUILT = ("--full-refresh", "--no-populate-cache", "--no-introspect")

# Not `python -m dbt.cli.main`, which warns that it is imported twice.
_DBT = "from dbt.cli.main import cli; cli()"


class DbtError(CtgAssetsError):
    """dbt could not read the project; the message holds what it said."""


@dataclass(frozen=True)
class Model:
    """A model as SQL that reads the relations of other models and of sources.

    `relation` is its name in the database, quoted as the SQL of others has it; one that is ephemeral has
    none (an empty text), and its SQL stands within theirs. `columns` are those that the project describes.
    """

    name: str
    relation: str
    materialized: str
    columns: tuple[str, ...]
    sql: str


@dataclass(frozen=True)
class ModelSql:
    """Some models and all that they are made from: models, each after those that it reads, and sources.

    `sources` maps names of staging tables to their relations.
    """

    models: Mapping[str, Model]
    sources: Mapping[str, str]

    def reading(self, sql: str, schema: str) -> str:
        """SQL of a model that finds every relation, under its own name, in another schema."""
        relations = {model.relation: name for name, model in self.models.items() if model.relation}
        relations |= {relation: name for name, relation in self.sources.items()}
        for relation, name in relations.items():
            sql = sql.replace(relation, f'"{schema}"."{name}"')
        return sql


class _Config(msgspec.Struct):
    materialized: str = ""


class _DependsOn(msgspec.Struct):
    nodes: list[str] = []


class _Node(msgspec.Struct):
    name: str
    config: _Config
    relation_name: str | None = None
    depends_on: _DependsOn = msgspec.field(default_factory=_DependsOn)
    columns: dict[str, object] = {}
    compiled_code: str = ""


class _Manifest(msgspec.Struct):
    nodes: dict[str, _Node]
    sources: dict[str, _Node]


def compile_models(address: PostgresAddress, names: Sequence[str]) -> ModelSql:
    """The SQL by which models, and what they are made from, are built in a database.

    The database is not asked anything. Takes dbt some seconds. Raises DbtError.
    """
    manifest = _compiled(address, names)
    reads = {
        unique_id: node.depends_on.nodes
        for unique_id, node in manifest.nodes.items()
        if unique_id.startswith("model.") and node.compiled_code
    }
    in_order = [*TopologicalSorter(reads).static_order()]
    return ModelSql(
        models={
            node.name: Model(
                node.name,
                node.relation_name or "",
                node.config.materialized,
                tuple(node.columns),
                node.compiled_code,
            )
            for node in (manifest.nodes[unique_id] for unique_id in in_order if unique_id in reads)
        },
        sources={
            source.name: source.relation_name or ""
            for source in (manifest.sources[u] for u in in_order if u in manifest.sources)
        },
    )


def _compiled(address: PostgresAddress, names: Sequence[str]) -> _Manifest:
    """What dbt writes of the project with the SQL of models and of all that they are made from."""
    # A folder of its own: in the usual one, Dagster or another build may be at work.
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", _DBT, "--quiet", "--no-use-colors", "compile"]
        command += ["--select", *(f"+{name}" for name in names), *_NOTHING_BUILT]
        command += ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
        command += ["--target-path", folder, "--log-path", folder]
        done = subprocess.run(  # noqa: S603 - our own arguments
            command,
            env={**os.environ, **profile_environment(address)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            message = (
                f"dbt cannot compile {', '.join(names)} of {PROJECT_DIR}: {done.stdout.strip()}"
            )
            raise DbtError(message)
        written = (Path(folder) / "manifest.json").read_bytes()
    return msgspec.json.decode(written, type=_Manifest)
