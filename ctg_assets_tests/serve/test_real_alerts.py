"""A real Prometheus with the deployed alerts: the cause of each is made, and taken away."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import promql_parser
import pytest

from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.feed.broker import unused_ports
from ctg_assets_tests.feed.helpers import SECRET, SECRET_ENV, Request, receiver
from ctg_assets_tests.orchestration.workplace import (
    Workplace,
    kill_group,
    refresh_while_postgres_is_killed,
    wait_until,
    workplace,
)
from ctg_assets_tests.postgres.debian_server import DebianServer, running_server
from ctg_assets_tests.serve.accounts import agree, crash_in_a_walk
from ctg_assets_tests.serve.hurried_rules import deployed_rules, hurried
from ctg_assets_tests.serve.processes import (
    PATIENCE_SECONDS,
    Prometheus,
    Service,
    scraping,
    serving,
)
from ctg_assets_tests.serve.test_documentation import ALERTS, PANELS, exported, selectors
from ctg_assets_tests.simulator.in_memory import InMemorySource
from ctg_assets_tests.soak import only_at_night, only_in_soaks

STUDIES = 25


def test_hurried_rules_differ_in_times_alone() -> None:
    """They have the alerts, metrics, labels, texts and limits of those that are deployed."""

    def without_numbers(expression: str) -> str:
        return re.sub(r"\d+[smh]?", "", expression)

    [deployed], [quick] = deployed_rules()["groups"], hurried(deployed_rules())["groups"]
    for former, rule in zip(deployed["rules"], quick["rules"], strict=True):
        of_time = {"expr": "", "for": ""}
        assert {**rule, **of_time} == {**former, **of_time}
        assert without_numbers(rule["expr"]) == without_numbers(former["expr"])
        if "[" not in former["expr"] and "timestamp" not in former["expr"]:
            assert rule["expr"] == former["expr"]


class Alerts:
    """Which alerts a Prometheus was seen to fire, and to fire no more."""

    def __init__(self, prometheus: Prometheus) -> None:
        """Nothing was seen yet."""
        self.prometheus = prometheus
        self.fired: set[str] = set()
        self.stopped: set[str] = set()

    def fire(self, *names: str) -> None:
        """Wait until each of these has fired from now on; some do only while their cause is in a window."""
        missing = set(names)

        def fired(firing: set[str]) -> bool:
            missing.difference_update(firing)
            return not missing

        self.prometheus.wait_for_alerts(f"{names} fire", fired)
        self.fired |= set(names)

    def stop(self, *names: str) -> None:
        """Wait until none of these, which fired, fires any more."""
        assert self.fired >= set(names)
        self.prometheus.wait_for_alerts(f"{names} stop", lambda firing: firing.isdisjoint(names))
        self.stopped |= set(names)


@contextmanager
def daemon(place: Workplace) -> Iterator[None]:
    """Dagster's daemon, which has none of our sensors to look at; killed in the end."""
    where = f"DAGSTER_HOME={place.folder}"
    quiet = ("--empty-workspace", "--log-level", "error")
    process = place.start("env", where, "dagster-daemon", "run", *quiet)
    try:
        yield
    finally:
        kill_group(process)


def first_load_is_refused(place: Workplace, registry: RunningSimulator, alerts: Alerts) -> None:
    """Every request is refused for the rate, until the alerts about that fire; a daemon runs meanwhile, and dies."""
    # To be asked again after a second.
    registry.set_faults("every=1:429=1")
    with daemon(place), place.start("ctg-assets", "refresh") as refresh:
        alerts.fire("CtgRegistryRefuses", "CtgRegistryFails")
        registry.set_faults()
        said = refresh.communicate(timeout=PATIENCE_SECONDS)
        assert refresh.returncode == 0, said
        heartbeat = "ctg_dagster_daemon_heartbeat_timestamp_seconds"
        wait_until("a sign of life", lambda: alerts.prometheus.has(heartbeat), PATIENCE_SECONDS)


