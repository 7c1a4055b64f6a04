"""The staging views and the marts: dbt models and seeds as assets, dbt tests as asset checks."""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    DbtCliInvocation,
    DbtCliResource,
    DbtProject,
    dbt_assets,
)
from dagster_dbt.compat import DBT_PYTHON_VERSION
from dagster_dbt.errors import DagsterDbtCliRuntimeError
from filelock import FileLock

from ctg_assets.counters_file import counters_of
from ctg_assets.marts.building import (
    build_arguments,
    prepare_build,
    target_folder,
)
from ctg_assets.marts.dbt_findings import compiled_path, describe_findings, node_under_test
from ctg_assets.marts.dbt_project import (
    PROJECT_DIR,
    profile_environment,
    project_fingerprint,
    schema_environment,
)
from ctg_assets.marts.selection import all_marts, marts_of_who, models_to_build, needed_models
from ctg_assets.marts.up_to_date import note_built, outdated_marts
from ctg_assets.metrics import WRITE_ERRORS, WRITES, Counters
from ctg_assets.orchestration.column_lineage import ColumnLineage
from ctg_assets.orchestration.extraction import OWNERS
from ctg_assets.orchestration.metadata import table_preview
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.run_logs import about, log_what_dbt_says
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.inspection import ColumnFacts, describe_columns, describe_table
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.postgres.server import open_postgres
from ctg_assets.printable import printable
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import data_folder

# Where dbt keeps its notes, in the data folder.
_DBT = "dbt"
_MANIFEST = "manifest"

_FINGERPRINT_FILE = "manifest.fingerprint"


# The purpose of the schema that models of a folder are built in, and the first part of their keys.
_PURPOSES = {"staging": "staging_views", "intermediate": "intermediate", "marts": "marts"}
_BUILT = ("model", "seed")
_LOAD_INFO = dg.AssetKey(["staging", "load_info"])
_ESTIMATES = dg.AssetKey(["who", "global_health_estimates"])


def _purpose(node: Mapping[str, Any]) -> str:
    return "intermediate" if node["resource_type"] == "seed" else _PURPOSES[node["fqn"][1]]


class _Translator(DagsterDbtTranslator):
    """Keys and groups of models and seeds are what their schemas are for; sources name their own asset keys."""

    @cached_property
    def _marts_of_who(self) -> frozenset[str]:
        return marts_of_who(directly=True)

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] in _BUILT:
            return dg.AssetKey([_purpose(dbt_resource_props), dbt_resource_props["name"]])
        return super().get_asset_key(dbt_resource_props)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["resource_type"] in _BUILT:
            return _purpose(dbt_resource_props)
        return super().get_group_name(dbt_resource_props)

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        if manifest["nodes"].get(unique_id, {}).get("name") in self._marts_of_who:
            return spec.replace_attributes(deps=[*spec.deps, _ESTIMATES])
        if not unique_id.startswith("seed."):
            return spec
        # It is made from nothing, but in the build that follows a load, and is part of what is selected as such.
        return spec.replace_attributes(deps=[_LOAD_INFO])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        del dbt_resource_props
        return OWNERS


class _DbtCli(DbtCliResource):
    """dagster-dbt's resource, without six seconds of every run.

    It starts dbt once more to ask for its version, and imports dbt to make an adapter, which serves only
    what we do ourselves (see `_Facts`).
    """

    @cached_property
    def _cli_version(self) -> Any:
        return DBT_PYTHON_VERSION

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> None:  # type: ignore[override]
        del args


def dbt_cli() -> DbtCliResource:
    """The dbt that is installed beside the running Python, whether or not that is on PATH."""
    beside = Path(sys.executable).parent / "dbt"
    return _DbtCli(
        project_dir=str(PROJECT_DIR),
        profiles_dir=str(PROJECT_DIR),
        dbt_executable=str(beside) if beside.exists() else "dbt",
    )


