"""The data folder: where things lie in it, the locks that keep processes apart, and where the lake is if not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ctg_assets.errors import CtgAssetsError
from ctg_assets.settings import Settings
from ctg_assets.storage.files import Storage
from ctg_assets.storage.locks import hold

LAKE = "lake"
STATE = "state"
SCRATCH = "scratch"
EXPORTS = "exports"
REPORT = "report"
RELEASES = "releases"
CLICKHOUSE = "clickhouse"


class DataFolderError(CtgAssetsError):
    """The data folder cannot be used; the message names the path and the remedy."""


@contextlib.contextmanager
def file_lock(settings: Settings, work: str) -> Iterator[None]:
    """Hold the data folder's lock on a kind of work; the lock dies with its holder.

    Raises BusyError when another process holds it.
    """
    file = data_folder(settings, STATE) / f"{work}.lock"
    with hold(file, f"the {work} of {settings.data_dir}"):
        yield


def lake_storage(settings: Settings) -> Storage:
    """The storage of the lake: the object store that the settings name, or a folder of the data folder.

    Raises StorageError where the address or the provider's variables cannot be used.
    """
    if settings.data_url is None:
        return Storage.local(settings.data_dir / LAKE)
    return Storage.remote(settings.data_url, settings.data_dir / SCRATCH)


def data_folder(settings: Settings, name: str) -> Path:
    """A folder within the data folder, created if need be; raises DataFolderError if that fails."""
    folder = settings.data_dir / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"cannot create {folder}: {error.strerror}; set CTG_DATA_DIR to a folder you can write to"
        raise DataFolderError(message) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f"cannot write to {folder}; change its permissions or set CTG_DATA_DIR"
        raise DataFolderError(message)
    return folder