def sink_is_down_and_refuses(place: Workplace, alerts: Alerts) -> None:
    """It is down, then up but refuses an event, then takes everything."""
    status = {"down": 503, "picky": 422}
    mood = "down"

    def answer(request: Request) -> int:
        return 200 if mood == "picky" and 2 not in request.numbers else status.get(mood, 200)

    file = place.settings.feed_file
    assert file is not None
    with receiver(answer) as there:
        file.write_text(
            f'[[sink]]\nname = "desk"\ntype = "webhook"\nurl = "{there.url}"\n'
            f'secret_env = "{SECRET_ENV}"\nstart = "beginning"\nattempts = 1\n'
        )
        assert place.ctg("feed", "run", "--once").returncode == 1
        alerts.fire("CtgFeedHeldUp", "CtgFeedBehind")
        mood = "picky"
        assert place.ctg("feed", "run", "--once").returncode == 0
        alerts.stop("CtgFeedHeldUp", "CtgFeedBehind")
        alerts.fire("CtgDeadLetters")
        mood = "up"
        assert place.ctg("feed", "replay", "desk", "--dead-letters").returncode == 0
        assert place.ctg("feed", "run", "--once").returncode == 0
        alerts.stop("CtgDeadLetters")


def walk_is_killed(place: Workplace, registry: RunningSimulator, alerts: Alerts) -> None:
    """A walk stays where it is, and its run is dead; the last whole walk and all data get old."""
    registry.advance(GeneratedSource(STUDIES + 5, seed=1))
    crash_in_a_walk(place, registry)
    alerts.stop("CtgRegistryRefuses", "CtgRegistryFails")
    alerts.fire("CtgWalkStuck", "CtgRunDied", "CtgNoWholeWalk", "CtgNoCensus", "CtgDataOld")


def database_is_killed(
    place: Workplace, server: DebianServer, service: Service, alerts: Alerts
) -> None:
    """The walk is ended, but while its tables are loaded the database dies, and is started again."""
    assert service.status_of("/health") == 200
    done = refresh_while_postgres_is_killed(place, server.kill)
    assert done.returncode == 1, done.stdout + done.stderr
    wait_until("503", lambda: service.status_of("/health") == 503, PATIENCE_SECONDS)
    assert service.get("/health").json() == {
        "status": "unhealthy",
        "service": "ctg-assets",
        "database": "unavailable",
    }
    assert service.status_of("/ready") == 503
    alerts.stop("CtgNoWholeWalk", "CtgNoCensus")
    alerts.fire("CtgWritesFail", "CtgRunFailed", "CtgTablesBehind")
    alerts.fire("CtgDatabaseDown", "CtgMetricsIncomplete")
    server.start()
    wait_until("200", lambda: service.status_of("/health") == 200, PATIENCE_SECONDS)
    assert service.status_of("/ready") == 200
    alerts.stop("CtgDatabaseDown", "CtgMetricsIncomplete", "CtgWalkStuck", "CtgRunDied")


def service_is_killed(service: Service, alerts: Alerts) -> None:
    """Nobody is there to be scraped; meanwhile the daemon is silent for so long that somebody has to look."""
    service.kill()
    alerts.fire("CtgServeDown")
    service.start_again()
    alerts.stop("CtgServeDown", "CtgWritesFail", "CtgRunFailed")
    alerts.fire("CtgDaemonSilent")


