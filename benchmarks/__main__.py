"""`python -m benchmarks`: measure, print the table, and keep it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from benchmarks import inputs, machine, report
from benchmarks.measuring import TaskError
from benchmarks.peer_dlt import FORMATS
from benchmarks.suite import MismatchError, Plan, measure, missing_modules

_PROJECT = Path(__file__).resolve().parents[1]
_REAL_STUDIES = _PROJECT.parent / "shared" / "ctg" / "studies.jsonl.gz"


def studies(text: str) -> int:
    """A number of studies as it is typed, `60000` or `60_000`; raises ValueError for none."""
    count = int(text)
    if count < 1:
        message = f"{text} studies cannot be measured"
        raise ValueError(message)
    return count


def options(arguments: list[str]) -> argparse.Namespace:
    """The command line, read; ends the program where it asks for what cannot be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sizes", nargs="*", type=studies, default=[6_000, 60_000])
    parser.add_argument("--folder", type=Path, default=_PROJECT / "data" / "bench")
    parser.add_argument("--real", type=Path, default=_REAL_STUDIES, help="file of real studies")
    parser.add_argument("--real-copies", type=studies, default=4)
    parser.add_argument("--peer-studies", type=studies, default=1_000)
    parser.add_argument("--repeats", type=studies, default=3)
    parser.add_argument("--dlt-formats", nargs="*", choices=FORMATS, default=FORMATS)
    parser.add_argument("--no-dbt", action="store_true", help="leave out the marts")
    parser.add_argument(
        "--in-one-process",
        action="store_true",
        help="only show that all works; figures mean little",
    )
    parser.add_argument("--results", type=Path, default=_PROJECT / "benchmarks" / "results")
    found = parser.parse_args(arguments)
    if found.real_copies > inputs.MOST_COPIES:
        parser.error(f"NCT ids have room for {inputs.MOST_COPIES} copies")
    return found


def plan(found: argparse.Namespace) -> Plan:
    """What is to be measured; a file of real studies that is not there is left out."""
    return Plan(
        folder=found.folder,
        sizes=tuple(dict.fromkeys(found.sizes)),
        real=found.real if found.real.exists() else None,
        real_copies=found.real_copies,
        peer_studies=found.peer_studies,
        repeats=found.repeats,
        with_dbt=not found.no_dbt,
        dlt_formats=tuple(found.dlt_formats),
        own_processes=not found.in_one_process,
    )


def main(arguments: list[str]) -> int:
    """Measure, print, keep; returns the exit status."""
    asked = options(arguments)
    wanted = plan(asked)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s  {line}", flush=True)

    if wanted.real is None:
        say("there is no file of real studies (--real); generated ones take their place")
    if missing := missing_modules():
        say(f"not installed, so left out: {', '.join(missing)} (make bench installs them)")
    try:
        results = measure(wanted, say)
    except (machine.NoRoomError, MismatchError, TaskError) as error:
        print(error, file=sys.stderr)
        return 1
    asked.results.mkdir(parents=True, exist_ok=True)
    table = report.as_markdown(results)
    name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    (asked.results / f"{name}.json").write_bytes(report.as_json(results))
    (asked.results / f"{name}.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\nkept as {name}.md and {name}.json in {asked.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
