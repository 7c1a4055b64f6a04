"""The monthly snapshot over months, runs within a month, and runs again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.marts.projects import WITHOUT_VIEWS, dbt_on, load, values
from ctg_assets_tests.model.snapshots import snapshot

SNAPSHOT = (
    "SELECT nct_id, snapshot_month, data_date, overall_status, enrollment, condition_count"
    " FROM marts.fct_study_snapshot_monthly JOIN marts.dim_snapshot_month USING (snapshot_month)"
    " ORDER BY snapshot_month, nct_id"
)

Refresh = Callable[..., list[tuple[Any, ...]]]


def study(status: str, enrollment: int, *conditions: str) -> Mapping[str, Any]:
    """A study with what the snapshot keeps of it."""
    return {
        "protocolSection": {
            "statusModule": {
                "overallStatus": status,
                "lastUpdatePostDateStruct": {"date": "2024-03-14", "type": "ACTUAL"},
            },
            "conditionsModule": {"conditions": list(conditions)},
            "designModule": {"enrollmentInfo": {"count": enrollment, "type": "ACTUAL"}},
        }
    }


@pytest.fixture
def refresh(address: PostgresAddress, tmp_path: Path) -> Refresh:
    """Load studies as of a time and build the snapshot; gives its rows, with the day of each month."""

    def run(data_timestamp: datetime | None, *studies: Any, options: tuple[str, ...] = ()) -> Any:
        load(address, snapshot(*studies), data_timestamp)
        # Views outlive loads.
        is_first = not values(address, "SELECT FROM pg_namespace WHERE nspname = 'marts'")
        models = ["+fct_study_snapshot_monthly", "dim_snapshot_month"]
        views = () if is_first else WITHOUT_VIEWS
        dbt_on(address, tmp_path, "run", "--select", *models, *views, *options)
        return values(address, SNAPSHOT)

    return run


def test_a_run_replaces_its_month_and_keeps_the_others(refresh: Refresh) -> None:
    """The month's last load wins, vanished studies keep past months, and history survives a full refresh."""
    january, february = date(2024, 1, 1), date(2024, 2, 1)
    first, second = study("RECRUITING", 10, "a"), study("RECRUITING", 20, "b", "c")

    assert refresh(datetime(2024, 1, 10, 9, tzinfo=UTC), first, second) == [
        ("NCT00000001", january, date(2024, 1, 10), "RECRUITING", 10, 1),
        ("NCT00000002", january, date(2024, 1, 10), "RECRUITING", 20, 2),
    ]

    changed = study("COMPLETED", 12, "a")
    late_in_january = [("NCT00000001", january, date(2024, 1, 31), "COMPLETED", 12, 1)]
    assert refresh(datetime(2024, 1, 31, 23, 59, tzinfo=UTC), changed) == late_in_january

    both_months = [
        *late_in_january,
        ("NCT00000001", february, date(2024, 2, 1), "COMPLETED", 12, 1),
        ("NCT00000002", february, date(2024, 2, 1), "RECRUITING", 20, 2),
    ]
    start_of_february = datetime(2024, 2, 1, tzinfo=UTC)
    assert refresh(start_of_february, changed, second, options=("--full-refresh",)) == both_months

    # A load that does not know when its data were published: the newest posting stands in.
    assert refresh(None, second) == [
        *both_months,
        ("NCT00000001", date(2024, 3, 1), date(2024, 3, 14), "RECRUITING", 20, 2),
    ]


def test_a_column_that_the_model_has_no_more(refresh: Refresh, address: PostgresAddress) -> None:
    """It stays with what earlier months have in it, and is empty in new ones."""
    refresh(datetime(2030, 1, 10, 9, tzinfo=UTC), study("RECRUITING", 10, "a"))
    with connect(address) as connection:
        connection.execute(
            "ALTER TABLE marts.fct_study_snapshot_monthly ADD COLUMN former integer DEFAULT 7"
        )
        connection.execute(
            "ALTER TABLE marts.fct_study_snapshot_monthly ALTER COLUMN former DROP DEFAULT"
        )
    refresh(datetime(2030, 2, 10, 9, tzinfo=UTC), study("COMPLETED", 10, "a"))
    statement = (
        "SELECT snapshot_month, former FROM marts.fct_study_snapshot_monthly"
        " WHERE snapshot_month IN ('2030-01-01', '2030-02-01') ORDER BY 1"
    )
    assert values(address, statement) == [(date(2030, 1, 1), 7), (date(2030, 2, 1), None)]
