"""One task, measured in a process of its own.

Belongs here: calling a task and writing down what it found. Does not belong here: tasks, and watching
the process from outside (`measuring.py`, which starts it).

`python -m benchmarks.worker <module>:<function> <arguments as JSON> <file for the outcome>`
"""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.outcome import find_task


def main(task: str, arguments: str, outcome_file: str) -> None:
    """Run a task and write its outcome, with this process's own peak of resident memory."""
    outcome = find_task(task)(**json.loads(arguments))
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    Path(outcome_file).write_text(json.dumps({**asdict(outcome), "own_peak_bytes": peak}))


if __name__ == "__main__":
    main(*sys.argv[1:])
