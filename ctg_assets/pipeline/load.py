"""From the snapshot into the database, and what the database should hold.

Belongs here: flattening a snapshot into a load, and the fingerprints by which one tells whether
tables and marts are up to date. Does not belong here: how rows are computed or copied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from ctg_assets.lake.extractions import parse_data_timestamp
from ctg_assets.lake.snapshots import SnapshotManifest
from ctg_assets.pipeline.dbt_project import STAGING_VIEWS, project_fingerprint
from ctg_assets.pipeline.last_loaded import remember_loaded
from ctg_assets.pipeline.next_step import WarehouseState
from ctg_assets.pipeline.row_sources import Rows, row_sources, staging_shapes
from ctg_assets.pipeline.services import Lake
from ctg_assets.settings import Settings
from ctg_assets.warehouse.builds import (
    BuildRecord,
    last_build,
    load_info,
    record_build,
    staging_builds,
)
from ctg_assets.warehouse.connection import PostgresAddress
from ctg_assets.warehouse.ddl import definition
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

    Tables that the model has no more are dropped as soon as all others are up to date. Memory is
    bounded by a row group of the snapshot. Raises what `load_tables` raises.
    """
    chosen = [shape for shape in staging_shapes() if tables is None or shape.name in tables]
    model = _model_digests(manifest)
    report = load_tables(
        address,
        chosen,
        _batches(lake, manifest, {shape.name for shape in chosen}),
        build=BuildRecord(
            snapshot_id=manifest.snapshot_id,
            content_fingerprint=manifest.content_fingerprint,
            model_fingerprint=_digest(*model.values()),
            data_timestamp=parse_data_timestamp(manifest.data_timestamp),
            studies=manifest.studies,
            tables=_fingerprints(manifest, model),
        ),
        rebuildable_schemas={STAGING_VIEWS},
        progress=progress,
    )
    if _STUDIES in report.rows:
        remember_loaded(lake, manifest)
    return report


def _batches(lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
    for source in row_sources():
        own = [shape.name for shape in source.shapes if shape.name in names]
        if own:
            yield from source.batches(lake, manifest, own)


def tables_left_over(address: PostgresAddress) -> list[str]:
    """Staging tables that earlier loads made and that the model has no more."""
    declared = {shape.name for shape in staging_shapes()}
    return [name for name in staging_builds(address) if name not in declared]


def wanted_state(manifest: SnapshotManifest) -> WarehouseState:
    """What the database should hold once a snapshot has gone all the way."""
    tables = _fingerprints(manifest, _model_digests(manifest))
    # Spelled as it will be read back, whatever the registry's spelling.
    timestamp = _spelled(parse_data_timestamp(manifest.data_timestamp))
    return WarehouseState(
        tables=tables,
        data_timestamp=timestamp,
        marts_fingerprint=_marts_fingerprint(tables, timestamp),
    )


def warehouse_state(settings: Settings) -> WarehouseState:
    """What the database holds; starts the embedded server if need be.

    Raises WarehouseError when the database cannot be reached.
    """
    with open_postgres(settings) as address:
        info = load_info(address)
        tables = staging_builds(address)
        marts = last_build(address, _MARTS_STAGE, _ALL_MARTS)
    if info is None:
        return WarehouseState()
    return WarehouseState(
        tables=tables,
        data_timestamp=None if info.data_timestamp is None else _spelled(info.data_timestamp),
        marts_fingerprint=None if marts is None else marts.fingerprint,
    )


def record_marts(address: PostgresAddress) -> None:
    """Note that all marts were just built from the tables as they are."""
    info = load_info(address)
    if info is not None and info.every_table and info.data_timestamp is not None:
        timestamp = _spelled(info.data_timestamp)
        fingerprint = _marts_fingerprint(staging_builds(address), timestamp)
        record_build(address, _MARTS_STAGE, _ALL_MARTS, fingerprint)


def _fingerprints(manifest: SnapshotManifest, model: Mapping[str, str]) -> dict[str, str]:
    """For each staging table what it is made from: the studies, and its own part of the data model."""
    return {name: f"{manifest.content_fingerprint}/{part}" for name, part in model.items()}


def _model_digests(manifest: SnapshotManifest) -> dict[str, str]:
    """For each staging table how it looks in the database, and what decides its rows beside the studies."""
    return {
        shape.name: _digest(definition(shape), depends_on[shape.name])
        for source in row_sources()
        for depends_on in [source.depends_on(manifest)]
        for shape in source.shapes
    }


def _spelled(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _marts_fingerprint(tables: Mapping[str, str], data_timestamp: str) -> str:
    """Marts depend on the tables, on their own SQL, and on the month that the snapshot fact covers."""
    month = data_timestamp[: len("2026-11")]
    of_tables = _digest(*(f"{name} {made}" for name, made in sorted(tables.items())))
    return f"{of_tables}/{month}/{project_fingerprint()}"


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
