"""Releases as Apache Iceberg tables over the same files: each release a snapshot, under a tag with its name.

```
iceberg.json                    names the metadata of each table, and the releases in it; written last
iceberg/<schema>/<table>/metadata/…   what pyiceberg writes
```

Iceberg's commits are by table. Here they are done against a SQL catalog in memory that knows the tables from `iceberg.json`,
and all of them count together once that is written anew, in a bucket as on a disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import msgspec
import pyarrow.parquet as pq

from ctg_assets.errors import CtgAssetsError
from ctg_assets.release.manifest import (
    ReleasedColumn,
    ReleasedTable,
    ReleaseManifest,
    release_number,
)
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record

if TYPE_CHECKING:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table, Transaction
    from pyiceberg.table.snapshots import Snapshot

ICEBERG_FILE = "iceberg.json"
ICEBERG = "iceberg"

# What pyiceberg calls the provider's variables.
_STORE_OPTIONS = {
    "s3.endpoint": "AWS_ENDPOINT_URL",
    "s3.access-key-id": "AWS_ACCESS_KEY_ID",
    "s3.secret-access-key": "AWS_SECRET_ACCESS_KEY",
    "s3.session-token": "AWS_SESSION_TOKEN",
    "s3.region": "AWS_REGION",
}


class IcebergNotInstalledError(CtgAssetsError):
    """Iceberg's metadata cannot be written; the message says what to install."""


class IcebergTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table: where its metadata is, in full, and the columns that it has."""

    metadata: str
    columns: list[ReleasedColumn]


class IcebergTables(msgspec.Struct, frozen=True, kw_only=True):
    """What `iceberg.json` says: the releases that are snapshots, oldest first, and the tables by `schema.name`."""

    releases: list[str]
    tables: dict[str, IcebergTable]


def require_iceberg() -> None:
    """Raise IcebergNotInstalledError if pyiceberg is not there."""
    if find_spec("pyiceberg") is None:
        message = (
            "Iceberg's metadata need pyiceberg, which is not installed; install it with "
            "`pip install 'ctg-assets[iceberg]'`, or release without --iceberg"
        )
        raise IcebergNotInstalledError(message)


def held_tables(storage: Storage) -> IcebergTables | None:
    """The tables of a place; None where there are none, or none that can be read."""
    try:
        return read_record(storage, ICEBERG_FILE, IcebergTables)
    except (FileNotFoundError, DamagedFileError):
        return None


def follow_releases(
    storage: Storage, releases: Sequence[ReleaseManifest], show: Callable[[str], None]
) -> IcebergTables:
    """Make the tables stand for these releases, oldest first: a snapshot for each that is new, none for those that are gone.

    What only snapshots of other releases need is left where it is: `remove_leftovers` removes it. A table whose
    columns are others than they were begins anew. Raises IcebergNotInstalledError.
    """
    require_iceberg()
    held = held_tables(storage) or IcebergTables(releases=[], tables={})
    names = [release.name for release in releases]
    if held.releases == names:
        return held
    catalog = _catalog(storage)
    newest = release_number(held.releases[-1]) if held.releases else 0
    tables = dict(held.tables)
    for release in releases:
        if release_number(release.name) > newest:
            show(f"writing Iceberg's metadata of {release.name}")
            tables = {
                table.qualified: _with_snapshot(
                    catalog, storage, tables.get(table.qualified), table, release
                )
                for table in release.tables
            }
    tables = {
        name: _without_others(catalog, name, table, set(names)) for name, table in tables.items()
    }
    found = IcebergTables(releases=names, tables=tables)
    write_record(storage, ICEBERG_FILE, found)
    return found


def remove_leftovers(storage: Storage, tables: IcebergTables) -> None:
    """Remove files of metadata that no snapshot needs: of releases that are gone, and of attempts that were killed."""
    catalog = _catalog(storage)
    used: set[str] = set()
    for name, table in tables.tables.items():
        used.add(table.metadata)
        opened = _opened(catalog, name, table)
        for snapshot in opened.snapshots():
            used.add(snapshot.manifest_list)
            used.update(each.manifest_path for each in snapshot.manifests(opened.io))
    for path in storage.files(ICEBERG):
        if _location(storage, path) not in used:
            storage.delete_file(path)


def _location(storage: Storage, path: str) -> str:
    """Where a file lies, as a URI."""
    full = storage.path(path)
    return full if "://" in full else f"file://{full}"


def _catalog(storage: Storage) -> SqlCatalog:
    from pyiceberg.catalog.sql import SqlCatalog  # noqa: PLC0415 - half a second, for who asks for it

    given = {option: os.environ.get(name, "") for option, name in _STORE_OPTIONS.items()}
    return SqlCatalog(
        "releases",
        uri="sqlite:///:memory:",
        warehouse=_location(storage, ICEBERG),
        **{option: value for option, value in given.items() if value},
    )


def _opened(catalog: SqlCatalog, name: str, table: IcebergTable) -> Table:
    """A table as `iceberg.json` has it, or as it was committed since."""
    schema, _ = identifier = _identifier(name)
    catalog.create_namespace_if_not_exists(schema)
    if not catalog.table_exists(identifier):
        return catalog.register_table(identifier, table.metadata)
    return catalog.load_table(identifier)


def _identifier(name: str) -> tuple[str, str]:
    schema, _, table = name.partition(".")
    return schema, table


def _with_snapshot(
    catalog: SqlCatalog,
    storage: Storage,
    held: IcebergTable | None,
    released: ReleasedTable,
    release: ReleaseManifest,
) -> IcebergTable:
    """A table with a snapshot of a release."""
    if held is not None and held.columns == released.columns:
        table = _opened(catalog, released.qualified, held)
    else:
        table = _created(catalog, storage, released)
    there = _data_files(table, table.current_snapshot())
    wanted = {_location(storage, file.path) for file in released.files}
    gone = [file for path, file in there.items() if path not in wanted]
    new = sorted(wanted - there.keys())
    if new or gone:
        told = {
            "release": release.name,
            "data-timestamp": release.data_timestamp,
        }
        with table.transaction() as transaction:
            if gone:
                _replace(table, transaction, gone, new, told)
            else:
                transaction.add_files(new, told, check_duplicate_files=False)
    snapshot = table.current_snapshot()
    if snapshot is not None and release.name not in table.refs():
        with table.manage_snapshots() as managed:
            managed.create_tag(snapshot.snapshot_id, release.name)
    return IcebergTable(metadata=table.metadata_location, columns=released.columns)


def _created(catalog: SqlCatalog, storage: Storage, released: ReleasedTable) -> Table:
    identifier = _identifier(released.qualified)
    catalog.create_namespace_if_not_exists(identifier[0])
    if catalog.table_exists(identifier):
        catalog.drop_table(identifier)
    with storage.open_input(released.files[0].path) as stream:
        schema = pq.read_schema(stream)
    return catalog.create_table(
        identifier,
        schema,
        location=_location(storage, f"{ICEBERG}/{released.schema}/{released.name}"),
    )


def _replace(
    table: Table,
    transaction: Transaction,
    gone: Sequence[DataFile],
    new: Sequence[str],
    told: Mapping[str, str],
) -> None:
    """Take files out of a table and others in, in one snapshot."""
    from pyiceberg.io.pyarrow import parquet_file_to_data_file  # noqa: PLC0415

    with transaction.update_snapshot(dict(told)).overwrite() as update:
        for file in gone:
            update.delete_data_file(file)
        for path in new:
            update.append_data_file(parquet_file_to_data_file(table.io, table.metadata, path))


def _data_files(table: Table, snapshot: Snapshot | None) -> dict[str, DataFile]:
    """The files of a snapshot, by where they are."""
    if snapshot is None:
        return {}
    return {
        entry.data_file.file_path: entry.data_file
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    }


def _without_others(
    catalog: SqlCatalog, name: str, held: IcebergTable, releases: set[str]
) -> IcebergTable:
    """A table without tags of other releases, and without snapshots that then have none."""
    table = _opened(catalog, name, held)
    others = [tag for tag in table.refs() if release_number(tag) and tag not in releases]
    if not others:
        return held
    with table.manage_snapshots() as managed:
        for tag in others:
            managed.remove_tag(tag)
    tagged = {reference.snapshot_id for reference in table.refs().values()}
    needless = [each.snapshot_id for each in table.snapshots() if each.snapshot_id not in tagged]
    if needless:
        table.maintenance.expire_snapshots().by_ids(needless).commit()
    return IcebergTable(metadata=table.metadata_location, columns=held.columns)
