"""A real Prometheus watches a first load, a crash, a refresh of which the registry refuses a part, and Postgres die."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ctg_assets.simulator.middleware import API_PREFIX
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.orchestration.workplace import (
    Workplace,
    kill_group,
    refresh_while_postgres_is_killed,
    wait_until,
    workplace,
)
from ctg_assets_tests.serve.processes import PATIENCE_SECONDS, Prometheus, scraping, serving
from ctg_assets_tests.soak import only_in_soaks, times

pytestmark = [pytest.mark.process, pytest.mark.postgres]

STUDIES = 25
# A registry that says nothing to the third page of a walk.
SILENCE = "page=3:timeout"


def by_endpoint(registry: RunningSimulator) -> dict[str, float]:
    """How often each endpoint was asked, by the registry's own log."""
    return dict(Counter(record.path.removeprefix(API_PREFIX) for record in registry.requests))


def refusals(registry: RunningSimulator) -> int:
    """How often the registry refused a request for the rate."""
    return sum(record.status == 429 for record in registry.requests)


def rows_of_staging(place: Workplace) -> int:
    """Rows of all staging tables, counted; the note about the load is none of them."""
    names = [
        name
        for (name,) in place.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'staging'::regnamespace AND relkind = 'r' "
            "AND relname <> 'load_info'"
        )
    ]
    counted = " + ".join(f"(SELECT count(*) FROM staging.{name})" for name in names)
    [(rows,)] = place.query(f"SELECT {counted}")
    return int(rows)


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
    registry.set_faults(SILENCE)
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
    # Nothing went back.
    scraped = prometheus.query('{__name__=~"etl_.*"}[1h]')
    for series in scraped:
        values = [float(value) for _, value in series["values"]]
        assert values == sorted(values), series["metric"]
    assert max(len(series["values"]) for series in scraped) > 5


@pytest.mark.soak
@only_in_soaks
def test_counters_agree_with_registry_and_tables_whatever_happens(tmp_path: Path) -> None:
    """After a killed first walk, a first load, refusals and a killed Postgres, every number can be accounted for."""
    with (
        running_simulator(GeneratedSource(STUDIES, seed=1)) as registry,
        # What runs out of a walk stays, so that its studies can be counted.
        workplace(registry.api_url, keep_extractions="99", retry_seconds="30") as place,
        serving(place) as service,
        scraping(tmp_path, service.url) as prometheus,
    ):
        crash_in_a_walk(place, registry)
        place.refresh()
        agree(prometheus, place, registry)
        rows = rows_of_staging(place)
        assert prometheus.value('etl_data_saved_total{schema="staging"}') == rows
        assert prometheus.values("etl_records_processed_total", "stage") == {
            "extract": STUDIES,
            "transform": STUDIES,
            "load": STUDIES,
        }
        gauges: dict[str, Callable[[], float]] = {
            "ctg_studies": lambda: STUDIES,
            "ctg_loaded_studies": lambda: STUDIES,
            "ctg_dagster_dead_runs": lambda: 0,
            "ctg_extraction_open": lambda: 0,
            'ctg_dagster_runs{status="failure"}': lambda: 1,
            'sum(ctg_table_rows{schema="staging", table!="load_info"})': lambda: rows,
        }
        for expression, expected in gauges.items():
            wait_until(
                expression,
                lambda e=expression, x=expected: prometheus.value(e) == x(),  # type: ignore[misc]
                PATIENCE_SECONDS,
                0.3,
            )
        told = json.loads(place.ctg("status", "--json").stdout)
        served = service.get("/status").json()
        assert {**served, "told_at": ""} == {**told, "told_at": ""}

        for number in range(times(1, 5)):
            registry.advance(GeneratedSource(STUDIES + 5 * (number + 1), seed=1))
            registry.set_faults("every=3:429")
            place.refresh()
            registry.set_faults()
            assert refusals(registry) > number
            agree(prometheus, place, registry)

        registry.advance(GeneratedSource(STUDIES + 50, seed=1))
        done = refresh_while_postgres_is_killed(place)
        assert done.returncode == 1, done.stdout + done.stderr
        # The service has the server started again.
        wait_until("health", lambda: service.status_of("/health") == 200, PATIENCE_SECONDS)
        place.refresh()
        assert place.query("SELECT count(*) FROM staging.studies") == [(STUDIES + 50,)]
        agree(prometheus, place, registry)
        assert prometheus.value('sum(etl_database_write_errors_total{schema="staging"})') == 1
        assert service.end()[0] == 0
