"""The rooms, opened according to the settings.

Belongs here: where things lie in the data folder, and which setting goes to which room. Does not
belong here: doing anything with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ctg_assets.lake.compaction import Compactor
from ctg_assets.lake.extractions import ExtractionStore
from ctg_assets.lake.history import HistoryStore
from ctg_assets.lake.recording import Recorder
from ctg_assets.lake.shards import ShardStore
from ctg_assets.lake.snapshots import SnapshotStore
from ctg_assets.lake.storage import Storage
from ctg_assets.lake.undoing import Undoer
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry.rate_limit import SharedRateLimit
from ctg_assets.settings import Settings

_LAKE = "lake"
_STATE = "state"
_SCRATCH = "scratch"


class DataFolderError(Exception):
    """The data folder cannot be used; the message names the path and the remedy."""


class BusyError(Exception):
    """Another process is already doing this; the message says what to do."""


@dataclass(frozen=True)
class Lake:
    """The lake's stores, all on one storage."""

    storage: Storage
    extractions: ExtractionStore
    shards: ShardStore
    history: HistoryStore
    snapshots: SnapshotStore
    recorder: Recorder
    compactor: Compactor
    undoer: Undoer

    @property
    def location(self) -> str:
        """Where the lake lies."""
        return self.storage.root


def open_lake(settings: Settings) -> Lake:
    """The lake in the data folder, which is created if need be.

    Raises DataFolderError when the folder cannot be created or written to.
    """
    data_folder(settings, _LAKE)
    return existing_lake(settings)


def existing_lake(settings: Settings) -> Lake:
    """The lake as it lies in the data folder, for reading; nothing is created, and all may be missing."""
    storage = Storage.local(settings.data_dir / _LAKE)
    return Lake(
        storage=storage,
        extractions=ExtractionStore(storage),
        shards=ShardStore(storage),
        history=HistoryStore(storage),
        snapshots=SnapshotStore(storage),
        recorder=Recorder(storage, settings.data_dir / _SCRATCH),
        compactor=Compactor(storage, settings.data_dir / _SCRATCH),
        undoer=Undoer(storage),
    )


@contextlib.contextmanager
def open_registry(settings: Settings) -> Iterator[RegistryClient]:
    """A client of the configured registry, under the rate limit shared through the data folder."""
    registry = hashlib.sha256(settings.api_url.encode()).hexdigest()[:12]
    record = data_folder(settings, _STATE) / f"requests-{registry}.sqlite"
    rate_limit = SharedRateLimit(record, settings.requests_per_minute)
    try:
        with RegistryClient(
            settings.api_url,
            rate_limit=rate_limit,
            user_agent=settings.user_agent,
            read_timeout_seconds=settings.request_timeout_seconds,
            retry_seconds=settings.retry_seconds,
        ) as client:
            yield client
    finally:
        rate_limit.close()


@contextlib.contextmanager
def exclusively(settings: Settings, work: str) -> Iterator[None]:
    """Hold the data folder's lock on a kind of work; the lock dies with its holder.

    Raises BusyError when another process holds it.
    """
    lock = FileLock(data_folder(settings, _STATE) / f"{work}.lock")
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
