"""Our verdicts as Dagster asset check results.

Belongs here: the translation, once. Does not belong here: what is checked.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from ctg_assets.pipeline.checks import Listing, Verdict
from ctg_assets.printable import printable


def check_result(
    verdict: Verdict, name: str | None = None, asset: dg.AssetKey | None = None
) -> dg.AssetCheckResult:
    """A verdict as a check result; failures that must stop what comes after are errors.

    `asset` is needed where a step makes several.
    """
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if verdict.fatal else dg.AssetCheckSeverity.WARN,
        description=printable(verdict.description),
        metadata={printable(name): _shown(fact) for name, fact in verdict.facts.items()},
    )


def _shown(fact: int | float | str | Listing) -> Any:
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
