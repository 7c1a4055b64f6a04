"""From the snapshot into the database, and what the database should hold.

Belongs here: flattening a snapshot into a load, and the fingerprints by which one tells whether
tables and marts are up to date. Does not belong here: how rows are computed or copied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime

import pyarrow as pa

from ctg_assets import __version__
from ctg_assets.lake.snapshots import SnapshotManifest
from ctg_assets.model.flatten import flatten, snapshot_columns
from ctg_assets.model.tables import staging_tables
from ctg_assets.pipeline.dbt_project import project_fingerprint
from ctg_assets.pipeline.last_loaded import remember_loaded
from ctg_assets.pipeline.next_step import WarehouseState
from ctg_assets.pipeline.services import Lake
from ctg_assets.settings import Settings
from ctg_assets.warehouse.builds import BuildRecord, last_build, load_info, record_build
from ctg_assets.warehouse.connection import PostgresAddress
from ctg_assets.warehouse.loader import LoadProgress, LoadReport, load_tables
from ctg_assets.warehouse.server import open_postgres

_STUDIES = "studies"
_MARTS_STAGE = "marts"
_ALL_MARTS = "(all)"


def load_staging(
    address: PostgresAddress,
    lake: Lake,
    manifest: SnapshotManifest,
    tables: Collection[str] | None = None,
    progress: Callable[[LoadProgress], None] | None = None,
) -> LoadReport:
    """Replace the staging tables (all, or those named) by the rows of a snapshot, in one swap.

    Memory is bounded by a row group of the snapshot. Raises what `load_tables` raises.
    """
    declared = staging_tables()
    chosen = [table for table in declared if tables is None or table.name in tables]

    def batches() -> Iterator[dict[str, pa.Table]]:
        names = [table.name for table in chosen]
        for studies in lake.snapshots.batches(manifest.snapshot_id, snapshot_columns(names)):
            yield flatten(studies, names)

    report = load_tables(
        address,
        [table.shape for table in chosen],
        batches(),
        build=BuildRecord(
            snapshot_id=manifest.snapshot_id,
            content_fingerprint=manifest.content_fingerprint,
            model_fingerprint=tables_fingerprint(),
            data_timestamp=parse_data_timestamp(manifest.data_timestamp),
            studies=manifest.studies,
        ),
        whole_model=len(chosen) == len(declared),
        progress=progress,
    )
    if _STUDIES in report.rows:
        remember_loaded(lake, manifest)
    return report


def wanted_state(manifest: SnapshotManifest) -> WarehouseState:
    """What the database should hold once a snapshot has gone all the way."""
    staging = f"{manifest.content_fingerprint}/{tables_fingerprint()}"
    # Spelled as it will be read back, whatever the registry's spelling.
    timestamp = _spelled(parse_data_timestamp(manifest.data_timestamp))
    return WarehouseState(
        staging_fingerprint=staging,
        data_timestamp=timestamp,
        marts_fingerprint=_marts_fingerprint(staging, timestamp),
    )


def warehouse_state(settings: Settings) -> WarehouseState:
    """What the database holds; starts the embedded server if need be.

    Raises WarehouseError when the database cannot be reached.
    """
    with open_postgres(settings) as address:
        info = load_info(address)
        marts = last_build(address, _MARTS_STAGE, _ALL_MARTS)
    if info is None:
        return WarehouseState()
    return WarehouseState(
        staging_fingerprint=info.fingerprint if info.every_table else None,
        data_timestamp=None if info.data_timestamp is None else _spelled(info.data_timestamp),
        marts_fingerprint=None if marts is None else marts.fingerprint,
    )


def record_marts(address: PostgresAddress) -> None:
    """Note that all marts were just built from the tables as they are."""
    info = load_info(address)
    if info is not None and info.every_table and info.data_timestamp is not None:
        fingerprint = _marts_fingerprint(info.fingerprint, _spelled(info.data_timestamp))
        record_build(address, _MARTS_STAGE, _ALL_MARTS, fingerprint)


def tables_fingerprint() -> str:
    """A digest of what makes rows of studies: all tables' declarations, and our release."""
    return hashlib.sha256(f"{__version__} {staging_tables()!r}".encode()).hexdigest()


def parse_data_timestamp(text: str) -> datetime:
    """The registry's data timestamp (ISO 8601; UTC by its specification, without saying so), aware.

    Raises ValueError for anything else.
    """
    timestamp = datetime.fromisoformat(text)
    return timestamp if timestamp.tzinfo is not None else timestamp.replace(tzinfo=UTC)


def _spelled(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _marts_fingerprint(staging_fingerprint: str, data_timestamp: str) -> str:
    """Marts depend on the tables, on their own SQL, and on the month that the snapshot fact covers."""
    month = data_timestamp[: len("2026-11")]
    return f"{staging_fingerprint}/{month}/{project_fingerprint()}"