def manifest_folder(settings: Settings) -> Path:
    """Where in the data folder the manifest lies that Dagster reads; raises DataFolderError."""
    return data_folder(settings, f"{_DBT}/{_MANIFEST}")


def dbt_project(target: Path, schemas: Schemas) -> DbtProject:
    """The dbt project with a current manifest in `target`; parses it (no database needed) if it is not.

    Nothing is written elsewhere: the project may be installed where nobody may write.
    """
    project = DbtProject(project_dir=PROJECT_DIR, profiles_dir=PROJECT_DIR, target_path=target)
    recorded = target / _FINGERPRINT_FILE
    # Several processes load the definitions at once: web server, code server, run workers.
    with FileLock(target / "manifest.lock"):
        variables = schema_environment(schemas)
        named = [f"{name}={schema}" for name, schema in variables.items()]
        current = "\n".join([project_fingerprint(), *named])
        known = recorded.read_text() if recorded.exists() and project.manifest_path.exists() else ""
        if known != current:
            with _environment(variables):
                dbt_cli().cli(["parse", "--quiet"], manifest={}, target_path=target).wait()
            recorded.write_text(current)
    return project


def build_marts_assets(project: DbtProject, wanted: Collection[str]) -> dg.AssetsDefinition:
    """One asset for each of these marts and of what they are made from, one check for each test."""
    is_part = not all_marts() <= {*wanted}

    @dbt_assets(
        manifest=_part_of(project.manifest_path, wanted) if is_part else project.manifest_path,
        select=" ".join(f"+{name}" for name in sorted(wanted)) if is_part else "fqn:*",
        project=project,
        name="marts",
        dagster_dbt_translator=_Translator(
            DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True)
        ),
    )
    def marts(
        context: dg.AssetExecutionContext, dbt: DbtCliResource, settings: SettingsResource
    ) -> Iterator[Any]:
        configured = settings.load()
        with about(context), open_postgres(configured) as address:
            prepare_build(address)
            target = target_folder(data_folder(configured, _DBT), address)
            # Tests that also read what is not wanted are left out.
            tests = {"DBT_INDIRECT_SELECTION": "cautious"} if is_part else {}
            with _environment(profile_environment(address) | tests):
                arguments = build_arguments(address, wanted)
                invocation = dbt.cli(arguments, context=context, target_path=target)
                log_what_dbt_says(invocation)
                facts = _Facts(address, invocation)
                counters = counters_of(configured)
                for event in _counting(counters, invocation.stream()):
                    if isinstance(event, dg.Output | dg.AssetMaterialization):
                        yield event.with_metadata({**event.metadata, **facts.of(event)})
                    elif isinstance(event, dg.AssetCheckResult) and not event.passed:
                        yield event._replace(description=facts.findings(event))
                    else:
                        yield event
            # Not `is_subset`: tests on sources are checks of the staging assets, and may be left out.
            left_out = {key.path[-1] for key in {*marts.keys} - context.selected_asset_keys}
            if not left_out & models_to_build(outdated_marts(address, wanted)):
                note_built(address, wanted)

    return marts


def _counting(counters: Counters, events: Iterator[Any]) -> Iterator[Any]:
    """The events of a build, with each model that it built counted, and its failure."""
    try:
        for event in events:
            if isinstance(event, dg.Output | dg.AssetMaterialization):
                counters.add(WRITES.by(1, schema="marts", kind="model"))
            yield event
    except DagsterDbtCliRuntimeError:
        counters.add(WRITE_ERRORS.by(1, schema="marts"))
        raise


def _part_of(manifest_path: Path, wanted: Collection[str]) -> dict[str, Any]:
    """The manifest of these marts, what they are made from, and the tests that read nothing else."""
    manifest: dict[str, Any] = json.loads(manifest_path.read_bytes())
    needed = needed_models(wanted)
    nodes = manifest["nodes"]
    gone = {
        unique_id
        for unique_id, node in nodes.items()
        if node["resource_type"] in _BUILT and node["name"] not in needed
    }
    gone |= {
        unique_id
        for unique_id, node in nodes.items()
        if gone & {*node["depends_on"].get("nodes", ())}
    }
    for collection in ("nodes", "parent_map", "child_map"):
        manifest[collection] = {k: v for k, v in manifest[collection].items() if k not in gone}
    for collection in ("parent_map", "child_map"):
        for unique_id, related in manifest[collection].items():
            manifest[collection][unique_id] = [each for each in related if each not in gone]
    return manifest


