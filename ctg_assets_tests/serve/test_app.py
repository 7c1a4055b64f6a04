"""The service's addresses: what each answers, whatever the database does."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from ctg_assets import __version__
from ctg_assets.counters_file import counters_of, counters_path
from ctg_assets.feed.service import sink_statuses
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.metrics import REQUESTS
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh.status import extraction_statuses
from ctg_assets.serve import watch as watch_module
from ctg_assets.serve.app import build_app
from ctg_assets.serve.database import KeptDatabase
from ctg_assets.serve.gauges import PARTS
from ctg_assets.serve.watch import Watch
from ctg_assets.settings import Settings
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.serve.test_state import Known
from ctg_assets_tests.support.postgres import ALL, batch, build, query

PASSWORD = "canary-b7f3"
# Where nobody listens.
NOBODY = f"postgresql://me:{PASSWORD}@127.0.0.1:1/ctg"


@contextmanager
def asking(
    settings: Settings,
    scheduler: Callable[[], Known | None] = Known,
    status: Callable[[], dict[str, Any]] = dict,
) -> Iterator[httpx.Client]:
    """A client of the service on these settings."""
    with KeptDatabase(settings) as database:
        watch = Watch(
            settings,
            database,
            scheduler=scheduler,
            sinks=lambda: sink_statuses(settings, 0),
            walks=extraction_statuses,
            status=status,
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(
                uvicorn.Config(build_app(watch), lifespan="off", ws="none", log_config=None)
            )
            thread = threading.Thread(target=server.run, args=([listener],))
            thread.start()
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, timeout=30) as client:
                yield client
            server.should_exit = True
            thread.join()


def on(settings: Settings, url: str) -> Settings:
    """The same settings with a configured server."""
    return settings.model_copy(update={"postgres_url": url})


def until_connected(client: httpx.Client) -> None:
    """Wait until the service has found its database."""
    wait_until("health", lambda: client.get("/health").status_code == 200, 30, 0.05)


def scraped(client: httpx.Client) -> dict[str, float]:
    """The series of a scrape, which succeeds."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        " ".join(
            [each.name, *(f"{name}={value}" for name, value in each.labels.items())]
        ): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


def test_health_readiness_and_metrics_follow_the_database(
    settings: Settings, address: PostgresAddress
) -> None:
    """An empty database is healthy and not ready; a loaded one is both; a scrape tells all parts."""
    counters_of(settings).add(REQUESTS.by(3, endpoint="/version"))
    with asking(on(settings, address.url)) as client:
        until_connected(client)
        assert client.get("/health").json() == {
            "status": "healthy",
            "service": "ctg-assets",
            "database": "connected",
        }
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert "ctg-assets refresh" in ready.json()["reason"]
        load_tables(LoadRequest(address, ALL, build(studies=2)), [batch(range(1, 3))])
        wait_until("readiness", lambda: client.get("/ready").status_code == 200, 30, 0.1)
        found = scraped(client)
        assert {part: found[f"ctg_scrape_errors part={part}"] for part in PARTS} == dict.fromkeys(
            PARTS, 0
        )
        assert found["etl_api_requests_total endpoint=/version"] == 3
        assert found["ctg_database_up"] == 1
        assert found["ctg_dagster_dead_runs"] == 1
        assert found[f"ctg_build_info version={__version__}"] == 1
        # No session of ours stays: it would be in the way of who drops or swaps something.
        sessions = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ctg_assets serve'"
        )
        wait_until("no session", lambda: query(address, sessions) == [(0,)], 30, 0.05)


def test_a_database_that_is_gone_is_unhealthy_and_the_scrape_goes_on(settings: Settings) -> None:
    """Nobody listens there: 503 at once, and the rest of the metrics as ever; no password is told anywhere."""
    with asking(on(settings, NOBODY)) as client:
        answers = {path: client.get(path) for path in ("/health", "/ready", "/metrics", "/status")}
        assert (answers["/health"].status_code, answers["/ready"].status_code) == (503, 503)
        assert answers["/health"].json() == {
            "status": "unhealthy",
            "service": "ctg-assets",
            "database": "unavailable",
        }
        found = scraped(client)
        assert found["ctg_database_up"] == 0
        assert found["ctg_scrape_errors part=database"] == 1
        assert found["ctg_scrape_errors part=lake"] == 0
        assert "ctg_disk_free_bytes" in found
        assert not any(PASSWORD in answer.text for answer in answers.values())


def test_a_database_that_hangs_is_unhealthy_within_seconds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes connections and says nothing holds up nobody: all who ask are answered together."""
    monkeypatch.setattr(watch_module, "HEALTH_SECONDS", 0.3)
    monkeypatch.setattr(watch_module, "_SCRAPE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/ctg?connect_timeout=2"
        with asking(on(settings, url)) as client, ThreadPoolExecutor(8) as threads:
            began = time.monotonic()
            paths = ["/health", "/metrics"] * 8
            answers = list(threads.map(client.get, paths))
            assert [answer.status_code for answer in answers] == [503, 200] * 8
            # Sixteen waits one after the other would be five seconds.
            assert time.monotonic() - began < 4


def test_one_part_that_fails_leaves_the_others(
    settings: Settings, address: PostgresAddress
) -> None:
    """Whatever a part raises, the scrape says which one is missing; a failing status is 503 with the reason."""

    def broken() -> None:
        message = "Dagster's storage is locked"
        raise RuntimeError(message)

    def refused() -> dict[str, Any]:
        message = "a file of the lake is damaged"
        raise OSError(message)

    counters_path(settings).parent.mkdir(parents=True)
    counters_path(settings).write_bytes(b"no database at all")
    with asking(on(settings, address.url), scheduler=broken, status=refused) as client:
        until_connected(client)
        found = scraped(client)
        missing = {part for part in PARTS if found[f"ctg_scrape_errors part={part}"]}
        assert missing == {"dagster", "counters"}
        assert not any(name.startswith("etl_") for name in found)
        status = client.get("/status")
        assert (status.status_code, status.json()) == (
            503,
            {"problem": "a file of the lake is damaged"},
        )


def test_status_is_what_the_command_says(settings: Settings) -> None:
    """Whatever the function gives is what is told, in the types of JSON."""
    told = {"registry": settings.api_url, "snapshot": None, "extractions": [{"pages": 3}]}
    with asking(on(settings, NOBODY), status=lambda: told) as client:
        assert client.get("/status").json() == told


def test_nothing_can_be_changed(settings: Settings) -> None:
    """There is only reading; what is not there is 404, and the index names what is."""
    with asking(on(settings, NOBODY)) as client:
        assert client.post("/metrics").status_code == 405
        assert client.get("/elsewhere").status_code == 404
        index = client.get("/").text
        assert all(path in index for path in ("/metrics", "/health", "/ready", "/status"))
