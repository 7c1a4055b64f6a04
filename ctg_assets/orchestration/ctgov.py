"""AACT's tables: one asset each, made together from the staging tables."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.checks import check_row_counts, check_values_fit
from ctg_assets.aact.other_rows import SEARCH_TABLES, ctgov_request
from ctg_assets.aact.request import CtgovReport
from ctg_assets.aact.schema import AactTable, aact_tables
from ctg_assets.counters_file import counters_of
from ctg_assets.lake import open_lake
from ctg_assets.orchestration.check_results import check_result
from ctg_assets.orchestration.extraction import OWNERS
from ctg_assets.orchestration.jobs import CTGOV_GROUP, STAGING_PREFIX
from ctg_assets.orchestration.metadata import column_schema, table_preview
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.run_logs import about
from ctg_assets.orchestration.staging import progress_log
from ctg_assets.postgres.builds import builds
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.inspection import table_sizes
from ctg_assets.postgres.server import open_postgres
from ctg_assets.results import CheckResult

_STUDIES_KEY = dg.AssetKey([CTGOV_GROUP, "studies"])
_ROWS_CHECK = "as_many_rows_as_staging"
_FIT_CHECK = "values_fit_the_types_of_aact"


def _spec(table: AactTable) -> dg.AssetSpec:
    return dg.AssetSpec(
        [CTGOV_GROUP, table.name],
        deps=[
            *([STAGING_PREFIX, name] for name in table.reads or ("load_info",)),
            # The registry is asked saved searches when a walk is planned.
            *(["extraction_plan"] if table.name in SEARCH_TABLES else []),
        ],
        description=table.shape.description,
        group_name=CTGOV_GROUP,
        kinds={"postgres"},
        owners=OWNERS,
        skippable=True,
        metadata={
            "dagster/column_schema": column_schema(table.shape),
            "dagster/column_lineage": _lineage(table),
            "dagster/table_name": f"{CTGOV_GROUP}.{table.name}",
        },
    )


def _lineage(table: AactTable) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            column: [
                dg.TableColumnDep(dg.AssetKey([STAGING_PREFIX, source]), name)
                for source, name in sources
            ]
            for column, sources in table.lineage.items()
        }
    )


def build_ctgov_assets() -> dg.AssetsDefinition:
    """One multi-asset with an asset for each of AACT's tables."""

    @dg.multi_asset(
        name="ctgov_tables",
        specs=[_spec(table) for table in aact_tables()],
        check_specs=[
            dg.AssetCheckSpec(
                _ROWS_CHECK,
                asset=_STUDIES_KEY,
                blocking=True,
                description="Each table has as many rows as the staging table that it is made from.",
            ),
            dg.AssetCheckSpec(
                _FIT_CHECK,
                asset=_STUDIES_KEY,
                description="No value had to be left out because AACT's type is narrower.",
            ),
        ],
    )
    def make(
        context: dg.AssetExecutionContext, settings: SettingsResource
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
        """Bring AACT's tables, views and functions to the state of the staging tables."""
        configured = settings.load()
        if not configured.aact:
            # Dagster wants a result of every check, also where no table is made.
            off = CheckResult(True, "AACT's tables are switched off (CTG_AACT=false)")
            yield check_result(off, _ROWS_CHECK, _STUDIES_KEY)
            yield check_result(off, _FIT_CHECK, _STUDIES_KEY)
            return
        lake = open_lake(configured)
        with about(context), open_postgres(configured) as address:
            request = ctgov_request(address, lake, configured, progress_log(context))
            report = build_ctgov(replace(request, counters=counters_of(configured)))
            context.log.info(f"made {sum(report.rows.values())} rows in {report.seconds}")
            yield from _results(address, report)
            staging = {made.name: made.rows for made in builds(address, address.schemas.staging)}
            outcomes = {
                _ROWS_CHECK: check_row_counts(staging, report.rows),
                _FIT_CHECK: check_values_fit(report.not_fitting),
            }
            for name, outcome in outcomes.items():
                yield check_result(outcome, name, _STUDIES_KEY)

    return make


def _results(address: PostgresAddress, report: CtgovReport) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    schema = str(address.schemas.ctgov)
    sizes = {size.table: size for size in table_sizes(address, schema)}
    for table in aact_tables():
        size = sizes[table.name]
        metadata: dict[str, Any] = {
            "dagster/row_count": report.rows[table.name],
            "dagster/table_name": f"{schema}.{table.name}",
            "size MB (with indexes)": round((size.table_bytes + size.index_bytes) / 1e6, 3),
            **table_preview(address, schema, table.name),
        }
        if table.name == "studies":
            changed = report.changed_studies
            metadata["studies replaced"] = "all" if changed is None else changed
            metadata |= {f"{phase} seconds": round(s, 2) for phase, s in report.seconds.items()}
        yield dg.MaterializeResult([CTGOV_GROUP, table.name], metadata=metadata)
