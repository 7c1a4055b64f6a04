"""How many studies the database was last given, for each registry and query.

Belongs here: remembering that beside the snapshots. Does not belong here: judging by it (`checks.py`).

A snapshot that a check holds back is no measure for the one after it: half a registry would be let in
on the second day. So the measure is the last snapshot that was loaded, whatever became of its files.
"""

from __future__ import annotations

import hashlib

import msgspec

from ctg_assets.lake.snapshots import SnapshotManifest
from ctg_assets.pipeline.services import Lake


class _LastLoaded(msgspec.Struct, frozen=True, kw_only=True):
    """The record, with what it is about for whoever reads the file."""

    source: str
    query: str
    snapshot_id: str
    studies: int


def remember_loaded(lake: Lake, manifest: SnapshotManifest) -> None:
    """Note that a snapshot's studies are in the database now."""
    record = _LastLoaded(
        source=manifest.source,
        query=manifest.query,
        snapshot_id=manifest.snapshot_id,
        studies=manifest.studies,
    )
    lake.storage.write_bytes(_path(manifest), msgspec.json.encode(record))


def studies_last_loaded(lake: Lake, manifest: SnapshotManifest) -> int | None:
    """The number of studies last loaded of the same registry and query; None if none ever were."""
    try:
        content = lake.storage.read_bytes(_path(manifest))
    except FileNotFoundError:
        return None
    return msgspec.json.decode(content, type=_LastLoaded).studies


def _path(manifest: SnapshotManifest) -> str:
    of = hashlib.sha256(f"{manifest.source}\n{manifest.query}".encode()).hexdigest()[:16]
    return f"loaded/{of}.json"
