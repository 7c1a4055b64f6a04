"""Running tasks in processes of their own and watching time and memory from outside."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.outcome import Clock, Outcome, find_task

# Looking at a task costs a core about two milliseconds.
_SAMPLE_SECONDS = 0.25

# The kernel counts Postgres' shared pages one by one, for each of its processes: four looks a second
# took a fifth of a core once a gigabyte of them was in use. At most this share of the time goes into it.
_SHARE_OF_LOOKING = 0.01

# A task is repeated only while all its runs together stay below this.
_PATIENCE_SECONDS = 30.0

_SHOWN_LOG_BYTES = 4000


class TaskError(Exception):
    """A task failed; the message holds the end of what it said."""


@dataclass(frozen=True)
class Run:
    """One run of a task.

    `wall_seconds` includes starting the process and its imports. `peak_bytes` is the most that the
    process and its children had resident at a time: pages they share are counted for each of them, so
    it never flatters. `server_peak_bytes` is the same of Postgres, shared pages counted once.
    """

    outcome: Outcome
    wall_seconds: float
    peak_bytes: int
    server_peak_bytes: int


@dataclass(frozen=True)
class Figure:
    """All runs of one task."""

    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        """The least seconds: what others did on the machine can only add to them."""
        return min(run.outcome.seconds for run in self.runs)

    @property
    def median_seconds(self) -> float:
        """The median of the seconds."""
        return statistics.median(run.outcome.seconds for run in self.runs)

    @property
    def fastest(self) -> Run:
        """The run that took the least seconds."""
        return min(self.runs, key=lambda run: run.outcome.seconds)

    @property
    def peak_bytes(self) -> int:
        """The most memory of any run."""
        return max(run.peak_bytes for run in self.runs)

    @property
    def server_peak_bytes(self) -> int:
        """The most memory of Postgres in any run."""
        return max(run.server_peak_bytes for run in self.runs)


def repeat(once: Callable[[], Run], times: int) -> Figure:
    """Run up to `times` times, less often where a run takes long."""
    runs = [once()]
    while len(runs) < times and (len(runs) + 1) * runs[0].wall_seconds < _PATIENCE_SECONDS:
        runs.append(once())
    return Figure(tuple(runs))


def run_task(task: str, arguments: Mapping[str, object], postmaster: int | None = None) -> Run:
    """Run `<module>:<function>` in a new process; `postmaster` is the server's first process.

    Raises TaskError when the task fails.
    """
    with tempfile.TemporaryDirectory() as folder, Path(folder, "said").open("w+") as said:
        outcome_file = Path(folder, "outcome.json")
        command = [sys.executable, "-m", "benchmarks.worker", task]
        command += [json.dumps(arguments), str(outcome_file)]
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )
        peak = server_peak = 0
        next_look_at_server = began
        try:
            while process.poll() is None:
                peak = max(peak, _resident(_family(process.pid)))
                looked = time.perf_counter()
                if postmaster is not None and looked >= next_look_at_server:
                    server_peak = max(server_peak, _proportional(_family(postmaster)))
                    took = time.perf_counter() - looked
                    next_look_at_server = looked + took / _SHARE_OF_LOOKING
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SAMPLE_SECONDS)
        finally:
            process.kill()
            process.wait()
        wall_seconds = time.perf_counter() - began
        if process.returncode != 0 or not outcome_file.exists():
            said.seek(0)
            message = (
                f"{task} failed (exit {process.returncode}):\n{said.read()[-_SHOWN_LOG_BYTES:]}"
            )
            raise TaskError(message)
        found = json.loads(outcome_file.read_text())
    own_peak = found.pop("own_peak_bytes")
    return Run(Outcome(**found), wall_seconds, max(peak, own_peak), server_peak)


def run_task_here(task: str, arguments: Mapping[str, object]) -> Run:
    """As `run_task`, in this process: quick, but the figures say nothing about memory."""
    clock = Clock()
    with clock.running():
        outcome = find_task(task)(**arguments)
    return Run(outcome, clock.seconds, _resident([psutil.Process()]), 0)


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(processes: Iterable[psutil.Process]) -> int:
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def _proportional(processes: Iterable[psutil.Process]) -> int:
    """Resident memory in which a page that n processes share counts n-th for each."""
    total = 0
    for process in processes:
        # Not every system tells, and not to everybody.
        with contextlib.suppress(psutil.Error, AttributeError):
            total += process.memory_full_info().pss
    return total
