"""A crawl through everything that the simulator can do to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.simulator.faults import Fault, FaultKind
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.request_log import RequestRecord
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import StudySource
from ctg_assets_tests.simulator.in_memory import InMemorySource, study
from ctg_assets_tests.support.lakes import studies_of
from ctg_assets_tests.support.processes import COMPLETE, Order, crawling

pytestmark = pytest.mark.slow

_PAGE_SIZE = 4
_REQUESTS = 30
_WINDOW_SECONDS = 1.0

# What a retry heals, each on a page of its own, then what takes another attempt or another plan.
_TRANSIENT = (
    "500",
    "503=1",
    "429=1",
    "408",
    "reset",
    "reset-body",
    "timeout",
    "timeout-body",
    "truncate",
    "cut",
    "malformed",
    "trickle=0.2",
    "html",
    "html-503",
)
_GIVING_UP = ("403", "expire-tokens", "new-data")
_FAULTS = tuple(
    Fault.parse(f"page={page}:{kind}")
    for page, kind in enumerate((*_TRANSIENT, *_GIVING_UP), start=2)
)
_PAGES = len(_FAULTS) + 3

# More than one attempt for each fault that ends one would hide that something else failed.
_ATTEMPTS = len(_GIVING_UP) + 1


def _first_version() -> InMemorySource:
    return InMemorySource(study(number) for number in range(1, _PAGES * _PAGE_SIZE))


def _next_version(_: StudySource, number: int) -> StudySource:
    """Some studies changed, some are gone, some are new, and so all stand on other pages."""
    assert number == 1
    changed = (study(n, title="Changed") for n in range(1, 30))
    same = (study(n) for n in range(40, _PAGES * _PAGE_SIZE))
    new = (study(n) for n in range(1000, 1005))
    return InMemorySource([*changed, *same, *new])


def _most_requests(records: Sequence[RequestRecord], seconds: float) -> int:
    """The largest number of requests that arrived within any window of so many seconds."""
    arrivals = [record.arrived_ns for record in records]
    return max(
        sum(start <= arrival < start + seconds * 1e9 for arrival in arrivals) for start in arrivals
    )


def test_a_crawl_survives_every_fault_within_the_request_limit(tmp_path: Path) -> None:
    """With every fault the simulator knows, attempt after attempt brings home the newest data whole.

    Each attempt is a process of its own, and one of them is killed: the limit on requests holds in any
    window all the same.
    """
    assert {fault.kind for fault in _FAULTS} == set(FaultKind)
    options = SimulatorOptions(faults=_FAULTS, next_source=_next_version)
    with running_simulator(_first_version(), options) as simulator:
        order = Order(
            simulator.api_url,
            tmp_path,
            _PAGE_SIZE,
            requests=_REQUESTS,
            window_seconds=_WINDOW_SECONDS,
            read_timeout_seconds=0.5,
        )
        with crawling(replace(order, halt_at=5)) as crawl:
            assert crawl.message() == "halted"
            crawl.kill()
        outcomes: list[str] = []
        while COMPLETE not in outcomes and len(outcomes) < _ATTEMPTS:
            with crawling(order) as crawl:
                outcomes.append(crawl.message())
        requests = simulator.requests
        newest = simulator.version.index.source

    assert outcomes == [
        "PermanentRegistryError",
        "ExtractionSupersededError",
        "ExtractionSupersededError",
        COMPLETE,
    ]
    struck = {record.fault for record in requests} - {None}
    assert struck == {str(fault) for fault in _FAULTS}
    assert _most_requests(requests, _WINDOW_SECONDS) <= _REQUESTS

    lake = order.open_lake()
    complete = lake.extractions.latest(ExtractionState.COMPLETE)
    assert complete is not None
    assert studies_of(lake, complete.extraction_id) == sorted(
        newest.raw(index) for index in range(len(newest))
    )
    assert lake.extractions.open_crawls() == []
