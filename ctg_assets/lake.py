"""The lake: the stores of extractions, history and snapshots, on one storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctg_assets.extract.extractions import ExtractionStore
from ctg_assets.extract.shards import ShardStore
from ctg_assets.history.store import HistoryStore
from ctg_assets.settings import Settings
from ctg_assets.snapshot.store import SnapshotStore
from ctg_assets.storage.data_folder import LAKE, SCRATCH, data_folder
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
    """The lake in the data folder, which is created if need be.

    Raises DataFolderError when the folder cannot be created or written to.
    """
    data_folder(settings, LAKE)
    return existing_lake(settings)


def existing_lake(settings: Settings) -> Lake:
    """The lake as it lies in the data folder, for reading; nothing is created, and all may be missing."""
    storage = Storage.local(settings.data_dir / LAKE)
    return Lake(
        storage=storage,
        scratch=settings.data_dir / SCRATCH,
        extractions=ExtractionStore(storage),
        shards=ShardStore(storage),
        history=HistoryStore(storage),
        snapshots=SnapshotStore(storage),
    )
