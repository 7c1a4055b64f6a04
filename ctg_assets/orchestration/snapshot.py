"""The asset `studies`: the compacted snapshot, with the checks on it.

Belongs here: how compaction shows in Dagster. Does not belong here: compaction (`lake/compaction.py`)
and the rules of the checks (`pipeline/checks.py`).
"""

from collections import Counter
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from ctg_assets.lake.extractions import ExtractionState
from ctg_assets.lake.recording import IncompleteExtractionError
from ctg_assets.lake.snapshots import SnapshotManifest, snapshot_schema
from ctg_assets.orchestration.extraction import OWNERS, page_shards
from ctg_assets.orchestration.metadata import bar_chart, markdown_table
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.runs import mark_running_here
from ctg_assets.orchestration.verdicts import check_result
from ctg_assets.pipeline.checks import snapshot_verdicts
from ctg_assets.pipeline.last_loaded import studies_last_loaded
from ctg_assets.pipeline.retention import prune
from ctg_assets.pipeline.services import Lake, exclusively, open_lake

GROUP = "lake"

_CHECKS = {
    "every_study_is_accounted_for": "Studies and quarantine together hold every id of the shards.",
    "few_studies_in_quarantine": "Few studies could not be typed; any is worth a look.",
    "no_mass_disappearance": "The snapshot has about as many studies as were last loaded.",
    "no_unknown_fields": "Every field of every study is in the data model.",
}

_PREVIEW_ROWS = 5
_STATUS = ("protocolSection", "statusModule", "overallStatus")


@dg.asset(
    deps=[page_shards],
    group_name=GROUP,
    kinds={"parquet"},
    owners=OWNERS,
    check_specs=[
        dg.AssetCheckSpec(name, asset="studies", blocking=True, description=description)
        for name, description in _CHECKS.items()
    ],
)
def studies(context: dg.AssetExecutionContext, settings: SettingsResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The whole registry at one data version: one typed row a study, sorted by NCT id.

    Made of the newest complete extraction. Studies that cannot be typed are set aside with the
    reason, in a file of their own; fields that the model does not know are reported.
    """
    configured = settings.load()
    lake = open_lake(configured)
    mark_running_here(context)
    plan = lake.extractions.latest(ExtractionState.COMPLETE)
    if plan is None:
        message = (
            "no extraction is complete yet; materialize extraction_plan and all its page_shards"
        )
        raise IncompleteExtractionError(message)

    def log_progress(done: int, total: int) -> None:
        context.log.debug(f"{done} of {total} studies compacted")

    with exclusively(configured, "snapshot"):
        manifest = lake.compactor.compact(plan.extraction_id, log_progress)
        prune(lake, keep_extractions=configured.keep_extractions)
    last_loaded = studies_last_loaded(lake, manifest)
    verdicts = snapshot_verdicts(manifest, configured, last_loaded)
    return dg.MaterializeResult(
        metadata=_metadata(lake, manifest),
        data_version=dg.DataVersion(manifest.content_fingerprint),
        check_results=[check_result(verdicts[name], name) for name in _CHECKS],
    )


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
