"""What must be true of AACT's tables after a build."""

from __future__ import annotations

from collections.abc import Mapping

from ctg_assets.aact.schema import aact_tables
from ctg_assets.results import CheckResult, Listing


def check_row_counts(staging: Mapping[str, int | None], ctgov: Mapping[str, int]) -> CheckResult:
    """Whether each table has as many rows as the staging table that it is made from (both by table)."""
    wrong = [
        (table.name, str(staging.get(table.name)), str(ctgov.get(table.name)))
        for table in aact_tables()
        if table.query is not None and staging.get(table.name) != ctgov.get(table.name)
    ]
    compared = sum(table.query is not None for table in aact_tables())
    if not wrong:
        return CheckResult(True, f"{compared} tables have as many rows as in staging")
    listed = "; ".join(f"{name}: {there} in staging, {here} here" for name, there, here in wrong)
    return CheckResult(
        False,
        f"{len(wrong)} tables have other numbers of rows than in staging: {listed}",
        facts={"tables": Listing(("table", "rows in staging", "rows here"), tuple(wrong))},
    )


def check_values_fit(not_fitting: Mapping[str, int]) -> CheckResult:
    """Whether all values fit into AACT's types; those that do not (counted by column) are NULL there."""
    if not not_fitting:
        return CheckResult(True, "every value looked at fits into AACT's types", blocking=False)
    listed = ", ".join(f"{column} ({count})" for column, count in sorted(not_fitting.items()))
    return CheckResult(
        False,
        f"values that do not fit into AACT's types are NULL here, and as sent in staging: {listed}",
        blocking=False,
        facts={"values": sum(not_fitting.values())},
    )
