"""`prune-events` while Dagster's web server reads the same files of SQLite, and a refresh writes them."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.feed.broker import unused_ports
from ctg_assets_tests.orchestration.workplace import INSTALLED, Workplace, wait_until, workplace
from ctg_assets_tests.soak import IS_LONG, times

pytestmark = [
    pytest.mark.process,
    pytest.mark.postgres,
    pytest.mark.soak,
    pytest.mark.skipif(
        not IS_LONG, reason="half a minute of two servers: in soaks from a fifth on"
    ),
]

STUDIES = 25
_SECONDS = 60.0
_PAUSE_SECONDS = 0.5

# What the UI's pages of runs, of a run and of assets ask for.
RUNS = """{ runsOrError { ... on Runs { results {
    id status stepStats { stepKey status startTime endTime }
    stats { ... on RunStatsSnapshot { stepsSucceeded materializations expectations } }
} } } }"""
ASSETS = """{ assetsOrError { ... on AssetConnection { nodes {
    key { path } assetMaterializations(limit: 100) { runId timestamp partition stepKey }
} } } }"""
EVENTS = """query($run: ID!) { logsForRun(runId: $run) {
    ... on EventConnection { events { __typename } }
} }"""
# By which the page of a run follows it.
FOLLOWED = """subscription($run: ID!) { pipelineRunLogs(runId: $run) {
    __typename ... on PipelineRunLogsSubscriptionSuccess { messages { __typename } hasMorePastEvents }
} }"""


class WebServer:
    """Dagster's web server on a workplace's instance, as users start it, without our code."""

    def __init__(self, place: Workplace) -> None:
        """Start it, and wait until it answers."""
        [port] = unused_ports(1)
        self._address = f"127.0.0.1:{port}/graphql"
        self._process = place.start(
            "env",
            f"DAGSTER_HOME={place.folder}",
            str(INSTALLED / "dagster-webserver"),
            *("-h", "127.0.0.1", "-p", str(port), "--empty-workspace"),
        )
        wait_until("the web server answers", self._answers, _SECONDS)

    def _answers(self) -> bool:
        try:
            self.ask("{ version }")
        except httpx.TransportError:
            return False
        return True

    def ask(self, query: str, **variables: str) -> Any:
        """The data of an answer, which has to be one without errors."""
        asked = {"query": query, "variables": variables}
        answer = httpx.post(f"http://{self._address}", json=asked, timeout=_SECONDS)
        told = answer.json()
        assert (answer.status_code, told.get("errors")) == (200, None), told
        return told["data"]

    def runs(self) -> dict[str, Any]:
        """All that is told of each run, by its id."""
        return {run["id"]: run for run in self.ask(RUNS)["runsOrError"]["results"]}

    def materializations(self, of_runs: Mapping[str, Any]) -> list[Any]:
        """What these runs made, each with the asset."""
        return [
            (node["key"]["path"], made)
            for node in self.ask(ASSETS)["assetsOrError"]["nodes"]
            for made in node["assetMaterializations"]
            if made["runId"] in of_runs
        ]

    def events(self, run: str) -> list[str]:
        """The kinds of a run's events."""
        told = self.ask(EVENTS, run=run)["logsForRun"]["events"]
        return [event["__typename"] for event in told]

    @contextmanager
    def followed(self, run: str) -> Iterator[None]:
        """A page that follows a run; it has its events so far, and is told no error until the block ends."""
        started = {"query": FOLLOWED, "variables": {"run": run}}
        with connect(f"ws://{self._address}", subprotocols=["graphql-ws"]) as page:  # type: ignore[list-item]
            page.send(json.dumps({"type": "connection_init"}))
            page.send(json.dumps({"type": "start", "id": "1", "payload": started}))
            assert json.loads(page.recv(_SECONDS))["type"] == "connection_ack"
            told = json.loads(page.recv(_SECONDS))["payload"]
            assert "errors" not in told, told
            assert told["data"]["pipelineRunLogs"]["messages"]
            yield
            assert page.ping().wait(_SECONDS)
            with suppress(TimeoutError):
                while told := json.loads(page.recv(0)):
                    assert told["type"] in {"data", "ka"}, told
                    assert "errors" not in told.get("payload", {}), told

    def end(self) -> str:
        """Stop it; returns what it has said."""
        self._process.send_signal(signal.SIGINT)
        return "".join(self._process.communicate(timeout=_SECONDS))


@contextmanager
def reading(server: WebServer, runs: Mapping[str, Any]) -> Iterator[list[int]]:
    """Pages that ask again and again, each question by itself; no answer may be an error."""
    stop, failed, answers = threading.Event(), list[Exception](), [0, 0, 0]

    def ask(number: int) -> None:
        try:
            # As often as a page that is open asks, and more.
            while not stop.wait(_PAUSE_SECONDS):
                if number == 0:
                    server.runs()
                elif number == 1:
                    server.materializations(runs)
                else:
                    for run in runs:
                        server.events(run)
                answers[number] += 1
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(answers))]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def grow_old(place: Workplace) -> None:
    """Let all runs so far have ended forty days ago."""
    [file] = (place.settings.data_dir / "dagster").rglob("runs.db")
    with closing(sqlite3.connect(file)) as runs, runs:
        runs.execute("UPDATE runs SET start_time = start_time - 4e6, end_time = end_time - 4e6")


def test_pages_read_on_while_events_are_pruned() -> None:
    """No page gets an error, a refresh goes on, and what is told of old runs stays, but for fewer events.

    Costs two refreshes and a web server, half a minute.
    """
    with (
        running_simulator(GeneratedSource(STUDIES, seed=1)) as registry,
        workplace(registry.api_url, refresh_mode="full") as place,
    ):
        place.refresh()
        grow_old(place)
        server = WebServer(place)
        try:
            for number in range(times(1, 5)):
                runs = server.runs()
                made = server.materializations(runs)
                assert made
                events = {run: server.events(run) for run in runs}
                newest = max(events, key=lambda run: len(events[run]))
                registry.advance(GeneratedSource(STUDIES + number + 1, seed=1))
                with (
                    server.followed(newest),
                    reading(server, runs) as answers,
                    place.start("ctg-assets", "refresh") as refresh,
                ):
                    pruned = _prune_until_it_ends(place, refresh)
                    wait_until("all have asked", lambda a=answers: min(a) > 1, _SECONDS)  # type: ignore[misc]
                assert pruned > 0
                assert {run: told for run, told in server.runs().items() if run in runs} == runs
                assert server.materializations(runs) == made
                left = sum(len(server.events(run)) for run in runs)
                assert sum(map(len, events.values())) - left == pruned
                grow_old(place)
        finally:
            said = server.end()
        assert "Traceback" not in said


def _prune_until_it_ends(place: Workplace, refresh: subprocess.Popen[str]) -> int:
    """Prune at least once, and until a refresh has ended, which has to succeed; returns how many events went."""
    pruned = 0
    while True:
        ended = refresh.poll() is not None
        done = place.ctg("prune-events")
        assert (done.returncode, done.stderr) == (0, "")
        pruned += int(done.stdout.split()[0].replace(",", ""))
        if ended:
            said = refresh.communicate()
            assert refresh.returncode == 0, said
            return pruned
