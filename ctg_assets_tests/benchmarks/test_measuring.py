"""Tasks run in processes of their own, watched from outside."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from benchmarks.inputs import generated
from benchmarks.measuring import Figure, Run, TaskError, repeat, run_task
from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import pages

pytestmark = pytest.mark.process


def hold(mebibytes: int) -> Outcome:
    """A task that takes some memory."""
    clock = Clock()
    with clock.running():
        held = b"x" * (mebibytes << 20)
    return Outcome(clock.seconds, rows={"bytes": len(held)})


def fail() -> Outcome:
    """A task that cannot be done."""
    message = "there is nothing to measure"
    raise RuntimeError(message)


@cache
def _small() -> Run:
    return run_task(f"{__name__}:hold", {"mebibytes": 1})


def _run(seconds: float, wall_seconds: float = 1.0) -> Run:
    return Run(Outcome(seconds), wall_seconds, peak_bytes=0, server_peak_bytes=0)


def test_a_task_is_measured_in_a_process_of_its_own() -> None:
    """The peak of memory holds what the task took, and the wall time includes starting it."""
    small = _small()
    large = run_task(f"{__name__}:hold", {"mebibytes": 101})
    assert large.outcome.rows == {"bytes": 101 << 20}
    assert 90 << 20 < large.peak_bytes - small.peak_bytes < 110 << 20
    assert large.wall_seconds > large.outcome.seconds


def test_what_the_starting_process_holds_is_not_the_tasks() -> None:
    """A task is not charged the memory of the process that measures it."""
    before = _small()
    held = b"x" * (200 << 20)
    while_held = run_task(f"{__name__}:hold", {"mebibytes": 1})
    assert len(held) == 200 << 20
    assert abs(while_held.peak_bytes - before.peak_bytes) < 50 << 20


def test_a_failed_task_says_why() -> None:
    """What the task printed last is in the error."""
    with pytest.raises(TaskError, match="there is nothing to measure"):
        run_task(f"{__name__}:fail", {})


def test_what_takes_long_is_not_repeated() -> None:
    """Repetitions stop where they would take longer than half a minute together."""
    assert len(repeat(lambda: _run(1.0), 3).runs) == 3
    assert len(repeat(lambda: _run(20.0, wall_seconds=20.0), 3).runs) == 1


def test_the_least_and_the_median_of_all_runs_are_told() -> None:
    """A figure is the least of its runs; the median is given beside it."""
    figure = Figure((_run(3.0), _run(1.0), _run(2.5)))
    assert (figure.seconds, figure.median_seconds) == (1.0, 2.5)


def test_a_set_of_studies_is_made_once(tmp_path: Path) -> None:
    """Asked for again, a set is the one that is there; a page that is missing is made again."""
    first = generated(tmp_path, 3)
    (shard,) = first.data_dir.rglob("*.parquet")
    written = shard.stat().st_mtime_ns
    assert generated(tmp_path, 3) == first
    assert shard.stat().st_mtime_ns == written
    (studies,) = pages(str(first.data_dir))
    assert (len(studies), sum(map(len, studies))) == (3, first.json_bytes)
    shard.unlink()
    (first.data_dir / "lake" / "extractions" / shard.parts[-3] / "complete.json").unlink()
    assert generated(tmp_path, 3) == first
