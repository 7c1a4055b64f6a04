"""The service and a Prometheus in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from ctg_assets_tests.feed.broker import unused_ports
from ctg_assets_tests.orchestration.workplace import Workplace, kill_group, wait_until

PATIENCE_SECONDS = 60.0


class Service:
    """A running `ctg-assets serve`."""

    def __init__(self, place: Workplace) -> None:
        """Start it on a port of the system's choice."""
        self._place = place
        self._start("0")

    def _start(self, port: str) -> None:
        self._process = self._place.start("ctg-assets", "serve", "--port", port)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("serving http://127.0.0.1:"), line
        self.url = line.split()[1].removesuffix("/metrics,")

    def start_again(self) -> None:
        """Start it where it was, after it was killed."""
        self._start(self.url.rsplit(":", 1)[1])

    def get(self, path: str) -> httpx.Response:
        """What one of its addresses answers."""
        return httpx.get(self.url + path, timeout=PATIENCE_SECONDS)

    def status_of(self, path: str) -> int:
        """The HTTP status of an address."""
        return self.get(path).status_code

    def end(self) -> tuple[int, str]:
        """Stop it by SIGTERM; returns its exit code and what it had to complain about."""
        self._process.send_signal(signal.SIGTERM)
        _, err = self._process.communicate(timeout=PATIENCE_SECONDS)
        return self._process.returncode, err

    def kill(self) -> None:
        """`kill -9`, unless it has ended."""
        if self._process.poll() is None:
            kill_group(self._process)


@contextlib.contextmanager
def serving(place: Workplace) -> Iterator[Service]:
    """A service for as long as the context lasts."""
    service = Service(place)
    try:
        yield service
    finally:
        service.kill()


class Prometheus:
    """A Prometheus of the test's own, that scrapes one service every second."""

    def __init__(self, folder: Path, target: str, rules: Mapping[str, Any]) -> None:
        """Start it in a folder, with the content of a file of rules."""
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("Prometheus is not installed (Debian: apt-get install prometheus)")
        often = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        targets = [{"targets": [target.removeprefix("http://")]}]
        configuration = {
            "global": often,
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "ctg_assets", "static_configs": targets}],
        }
        # YAML takes JSON.
        (folder / "rules.yml").write_text(json.dumps(rules))
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(configuration))
        [port] = unused_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                env={"PATH": os.environ["PATH"], "GOMAXPROCS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        wait_until("Prometheus scrapes", lambda: self.value("up") == 1, PATIENCE_SECONDS)

    def _get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP API; None while it cannot be asked."""
        try:
            answer = httpx.get(f"{self._url}/api/v1/{path}", params=parameters)
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.status_code == httpx.codes.OK else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression at this moment; none while it cannot be asked."""
        answer = self._get("query", query=expression)
        return [] if answer is None else list(answer["result"])

    def has(self, selector: str) -> bool:
        """Whether there is a series that a selector chooses, or ever was."""
        return bool(self._get("series", **{"match[]": selector}))

    def wait_for_alerts(self, what: str, condition: Callable[[set[str]], bool]) -> None:
        """Wait until a condition holds of the names of all alerts that fire."""
        firing: set[str] = set()

        def look() -> bool:
            nonlocal firing
            answer = self._get("alerts")
            if answer is None:
                return False
            alerts = (alert for alert in answer["alerts"] if alert["state"] == "firing")
            firing = {alert["labels"]["alertname"] for alert in alerts}
            return condition(firing)

        try:
            wait_until(what, look, PATIENCE_SECONDS)
        except AssertionError as error:
            error.add_note(f"there fire {firing}")
            raise

    def value(self, expression: str) -> float | None:
        """The one value of an expression; None if there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def values(self, expression: str, label: str) -> dict[str, float]:
        """The values of an expression by one of its labels."""
        return {each["metric"][label]: float(each["value"][1]) for each in self.query(expression)}

    def wait_for_scrape(self) -> None:
        """Wait until a scrape that begins from now on is there."""
        now = time.time()
        wait_until(
            "a scrape", lambda: (self.value("timestamp(up)") or 0) > now, PATIENCE_SECONDS, 0.1
        )

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def scraping(
    folder: Path, target: str, rules: Mapping[str, Any] | None = None
) -> Iterator[Prometheus]:
    """A Prometheus for as long as the context lasts, with the content of a file of rules if given."""
    prometheus = Prometheus(folder, target, rules or {"groups": []})
    try:
        yield prometheus
    finally:
        prometheus.close()