def studies_are_odd(place: Workplace, registry: RunningSimulator, alerts: Alerts) -> None:
    """A study cannot be typed, one has a field that nobody knows; that holds the tables back until both are put right."""
    sound = GeneratedSource(STUDIES + 5, seed=1)
    studies = [json.loads(sound.raw(index)) for index in range(len(sound))]
    studies[0]["protocolSection"]["designModule"]["enrollmentInfo"] = {"count": "many"}
    studies[1]["protocolSection"]["identificationModule"]["nickname"] = "new"
    registry.advance(InMemorySource(studies))
    done = place.ctg("refresh")
    assert done.returncode == 3, done.stdout + done.stderr
    alerts.stop("CtgDaemonSilent")
    alerts.fire("CtgQuarantine", "CtgUnknownFields", "CtgCheckFailed")
    assert alerts.prometheus.value('ALERTS{alertname="CtgTablesBehind"}') == 1
    # The last version is two days old.
    for _ in range(4):
        registry.advance(sound)
    place.refresh()
    alerts.stop("CtgQuarantine", "CtgUnknownFields", "CtgCheckFailed")
    alerts.stop("CtgTablesBehind", "CtgDataOld")


def asked_for() -> set[str]:
    """Every selector of a series in rules and dashboard, and every metric that is documented."""
    expressions = [*ALERTS.values(), *PANELS.values(), *exported()]
    return {str(found) for text in expressions for found in selectors(promql_parser.parse(text))}


@pytest.mark.process
@pytest.mark.postgres
@pytest.mark.soak
@only_at_night
def test_every_alert_fires_for_its_cause_and_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but that of the disk, in a minute and a half: work goes on, is killed, goes wrong and is put right.

    Everything is done to real processes, but that the daemon has no sensor to look at. In the end whatever rules,
    dashboard and documentation name was scraped, and what was counted is what registry, lake and database say.
    """
    monkeypatch.setenv(SECRET_ENV, SECRET)
    [port] = unused_ports(1)
    long_ago = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(days=8)
    with (
        running_server(port) as server,
        running_simulator(
            GeneratedSource(STUDIES, seed=1), SimulatorOptions(data_timestamp=long_ago)
        ) as registry,
        workplace(
            registry.api_url,
            postgres_url=server.address.url,
            feed_file=str(tmp_path / "sinks.toml"),
            refresh_mode="full",
            keep_extractions="99",
            retry_seconds="100",
            max_quarantine_fraction="0",
        ) as place,
        serving(place) as service,
        scraping(tmp_path, service.url, hurried(deployed_rules())) as prometheus,
    ):
        alerts = Alerts(prometheus)
        first_load_is_refused(place, registry, alerts)
        sink_is_down_and_refuses(place, alerts)
        walk_is_killed(place, registry, alerts)
        database_is_killed(place, server, service, alerts)
        service_is_killed(service, alerts)
        with daemon(place):
            studies_are_odd(place, registry, alerts)
        assert alerts.fired == ALERTS.keys() - {"CtgDiskFull"}
        assert alerts.stopped == alerts.fired
        assert [series for series in asked_for() if not prometheus.has(series)] == []
        agree(prometheus, place, registry)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 32 MB in a folder; skips the test for who may not mount one."""
    folder.mkdir(exist_ok=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=32M", "tmpfs", str(folder)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("a disk cannot be mounted here (root can)")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.process
@pytest.mark.soak
@only_in_soaks
def test_a_full_disk_is_told_until_there_is_room(tmp_path: Path) -> None:
    """The disk of the data folder is filled and cleared; sizes are read once a minute, or by who is started again."""
    [nobody] = unused_ports(1)
    nowhere = f"postgresql://nobody@127.0.0.1:{nobody}/nothing"
    with workplace("http://127.0.0.1:9/api/v2", postgres_url=nowhere) as place:
        data = place.settings.data_dir
        with small_disk(data):
            ballast = data / "ballast"
            ballast.write_bytes(bytes(30 << 20))
            with (
                serving(place) as service,
                scraping(tmp_path, service.url, hurried(deployed_rules())) as prometheus,
            ):
                alerts = Alerts(prometheus)
                alerts.fire("CtgDiskFull")
                ballast.unlink()
                service.kill()
                service.start_again()
                alerts.stop("CtgDiskFull")
