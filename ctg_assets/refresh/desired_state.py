"""What the database holds, and what it should hold when a snapshot has gone all the way."""

from __future__ import annotations

import hashlib

import msgspec

from ctg_assets.aact.other_rows import other_fingerprints
from ctg_assets.aact.state import ctgov_fingerprint, held_fingerprint
from ctg_assets.lake import existing_lake
from ctg_assets.load.staging import wanted_tables
from ctg_assets.marts.selection import selected_marts
from ctg_assets.marts.up_to_date import built_marts, marts_fingerprint
from ctg_assets.postgres.builds import load_info, staging_builds
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.times import format_data_timestamp, parse_data_timestamp


class WarehouseState(msgspec.Struct, frozen=True):
    """What the database holds, or should hold; None where it was never loaded.

    `tables` has a fingerprint for each staging table, which depends on the studies' content and the
    table's declaration; `ctgov_fingerprint` (of AACT's tables) depends on those, AACT's definitions, searches and MeSH,
    those of `marts`, by name, on those, the dbt project and the day. `data_timestamp` is the registry's.
    """

    tables: dict[str, str] = {}
    data_timestamp: str | None = None
    marts: dict[str, str] = {}
    ctgov_fingerprint: str | None = None

    @property
    def digest(self) -> str:
        """One short text, different for different states."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


def desired_state(settings: Settings, manifest: SnapshotManifest) -> WarehouseState:
    """What the database should hold once a snapshot has gone all the way.

    Raises SearchFileError and MeshFileError for files of the settings that cannot be used.
    """
    if not settings.has_warehouse:
        return WarehouseState()
    tables = wanted_tables(manifest)
    ctgov = None
    if settings.aact:
        ctgov = ctgov_fingerprint(tables, other_fingerprints(existing_lake(settings), settings))
    # Spelled as it will be read back, whatever the registry's spelling.
    timestamp = format_data_timestamp(parse_data_timestamp(manifest.data_timestamp))
    return WarehouseState(
        tables=tables,
        data_timestamp=timestamp,
        marts=dict.fromkeys(sorted(selected_marts(settings)), marts_fingerprint(tables, timestamp)),
        ctgov_fingerprint=ctgov,
    )


def actual_state(settings: Settings) -> WarehouseState:
    """What the database holds; starts the embedded server if need be.

    Raises WarehouseError when the database cannot be reached.
    """
    if not settings.has_warehouse:
        return WarehouseState()
    with open_postgres(settings) as address:
        info = load_info(address)
        tables = staging_builds(address)
        marts = built_marts(address)
        ctgov = held_fingerprint(address)
    if info is None:
        return WarehouseState()
    return WarehouseState(
        tables=tables,
        data_timestamp=None
        if info.data_timestamp is None
        else format_data_timestamp(info.data_timestamp),
        marts=marts,
        ctgov_fingerprint=ctgov,
    )
