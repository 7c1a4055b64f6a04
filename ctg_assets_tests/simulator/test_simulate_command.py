"""`ctg-assets simulate --churn`: a registry in motion for people."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.simulator.churn_logs import hashes_after, read_churn_log
from ctg_assets_tests.simulator.churning import content_hashes
from ctg_assets_tests.simulator.walking import nct_ids, pages

_STUDIES = 40


@contextmanager
def _simulate(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A simulator started by the command, and its API's URL; killed at the end if it still runs."""
    program = str(Path(sys.executable).with_name("ctg-assets"))
    command = [program, "simulate", "--studies", str(_STUDIES), "--port", "0", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"serving {_STUDIES} studies")
            yield process, process.stdout.readline().strip().removeprefix("export CTG_API_URL=")
        finally:
            process.kill()


@pytest.mark.process
def test_data_move_on_when_asked(tmp_path: Path) -> None:
    """With --churn 0 a request makes a round; what is served then is what the log tells."""
    log = tmp_path / "churn.jsonl"
    arguments = (
        "--churn",
        "0",
        "--churn-rate",
        "0.3",
        "--churn-seed",
        "2",
        "--churn-log",
        str(log),
    )
    with _simulate(*arguments) as (process, api_url):
        assert process.stdout is not None
        control = f"{api_url.removesuffix('/api/v2')}/simulator/advance"
        assert process.stdout.readline().strip() == f"a day on: curl -X POST {control}"
        for number in range(1, 4):
            assert httpx.post(control).json()["version"] == number
            assert process.stdout.readline().startswith(f"round {number}, data of 2026-03-0")
        with httpx.Client(base_url=api_url) as client:
            served = {found for page in pages(client, fields="NCTId") for found in nct_ids(page)}
    assert served == set(
        hashes_after(content_hashes(GeneratedSource(_STUDIES, 1)), read_churn_log(log))
    )


@pytest.mark.process
def test_data_move_on_by_themselves() -> None:
    """With --churn SECONDS rounds follow one another, and SIGTERM ends them and the server."""
    with _simulate("--churn", "0.05") as (process, api_url):
        assert process.stdout is not None
        for number in range(1, 4):
            assert process.stdout.readline().startswith(f"round {number}, ")
        assert httpx.get(f"{api_url}/version").json()["dataTimestamp"] >= "2026-03-05"
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0


@pytest.mark.process
def test_a_log_that_cannot_be_written_ends_the_server(tmp_path: Path) -> None:
    """Rather than let the data move on without their truth, the server stops and names the file."""
    folder = tmp_path / "log"
    folder.mkdir()
    log = folder / "churn.jsonl"
    with _simulate("--churn", "0.05", "--churn-log", str(log)) as (process, _):
        shutil.rmtree(folder)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert str(log) in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--churn-log", "churn.jsonl"], "nothing to tell without --churn"),
        (["--churn", "-1"], "Invalid value for '--churn'"),
        (["--churn", "1", "--churn-rate", "2"], "Invalid value for '--churn-rate'"),
        (["--requests-per-minute", "0"], "requests per minute: expected 1 or more"),
    ],
)
def test_unusable_arguments_are_refused(arguments: list[str], message: str) -> None:
    """What cannot be served is refused with status 2 and the reason."""
    result = CliRunner().invoke(app, ["simulate", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in result.stderr


def test_help_shows_faults_and_changes_whole() -> None:
    """`--help` gives an example of changing data, and shows the brackets in the syntax of faults."""
    shown = CliRunner().invoke(app, ["simulate", "--help"], env={"COLUMNS": "200"}).output
    assert "--churn 60 --churn-log churn.jsonl" in shown
    assert "WHEN[@ENDPOINT]:" in shown


def test_moving_in_no_time_is_refused() -> None:
    """A registry cannot move on every 0 seconds."""
    with pytest.raises(ValueError, match="expected more than 0, not 0"):
        SimulatorOptions(advance_seconds=0)
