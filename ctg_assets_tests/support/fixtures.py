"""Fixtures of several rooms: storages, a lake, a simulator with its client and crawler, folders for servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctg_assets.extract.crawl import Crawler
from ctg_assets.lake import Lake, open_lake
from ctg_assets.postgres.server import open_postgres
from ctg_assets.registry.client import RegistryClient
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.storage.files import Storage
from ctg_assets_tests.clickhouse.following import Engine, engine_process
from ctg_assets_tests.simulator.in_memory import numbered_studies
from ctg_assets_tests.support.made_lakes import memory_storage
from ctg_assets_tests.support.object_store import S3Server, object_storage, running_s3
from ctg_assets_tests.support.postgres import settings_for, spare_the_disk, temporary_folder
from ctg_assets_tests.support.registries import client_of


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Storage on the local disk, in a folder whose name is not plain ASCII."""
    return Storage.local(tmp_path / "läke with spaces")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 for all tests, with a bucket."""
    with running_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 without faults, as this process and those that it starts reach it."""
    s3_server.set_faults()
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A process with ClickHouse's embedded engine, for all tests of a worker: two seconds to begin."""
    with engine_process() as run:
        yield run


@pytest.fixture(
    params=["local", "memory", "objects", pytest.param("s3", marks=pytest.mark.process)]
)
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Storage of each kind: on the disk, on a filesystem in memory, in an object store in memory, and in S3."""
    if request.param == "local":
        return Storage.local(tmp_path / "läke with spaces")
    if request.param == "memory":
        return memory_storage()
    if request.param == "objects":
        return object_storage(tmp_path / "scratch")
    server: S3Server = request.getfixturevalue("s3")
    return Storage.remote(server.new_url(), tmp_path / "scratch")


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


@pytest.fixture(scope="session")
def stopped_cluster() -> Iterator[Path]:
    """A data folder with a cluster as the first start leaves it, but for the sparing of the disk."""
    with temporary_folder() as folder:
        with open_postgres(settings_for(folder)) as address:
            spare_the_disk(address)
        yield folder


@pytest.fixture
def data_dir(stopped_cluster: Path) -> Iterator[Path]:
    """A data folder for a server of the test's own; copying a cluster is faster than making one."""
    with temporary_folder() as folder:
        subprocess.run(["cp", "-a", stopped_cluster / "postgres", folder], check=True)
        yield folder


@pytest.fixture
def empty_dir() -> Iterator[Path]:
    """A data folder without anything."""
    with temporary_folder() as folder:
        yield folder
