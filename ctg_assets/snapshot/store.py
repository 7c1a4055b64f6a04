"""Snapshots: the whole registry at one data version, one typed row a study.

A snapshot is a list of parts, each a folder with `studies.parquet`, `extras.parquet` (what studies have
outside the data model) and `quarantine.parquet`. The first part held everything once. Each further one
holds the studies that changed since, and in `replaced.parquet` the ids of those that earlier parts
speak of in vain. `manifest.json`, written last, names the parts; without it there is no snapshot.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ctg_assets.model.fields import study_arrow_schema
from ctg_assets.model.id_ranges import IdRanges
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record
from ctg_assets.storage.sealed_parquet import open_sealed

_log = logging.getLogger(__name__)

_FOLDER = "snapshots"
STUDIES_FILE = "studies.parquet"
EXTRAS_FILE = "extras.parquet"
QUARANTINE_FILE = "quarantine.parquet"
REPLACED_FILE = "replaced.parquet"
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

# What stands for the NCT id in the history; it is the id unless that is missing or malformed.
HISTORY_ID = "history_id"

QUARANTINE_FILE_SCHEMA = pa.schema(
    [*QUARANTINE_SCHEMA, pa.field(HISTORY_ID, pa.string(), nullable=False)]
)

REPLACED_SCHEMA = pa.schema([pa.field("nct_id", pa.string(), nullable=False)])


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


class Ancestor(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot whose parts another one begins with: what has changed since is in the others.

    `parts` counts them; the rest is as in its manifest, which may be gone.
    """

    parts: int
    content_fingerprint: str
    history_sequence: int
    history_revision: int


class SnapshotManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds.

    `content_fingerprint` depends on the ids and content hashes of its studies alone; `model_fingerprint`
    on the schema they were typed by. `distinct_ids` counts the current NCT ids, quarantined ones included.
    `unknown_fields` maps the paths of fields outside the model to their occurrences. `strays` of those
    in quarantine are records of imported files that have no id. `created_at` is
    UTC; `data_timestamp` the registry's. `file_bytes` is the size of the studies in all parts.

    `history_sequence` is the entry of the history after which studies were like this, and
    `history_revision` that of the last entry that changed anything. `event_rules` are those by which the
    events of all entries up to it were told (empty: not known). `parts` are folders, oldest first.
    `lineage` holds each snapshot with the same first part, this one included, by its id.
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
    strays: int = 0
    unknown_fields: dict[str, int]
    json_bytes: int
    file_bytes: int
    created_at: datetime
    history_sequence: int
    history_revision: int
    event_rules: str = ""
    parts: list[str]
    lineage: dict[str, Ancestor]


