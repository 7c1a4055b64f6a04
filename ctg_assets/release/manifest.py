"""What a folder of releases holds, and the manifest that makes a release count.

```
README.md                         how to read it
latest.json                       names the newest release; written after its manifest
releases/<name>/manifest.json     a release: without it there is none
                manifest.json.sig its signature, if a key was set (manifest.pub: by which key)
                ctg.duckdb, README.md, data_dictionary.csv
                leaves.json       rows by range of ids, for the release after it
tables/<schema>/<table>/          Parquet files, named by the range of ids they hold and by their content
```

Files of tables are shared by all releases that hold them. They are put there first, the manifest last.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from ctg_assets.errors import PermanentError
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets.storage.records import read_record

# Raised when files are divided or written in another way, so that all are written anew.
FORMAT = 2

RELEASES, TABLES = "releases", "tables"
LATEST_FILE = "latest.json"
README_FILE = "README.md"
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.json.sig"
PUBLIC_KEY_FILE = "manifest.pub"
DUCKDB_FILE = "ctg.duckdb"
LEAVES_FILE = "leaves.json"
DICTIONARY_FILE = "data_dictionary.csv"

_NAME = re.compile(r"(\d{6,})-\d{4}-\d{2}-\d{2}")


class NoReleaseError(PermanentError):
    """There is no release where one was looked for, or none that this version can read."""


class DamagedReleaseError(StorageError):
    """A file of a release is not what its manifest says."""


class ReleaseFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a release; its path is relative to the folder of all releases."""

    path: str
    bytes: int
    sha256: str


class TableFile(ReleaseFile, frozen=True, kw_only=True):
    """A Parquet file of a table; `first` and `end` are the leaves of ids that it holds (`leaves.py`)."""

    rows: int
    first: int
    end: int


class ReleasedColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column: its name, Arrow's name of its type, and whether values may be missing."""

    name: str
    type: str
    nullable: bool


class TableReference(msgspec.Struct, frozen=True, kw_only=True):
    """Values of `columns` are among those of `to` in `table` (`schema.name`), or missing."""

    columns: list[str]
    table: str
    to: list[str]


class ReleasedTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table: its files in the order of `sorted_by`, in which all rows are.

    `made_from` changes when rows may. `key` is unique; it is empty where nothing is known to be.
    """

    schema: str
    name: str
    made_from: str
    columns: list[ReleasedColumn]
    key: list[str]
    sorted_by: list[str]
    references: list[TableReference]
    rows: int
    files: list[TableFile]

    @property
    def qualified(self) -> str:
        """Its name with that of its schema."""
        return f"{self.schema}.{self.name}"


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """How many studies the registry said that it has, and how many are here.

    `registry_counted` is what it said when everything was last walked, at `counted_at` (its data timestamp);
    None where nobody asked, as for a file. `seen_then` were found by that walk. `here` are in the tables now, and
    `quarantined` could not be typed. `verdict` says in words what that comes to.
    """

    registry_counted: int | None
    counted_at: str | None
    seen_then: int | None
    here: int
    quarantined: int
    verdict: str


class ReleaseManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a release holds. `made_at` is UTC, `data_timestamp` the registry's.

    `schema_version` changes with tables, columns, types and keys. `documents` are its other files.
    """

    format: int
    name: str
    made_at: datetime
    made_by: str
    data_timestamp: str
    source: str
    query: str
    snapshot_id: str
    content_fingerprint: str
    schema_version: str
    census: Census
    tables: list[ReleasedTable]
    documents: list[ReleaseFile]

    @property
    def files(self) -> list[ReleaseFile]:
        """All files but the manifest and its signature."""
        return [*self.documents, *(file for table in self.tables for file in table.files)]


class LatestRelease(msgspec.Struct, frozen=True, kw_only=True):
    """What `latest.json` says: the newest release and the path of its manifest."""

    name: str
    manifest: str


class TableLeaves(msgspec.Struct, frozen=True, kw_only=True):
    """Of each table (`schema.name`), by leaf: rows and weight."""

    tables: dict[str, dict[int, tuple[int, int]]]


def release_path(name: str, file: str = "") -> str:
    """The path of a file of a release, or of its folder."""
    return f"{RELEASES}/{name}/{file}" if file else f"{RELEASES}/{name}"


def release_number(name: str) -> int:
    """The number in a release's name; 0 for a name that is none."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def release_names(storage: Storage) -> list[str]:
    """The names of all folders of releases, oldest first, whether whole or not."""
    return sorted(filter(release_number, storage.names(RELEASES)), key=release_number)


def read_manifest(storage: Storage, name: str) -> ReleaseManifest:
    """The manifest of a release.

    Raises FileNotFoundError when it has none, which is as good as no release, DamagedFileError for one that is
    not as it was written.
    """
    return read_record(storage, release_path(name, MANIFEST_FILE), ReleaseManifest)


def newest_release(storage: Storage) -> ReleaseManifest | None:
    """The newest release that is whole and undamaged; None if there is none."""
    for name in reversed(release_names(storage)):
        try:
            return read_manifest(storage, name)
        except (FileNotFoundError, DamagedFileError):
            continue
    return None
