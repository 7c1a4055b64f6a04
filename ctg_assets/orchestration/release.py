"""The release: the tables as files, made when somebody asks for it."""

from collections.abc import Collection

import dagster as dg

from ctg_assets.aact.schema import aact_tables
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.orchestration.extraction import OWNERS
from ctg_assets.orchestration.jobs import CTGOV_GROUP, MARTS_PREFIX, RELEASE_GROUP, STAGING_PREFIX
from ctg_assets.orchestration.metadata import markdown_table
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.release.extra import release_installed
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import RELEASES, data_folder


def build_release_assets(settings: Settings, marts: Collection[str]) -> list[dg.AssetsDefinition]:
    """The asset, below all that it holds, these marts among them; none where its libraries are not installed."""
    if not release_installed():
        return []
    held: list[list[str]] = [["studies"], ["study_versions"], ["study_changes"]]
    if settings.has_warehouse:
        held += [[STAGING_PREFIX, shape.name] for shape in staging_shapes()]
        held += [[MARTS_PREFIX, name] for name in sorted(marts)]
        held += [[CTGOV_GROUP, table.name] for table in aact_tables()] if settings.aact else []
    return [_build_release([dg.AssetKey(key) for key in held])]


def _build_release(held: Collection[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        name=RELEASE_GROUP,
        deps=held,
        group_name=RELEASE_GROUP,
        kinds={"parquet", "duckdb"},
        owners=OWNERS,
        description="The tables as Parquet files with a manifest, and a DuckDB file to read them by.",
    )
    def release(
        context: dg.AssetExecutionContext, settings: SettingsResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """Release to where the settings say: the data folder's `releases` unless told."""
        # DuckDB and the driver of Postgres are for those who release alone.
        from ctg_assets.release.places import release_to  # noqa: PLC0415

        configured = settings.load()
        place = configured.release_place or str(data_folder(configured, RELEASES))
        report = release_to(configured, place, context.log.debug)
        manifest = report.manifest
        rows = [(table.qualified, f"{table.rows:,}") for table in manifest.tables]
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(place),
                "release": manifest.name,
                "data version": manifest.data_timestamp,
                "census": manifest.census.verdict,
                "files": len(manifest.files),
                "bytes": sum(file.bytes for file in manifest.files),
                "files written now": report.written,
                "dagster/row_count": sum(table.rows for table in manifest.tables),
                "rows": dg.MetadataValue.md(markdown_table(("table", "rows"), rows)),
            },
            data_version=dg.DataVersion(manifest.name),
        )

    return release
