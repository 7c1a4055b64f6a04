"""Storages on which the lake's contracts are tested: a local disk, and filesystems that are none."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs
import pytest

from ctg_assets.storage.files import Storage
from ctg_assets_tests.lake.helpers import memory_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Storage on the local disk, in a folder whose name is not plain ASCII."""
    return Storage.local(tmp_path / "läke with spaces")


@pytest.fixture(params=["local", "subtree", "memory", "memory root"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Storage on each kind of filesystem; the last three are not known to be local disks."""
    if request.param == "local":
        return Storage.local(tmp_path / "läke with spaces")
    if request.param == "subtree":
        (tmp_path / "subtree").mkdir()
        below = pafs.SubTreeFileSystem(str(tmp_path / "subtree"), pafs.LocalFileSystem())
        return Storage(below, "läke")
    return memory_storage() if request.param == "memory" else memory_storage(root="")
