"""Data folders for tests that start servers of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctg_assets.postgres.server import open_postgres
from ctg_assets_tests.warehouse.helpers import settings_for, spare_the_disk, temporary_folder


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
