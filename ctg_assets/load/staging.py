"""From the snapshot into the tables of staging, and the fingerprints by which one tells that they hold it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from ctg_assets.lake import Lake
from ctg_assets.load.counting import count_load, counting_errors
from ctg_assets.load.delta import apply_delta
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import ChangesSince, LoadProgress, LoadReport, LoadRequest
from ctg_assets.load.row_source_protocol import MadeBy, Rows
from ctg_assets.load.row_sources import row_sources, staging_shapes
from ctg_assets.metrics import NO_COUNTERS, RECORDS, Counters
from ctg_assets.model.changes.rules import event_rules
from ctg_assets.model.nct_ids import is_nct_id
from ctg_assets.postgres.builds import (
    BuildRecord,
    load_info,
    staging_builds,
)
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.ddl import STAGING, definition
from ctg_assets.postgres.errors import WholeLoadNeededError
from ctg_assets.prefetch import Prefetch
from ctg_assets.snapshot.store import Ancestor, SnapshotManifest
from ctg_assets.snapshot.typed_contents import model_fingerprint
from ctg_assets.times import parse_data_timestamp

_log = logging.getLogger(__name__)


def load_staging(
    address: PostgresAddress,
    lake: Lake,
    manifest: SnapshotManifest,
    tables: Collection[str] | None = None,
    progress: Callable[[LoadProgress], None] | None = None,
    *,
    counters: Counters = NO_COUNTERS,
) -> LoadReport:
    """Bring the staging tables (all, or those named) to the state of a snapshot.

    If they hold one of its lineage, and no table that is not named would be left behind, the rows of
    changed studies are replaced, in all tables. Otherwise the tables are loaded whole and swapped in,
    and tables that the model has no more are dropped as soon as all others are up to date. Memory is
    bounded by some row groups of the snapshot. `counters` hear how it ends. Raises what `load_tables` raises.
    """
    with counting_errors(counters, STAGING):
        return _load(address, lake, manifest, tables, progress=progress, counters=counters)


def _load(
    address: PostgresAddress,
    lake: Lake,
    manifest: SnapshotManifest,
    tables: Collection[str] | None,
    *,
    progress: Callable[[LoadProgress], None] | None,
    counters: Counters,
) -> LoadReport:
    model = _model_digests(manifest)
    build = BuildRecord(
        snapshot_id=manifest.snapshot_id,
        content_fingerprint=manifest.content_fingerprint,
        model_fingerprint=digest(*model.values()),
        data_timestamp=parse_data_timestamp(manifest.data_timestamp),
        studies=manifest.studies,
        tables=_fingerprints(itself(manifest), model),
    )
    chosen = [shape for shape in staging_shapes() if tables is None or shape.name in tables]
    request = LoadRequest(
        address,
        chosen,
        build,
        rebuildable_schemas={address.schemas.staging_views},
        progress=progress,
    )
    base = _base(address, manifest, model, build, tables)
    report = None if base is None else _load_changes(request, lake, manifest, base, counters)
    if report is None:
        names = {shape.name for shape in chosen}
        report = load_tables(request, _batches(lake, manifest, names))
        count_load(counters, STAGING, is_delta=False, rows=sum(report.rows.values()))
        counters.add(RECORDS.by(manifest.studies, stage="load"))
    return report


def itself(manifest: SnapshotManifest) -> Ancestor:
    """A snapshot as those that build on it know it."""
    return manifest.lineage[manifest.snapshot_id]


def _base(
    address: PostgresAddress,
    manifest: SnapshotManifest,
    model: Mapping[str, str],
    build: BuildRecord,
    tables: Collection[str] | None,
) -> str | None:
    """The snapshot of the lineage that the tables hold, if all may go from there to this one."""
    info = load_info(address)
    ancestor = None if info is None else manifest.lineage.get(info.snapshot_id)
    if info is None or ancestor is None or not info.every_table:
        return None
    held = staging_builds(address)
    left_behind = {name for name, made in build.tables.items() if held.get(name) != made} - set(
        build.tables if tables is None else tables
    )
    if held != _fingerprints(ancestor, model) or held == build.tables or left_behind:
        return None
    return info.snapshot_id


def _load_changes(
    request: LoadRequest,
    lake: Lake,
    manifest: SnapshotManifest,
    base: str,
    counters: Counters,
) -> LoadReport | None:
    """Replace the rows of studies that changed since the base; None if that cannot be done."""
    appended: dict[str, int] = {}
    for source in row_sources():
        appended |= source.appended(lake, manifest.lineage[base])
    changed = [n for n in lake.snapshots.replaced(manifest.snapshot_id, base) if is_nct_id(n)]
    changes = ChangesSince(
        base,
        changed,
        appended=appended,
        compared=[
            shape.name for source in row_sources() if source.compared for shape in source.shapes
        ],
    )
    # Studies change in all tables at once, whichever were asked for.
    every_table = replace(request, tables=staging_shapes())
    rows = chain.from_iterable(source.changes(lake, manifest, base) for source in row_sources())
    try:
        with Prefetch(rows) as batches:
            report = apply_delta(every_table, changes, batches)
    except WholeLoadNeededError as error:
        _log.warning("loading whole tables: %s", error)
        return None
    count_load(counters, STAGING, is_delta=True, rows=sum(report.inserted_rows.values()))
    counters.add(RECORDS.by(len(changed), stage="load"))
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


def outdated_tables(address: PostgresAddress, manifest: SnapshotManifest) -> set[str]:
    """The staging tables that do not hold a snapshot, as the model has it now, yet."""
    held = staging_builds(address)
    return {name for name, made in wanted_tables(manifest).items() if held.get(name) != made}


def wanted_tables(manifest: SnapshotManifest) -> dict[str, str]:
    """The fingerprint of each staging table when it holds a snapshot, as the model has it now."""
    return _fingerprints(itself(manifest), _model_digests(manifest))


def tables_at(manifest: SnapshotManifest, snapshot_id: str) -> dict[str, str] | None:
    """The same of tables that hold a snapshot of its lineage; None for one that it does not build on."""
    ancestor = manifest.lineage.get(snapshot_id)
    return None if ancestor is None else _fingerprints(ancestor, _model_digests(manifest))


def _fingerprints(snapshot: Ancestor, model: Mapping[str, str]) -> dict[str, str]:
    """For each staging table what it is made from: its content, and its own part of the data model."""
    return {
        shape.name: f"{source.content(snapshot)}/{model[shape.name]}"
        for source in row_sources()
        for shape in source.shapes
    }


@dataclass(frozen=True)
class PresentCode:
    """By what code a snapshot made now would be made, as `MadeBy`."""

    model_fingerprint: str
    event_rules: str

    @classmethod
    def read(cls) -> PresentCode:
        """That of this process."""
        return cls(model_fingerprint(), event_rules())

    def tables(self) -> dict[str, str]:
        """For each staging table a digest of the code and declarations that decide its rows and how it looks."""
        return _model_digests(self)


def _model_digests(manifest: MadeBy) -> dict[str, str]:
    """For each staging table how it looks in the database, and what decides its rows beside the studies."""
    return {
        shape.name: digest(definition(shape), depends_on[shape.name])
        for source in row_sources()
        for depends_on in [source.depends_on(manifest)]
        for shape in source.shapes
    }


def digest(*texts: str) -> str:
    """A digest of some texts, in their order."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
