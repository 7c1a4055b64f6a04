"""Our verdicts as Dagster asset check results.

Belongs here: the translation, once. Does not belong here: what is checked.
"""

from __future__ import annotations

import dagster as dg

from ctg_assets.pipeline.checks import Verdict


def check_result(verdict: Verdict, name: str | None = None) -> dg.AssetCheckResult:
    """A verdict as a check result; failures that must stop what comes after are errors."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if verdict.fatal else dg.AssetCheckSeverity.WARN,
        description=verdict.description,
        metadata=dict(verdict.facts),
    )
