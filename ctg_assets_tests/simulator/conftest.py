"""Simulators and clients that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from ctg_assets.registry.http import trusted_certificates
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets_tests.simulator.in_memory import InMemorySource, nct_id, study

STUDIES = InMemorySource(
    study(
        number,
        title=f"Study of Asthma {number}",
        phases=["PHASE2"] if number % 2 else [],
        posted=f"2024-01-{number:02d}",
        aliases=[nct_id(900 + number)] if number == 5 else (),
    )
    for number in range(1, 26)
)


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[RunningSimulator]:
    """One server for all tests; `simulator` gives it to a test in a known state."""
    with running_simulator(STUDIES) as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: RunningSimulator) -> RunningSimulator:
    """A running simulator of 25 studies, at a fresh data version, without faults."""
    shared_simulator.set_faults()
    shared_simulator.advance(STUDIES)
    return shared_simulator


@pytest.fixture
def client(simulator: RunningSimulator) -> Iterator[httpx.Client]:
    """A client whose paths are relative to the simulator's API."""
    verify = trusted_certificates()
    with httpx.Client(base_url=simulator.api_url, timeout=20, verify=verify) as http:
        yield http
