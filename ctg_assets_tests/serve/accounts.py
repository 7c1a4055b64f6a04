"""What Prometheus has of work, beside what registry, lake and database say of it; and work that is cut off."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ctg_assets.simulator.middleware import API_PREFIX
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.orchestration.workplace import Workplace, kill_group, wait_until
from ctg_assets_tests.serve.processes import PATIENCE_SECONDS, Prometheus

# A registry that says nothing to the third page of a walk.
_SILENCE = "page=3:timeout"


def by_endpoint(registry: RunningSimulator) -> dict[str, float]:
    """How often each endpoint was asked, by the registry's own log."""
    return dict(Counter(record.path.removeprefix(API_PREFIX) for record in registry.requests))


def refusals(registry: RunningSimulator) -> int:
    """How often the registry refused a request for the rate."""
    return sum(record.status == 429 for record in registry.requests)


def studies_in_shards(place: Workplace) -> int:
    """Studies in all page shards that are there."""
    lake = place.lake
    return sum(
        info.studies
        for plan in lake.extractions.plans()
        for info in lake.shards.infos(plan.extraction_id)
    )


def crash_in_a_walk(place: Workplace, registry: RunningSimulator) -> None:
    """Begin a refresh, and kill it with all it started while it waits for its third page."""
    registry.set_faults(_SILENCE)
    pages = len(place.pages())
    process = place.start("ctg-assets", "refresh", "--mode", "full", "--again")
    wait_until(
        "the walk has taken two pages and asks for a third",
        lambda: len(place.pages()) == pages + 2 and registry.requests[-1].fault is not None,
        PATIENCE_SECONDS,
        0.05,
    )
    kill_group(process)
    registry.set_faults()


def agree(prometheus: Prometheus, place: Workplace, registry: RunningSimulator) -> None:
    """What Prometheus has is what registry, lake and database say."""
    prometheus.wait_for_scrape()
    requests = prometheus.values("etl_api_requests_total > 0", "endpoint")
    assert requests == by_endpoint(registry)
    failed = prometheus.value('sum(etl_api_requests_failed_total{reason="429"})')
    assert failed == refusals(registry)
    records = prometheus.values("etl_records_processed_total", "stage")
    assert records["extract"] == studies_in_shards(place)
    loads = dict(place.query("SELECT kind, count(*) FROM ctg_meta.loads GROUP BY kind"))
    writes = prometheus.values('etl_database_writes_total{schema="staging"} > 0', "kind")
    assert writes == loads
    # Nothing went back. A quick refresh is over after a few scrapes.
    wait_until(
        "six scrapes",
        lambda: max((len(each["values"]) for each in _scraped(prometheus)), default=0) > 5,
        PATIENCE_SECONDS,
    )
    for series in _scraped(prometheus):
        values = [float(value) for _, value in series["values"]]
        assert values == sorted(values), series["metric"]


def _scraped(prometheus: Prometheus) -> list[Any]:
    """Every series of ours with all its values so far."""
    return prometheus.query('{__name__=~"etl_.*"}[1h]')
