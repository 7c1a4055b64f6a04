"""The report: a page about what the marts hold, made when somebody asks for it."""

import re
from collections.abc import Collection

import dagster as dg

from ctg_assets.orchestration.extraction import OWNERS
from ctg_assets.orchestration.jobs import MARTS_PREFIX, REPORT_GROUP
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.runs import failed_checks
from ctg_assets.postgres.server import open_postgres
from ctg_assets.report.asking import question
from ctg_assets.report.extra import plots_installed
from ctg_assets.report.figures import all_figures

_RELATION = re.compile(r"\{(\w+)\}\.(\w+)")


def build_report_assets(marts: Collection[str]) -> list[dg.AssetsDefinition]:
    """The asset, below those of these marts that it reads; none where the libraries that draw are not installed."""
    return [_build_report(marts)] if plots_installed() else []


def _build_report(marts: Collection[str]) -> dg.AssetsDefinition:
    read = {
        (schema, name)
        for figure in all_figures()
        for schema, name in _RELATION.findall(question(figure.name))
        if schema != MARTS_PREFIX or name in marts
    }

    @dg.asset(
        name=REPORT_GROUP,
        deps=[dg.AssetKey(key) for key in sorted(read)],
        group_name=REPORT_GROUP,
        kinds={"html"},
        owners=OWNERS,
        description="A page about what is in this warehouse: one HTML file that opens from disk.",
    )
    def report(
        context: dg.AssetExecutionContext, settings: SettingsResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        """Write the page into the data folder's `report`."""
        # Altair takes two seconds, which only who draws should wait.
        from ctg_assets.report.building import write_report  # noqa: PLC0415

        configured = settings.load()
        failed = failed_checks(context.instance)
        with open_postgres(configured) as address:
            made = write_report(configured, address, failed, show=context.log.debug)
        for title in made.missing:
            context.log.warning(f"cannot be told yet: {title}")
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(made.path),
                "bytes": made.bytes,
                "data version": made.data_version,
                "sections that cannot be told yet": len(made.missing),
            }
        )

    return report
