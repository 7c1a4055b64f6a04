"""A simulator as a process of its own: start, signals, exit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from ctg_assets.simulator.__main__ import main


@contextmanager
def _process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A simulator process and its API's URL; killed at the end if it still runs."""
    command = [sys.executable, "-W", "error", "-m", "ctg_assets.simulator", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """SIGINT and SIGTERM stop the server, silent answers included, with status 0 and a complete log."""
    log = tmp_path / "requests.jsonl"
    arguments = ["--studies", "20", "--fault", "request=2:timeout", "--request-log", str(log)]
    with _process(*arguments) as (process, api_url):
        assert httpx.get(f"{api_url}/version").status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{api_url}/version", timeout=0.2)
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (0, "", "")
    assert [json.loads(line)["status"] for line in log.read_text().splitlines()] == [200, None]


@pytest.mark.process
def test_port_can_be_chosen() -> None:
    """A simulator can be started again where one ran before, so that clients find it."""
    with _process("--studies", "3") as (process, api_url):
        port = str(httpx.URL(api_url).port)
        process.terminate()
        process.communicate(timeout=20)
    with _process("--studies", "3", "--port", port) as (_, again):
        assert again == api_url
        assert httpx.get(f"{again}/studies").json()["studies"]


def test_help_explains_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` shows the syntax of faults."""
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "WHEN[@ENDPOINT]:KIND[=VALUE][xTIMES]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--studies", "3", "--fault", "page=1:explode"], "KIND is a status"),
        (
            ["--studies", "3", "--requests-per-minute", "0"],
            "requests per minute: expected 1 or more",
        ),
        (["--studies", "3", "--latency", "-1"], "latency: expected 0 or more seconds"),
        (["--studies", "-3"], "can generate 0 to"),
        (["--from", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["--studies", "3", "--request-log", "nowhere/log.jsonl"], "No such file or directory"),
        ([], "one of the arguments --studies --from is required"),
    ],
)
def test_unusable_arguments_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """What cannot be served ends the process with status 2 and one line that says why."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
