"""Checking a folder of releases, offline: sums, signatures, counts, order, keys, references.

Every file of every release is held against the digest in its manifest. Of one release, the newest unless told,
the tables are read besides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import polars as pl
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ctg_assets.release.leaves import leaf_numbers
from ctg_assets.release.manifest import (
    LATEST_FILE,
    MANIFEST_FILE,
    PUBLIC_KEY_FILE,
    README_FILE,
    SIGNATURE_FILE,
    LatestRelease,
    NoReleaseError,
    ReleasedTable,
    ReleaseManifest,
    TableFile,
    read_manifest,
    release_names,
    release_path,
)
from ctg_assets.release.signing import is_signed_by, public_key_of, public_pem
from ctg_assets.release.table_files import digest_of
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets.storage.records import read_record


@dataclass(frozen=True)
class ReleaseFinding:
    """Something that is not as it should be: where (the path of a file, or the name of a table), and what."""

    where: str
    problem: str


@dataclass
class ReleaseVerification:
    """What was found. `checked` is the release whose tables were read, `signed_by` the key of its signature, if any."""

    checked: ReleaseManifest | None = None
    signed_by: str | None = None
    releases: int = 0
    files: int = 0
    file_bytes: int = 0
    findings: list[ReleaseFinding] = field(default_factory=list)

    def add(self, where: str, problem: str) -> None:
        """Note a finding."""
        self.findings.append(ReleaseFinding(where, problem))


def verify_release(
    storage: Storage,
    *,
    name: str | None = None,
    public_key: Ed25519PublicKey | None = None,
    show: Callable[[str], None] = lambda _: None,
) -> ReleaseVerification:
    """Check a folder of releases, and above all the release named, or the newest.

    With a `public_key` every release has to be signed by it; without one a signature has to fit the key beside
    it. `show` is told what is being done. What a killed release left behind is no damage. Raises NoReleaseError where
    there is no release, or not this one, and StorageError where the place cannot be reached.
    """
    found = ReleaseVerification()
    manifests = _manifests(storage, found)
    if not manifests and not found.findings:
        message = f"there is no release in {storage.root}; `ctg-assets release` makes one"
        raise NoReleaseError(message)
    if name is not None and name not in {manifest.name for manifest in manifests}:
        message = f"there is no release {name} in {storage.root}; there are {', '.join(release_names(storage))}"
        raise NoReleaseError(message)
    found.releases = len(manifests)
    signers = {each.name: _check_signature(storage, each, public_key, found) for each in manifests}
    damaged = _check_sums(storage, manifests, found, show)
    _check_top(storage, manifests, found)
    chosen = [each for each in manifests if name in {None, each.name}]
    if chosen:
        found.checked = chosen[-1]
        found.signed_by = signers[found.checked.name]
        _check_tables(storage, found.checked, damaged, found, show)
    return found


def _manifests(storage: Storage, found: ReleaseVerification) -> list[ReleaseManifest]:
    manifests = []
    for name in release_names(storage):
        path = release_path(name, MANIFEST_FILE)
        try:
            manifest = read_manifest(storage, name)
        except FileNotFoundError:
            continue  # a release that was not finished
        except (DamagedFileError, ValueError) as error:
            problem = error.problem if isinstance(error, DamagedFileError) else str(error)
            found.add(path, problem)
            continue
        if manifest.name != name:
            found.add(path, f"it is the manifest of {manifest.name}")
            continue
        manifests.append(manifest)
    return manifests


def _check_signature(
    storage: Storage,
    manifest: ReleaseManifest,
    wanted: Ed25519PublicKey | None,
    found: ReleaseVerification,
) -> str | None:
    """The key by which a manifest is signed, as people name it; None where it is by none."""
    path = release_path(manifest.name, SIGNATURE_FILE)
    pem_path = release_path(manifest.name, PUBLIC_KEY_FILE)
    if not storage.exists(path):
        if wanted is not None:
            found.add(path, "the release is not signed")
        elif any(file.path == pem_path for file in manifest.documents):
            found.add(path, "the signature is gone")
        return None
    try:
        key = wanted or public_key_of(storage.read_bytes(pem_path))
    except (FileNotFoundError, ValueError) as error:
        found.add(pem_path, f"the key of the signature cannot be read: {error}")
        return None
    content = storage.read_bytes(release_path(manifest.name, MANIFEST_FILE))
    if not is_signed_by(key, storage.read_bytes(path), content):
        whose = "the key beside it" if wanted is None else "the key given"
        found.add(path, f"the signature is not one of this manifest by {whose}")
        return None
    return f"SHA-256 {hashlib.sha256(public_pem(key)).hexdigest()}"


def _check_sums(
    storage: Storage,
    manifests: Iterable[ReleaseManifest],
    found: ReleaseVerification,
    show: Callable[[str], None],
) -> set[str]:
    """Read all files of all releases; returns the paths of those that are damaged."""
    files = {file.path: file for manifest in manifests for file in manifest.files}
    damaged = set()
    for number, file in enumerate(files.values(), start=1):
        show(f"reading files: {number:,} of {len(files):,}")
        found.files += 1
        found.file_bytes += file.bytes
        problem = _sum_problem(storage, file.path, file.bytes, file.sha256)
        if problem is not None:
            found.add(file.path, problem)
            damaged.add(file.path)
    return damaged


def _sum_problem(storage: Storage, path: str, size: int, sha256: str) -> str | None:
    if not storage.exists(path):
        return "it is not there"
    if (there := storage.size(path)) != size:
        return f"it has {there:,} bytes, and had {size:,}"
    try:
        digest = digest_of(storage, path)
    except StorageError as error:
        return str(error)
    return None if digest == sha256 else "its SHA-256 is not what the manifest says"


def _check_top(
    storage: Storage, manifests: list[ReleaseManifest], found: ReleaseVerification
) -> None:
    """The two files above all releases, which a kill right after a release may have left as they were before."""
    try:
        latest = read_record(storage, LATEST_FILE, LatestRelease)
        if latest.name not in release_names(storage):
            found.add(LATEST_FILE, f"it names {latest.name}, which is not there")
    except DamagedFileError as error:
        found.add(LATEST_FILE, error.problem)
    except FileNotFoundError:
        pass  # as a kill after the first release leaves it
    told = {
        file.sha256
        for manifest in manifests
        for file in manifest.documents
        if file.path.endswith(f"/{README_FILE}")
    }
    if storage.exists(README_FILE) and digest_of(storage, README_FILE) not in told:
        found.add(README_FILE, "it is that of no release here")


def _check_tables(
    storage: Storage,
    manifest: ReleaseManifest,
    damaged: set[str],
    found: ReleaseVerification,
    show: Callable[[str], None],
) -> None:
    """Read the tables of a release whose files are undamaged."""
    sound = {}
    for table in manifest.tables:
        show(f"reading {table.qualified}")
        if all(file.path not in damaged for file in table.files):
            problems = list(_table_problems(storage, table))
            for where, problem in problems:
                found.add(where, problem)
            if not problems:
                sound[table.qualified] = table
    for parent in sound.values():
        referring = [
            (table, reference)
            for table in sound.values()
            for reference in table.references
            if reference.table == parent.qualified
        ]
        keys: dict[tuple[str, ...], pl.DataFrame] = {}
        for table, reference in referring:
            show(f"following references from {table.qualified} to {parent.qualified}")
            to = tuple(reference.to)
            if to not in keys:
                keys[to] = _values(storage, parent, reference.to)
            values = _values(storage, table, reference.columns).drop_nulls()
            lost = values.join(
                keys[to], left_on=reference.columns, right_on=reference.to, how="anti"
            )
            if lost.height:
                shown = ", ".join(map(str, lost.row(0)))
                found.add(
                    table.qualified,
                    f"{lost.height:,} values of {', '.join(reference.columns)} are not in "
                    f"{parent.qualified}, for example {shown}",
                )
    here = next((t.rows for t in manifest.tables if t.qualified == "staging.studies"), None)
    if here is not None and here != manifest.census.here:
        found.add("staging.studies", f"{here:,} rows, and {manifest.census.here:,} in the census")


def _table_problems(storage: Storage, table: ReleasedTable) -> Iterator[tuple[str, str]]:
    """What is wrong with a table's files: (file or table, problem)."""
    expected = [(column.name, column.type) for column in table.columns]
    last: pl.DataFrame | None = None
    strictly = set(table.key) == set(table.sorted_by)
    for file in table.files:
        with storage.open_input(file.path) as stream:
            parquet = pq.ParquetFile(stream)
            columns = [(each.name, str(each.type)) for each in parquet.schema_arrow]
            if columns != expected:
                yield file.path, "its columns are not those of the manifest"
                return
            if parquet.metadata.num_rows != file.rows:
                yield file.path, f"it has {parquet.metadata.num_rows:,} rows, not {file.rows:,}"
                return
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group, columns=table.sorted_by)
                leaves = leaf_numbers(rows, table.sorted_by[0])
                if leaves.size and not (file.first <= leaves.min() and leaves.max() < file.end):
                    yield file.path, "it holds rows beyond its range"
                frame = pl.DataFrame(rows)
                whole = frame if last is None else pl.concat([last, frame])
                if not _is_ascending(whole, table.sorted_by, strictly=strictly):
                    what = "rows are out of order, or a key is there twice"
                    yield file.path, f"{what} ({', '.join(table.sorted_by)})"
                    return
                last = frame.tail(1)
    if sum(file.rows for file in table.files) != table.rows:
        yield table.qualified, "the rows of its files are not those of the manifest in sum"
    if table.key and not strictly:
        keys = pl.concat(_frames(storage, table.files, table.key))
        if keys.is_duplicated().any():
            yield table.qualified, f"a key is there twice ({', '.join(table.key)})"


def _is_ascending(rows: pl.DataFrame, by: list[str], *, strictly: bool) -> bool:
    ascending = pl.lit(value=not strictly)
    for name in reversed(by):
        value, before = pl.col(name), pl.col(name).shift(1)
        # Missing values come last.
        greater = (value > before).fill_null(value.is_null() & before.is_not_null())
        ascending = greater | (value.eq_missing(before) & ascending)
    return bool(rows.select(ascending.slice(1).all()).item())


def _values(storage: Storage, table: ReleasedTable, columns: list[str]) -> pl.DataFrame:
    """The distinct values of some columns."""
    frames = [frame.unique() for frame in _frames(storage, table.files, columns)]
    return pl.concat(frames).unique()


def _frames(
    storage: Storage, files: Iterable[TableFile], columns: list[str]
) -> Iterator[pl.DataFrame]:
    for file in files:
        with storage.open_input(file.path) as stream:
            parquet = pq.ParquetFile(stream)
            yield pl.DataFrame(parquet.schema_arrow.empty_table().select(columns))
            for group in range(parquet.num_row_groups):
                yield pl.DataFrame(parquet.read_row_group(group, columns=columns))
