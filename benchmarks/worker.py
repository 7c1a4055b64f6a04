"""One task, measured in a process of its own.

`python -m benchmarks.worker <module>:<function> <arguments as JSON> <file for the outcome>`
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.outcome import find_task


def main(task: str, arguments: str, outcome_file: str) -> None:
    """Run a task and write its outcome, with this process's own peak of resident memory."""
    outcome = find_task(task)(**json.loads(arguments))
    Path(outcome_file).write_text(json.dumps({**asdict(outcome), "own_peak_bytes": _own_peak()}))


def _own_peak() -> int:
    """The most memory this process had resident; 0 where the system does not tell.

    Not `ru_maxrss`: Linux carries it over from the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    lines = (line.split() for line in status.splitlines())
    return next((int(words[1]) << 10 for words in lines if words[:1] == ["VmHWM:"]), 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