class SnapshotStore:
    """The snapshots of one lake."""

    def __init__(self, storage: Storage) -> None:
        """Keep snapshots in `storage`."""
        self._storage = storage

    def manifest(self, snapshot_id: str) -> SnapshotManifest | None:
        """The manifest of a snapshot; None when there is no such snapshot, or one of another form.

        One that is damaged is as good as none: the snapshot is made again from the history.
        """
        try:
            return read_record(
                self._storage, snapshot_path(snapshot_id, _MANIFEST_FILE), SnapshotManifest
            )
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            # Also of a release that had no history.
            _log.warning("%s", error)
            return None

    def write_manifest(self, manifest: SnapshotManifest) -> None:
        """Make a snapshot whose files are in place visible."""
        write_record(self._storage, snapshot_path(manifest.snapshot_id, _MANIFEST_FILE), manifest)

    def manifests(self) -> list[SnapshotManifest]:
        """The manifests of all snapshots, oldest first."""
        found = (self.manifest(name) for name in self._storage.names(_FOLDER))
        return sorted(
            (manifest for manifest in found if manifest is not None),
            key=lambda manifest: manifest.history_sequence,
        )

    def latest(self) -> SnapshotManifest | None:
        """The manifest of the newest snapshot, if there is one."""
        manifests = self.manifests()
        return manifests[-1] if manifests else None

    def studies_path(self, snapshot_id: str) -> str:
        """Where the Parquet file with most of a snapshot's studies lies: that of its first part."""
        [first, *_] = self._parts(snapshot_id)
        return self._storage.path(snapshot_path(first, STUDIES_FILE))

    def batches(
        self,
        snapshot_id: str,
        columns: Sequence[str] | None = None,
        *,
        row_groups: int = 1,
        since: str | None = None,
    ) -> Iterator[pa.Table]:
        """A snapshot's studies, some row groups at a time, sorted by NCT id within each part.

        `columns` are dotted paths; only those are read, though what encloses them is there too. With
        `since`, a snapshot of the lineage, only studies that were not like this in that one.
        """
        yield from self.parts(self._parts(snapshot_id)).studies(
            columns, row_groups=row_groups, first_part=self._parts_before(snapshot_id, since)
        )

    def extras(self, snapshot_id: str, *, since: str | None = None) -> Iterator[pa.Table]:
        """What studies have outside the data model (EXTRAS_SCHEMA), sorted by NCT id within each part.

        The values of a study are in one of the tables given. `since` as in `batches`.
        """
        yield from self.parts(self._parts(snapshot_id)).extras(
            first_part=self._parts_before(snapshot_id, since)
        )

    def quarantine(self, snapshot_id: str, *, with_studies: bool = False) -> pa.Table:
        """The studies a snapshot could not type (QUARANTINE_SCHEMA; the JSON only if asked for)."""
        return self.parts(self._parts(snapshot_id)).quarantine(with_studies=with_studies)

    def replaced(self, snapshot_id: str, since: str) -> list[str]:
        """The ids of studies that changed or went since an earlier snapshot of the lineage, sorted."""
        return self.parts(self._parts(snapshot_id)).replaced(self._parts_before(snapshot_id, since))

    def parts(self, names: Sequence[str]) -> SnapshotParts:
        """Parts as a whole, whether a manifest names them yet or not."""
        return SnapshotParts(self._storage, names)

    def _parts(self, snapshot_id: str) -> list[str]:
        manifest = self.manifest(snapshot_id)
        if manifest is None:
            message = f"no snapshot {snapshot_id} in {self._storage.path(_FOLDER)}"
            raise KeyError(message)
        return manifest.parts

    def _parts_before(self, snapshot_id: str, since: str | None) -> int:
        if since is None:
            return 0
        manifest = self.manifest(snapshot_id)
        if manifest is None or since not in manifest.lineage:
            message = f"snapshot {snapshot_id} does not build on {since}"
            raise KeyError(message)
        return manifest.lineage[since].parts

    def clean(self, snapshot_id: str) -> None:
        """Remove what killed writers left behind; call only while no other writer is at work."""
        self._storage.delete_unfinished(f"{_FOLDER}/{snapshot_id}")

    def delete(self, snapshot_id: str) -> None:
        """Remove a snapshot; parts of it that others consist of stay until those go, too.

        Call only while no snapshot is being made.
        """
        self._storage.delete_file(snapshot_path(snapshot_id, _MANIFEST_FILE))
        used = {part for manifest in self.manifests() for part in manifest.parts}
        for name in self._storage.names(_FOLDER):
            if name not in used and self.manifest(name) is None:
                self._storage.delete_folder(f"{_FOLDER}/{name}")


