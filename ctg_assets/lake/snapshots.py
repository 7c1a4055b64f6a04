"""Snapshots: the whole registry at one data version, one typed row a study.

Belongs here: what a snapshot consists of, listing and reading snapshots. Does not belong here: how
one is made (`compaction.py`).

A snapshot is a folder with `studies.parquet`, `extras.parquet` (what studies have outside the data
model), `quarantine.parquet` and, written last, `manifest.json`; without a manifest there is no snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.lake.storage import Storage
from ctg_assets.model.fields import study_arrow_schema

_FOLDER = "snapshots"
STUDIES_FILE = "studies.parquet"
EXTRAS_FILE = "extras.parquet"
QUARANTINE_FILE = "quarantine.parquet"
_MANIFEST_FILE = "manifest.json"

EXTRAS_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        # The field's path in the registry's spelling, with [] after lists.
        pa.field("path", pa.string(), nullable=False),
        # Positions, from 1, of the list items that the value lies in, joined with "/"; NULL if none.
        pa.field("item_positions", pa.string()),
        # The value's JSON as sent.
        pa.field("value", pa.string(), nullable=False),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string()),
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("study", pa.large_binary(), nullable=False),
    ]
)


def snapshot_schema() -> pa.Schema:
    """The schema of `studies.parquet`: who and whence, then the study by the registry's field tree."""
    facts = [
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("last_update_post_date", pa.date32()),
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
    ]
    return pa.schema([*facts, *study_arrow_schema()])


class SnapshotManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds.

    `content_fingerprint` depends on the ids and content hashes of its studies alone; `model_fingerprint`
    on the schema they were typed by. `distinct_ids` counts the NCT ids in the shards, quarantined ones
    included; `previous_studies` are those of the snapshot before, of the same source and query.
    `unknown_fields` maps the paths of fields outside the model to their occurrences. `created_at` is
    UTC; `data_timestamp` the registry's.
    """

    snapshot_id: str
    extraction_id: str
    source: str
    query: str
    data_timestamp: str
    content_fingerprint: str
    model_fingerprint: str
    studies: int
    distinct_ids: int
    duplicate_rows: int
    quarantined: int
    quarantine_reasons: dict[str, int]
    unknown_fields: dict[str, int]
    json_bytes: int
    file_bytes: int
    created_at: datetime
    previous_studies: int | None = None


class SnapshotStore:
    """The snapshots of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep snapshots in `storage`."""
        self._storage = storage

    def manifest(self, snapshot_id: str) -> SnapshotManifest | None:
        """The manifest of a snapshot; None when there is no such snapshot."""
        try:
            content = self._storage.read_bytes(snapshot_path(snapshot_id, _MANIFEST_FILE))
        except FileNotFoundError:
            return None
        return msgspec.json.decode(content, type=SnapshotManifest)

    def write_manifest(self, manifest: SnapshotManifest) -> None:
        """Make a snapshot whose files are in place visible."""
        encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        self._storage.write_bytes(snapshot_path(manifest.snapshot_id, _MANIFEST_FILE), encoded)

    def manifests(self) -> list[SnapshotManifest]:
        """The manifests of all snapshots, oldest first."""
        found = (self.manifest(name) for name in self._storage.names(_FOLDER))
        return sorted(
            (manifest for manifest in found if manifest is not None),
            key=lambda manifest: manifest.created_at,
        )

    def latest(self) -> SnapshotManifest | None:
        """The manifest of the newest snapshot, if there is one."""
        manifests = self.manifests()
        return manifests[-1] if manifests else None

    def studies_path(self, snapshot_id: str) -> str:
        """Where the Parquet file of a snapshot's studies lies."""
        return self._storage.path(snapshot_path(snapshot_id, STUDIES_FILE))

    def batches(
        self, snapshot_id: str, columns: Sequence[str] | None = None, *, row_groups: int = 1
    ) -> Iterator[pa.Table]:
        """A snapshot's studies, some row groups at a time, sorted by NCT id.

        `columns` are dotted paths; only those are read, though what encloses them is there too.
        """
        wanted = None if columns is None else list(columns)
        with self._storage.open_input(snapshot_path(snapshot_id, STUDIES_FILE)) as stream:
            file = pq.ParquetFile(stream)
            groups = range(file.num_row_groups)
            for start in range(0, len(groups), row_groups):
                yield file.read_row_groups(groups[start : start + row_groups], columns=wanted)

    def extras(self, snapshot_id: str) -> Iterator[pa.Table]:
        """What studies have outside the data model (EXTRAS_SCHEMA), sorted by NCT id.

        It comes in parts; the values of a study are in one of them.
        """
        with self._storage.open_input(snapshot_path(snapshot_id, EXTRAS_FILE)) as stream:
            file = pq.ParquetFile(stream)
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)

    def quarantine(self, snapshot_id: str, *, with_studies: bool = False) -> pa.Table:
        """The studies a snapshot could not type (QUARANTINE_SCHEMA; the JSON only if asked for)."""
        columns = None if with_studies else [n for n in QUARANTINE_SCHEMA.names if n != "study"]
        with self._storage.open_input(snapshot_path(snapshot_id, QUARANTINE_FILE)) as stream:
            return pq.read_table(stream, columns=columns)

    def clean(self, snapshot_id: str) -> None:
        """Remove what killed writers left behind; call only while no other writer is at work."""
        self._storage.delete_unfinished(f"{_FOLDER}/{snapshot_id}")

    def delete(self, snapshot_id: str) -> None:
        """Remove a snapshot."""
        self._storage.delete_file(snapshot_path(snapshot_id, _MANIFEST_FILE))
        self._storage.delete_folder(f"{_FOLDER}/{snapshot_id}")


def snapshot_path(snapshot_id: str, name: str) -> str:
    """The path within the lake of one of a snapshot's files."""
    return f"{_FOLDER}/{snapshot_id}/{name}"
