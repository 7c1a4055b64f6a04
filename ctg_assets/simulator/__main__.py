"""A bare simulator process: `python -m ctg_assets.simulator --studies 5000`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ctg_assets.simulator.faults import FAULT_SYNTAX, parse_faults
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.serving import LOOPBACK, serve
from ctg_assets.simulator.source import FileSource, GeneratedSource, StudySource


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; the API's URL is the first line on standard output."""
    parser = argparse.ArgumentParser(
        prog="python -m ctg_assets.simulator",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=FAULT_SYNTAX,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--studies", type=int, help="how many studies to generate")
    what.add_argument("--from", type=Path, dest="file", help="file of studies to serve")
    parser.add_argument(
        "--seed", type=int, default=0, help="of generated studies and chance faults"
    )
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--requests-per-minute", type=int)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--fault", action="append", default=[], help="see below; repeatable")
    parser.add_argument("--request-log", type=Path, help="JSON Lines file to append requests to")
    given = parser.parse_args(arguments)

    def announce(api_url: str) -> None:
        sys.stdout.write(f"{api_url}\n")
        sys.stdout.flush()

    try:
        options = SimulatorOptions(
            requests_per_minute=given.requests_per_minute,
            latency_seconds=given.latency,
            faults=parse_faults(given.fault),
            fault_seed=given.seed,
            request_log=given.request_log,
        )
        source: StudySource = (
            FileSource(given.file) if given.file else GeneratedSource(given.studies, given.seed)
        )
        serve(source, options, host=given.host, port=given.port, ready=announce)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
