"""The lake: the stores of extractions, history and snapshots, on one storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctg_assets.extract.extractions import ExtractionStore
from ctg_assets.extract.shards import ShardStore
from ctg_assets.history.store import HistoryStore
from ctg_assets.settings import Settings
from ctg_assets.snapshot.store import SnapshotStore
from ctg_assets.storage.data_folder import LAKE, SCRATCH, data_folder, lake_storage
from ctg_assets.storage.files import Storage


@dataclass(frozen=True)
class Lake:
    """The lake's stores, all on one storage; `scratch` is a local folder for temporary files."""

    storage: Storage
    scratch: Path
    extractions: ExtractionStore
    shards: ShardStore
    history: HistoryStore
    snapshots: SnapshotStore

    @property
    def location(self) -> str:
        """Where the lake lies."""
        return self.storage.root


def open_lake(settings: Settings) -> Lake:
    """The lake in the data folder, which is created if need be, or in the object store.

    Raises DataFolderError when the folder cannot be created or written to, StorageError for an object store
    that cannot be used.
    """
    data_folder(settings, LAKE if settings.data_url is None else SCRATCH)
    return existing_lake(settings)


def existing_lake(settings: Settings) -> Lake:
    """The lake as it lies there, for reading; nothing is created, and all may be missing."""
    return lake_on(lake_storage(settings), settings.data_dir / SCRATCH)


def lake_on(storage: Storage, scratch: Path) -> Lake:
    """The lake on a storage; `scratch` is a local folder for temporary files."""
    return Lake(
        storage=storage,
        scratch=scratch,
        extractions=ExtractionStore(storage),
        shards=ShardStore(storage),
        history=HistoryStore(storage),
        snapshots=SnapshotStore(storage),
    )
