"""The assets `study_versions`, `study_changes` and `studies`: history and snapshot, with their checks."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.counters_file import counters_of
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.missing_studies import explain_missing
from ctg_assets.history.recording import IncompleteExtractionError, Recorder
from ctg_assets.lake import Lake, open_lake
from ctg_assets.orchestration.check_results import check_result
from ctg_assets.orchestration.extraction import OWNERS, page_shards
from ctg_assets.orchestration.metadata import bar_chart, markdown_table
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.run_logs import about
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.refresh.checks import check_times, snapshot_check_results
from ctg_assets.refresh.pending import Pending, next_to_record
from ctg_assets.refresh.planner import Idle, next_build_step
from ctg_assets.refresh.retention import prune
from ctg_assets.refresh.status import quarantine_reasons, studies_with_unknown_fields
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest, snapshot_schema

GROUP = "lake"


_CHECKS = {
    "every_study_is_accounted_for": "Studies and quarantine together hold every current id.",
    "few_studies_in_quarantine": "Few studies could not be typed; any is worth a look.",
    "no_unknown_fields": "Every field of every study is in the data model.",
}

_DISAPPEARANCE_CHECK = "no_mass_disappearance"
_TIMES_CHECK = "times_can_be"
_VERSIONS_KEY = dg.AssetKey("study_versions")
_CHANGES_KEY = dg.AssetKey("study_changes")

_PREVIEW_ROWS = 5
# The rest of a long list is in the snapshot's quarantine.
_MOST_LOGGED = 20
_STATUS = ("protocolSection", "statusModule", "overallStatus")


@dg.multi_asset(
    name="history",
    can_subset=True,
    specs=[
        dg.AssetSpec(
            _VERSIONS_KEY,
            deps=[page_shards],
            group_name=GROUP,
            kinds={"parquet"},
            owners=OWNERS,
            skippable=True,
            description="Every content that studies were ever seen with, JSON as sent, and when they had "
            "it. Append-only.",
        ),
        dg.AssetSpec(
            _CHANGES_KEY,
            deps=[page_shards],
            group_name=GROUP,
            kinds={"parquet"},
            owners=OWNERS,
            skippable=True,
            description="What happened to studies, change by change, field by field, and what it means. "
            "Append-only.",
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            _DISAPPEARANCE_CHECK,
            asset=_VERSIONS_KEY,
            blocking=True,
            description="About as many studies are there as before; asked before any count as removed.",
        ),
        dg.AssetCheckSpec(
            _TIMES_CHECK,
            asset=_VERSIONS_KEY,
            description="What the registry says of its data, and studies of their dates, are times that "
            "can be.",
        ),
    ],
)
def history(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
    """Record the complete extractions that the history does not have yet, oldest first.

    If it has all, the newest entry is reported again when something downstream is not built from it
    yet, so that this gets built; when all is, nothing is.
    """
    configured = settings.load()
    lake = open_lake(configured)
    pending = next_to_record(configured, lake)
    if pending is None and lake.history.latest() is None:
        message = (
            "no extraction is complete yet; materialize extraction_plan and all its page_shards"
        )
        raise IncompleteExtractionError(message)
    if pending is None:
        if context.selected_asset_check_keys:
            nothing = CheckResult(True, "every complete extraction was recorded before")
            yield check_result(nothing, _DISAPPEARANCE_CHECK, _VERSIONS_KEY)
            yield check_result(nothing, _TIMES_CHECK, _VERSIONS_KEY)
        if _is_all_built(context, configured, lake):
            return
        newest = lake.history.latest()
        if newest is not None:
            yield from _history_results(context, lake, newest)
        return
    # Of pages that are not sound it is not asked.
    outcome = pending.check_results.get(_DISAPPEARANCE_CHECK)
    if outcome is not None and context.selected_asset_check_keys:
        yield check_result(outcome, _DISAPPEARANCE_CHECK, _VERSIONS_KEY)
    if pending.forbidden is not None:
        message = f"nothing was recorded: {pending.forbidden}"
        raise dg.Failure(message, allow_retries=False)
    entry, times = _record(context, configured, lake, pending)
    if context.selected_asset_check_keys:
        yield check_result(times, _TIMES_CHECK, _VERSIONS_KEY)
    yield from _history_results(context, lake, entry)


def _record(
    context: dg.AssetExecutionContext, configured: Settings, lake: Lake, first: Pending
) -> tuple[HistoryEntry, CheckResult]:
    """Record an extraction and those that wait behind it; returns the last entry and what was odd of times."""
    pending: Pending | None = first
    entry: HistoryEntry | None = None
    times: CheckResult | None = None
    while pending is not None and pending.forbidden is None:
        plan = pending.plan
        explain = explain_missing(configured, query=plan.query)
        with about(context, extraction=plan.extraction_id):
            entry = Recorder(lake.storage, lake.scratch).record(plan.extraction_id, explain=explain)
        # Of several, what is odd of one is what is told.
        times = check_times(plan, entry) if times is None or times.passed else times
        pending = next_to_record(configured, lake)
    if pending is not None:
        context.log.warning(f"one more extraction was not recorded: {pending.forbidden}")
    assert entry is not None  # noqa: S101 - the first may be recorded
    assert times is not None  # noqa: S101 - told of each entry
    return entry, times


def _is_all_built(context: dg.AssetExecutionContext, settings: Settings, lake: Lake) -> bool:
    """Whether nothing is left to do from the history to the marts; says what is, if something is.

    A step without results lets Dagster skip what is downstream. That is right only when all of it is up
    to date: a run that was killed after the history got its entry has left the rest to the next one.
    """
    try:
        upcoming = next_build_step(settings, lake)
    except WarehouseError as error:
        context.log.warning(f"what the database holds cannot be told: {error}")
        return False
    if isinstance(upcoming, Idle) and not upcoming.blocked:
        context.log.info(
            f"nothing to do: every complete extraction is recorded, and {upcoming.reason}"
        )
        return True
    context.log.info(f"every complete extraction is recorded; downstream of it: {upcoming.reason}")
    return False


def _history_results(
    context: dg.AssetExecutionContext, lake: Lake, entry: HistoryEntry
) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    facts = _history_metadata(lake, entry)
    of_changes = {
        "first change_seq": entry.first_change_seq,
        "next change_seq": entry.next_change_seq,
        "silent updates": entry.silent,
        "changes by kind": dg.MetadataValue.md(
            markdown_table(("kind", "changes"), entry.changes.items())
        ),
    }
    for key, metadata in ((_VERSIONS_KEY, facts), (_CHANGES_KEY, facts | of_changes)):
        if key in context.selected_asset_keys:
            yield dg.MaterializeResult(key, metadata=metadata)


@dg.asset(
    deps=[_VERSIONS_KEY],
    group_name=GROUP,
    kinds={"parquet"},
    owners=OWNERS,
    check_specs=[
        dg.AssetCheckSpec(name, asset="studies", blocking=True, description=description)
        for name, description in _CHECKS.items()
    ],
)
def studies(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The whole registry at one data version: one typed row a study.

    It builds on the snapshot before it: only studies that changed are typed and written. Studies that
    cannot be typed are set aside with the reason, in a file of their own; fields that the model does
    not know are reported.
    """
    configured = settings.load()
    lake = open_lake(configured)
    entry = lake.history.latest()
    if entry is None:
        message = (
            "no extraction is recorded yet; materialize extraction_plan, all its page_shards and "
            "study_versions"
        )
        raise IncompleteExtractionError(message)

    def log_progress(done: int, total: int) -> None:
        context.log.debug(f"{done} of {total} studies compacted")

    with about(context, "studies", entry.extraction_id):
        compactor = Compactor(lake.storage, lake.scratch, counters_of(configured))
        manifest = compactor.compact(entry.extraction_id, log_progress)
        prune(lake, keep_extractions=configured.keep_extractions)
        quarantined = quarantine_reasons(lake, manifest)
        for nct_id, reason in quarantined[:_MOST_LOGGED]:
            context.log.warning(f"in quarantine: {nct_id}: {reason}", extra={"nct_id": nct_id})
    outcomes = snapshot_check_results(
        manifest,
        configured,
        quarantined=quarantined,
        unknown=studies_with_unknown_fields(lake, manifest),
    )
    return dg.MaterializeResult(
        metadata=_metadata(lake, manifest),
        data_version=dg.DataVersion(manifest.content_fingerprint),
        check_results=[check_result(outcomes[name], name) for name in _CHECKS],
    )


