"""The whole harness once, on a few studies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import report
from benchmarks.suite import missing_modules
from ctg_assets_tests.support.postgres import temporary_folder

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.process
def test_everything_is_measured_and_loads_the_same_rows(tmp_path: Path) -> None:
    """All contenders run on the same studies and load them all; only inputs and results are left.

    A process of its own, since the peers warn when imported, and warnings are errors here.
    """
    if missing := missing_modules():
        pytest.skip(f"what `make bench` installs is not there: {', '.join(missing)}")
    with temporary_folder() as folder:
        options = ["--sizes", "--peer-studies", "20", "--real", str(tmp_path / "none")]
        options += ["--repeats", "1", "--dlt-formats", "insert_values", "--no-dbt"]
        options += ["--in-one-process", "--folder", str(folder), "--results", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", *options],
            cwd=PROJECT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert [path.name for path in folder.iterdir()] == ["inputs"]
    (kept,) = tmp_path.glob("*.json")
    results = msgspec.json.decode(kept.read_bytes(), type=report.Results)
    rows = {line.name: line.rows for line in results.contenders}
    assert set(rows) == {
        report.OURS_BARE, report.OURS_WHOLE, report.LIMIT, report.LIMIT_WITH_VALUES,
        report.DLT, report.DUCKDB, report.PANDAS, report.PYDANTIC,
    }  # fmt: skip
    assert rows[report.OURS_WHOLE] == rows[report.LIMIT] == rows[report.PYDANTIC]
    # Both leave out our filters, so that they have more.
    assert rows[report.DUCKDB] == rows[report.PANDAS]
    assert all(line.seconds > 0 for line in results.contenders)
    assert {"parse", "compact", "flatten", "load"} <= {line.name for line in results.stages}
    assert "at least 12 times dlt (20 generated)" in kept.with_suffix(".md").read_text()
    assert report.as_markdown(results) in done.stdout
