"""Metrics as they are declared."""

from __future__ import annotations

import pytest

from ctg_assets.metrics import COUNTED, REQUEST_SECONDS, REQUESTS, Increment, Metric
from ctg_assets.serve.gauges import GAUGES, PARTS

WELL_KNOWN = {
    "etl_api_requests_total",
    "etl_api_requests_failed_total",
    "etl_api_request_duration_seconds",
    "etl_records_processed_total",
    "etl_transformation_errors_total",
    "etl_data_saved_total",
    "etl_database_writes_total",
    "etl_database_write_errors_total",
}


def test_what_is_counted_has_the_well_known_names() -> None:
    """These eight names are what dashboards elsewhere ask for."""
    assert {metric.name for metric in COUNTED} == WELL_KNOWN


def test_names_are_given_once_and_kinds_follow_from_them() -> None:
    """No two metrics share a name; what is counted is a counter or a histogram, and state is a gauge."""
    names = [metric.name for metric in (*COUNTED, *GAUGES)]
    assert len(set(names)) == len(names)
    assert {metric.kind for metric in COUNTED} == {"counter", "histogram"}
    assert {metric.kind for metric in GAUGES} == {"gauge"}
    assert len(set(PARTS)) == len(PARTS)


def test_a_series_has_all_labels_of_its_metric() -> None:
    """A label that is missing or is none of the metric's is a mistake that is not made in silence."""
    assert REQUESTS.by(2, endpoint="/version") == Increment(
        "etl_api_requests_total", (("endpoint", "/version"),), 2
    )
    wrong: list[dict[str, str]] = [{}, {"endpoint": "/studies", "status": "200"}, {"path": "/x"}]
    for labels in wrong:
        with pytest.raises(ValueError, match="has the labels"):
            REQUESTS.by(1, **labels)
    for metric in COUNTED:
        for always in metric.always:
            metric.by(0, **always)


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.05, "0.1"), (0.1, "0.1"), (0.11, "0.25"), (60, "60"), (301, "+Inf")]
)
def test_a_value_falls_into_the_bucket_that_holds_it(value: float, bucket: str) -> None:
    """The upper bound of a bucket belongs to it, and what is above all bounds has the last one."""
    assert REQUEST_SECONDS.observed(value, endpoint="/studies") == (
        Increment(
            "etl_api_request_duration_seconds_bucket",
            (("endpoint", "/studies"), ("le", bucket)),
            1,
        ),
        Increment("etl_api_request_duration_seconds_sum", (("endpoint", "/studies"),), value),
    )


def test_a_metric_without_labels_has_one_series() -> None:
    """Its increments name no label."""
    assert Metric("things_total", "Things.").by(3) == Increment("things_total", (), 3)
