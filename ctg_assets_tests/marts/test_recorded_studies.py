"""The marts of the recorded real studies."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.marts.projects import dbt_on, load, values
from ctg_assets_tests.model.snapshots import real_studies


def test_recorded_studies_pass_every_test(address: PostgresAddress, tmp_path: Path) -> None:
    """Real studies, odd ones included, give marts that agree with staging, without one warning."""
    _, studies = real_studies()
    load(address, studies, datetime(2025, 11, 20, 9, tzinfo=UTC))
    said = dbt_on(address, tmp_path, "build", "--exclude-resource-type", "unit_test")
    assert "WARN=0 ERROR=0 SKIP=0" in said
    for fact, table in (
        ("sponsor", "sponsors"),
        ("condition", "conditions"),
        ("intervention", "interventions"),
        ("site", "facilities"),
    ):
        statement = (
            f"SELECT (SELECT count(*) FROM staging.{table}),"
            f" (SELECT count(*) FROM marts.fct_study_{fact}),"
            f" (SELECT count(DISTINCT {fact}_key) FROM marts.fct_study_{fact}),"
            f" (SELECT count(*) FROM marts.dim_{fact}),"
            f" (SELECT sum({fact}_count) FROM marts.dim_study)"
        )
        [(listed, fact_rows, members_used, members, counted)] = values(address, statement)
        assert listed == fact_rows == counted
        assert members_used == members > 0
