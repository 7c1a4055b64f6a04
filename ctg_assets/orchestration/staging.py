"""The staging tables: one asset each, loaded together."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ctg_assets.counters_file import counters_of
from ctg_assets.history.recording import IncompleteExtractionError
from ctg_assets.lake import open_lake
from ctg_assets.load.request import LoadProgress, LoadReport
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.load.staging import load_staging, outdated_tables, tables_left_over
from ctg_assets.orchestration.check_results import check_result
from ctg_assets.orchestration.extraction import OWNERS
from ctg_assets.orchestration.metadata import ShownTable, column_schema, table_preview
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.run_logs import about
from ctg_assets.orchestration.snapshot import studies
from ctg_assets.postgres.builds import LOAD_INFO, update_load_info
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.ddl import STAGING, foreign_key_name
from ctg_assets.postgres.inspection import foreign_keys, table_sizes
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.checks import check_foreign_keys, check_study_rows
from ctg_assets.refresh.planner import loading_forbidden
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.times import parse_data_timestamp

GROUP = "staging"

_LOAD_INFO_KEY = dg.AssetKey([STAGING, LOAD_INFO.name])
_STUDIES_KEY = dg.AssetKey([STAGING, "studies"])
_ROWS_CHECK = "one_row_per_study_of_the_snapshot"
_KEYS_CHECK = "foreign_keys_hold"


def _spec(shape: ShownTable) -> dg.AssetSpec:
    return dg.AssetSpec(
        [STAGING, shape.name],
        deps=[studies],
        description=shape.description,
        group_name=GROUP,
        kinds={"postgres"},
        owners=OWNERS,
        skippable=True,
        metadata={
            "dagster/column_schema": column_schema(shape),
            "dagster/table_name": f"{STAGING}.{shape.name}",
        },
    )


def build_staging_assets() -> dg.AssetsDefinition:
    """One multi-asset with an asset for each staging table."""
    shapes = staging_shapes()

    @dg.multi_asset(
        name="staging_tables",
        specs=[_spec(shape) for shape in (*shapes, LOAD_INFO)],
        can_subset=True,
        check_specs=[
            dg.AssetCheckSpec(
                _ROWS_CHECK,
                asset=_STUDIES_KEY,
                blocking=True,
                description="The table studies has as many rows as the snapshot has studies.",
            ),
            dg.AssetCheckSpec(
                _KEYS_CHECK,
                asset=_STUDIES_KEY,
                blocking=True,
                description="Every foreign key between the staging tables is there; a load proves what it makes.",
            ),
        ],
    )
    def load(
        context: dg.AssetExecutionContext, settings: SettingsResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
        """Replace the selected tables by the rows of the newest snapshot, in one swap.

        Tables that the data model has no more are dropped with it.
        """
        configured = settings.load()
        lake = open_lake(configured)
        manifest = lake.snapshots.latest()
        if manifest is None:
            message = "there is no snapshot yet; materialize studies first"
            raise IncompleteExtractionError(message)
        forbidden = loading_forbidden(manifest, configured)
        if forbidden is not None:
            message = f"nothing was loaded: {forbidden}"
            raise dg.Failure(message, allow_retries=False)
        names = {key.path[-1] for key in context.selected_asset_keys}

        with about(context), open_postgres(configured) as address:
            outdated = outdated_tables(address, manifest)
            # Who names tables wants them made; whoever builds all from the snapshot on, only what is not
            # there yet.
            tables = names - {LOAD_INFO.name}
            if _is_from_snapshot_on(context):
                tables &= outdated
            report = None
            if tables or tables_left_over(address):
                report = load_staging(
                    address,
                    lake,
                    manifest,
                    tables,
                    progress_log(context),
                    counters=counters_of(configured),
                )
                context.log.info(f"loaded {sum(report.rows.values())} rows in {report.seconds}")
            elif LOAD_INFO.name in names and outdated:
                listed = ", ".join(sorted(outdated))
                message = (
                    f"the tables do not hold snapshot {manifest.snapshot_id}: load {listed} first"
                )
                raise dg.Failure(message, allow_retries=False)
            elif LOAD_INFO.name in names:
                context.log.info(f"every table holds snapshot {manifest.snapshot_id} already")
                update_load_info(
                    address,
                    snapshot_id=manifest.snapshot_id,
                    data_timestamp=parse_data_timestamp(manifest.data_timestamp),
                )
            yield from _results(address, manifest, report, names)
            if context.selected_asset_check_keys:
                rows = None if report is None else report.rows.get("studies")
                outcomes = {
                    _ROWS_CHECK: check_study_rows(manifest, rows),
                    _KEYS_CHECK: check_foreign_keys(_missing_keys(address)),
                }
                for check in context.selected_asset_check_keys:
                    yield check_result(outcomes[check.name], check.name)

    return load


def _missing_keys(address: PostgresAddress) -> set[str]:
    """The foreign keys declared between tables that are there, but missing.

    After a subset of the tables was loaded into an empty database, others are not there.
    """
    schema = address.schemas.staging
    held = {key.name for key in foreign_keys(address, schema)}
    there = {size.table for size in table_sizes(address, schema)}
    declared = {
        foreign_key_name(shape, key)
        for shape in staging_shapes()
        for key in shape.foreign_keys
        if {shape.name, key.table} <= there
    }
    return declared - held


def progress_log(context: dg.AssetExecutionContext) -> Any:
    """What writes the progress of a load into a run's log."""

    def log(progress: LoadProgress) -> None:
        of_total = "" if progress.total is None else f" of {progress.total}"
        context.log.debug(f"{progress.phase}: {progress.done}{of_total}")

    return log


def _is_from_snapshot_on(context: dg.AssetExecutionContext) -> bool:
    """Whether the snapshot is part of the run, so that the tables follow from it."""
    selection = context.run.asset_selection
    # A whole job names no assets.
    return not selection or studies.key in selection


def _results(
    address: PostgresAddress,
    manifest: SnapshotManifest,
    report: LoadReport | None,
    names: set[str],
) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """A result for every table that was asked for: Dagster skips what depends on one without.

    Also for those that hold the snapshot since an earlier load; they are not looked at again.
    """
    schema = address.schemas.staging
    sizes = {
        size.table: size.table_bytes + size.index_bytes for size in table_sizes(address, schema)
    }
    version = dg.DataVersion(manifest.content_fingerprint)
    loaded = {} if report is None else report.rows
    for table in sorted(names - {LOAD_INFO.name}):
        metadata: dict[str, Any] = {
            "snapshot": manifest.snapshot_id,
            "dagster/table_name": f"{schema}.{table}",
        }
        if table in loaded:
            metadata |= {
                "dagster/row_count": loaded[table],
                "size MB (with indexes)": round(sizes[table] / 1e6, 3),
                **table_preview(address, schema, table),
            }
        else:
            metadata["loaded"] = "before; it holds the snapshot already"
        yield dg.MaterializeResult([STAGING, table], data_version=version, metadata=metadata)
    if LOAD_INFO.name in names:
        metadata = _load_info_metadata(manifest)
        if report is not None:
            metadata |= {f"{phase} seconds": round(s, 2) for phase, s in report.seconds.items()}
            metadata["copied MB"] = round(report.copied_bytes / 1e6, 1)
        yield dg.MaterializeResult(_LOAD_INFO_KEY, data_version=version, metadata=metadata)


def _load_info_metadata(manifest: SnapshotManifest) -> dict[str, Any]:
    return {
        "dagster/row_count": 1,
        "snapshot": manifest.snapshot_id,
        "data timestamp (UTC)": manifest.data_timestamp,
        "studies": manifest.studies,
    }
