"""Telling counters and samples in Prometheus' text format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from ctg_assets.counters_file import Series
from ctg_assets.metrics import COUNTED, Metric, spelled_bound
from ctg_assets.serve.gauges import GAUGES, Sample

_Values = Mapping[tuple[str, ...], float]


def exposition(series: Sequence[Series] | None, samples: Iterable[Sample]) -> bytes:
    """The text of a scrape; `series` are the counters, None if they cannot be read."""
    registry = CollectorRegistry()
    registry.register(_Families([*_counted(series), *_gauges(samples)]))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _counted(series: Sequence[Series] | None) -> Iterator[Family]:
    if series is None:
        return
    by_name: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
    for each in series:
        by_name[each.name][tuple(each.labels.items())] = each.value
    for metric in COUNTED:
        if metric.kind == "histogram":
            yield _histogram(
                metric, by_name[f"{metric.name}_bucket"], by_name[f"{metric.name}_sum"]
            )
            continue
        values = {_label_values(metric, labels): 0.0 for labels in metric.always}
        for labels, value in by_name[metric.name].items():
            values[_label_values(metric, dict(labels))] = value
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        _add(family, values)
        yield family


def _histogram(
    metric: Metric,
    buckets: Mapping[tuple[tuple[str, str], ...], float],
    sums: Mapping[tuple[tuple[str, str], ...], float],
) -> Family:
    """A histogram: each bucket holds what is in those below it, too, and the last one everything."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    bounds = [*map(spelled_bound, metric.buckets), spelled_bound(None)]
    for labels, total in sorted(sums.items()):
        so_far = 0.0
        cumulated = []
        for bound in bounds:
            so_far += buckets.get((*labels, ("le", bound)), 0.0)
            cumulated.append((bound, so_far))
        family.add_metric(_label_values(metric, dict(labels)), cumulated, total)
    return family


def _gauges(samples: Iterable[Sample]) -> Iterator[Family]:
    values: dict[Metric, dict[tuple[str, ...], float]] = defaultdict(dict)
    for each in samples:
        values[each.metric][_label_values(each.metric, each.labels)] = each.value
    for metric in GAUGES:
        if metric in values:
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            _add(family, values[metric])
            yield family


def _label_values(metric: Metric, labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels.get(name, "") for name in metric.labels)


def _add(family: CounterMetricFamily | GaugeMetricFamily, values: _Values) -> None:
    for labels, value in sorted(values.items()):
        family.add_metric(labels, value)