def _history_metadata(lake: Lake, entry: HistoryEntry) -> dict[str, Any]:
    return {
        "entry": entry.sequence,
        "extraction": entry.extraction_id,
        "mode": str(entry.mode),
        "data timestamp (UTC)": entry.data_timestamp,
        "observed at": dg.MetadataValue.timestamp(entry.observed_at),
        "whole walk": entry.complete,
        "current studies": entry.studies,
        "studies to fetch": entry.stale,
        "dagster/uri": lake.history.periods_path() or "",
    }


def _metadata(lake: Lake, manifest: SnapshotManifest) -> dict[str, Any]:
    quarantined = lake.snapshots.quarantine(manifest.snapshot_id)
    first = next(iter(lake.snapshots.batches(manifest.snapshot_id)), None)
    return {
        "dagster/row_count": manifest.studies,
        "dagster/uri": lake.snapshots.studies_path(manifest.snapshot_id),
        "dagster/column_schema": _column_schema(),
        "data timestamp (UTC)": manifest.data_timestamp,
        "extraction": manifest.extraction_id,
        "JSON MB": round(manifest.json_bytes / 1e6, 1),
        "Parquet MB": round(manifest.file_bytes / 1e6, 1),
        "parts": len(manifest.parts),
        "rows of a study seen before": manifest.duplicate_rows,
        "quarantine": dg.MetadataValue.md(
            markdown_table(
                ("NCT id", "page", "reason"),
                zip(
                    *(quarantined[c].to_pylist() for c in ("nct_id", "page", "reason")), strict=True
                ),
            )
        ),
        "unknown fields": dg.MetadataValue.md(
            markdown_table(("path", "occurrences"), manifest.unknown_fields.items())
        ),
        "preview": dg.MetadataValue.md(_preview(first)),
        "studies by status": bar_chart("status", _count_by_status(lake, manifest)),
    }


