"""What is there, how fresh it is, and what is unfinished."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ctg_assets.aact.state import built_rows
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionPlan,
    ExtractionState,
    Supersession,
)
from ctg_assets.lake import Lake
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts.selection import selected_marts
from ctg_assets.postgres.builds import LoadInfo, load_info
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.postgres.inspection import row_counts
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.planner import Idle, Step, next_known_step
from ctg_assets.settings import Settings
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.times import format_time, why_impossible

MARTS = "marts"


@dataclass(frozen=True)
class ExtractionStatus:
    """One extraction: its plan, state, pages present, and how it ended if it did."""

    plan: ExtractionPlan
    state: ExtractionState
    pages: int
    completion: Completion | None
    supersession: Supersession | None


@dataclass(frozen=True)
class WarehouseStatus:
    """The database: where it is and what it holds; `problem` says why if it cannot be read.

    Staging tables come in the order of their declarations, any others after them. AACT's rows are not
    counted again, but told as the last build noted them; None where its tables are not wanted. So are those of
    the marts; it is not `is_wanted` where CTG_WAREHOUSE says so. `marts_left_over` are there and not brought up to date any more.
    """

    address: str | None = None
    info: LoadInfo | None = None
    staging_rows: dict[str, int] | None = None
    ctgov_rows: dict[str, int] | None = None
    marts_rows: dict[str, int] | None = None
    marts_left_over: tuple[str, ...] = ()
    problem: str | None = None
    is_wanted: bool = True


def extraction_statuses(lake: Lake) -> list[ExtractionStatus]:
    """All extractions that are kept, oldest first."""
    return [
        ExtractionStatus(
            plan=plan,
            state=lake.extractions.state(plan.extraction_id),
            pages=len(lake.shards.pages(plan.extraction_id)),
            completion=lake.extractions.completion(plan.extraction_id),
            supersession=lake.extractions.supersession(plan.extraction_id),
        )
        for plan in lake.extractions.plans()
    ]


def planned_page_range(lake: Lake) -> tuple[str, str] | None:
    """The first and last partition key of the newest open crawl, else of the newest complete extraction.

    None if no pages are planned.
    """
    crawls = lake.extractions.open_crawls()
    plan = crawls[-1] if crawls else lake.extractions.latest(ExtractionState.COMPLETE)
    keys = plan.page_keys() if plan is not None else []
    return (keys[0], keys[-1]) if keys else None


def odd_times(lake: Lake, now: datetime) -> list[str]:
    """What people should know of times in the history that cannot be; `now` is our clock's (aware)."""
    entries = lake.history.entries()
    told: list[str] = []
    for entry in entries:
        reason = why_impossible(entry.observed_at, now)
        # Walks after one of a later time follow it by milliseconds, and need no line each.
        if reason is not None and (entry.is_import or not told):
            told.append(
                f"entry {entry.sequence} of the history ({entry.mode} of {entry.source}) counts as "
                f"observed at {format_time(entry.observed_at)} UTC, which is {reason}; "
                f"`ctg-assets history undo {entry.sequence} --dry-run` shows what taking it back would do"
            )
    if entries and entries[-1].counted_timestamp != entries[-1].data_timestamp:
        told.append(
            f"the registry said that its data were of {entries[-1].data_timestamp}, which cannot be; what "
            f"was seen counts as observed at {format_time(entries[-1].observed_at)} UTC"
        )
    return told


def quarantine_reasons(lake: Lake, manifest: SnapshotManifest) -> list[tuple[str, str]]:
    """The studies in a snapshot's quarantine: NCT id (or a dash) and reason."""
    rows = lake.snapshots.quarantine(manifest.snapshot_id)
    ids, reasons = rows["nct_id"].to_pylist(), rows["reason"].to_pylist()
    return [(nct_id or "-", reason) for nct_id, reason in zip(ids, reasons, strict=True)]


def studies_with_unknown_fields(lake: Lake, manifest: SnapshotManifest) -> dict[str, str]:
    """For a path outside the model a study that has it, of those read first; empty if there is none."""
    for rows in lake.snapshots.extras(manifest.snapshot_id):
        for path, nct_id in zip(*(rows[c].to_pylist() for c in ("path", "nct_id")), strict=True):
            if nct_id is not None:
                return {path: nct_id}
    return {}


def warehouse_status(settings: Settings) -> WarehouseStatus:
    """What the database holds; never fails, a database that cannot be read is a finding."""
    if not settings.has_warehouse:
        return WarehouseStatus(is_wanted=False)
    try:
        with open_postgres(settings) as address:
            wanted = selected_marts(settings)
            marts = row_counts(address, address.schemas.marts, only_ours=True)
            return WarehouseStatus(
                address=address.public_url,
                info=load_info(address),
                staging_rows=_as_declared(
                    row_counts(address, address.schemas.staging, only_ours=True)
                ),
                ctgov_rows=built_rows(address),
                marts_rows={k: n for k, n in marts.items() if k in wanted} if wanted else None,
                marts_left_over=tuple(name for name in marts if name not in wanted),
            )
    except WarehouseError as error:
        return WarehouseStatus(problem=str(error))


def warehouse_and_next_step(
    settings: Settings, lake: Lake
) -> tuple[WarehouseStatus, Step | Idle | None]:
    """What the database holds, and what is to be done next as far as is known without the registry.

    Never fails for the database: if it cannot be read, its status says so, and there is no next step.
    """
    if not settings.has_warehouse:
        return warehouse_status(settings), next_known_step(settings, lake)
    try:
        # Held, so that the embedded server starts once.
        with open_postgres(settings):
            return warehouse_status(settings), next_known_step(settings, lake)
    except WarehouseError as error:
        return WarehouseStatus(problem=str(error)), None


def _as_declared(rows: dict[str, int]) -> dict[str, int]:
    declared = [shape.name for shape in staging_shapes() if shape.name in rows]
    return {name: rows[name] for name in dict.fromkeys([*declared, *rows])}
