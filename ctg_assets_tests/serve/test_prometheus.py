"""A real Prometheus watches a first load, a crash, a refresh of which the registry refuses a part, and Postgres die."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.orchestration.workplace import (
    Workplace,
    refresh_while_postgres_is_killed,
    wait_until,
    workplace,
)
from ctg_assets_tests.serve.accounts import agree, crash_in_a_walk, refusals
from ctg_assets_tests.serve.processes import PATIENCE_SECONDS, scraping, serving
from ctg_assets_tests.soak import only_in_soaks, times

pytestmark = [pytest.mark.process, pytest.mark.postgres]

STUDIES = 25


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
