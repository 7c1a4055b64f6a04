"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ctg_assets.counters_file import Series
from ctg_assets.metrics import COUNTED
from ctg_assets.serve import gauges
from ctg_assets.serve.exposition import exposition
from ctg_assets.serve.gauges import Sample, sample


def told(
    series: list[Series] | None = None, samples: list[Sample] | None = None
) -> dict[str, float]:
    """The series of a scrape, as Prometheus reads them, spelled as it spells them."""
    text = exposition([] if series is None else series, samples or []).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(each.labels.items()))
            spelled = f"{each.name}{{{labels}}}"
            assert spelled not in found
            found[spelled] = each.value
    return found


def test_buckets_hold_what_is_in_those_below() -> None:
    """Of values 0.2, 0.2 and 400, two are in each bucket from 0.25 on, and all in the last."""
    labels = {"endpoint": "/studies"}
    name = "etl_api_request_duration_seconds"
    found = told(
        [
            Series(f"{name}_bucket", {**labels, "le": "0.25"}, 2),
            Series(f"{name}_bucket", {**labels, "le": "+Inf"}, 1),
            Series(f"{name}_sum", labels, 400.4),
        ]
    )
    of_it = {series: value for series, value in found.items() if series.startswith(name)}
    bounds = [
        "0.1",
        "0.25",
        "0.5",
        "1.0",
        "2.5",
        "5.0",
        "10.0",
        "20.0",
        "30.0",
        "60.0",
        "120.0",
        "300.0",
    ]
    expected = {f'{name}_bucket{{endpoint="/studies",le="{bound}"}}': 2.0 for bound in bounds}
    expected[f'{name}_bucket{{endpoint="/studies",le="0.1"}}'] = 0
    expected[f'{name}_bucket{{endpoint="/studies",le="+Inf"}}'] = 3
    expected[f'{name}_sum{{endpoint="/studies"}}'] = 400.4
    expected[f'{name}_count{{endpoint="/studies"}}'] = 3
    spelled = {series.replace('le="1"', 'le="1.0"'): value for series, value in of_it.items()}
    assert {_floats(series): value for series, value in spelled.items()} == expected


def _floats(series: str) -> str:
    before, le, after = series.partition('le="')
    if not le:
        return series
    bound, rest = after.split('"', 1)
    return f'{before}le="{bound if bound == "+Inf" else str(float(bound))}"{rest}'


def test_what_was_never_counted_is_told_as_zero() -> None:
    """Else Prometheus would not see the first event as an increase; what was counted wins."""
    found = told([Series("etl_database_write_errors_total", {"schema": "staging"}, 2)])
    assert found['etl_database_write_errors_total{schema="staging"}'] == 2
    assert found['etl_database_write_errors_total{schema="marts"}'] == 0
    assert found["etl_transformation_errors_total{}"] == 0
    assert found['etl_api_requests_failed_total{endpoint="/studies",reason="429"}'] == 0


def test_counters_that_cannot_be_read_are_not_told_as_zero() -> None:
    """Counters that went back to zero would be taken for a restart."""
    text = exposition(None, [sample(gauges.STUDIES, 7)]).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert names == {"ctg_studies"}


def test_labels_are_told_whatever_is_in_them() -> None:
    """Quotes, backslashes, lines and other scripts come back as they were."""
    odd = 'a "quoted" \\ sink\nof Zürich'
    text = exposition([], [sample(gauges.FEED_LAG, 3, sink=odd)]).decode()
    [family] = [
        family
        for family in text_string_to_metric_families(text)
        if family.name == "ctg_feed_lag_changes"
    ]
    assert [(each.labels, each.value) for each in family.samples] == [({"sink": odd}, 3.0)]


def test_every_counter_is_told_from_the_first_scrape_on() -> None:
    """With its help and kind, also before anything was counted; histograms begin with their first value."""
    text = exposition([], []).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for metric in COUNTED:
        family = families[metric.name.removesuffix("_total")]
        assert (family.documentation, family.type) == (metric.help, metric.kind)
