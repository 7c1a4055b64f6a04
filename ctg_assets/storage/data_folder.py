"""The data folder: where things lie in it, and the locks that keep processes apart."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ctg_assets.errors import CtgAssetsError, ExitCode
from ctg_assets.settings import Settings

LAKE = "lake"
STATE = "state"
SCRATCH = "scratch"
EXPORTS = "exports"


class DataFolderError(CtgAssetsError):
    """The data folder cannot be used; the message names the path and the remedy."""


class BusyError(CtgAssetsError):
    """Another process is already doing this; the message says what to do."""

    exit_code = ExitCode.BUSY


@contextlib.contextmanager
def file_lock(settings: Settings, work: str) -> Iterator[None]:
    """Hold the data folder's lock on a kind of work; the lock dies with its holder.

    Raises BusyError when another process holds it.
    """
    lock = FileLock(data_folder(settings, STATE) / f"{work}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        message = (
            f"another process is at work on the {work} of {settings.data_dir}; wait until it is done "
            "(`ctg-assets status` shows how far it is)"
        )
        raise BusyError(message) from None
    try:
        yield
    finally:
        lock.release()


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
