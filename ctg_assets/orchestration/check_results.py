"""Results of our checks as Dagster asset check results."""

from __future__ import annotations

from typing import Any

import dagster as dg

from ctg_assets.printable import printable
from ctg_assets.results import CheckResult, Listing


def check_result(
    outcome: CheckResult, name: str | None = None, asset: dg.AssetKey | None = None
) -> dg.AssetCheckResult:
    """A result of ours as Dagster's; failures that must stop what comes after are errors.

    `asset` is needed where a step makes several.
    """
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.blocking else dg.AssetCheckSeverity.WARN,
        description=printable(outcome.description),
        metadata={printable(name): _display(fact) for name, fact in outcome.facts.items()},
    )


def _display(fact: int | float | str | Listing) -> Any:
    if isinstance(fact, str):
        return printable(fact)
    if not isinstance(fact, Listing):
        return fact
    return dg.MetadataValue.table(
        [
            dg.TableRecord(dict(zip(fact.header, map(printable, row), strict=True)))
            for row in fact.rows
        ],
        schema=dg.TableSchema([dg.TableColumn(name) for name in fact.header]),
    )