@dataclass(frozen=True)
class _Facts:
    """What is shown of a model that was just built.

    dagster-dbt's own `fetch_row_counts` and `fetch_column_metadata` change the working directory from
    several threads at once. It may stay changed, and everything relative to it (the paths of a
    dagster.yaml) then lands in the dbt project.
    """

    address: PostgresAddress
    invocation: DbtCliInvocation

    @cached_property
    def _lineage(self) -> ColumnLineage:
        manifest, translator = self.invocation.manifest, _Translator()
        models = {
            unique_id: node
            for unique_id, node in manifest["nodes"].items()
            if node["resource_type"] in _BUILT and node["config"]["materialized"] != "ephemeral"
        }
        keys = {
            unique_id: translator.get_asset_key(node)
            for unique_id, node in {**manifest["sources"], **models}.items()
        }
        # The manifest may have been made where the schemas are called otherwise.
        schemas = self.address.schemas
        sources = {
            unique_id: {**source, "schema": schemas.staging}
            for unique_id, source in manifest["sources"].items()
        }
        nodes = {
            unique_id: {**node, "schema": getattr(schemas, _purpose(node))}
            for unique_id, node in models.items()
        }
        return ColumnLineage({"sources": sources, "nodes": nodes}, keys)

    def of(self, event: dg.Output[Any] | dg.AssetMaterialization) -> dict[str, Any]:
        """Metadata for the model of an event: columns, their origin and, of tables, the content."""
        model = self.invocation.manifest["nodes"][event.metadata["unique_id"].value]
        schema, table = getattr(self.address.schemas, _purpose(model)), model["alias"]
        if model["config"]["materialized"] == "view":
            # Its rows are those of the staging table, and counting millions again takes time.
            columns, content = describe_columns(self.address, schema, table), {}
        else:
            facts = describe_table(self.address, schema, table)
            columns = facts.columns
            content = {
                "dagster/row_count": facts.rows,
                "size MB (with indexes)": round(facts.total_bytes / 1e6, 3),
                **table_preview(self.address, schema, table),
            }
        if model["resource_type"] == "model":
            content["dagster/column_lineage"] = self._lineage.of(self._compiled(model))
        return {
            "dagster/column_schema": dg.TableSchema([_column(column) for column in columns]),
            **content,
        }

    def _schema(self, node: Mapping[str, Any]) -> str:
        schemas = self.address.schemas
        if node["resource_type"] == "source":
            return schemas.staging
        return str(getattr(schemas, _purpose(node)))

    def findings(self, check: dg.AssetCheckResult) -> str:
        """What a test that did not pass found, in words; dbt tells only how many rows."""
        manifest = self.invocation.manifest
        test = manifest["nodes"][check.metadata["unique_id"].value]
        tested = node_under_test(manifest, test)
        if tested is not None:
            tested = {**tested, "schema": self._schema(tested)}
        counted = check.metadata.get("dagster_dbt/failed_row_count")
        said = describe_findings(
            self.address,
            test,
            tested,
            compiled_path(self.invocation.target_path, test),
            counted.value if isinstance(counted, dg.IntMetadataValue) else None,
        )
        return printable(said)

    def _compiled(self, model: Mapping[str, Any]) -> str:
        return compiled_path(self.invocation.target_path, model).read_text(encoding="utf-8")


def _column(facts: ColumnFacts) -> dg.TableColumn:
    return dg.TableColumn(
        facts.name,
        facts.type,
        description=facts.description,
        constraints=dg.TableColumnConstraints(nullable=facts.nullable),
    )


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, which is how dbt's profile wants to be told, for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