def _count_by_status(lake: Lake, manifest: SnapshotManifest) -> Counter[str]:
    counts: Counter[str] = Counter()
    for batch in lake.snapshots.batches(manifest.snapshot_id, [".".join(_STATUS)]):
        status = pc.struct_field(batch[_STATUS[0]], list(_STATUS[1:]))
        for entry in pc.value_counts(status.combine_chunks()).to_pylist():
            counts[entry["values"] or "(none)"] += entry["counts"]
    return counts


def _column_schema() -> dg.TableSchema:
    return dg.TableSchema(
        columns=[dg.TableColumn(field.name, _short_type(field.type)) for field in snapshot_schema()]
    )


def _short_type(kind: pa.DataType) -> str:
    """A struct's whole type is longer than a screen; its field names say enough."""
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(field.name for field in kind)}>"
    return str(kind)


def _preview(rows: pa.Table | None) -> str:
    if rows is None:
        return "(no studies)"
    head = rows.slice(0, _PREVIEW_ROWS).to_pylist()
    lines = []
    for row in head:
        protocol = row["protocolSection"] or {}
        identification = protocol.get("identificationModule") or {}
        status = protocol.get("statusModule") or {}
        lines.append((row["nct_id"], identification.get("briefTitle"), status.get("overallStatus")))
    return markdown_table(("NCT id", "title", "status"), lines)
