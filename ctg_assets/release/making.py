"""Making a release: files first, then what describes them, the manifest last."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ctg_assets import __version__
from ctg_assets.arrow_memory import memory_for_tables
from ctg_assets.lake import Lake
from ctg_assets.release.census import take_census
from ctg_assets.release.documents import dictionary_csv, readme
from ctg_assets.release.duckdb_file import duckdb_file
from ctg_assets.release.iceberg import (
    IcebergTables,
    follow_releases,
    held_tables,
    remove_leftovers,
    require_iceberg,
)
from ctg_assets.release.leaves import MOST_WEIGHT, LeafSize
from ctg_assets.release.manifest import (
    DICTIONARY_FILE,
    DUCKDB_FILE,
    FORMAT,
    LATEST_FILE,
    LEAVES_FILE,
    MANIFEST_FILE,
    PUBLIC_KEY_FILE,
    README_FILE,
    SIGNATURE_FILE,
    TABLES,
    DamagedReleaseError,
    LatestRelease,
    NoReleaseError,
    ReleasedTable,
    ReleaseFile,
    ReleaseManifest,
    TableLeaves,
    newest_release,
    read_manifest,
    release_names,
    release_number,
    release_path,
)
from ctg_assets.release.publishing import Publisher
from ctg_assets.release.signing import public_pem
from ctg_assets.release.staging_tables import Made, ReleaseBefore, make_staging_tables
from ctg_assets.release.table_files import TableWriter
from ctg_assets.release.warehouse_tables import ReleasedWarehouse, make_warehouse_tables
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage, Work
from ctg_assets.storage.records import read_record, record_bytes, write_record


@dataclass(frozen=True)
class ReleaseRequest:
    """What is to be released, and where to.

    `scratch` is a local folder of this release's own. The lake's tables are released, and those of a `warehouse`. `keep` counts the releases that stay, this one included;
    `key` signs it, if there is one; `most_weight` bounds files (`leaves.py`). `iceberg` wants Iceberg's metadata over its
    files; a place that has some keeps it. `show` is told what is being done.
    """

    lake: Lake
    target: Storage
    scratch: Path
    keep: int
    warehouse: ReleasedWarehouse | None = None
    key: Ed25519PrivateKey | None = None
    most_weight: int = MOST_WEIGHT
    iceberg: bool = False
    show: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class ReleaseReport:
    """The release that is newest now, whether it was made just now, and how many files were written and removed."""

    manifest: ReleaseManifest
    is_new: bool
    written: int
    written_bytes: int
    removed: int


def make_release(request: ReleaseRequest) -> ReleaseReport:
    """Release the newest snapshot of the lake, unless the newest release holds the same.

    Whatever ends it, the releases before stay as they are, and another attempt uses the files that are there. Memory
    is bounded by some thousand studies. Raises NoReleaseError when the lake has no snapshot, BusyError when another
    process releases to the same place, StorageError.
    """
    if request.iceberg:
        require_iceberg()
    manifest = request.lake.snapshots.latest()
    if manifest is None:
        message = f"there are no studies in {request.lake.location} yet; run `ctg-assets refresh`"
        raise NoReleaseError(message)
    with request.target.lock(Work.RELEASE), memory_for_tables():
        work = _Work(request, manifest, newest_release(request.target))
        try:
            return work.run()
        except DamagedReleaseError as error:
            # A file of the release before is not what it was: all files are made and put there again.
            request.show(f"{error}; making all files anew")
            work.previous, work.there = None, set()
            return work.run()


class _Work:
    """One release under way, under the lock."""

    def __init__(
        self,
        request: ReleaseRequest,
        manifest: SnapshotManifest,
        previous: ReleaseManifest | None,
    ) -> None:
        self._request = request
        self._target = request.target
        self._manifest = manifest
        self._newest = previous
        self.previous = previous if previous is not None and previous.format == FORMAT else None
        self._remove_leftovers()
        self.there = set(self._target.files(TABLES))

    def run(self) -> ReleaseReport:
        shutil.rmtree(self._request.scratch, ignore_errors=True)
        self._request.scratch.mkdir(parents=True)
        try:
            before = set(self.there)
            made = self._make_tables()
            written = {
                file.path: file.bytes
                for table in made.tables
                for file in table.files
                if file.path not in before
            }
            release = self._describe(made)
            is_new = self._newest is None or not _is_same(release, self._newest)
            if is_new:
                self._publish(release, made)
            else:
                assert self._newest is not None  # noqa: S101 - else it would be new
                release = self._newest
            self._point_to(release)
            tables = self._follow()
            removed = self._remove_old(release)
            if tables is not None:
                remove_leftovers(self._target, tables)
        finally:
            shutil.rmtree(self._request.scratch, ignore_errors=True)
        return ReleaseReport(release, is_new, len(written), sum(written.values()), removed)

    def _remove_leftovers(self) -> None:
        """Remove what killed releases left behind, but for files of tables that may be of use."""
        for name in release_names(self._target):
            if not self._target.exists(release_path(name, MANIFEST_FILE)):
                self._target.delete_folder(release_path(name))
        for schema in self._target.names(TABLES):
            for table in self._target.names(f"{TABLES}/{schema}"):
                self._target.delete_unfinished(f"{TABLES}/{schema}/{table}")

    def _make_tables(self) -> Made:
        request = self._request
        before = self._before()
        with Publisher(self._target, self.there) as publisher:
            writer = TableWriter(
                self._target, publisher, request.scratch, self.there, request.most_weight
            )
            made = make_staging_tables(request.lake, self._manifest, writer, before, request.show)
            if request.warehouse is not None:
                made.extend(
                    make_warehouse_tables(
                        request.warehouse, self._manifest, writer, before, request.show
                    )
                )
        return made

    def _before(self) -> ReleaseBefore:
        if self.previous is None:
            return ReleaseBefore()
        path = release_path(self.previous.name, LEAVES_FILE)
        try:
            found = read_record(self._target, path, TableLeaves)
        except (FileNotFoundError, DamagedFileError):
            return ReleaseBefore()
        leaves = {
            table: {leaf: LeafSize(*size) for leaf, size in sizes.items()}
            for table, sizes in found.tables.items()
        }
        return ReleaseBefore(self.previous, leaves)

    def _describe(self, made: Made) -> ReleaseManifest:
        manifest = self._manifest
        number = max(map(release_number, release_names(self._target)), default=0) + 1
        return ReleaseManifest(
            format=FORMAT,
            name=f"{number:06d}-{manifest.data_timestamp[:10]}",
            made_at=datetime.now(UTC),
            made_by=f"ctg-assets {__version__}",
            data_timestamp=manifest.data_timestamp,
            source=manifest.source,
            query=manifest.query,
            snapshot_id=manifest.snapshot_id,
            content_fingerprint=manifest.content_fingerprint,
            schema_version=_schema_version(made.tables),
            census=take_census(self._request.lake, manifest),
            tables=made.tables,
            documents=[],
        )

    def _publish(self, release: ReleaseManifest, made: Made) -> None:
        self._request.show("writing the manifest")
        leaves = TableLeaves(tables={name: dict(sizes) for name, sizes in made.leaves.items()})
        documents = {
            DICTIONARY_FILE: dictionary_csv(made.shapes),
            DUCKDB_FILE: duckdb_file(zip(made.shapes, made.tables, strict=True)),
            README_FILE: readme(release),
            LEAVES_FILE: record_bytes(leaves),
        }
        key = self._request.key
        if key is not None:
            documents[PUBLIC_KEY_FILE] = public_pem(key.public_key())
        described = []
        for name, content in sorted(documents.items()):
            path = release_path(release.name, name)
            self._target.write_bytes(path, content)
            digest = hashlib.sha256(content).hexdigest()
            described.append(ReleaseFile(path=path, bytes=len(content), sha256=digest))
        release.documents.extend(described)
        content = record_bytes(release)
        if key is not None:
            path = release_path(release.name, SIGNATURE_FILE)
            self._target.write_bytes(path, key.sign(content))
        self._target.write_bytes(release_path(release.name, MANIFEST_FILE), content, create=True)

    def _point_to(self, release: ReleaseManifest) -> None:
        """Name the newest release at the top; after a kill the next attempt does so."""
        path = release_path(release.name, MANIFEST_FILE)
        latest = LatestRelease(name=release.name, manifest=path)
        try:
            held = read_record(self._target, LATEST_FILE, LatestRelease)
        except (FileNotFoundError, DamagedFileError):
            held = None
        if held != latest:
            self._target.write_bytes(README_FILE, readme(release))
            write_record(self._target, LATEST_FILE, latest)

    def _follow(self) -> IcebergTables | None:
        """Bring Iceberg's tables, where they are wanted or there, to the releases that stay, before others go."""
        if not self._request.iceberg and held_tables(self._target) is None:
            return None
        stay = []
        for name in release_names(self._target)[-self._request.keep :]:
            try:
                stay.append(read_manifest(self._target, name))
            except (FileNotFoundError, DamagedFileError):
                # `verify` tells of it; nobody could read a snapshot of it.
                continue
        return follow_releases(self._target, stay, self._request.show)

    def _remove_old(self, release: ReleaseManifest) -> int:
        """Remove releases beyond those that are kept, and files of tables that are in none; returns how many files.

        A release goes before its files do.
        """
        names = release_names(self._target)
        for name in names[: -self._request.keep]:
            if name != release.name:
                self._target.delete_file(release_path(name, MANIFEST_FILE))
                self._target.delete_folder(release_path(name))
        used: set[str] = set()
        for name in release_names(self._target):
            try:
                used.update(file.path for file in read_manifest(self._target, name).files)
            except (FileNotFoundError, DamagedFileError):
                # Whose files they are cannot be told, so all stay.
                return 0
        needless = [path for path in self._target.files(TABLES) if path not in used]
        for path in needless:
            self._target.delete_file(path)
        return len(needless)


def _schema_version(tables: Sequence[ReleasedTable]) -> str:
    """A digest of tables, columns, types, keys and references."""
    told = [
        (table.qualified, table.columns, table.key, table.sorted_by, table.references)
        for table in tables
    ]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def _is_same(release: ReleaseManifest, other: ReleaseManifest) -> bool:
    """Whether two releases hold the same, whenever and under whatever name they were made."""
    return _content(release) == _content(other)


def _content(release: ReleaseManifest) -> Mapping[str, object]:
    told = msgspec.structs.asdict(release)
    for name in ("name", "made_at", "made_by", "documents"):
        del told[name]
    return told