class SnapshotParts:
    """The parts of a snapshot, oldest first, read as one."""

    def __init__(self, storage: Storage, names: Sequence[str]) -> None:
        """Read the parts of these names."""
        self._storage = storage
        self._names = list(names)
        self._replaced_ids: dict[int, pa.Array] = {}

    def within(self, ranges: IdRanges, columns: Sequence[str] | None = None) -> pa.Table:
        """The studies whose ids lie in some ranges, in no order; little else is read. `columns` as in `batches`."""
        return self._within(STUDIES_FILE, snapshot_schema(), ranges, columns)

    def extras_within(self, ranges: IdRanges) -> pa.Table:
        """What studies whose ids lie in some ranges have outside the data model."""
        return self._within(EXTRAS_FILE, EXTRAS_SCHEMA, ranges, None)

    def _within(
        self, name: str, schema: pa.Schema, ranges: IdRanges, columns: Sequence[str] | None
    ) -> pa.Table:
        found = []
        for number in range(len(self._names)):
            with self._open(number, name) as file:
                groups = [
                    group for group in range(file.num_row_groups) if _may_be_in(file, group, ranges)
                ]
                if groups:
                    rows = _read_without(file, groups, columns, self._replaced_from(number + 1))
                    mask = ranges.cover(pl.Series(rows["nct_id"]))
                    found.append(rows.filter(mask.to_arrow()))
        if found:
            return pa.concat_tables(found)
        if columns is None:
            return schema.empty_table()
        with self._open(0, name) as file:
            return file.read_row_groups([], columns=list(columns))

    def studies(
        self, columns: Sequence[str] | None, *, row_groups: int = 1, first_part: int = 0
    ) -> Iterator[pa.Table]:
        """As `SnapshotStore.batches`; only what is in parts from `first_part` on (counted from 0)."""
        for number in range(first_part, len(self._names)):
            replaced = self._replaced_from(number + 1)
            with self._open(number, STUDIES_FILE) as file:
                groups = range(file.num_row_groups)
                for start in range(0, len(groups), row_groups):
                    some = groups[start : start + row_groups]
                    yield _read_without(file, some, columns, replaced)

    def extras(self, *, first_part: int = 0) -> Iterator[pa.Table]:
        """As `SnapshotStore.extras`; only what is in parts from `first_part` on."""
        for number in range(first_part, len(self._names)):
            replaced = self._replaced_from(number + 1)
            with self._open(number, EXTRAS_FILE) as file:
                for group in range(file.num_row_groups):
                    yield _read_without(file, [group], None, replaced)

    def quarantine(self, *, with_studies: bool) -> pa.Table:
        """As `SnapshotStore.quarantine`."""
        columns = None if with_studies else [n for n in QUARANTINE_SCHEMA.names if n != "study"]
        found = []
        for number in range(len(self._names)):
            replaced = self._replaced_from(number + 1)
            with self._open(number, QUARANTINE_FILE) as file:
                rows = file.read(columns=[*(columns or QUARANTINE_SCHEMA.names), HISTORY_ID])
                kept = rows.filter(_is_not_in(rows[HISTORY_ID], replaced))
                found.append(kept.drop_columns(HISTORY_ID))
        return pa.concat_tables(found)

    def replaced(self, first_part: int) -> list[str]:
        """The ids of studies that parts from `first_part` on (at least 1) replace or remove, sorted."""
        return sorted(self._replaced_from(first_part).to_pylist())

    def _replaced_from(self, first_part: int) -> pa.Array:
        """As `replaced`, in no order; each part's file is read once, whichever parts are asked for."""
        if first_part >= len(self._names):
            return pa.array([], pa.string())
        if first_part not in self._replaced_ids:
            with self._open(first_part, REPLACED_FILE) as file:
                own = file.read()["nct_id"]
            later = self._replaced_from(first_part + 1)
            both = pa.chunked_array([*own.chunks, later], pa.string())
            self._replaced_ids[first_part] = both.unique()
        return self._replaced_ids[first_part]

    @contextlib.contextmanager
    def _open(self, number: int, name: str) -> Iterator[pq.ParquetFile]:
        with open_sealed(self._storage, snapshot_path(self._names[number], name)) as file:
            yield file


def _read_without(
    file: pq.ParquetFile,
    groups: Sequence[int],
    columns: Sequence[str] | None,
    replaced: pa.Array,
) -> pa.Table:
    """Some row groups of a file but for the rows of some studies."""
    if not len(replaced):
        return file.read_row_groups(
            list(groups), columns=None if columns is None else list(columns)
        )
    asked = None if columns is None else [*columns, "nct_id"]
    rows = file.read_row_groups(list(groups), columns=asked)
    kept = rows.filter(_is_not_in(rows["nct_id"], replaced))
    if columns is not None and "nct_id" not in columns:
        kept = kept.drop_columns("nct_id")
    return kept


def _may_be_in(file: pq.ParquetFile, group: int, ranges: IdRanges) -> bool:
    """Whether a row group may have ids of some ranges, as its bounds say; some have none."""
    first = file.metadata.row_group(group).column(0)
    bounds = first.statistics
    if first.path_in_schema != "nct_id" or bounds is None or not bounds.has_min_max:
        return True
    return ranges.touch(bounds.min, bounds.max)


def _is_not_in(ids: pa.ChunkedArray, some: pa.Array) -> pa.ChunkedArray:
    return pc.invert(pc.is_in(ids, some))


def snapshot_path(snapshot_id: str, name: str) -> str:
    """The path within the lake of one of a snapshot's files."""
    return f"{_FOLDER}/{snapshot_id}/{name}"
