"""The pace of a walk over a registry that is slow to answer: `make bench-pace`.

The registry is the simulator, in a process of its own, whose answers each take a while. A walk is made in one chain, then
in as many as are measured to be needed, and both are held against what the limit allows. By default all is
ten times as fast as 50 requests a minute and answers of 5 s, with which it would take seven minutes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.inputs import settings_of
from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.sizing import Pace
from ctg_assets.lake import open_lake
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry.rate_limit import SharedRateLimit
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource

_SEED = 3
_MOST_SLOWDOWN = 1.15


@dataclass(frozen=True)
class Walked:
    """One walk: its chains, pages and requests, and the seconds to plan and to walk it."""

    chains: int
    pages: int
    requests: int
    planning: float
    walking: float


def walk(
    api_url: str, folder: Path, *, chains: int | None, requests_per_minute: int, page_size: int
) -> Walked:
    """Plan and walk everything into a new lake, with a limit that remembers nothing."""
    folder.mkdir(parents=True)
    lake = open_lake(settings_of(folder))
    sent = 0
    with closing(SharedRateLimit(folder / "requests.sqlite", requests_per_minute)) as limit:

        class Counting:
            """The limit, counting."""

            def acquire(self) -> None:
                """Wait for one more request."""
                nonlocal sent
                limit.acquire()
                sent += 1

        with RegistryClient(
            api_url,
            rate_limit=Counting(),
            user_agent="benchmarks",
            read_timeout_seconds=60,
            retry_seconds=0,
        ) as client:
            crawler = Crawler(client, lake.extractions, lake.shards)
            began = time.perf_counter()
            plan = crawler.plan(
                query="", page_size=page_size, pace=Pace(chains, requests_per_minute)
            )
            planned = time.perf_counter()
            pages = sum(1 for _ in crawler.walk(plan, plan.planned_pages or 0))
            ended = time.perf_counter()
    return Walked(max(1, len(plan.chains)), pages, sent, planned - began, ended - planned)


@contextmanager
def _slow_registry(studies: int, latency: float) -> Iterator[str]:
    """A registry in a process of its own; yields its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(studies, latency, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def _serve(studies: int, latency: float, asked: Connection) -> None:
    source = GeneratedSource(studies, _SEED)
    with running_simulator(source, SimulatorOptions(latency_seconds=latency)) as simulator:
        asked.send(simulator.api_url)
        asked.poll(None)


def main(arguments: list[str]) -> int:
    """Walk in one chain and in several, print how that compares; 1 if several are slower than they should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pace", description=__doc__)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds that an answer takes")
    parser.add_argument("--requests-per-minute", type=int, default=500, help="the limit")
    parser.add_argument("--pages", type=int, default=60, help="pages of a walk in one chain")
    parser.add_argument("--page-size", type=int, default=50, help="studies on a page")
    asked = parser.parse_args(arguments)
    allowed = asked.pages * 60 / asked.requests_per_minute
    print(
        f"{asked.pages} pages, {asked.latency:g} s an answer, {asked.requests_per_minute} requests a minute: "
        f"the limit allows {allowed:.1f} s"
    )
    print("| chains | pages | requests | planning s | walking s | times what the limit allows |")
    print("|---|---|---|---|---|---|")
    slowdown = 0.0
    studies = asked.pages * asked.page_size - 1
    with _slow_registry(studies, asked.latency) as api_url, tempfile.TemporaryDirectory() as folder:
        for chains in (1, None):
            walked = walk(
                api_url,
                Path(folder) / str(chains),
                chains=chains,
                requests_per_minute=asked.requests_per_minute,
                page_size=asked.page_size,
            )
            slowdown = walked.walking / allowed
            print(
                f"| {walked.chains} | {walked.pages} | {walked.requests} | {walked.planning:.1f} | "
                f"{walked.walking:.1f} | {slowdown:.2f} |",
                flush=True,
            )
    return int(slowdown > _MOST_SLOWDOWN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
