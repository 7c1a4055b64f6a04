"""A simulator, a lake and a crawler of one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctg_assets.extract.crawl import Crawler
from ctg_assets.lake import Lake, open_lake
from ctg_assets.registry.client import RegistryClient
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets_tests.pipeline.registries import client_of
from ctg_assets_tests.simulator.in_memory import numbered_studies


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder of the test's own and a registry that nobody serves."""
    return load_settings(data_dir=tmp_path, api_url="http://127.0.0.1:9/api/v2", query="")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """An empty lake."""
    return open_lake(settings)


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[RunningSimulator]:
    """One server for all tests; `simulator` gives it to a test in a known state."""
    with running_simulator(numbered_studies(0)) as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: RunningSimulator) -> RunningSimulator:
    """A running simulator of 25 studies, at a fresh data version, without faults."""
    shared_simulator.set_faults()
    shared_simulator.advance(numbered_studies(25))
    return shared_simulator


@pytest.fixture
def client(simulator: RunningSimulator) -> Iterator[RegistryClient]:
    """A client of the simulator that no limit slows down."""
    with client_of(simulator.api_url) as client:
        yield client


@pytest.fixture
def crawler(client: RegistryClient, lake: Lake) -> Crawler:
    """A crawler of the simulator into the lake."""
    return Crawler(client, lake.extractions, lake.shards)
