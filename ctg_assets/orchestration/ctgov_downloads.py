"""AACT's downloads: one asset for each kind of file, made when somebody asks for it."""

from collections.abc import Iterator

import dagster as dg

from ctg_assets.aact.export import ExportFormat, ExportReport, ExportRequest, export_aact
from ctg_assets.aact.schema import aact_tables
from ctg_assets.orchestration.extraction import OWNERS
from ctg_assets.orchestration.jobs import CTGOV_GROUP, DOWNLOADS_GROUP
from ctg_assets.orchestration.metadata import markdown_table
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.staging import progress_log
from ctg_assets.postgres.server import open_postgres
from ctg_assets.storage.data_folder import EXPORTS, data_folder

_DESCRIPTIONS = {
    ExportFormat.PIPE: "AACT's flat files: each table as text with | between values, in a zip.",
    ExportFormat.CSV: "Each of AACT's tables as a CSV file, in a zip.",
    ExportFormat.DUMP: "AACT's dump: the tables in the form that pg_restore takes, in a zip.",
}


def _key(format_: ExportFormat) -> dg.AssetKey:
    # A plain text: Dagster cannot store an enum within a key.
    return dg.AssetKey([DOWNLOADS_GROUP, format_.value])


def build_download_assets() -> dg.AssetsDefinition:
    """One multi-asset with an asset for each format; each can be materialized alone."""

    @dg.multi_asset(
        name=DOWNLOADS_GROUP,
        specs=[
            dg.AssetSpec(
                _key(format_),
                deps=[[CTGOV_GROUP, table.name] for table in aact_tables()],
                description=description,
                group_name=DOWNLOADS_GROUP,
                kinds={"file"},
                owners=OWNERS,
                skippable=True,
            )
            for format_, description in _DESCRIPTIONS.items()
        ],
        can_subset=True,
    )
    def make(
        context: dg.AssetExecutionContext, settings: SettingsResource
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        """Write the files that were asked for into the data folder's `exports`."""
        configured = settings.load()
        if not configured.aact:
            context.log.info("AACT's tables are switched off (CTG_AACT=false)")
            return
        with open_postgres(configured) as address:
            for format_ in ExportFormat:
                key = _key(format_)
                if key not in context.selected_asset_keys:
                    continue
                report = export_aact(
                    ExportRequest(
                        address,
                        format_,
                        data_folder(configured, EXPORTS),
                        configured.ctgov_schema,
                        progress=progress_log(context),
                    )
                )
                yield _result(key, report)

    return make


def _result(key: dg.AssetKey, report: ExportReport) -> dg.MaterializeResult:  # type: ignore[type-arg]
    rows = [(name, f"{count:,}") for name, count in report.rows.items()]
    return dg.MaterializeResult(
        key,
        metadata={
            "path": dg.MetadataValue.path(report.path),
            "bytes": report.bytes,
            "SHA-256": report.sha256,
            "data version": dg.MetadataValue.timestamp(report.data_version),
            "dagster/row_count": sum(report.rows.values()),
            "rows": dg.MetadataValue.md(markdown_table(("table", "rows"), rows)),
        },
        data_version=dg.DataVersion(report.sha256),
    )
