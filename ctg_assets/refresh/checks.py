"""What must be true of shards and snapshots before going on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import polars as pl

from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.recording import Disappearance, Recorder
from ctg_assets.lake import Lake
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets.times import format_time, parse_data_timestamp, why_impossible

# The registry's count and its pages come from one index, so they should agree to the study. A handful
# too few is told; more than this share missing stops the way downstream.
_TOLERATED_MISSING_FRACTION = 0.001

# A description names so many; facts and `ctg-assets status` have more.
_MOST_NAMED = 3


def few(names: Iterable[object], total: int | None = None) -> str:
    """The first of some names, and how many more there are."""
    listed = list(names)
    more = (len(listed) if total is None else total) - len(listed[:_MOST_NAMED])
    shown = ", ".join(map(str, listed[:_MOST_NAMED]))
    return f"{shown} and {more:,} more" if more > 0 else shown


def first_blocking(check_results: Mapping[str, CheckResult]) -> str | None:
    """The first check that forbids to go on, with what it found; None if none does."""
    for name, check_result in check_results.items():
        if not check_result.passed and check_result.blocking:
            return f"check {name} failed: {check_result.description}"
    return None


def check_shards(lake: Lake, plan: ExtractionPlan) -> CheckResult:
    """Whether an extraction's shards are whole: rows as counted, ids unique, total as expected."""
    ids: list[pl.Series] = []
    wrong_counts = []
    for info in lake.shards.infos(plan.extraction_id):
        page_ids = lake.shards.read(plan.extraction_id, info.page, ["nct_id"])["nct_id"]
        if len(page_ids) != info.studies:
            wrong_counts.append(info.page)
        ids.append(pl.Series(page_ids.drop_null(), dtype=pl.String))
    all_ids = pl.concat(ids) if ids else pl.Series(dtype=pl.String)
    distinct = all_ids.n_unique()
    facts: dict[str, int | float | str] = {
        "extraction": plan.extraction_id,
        "pages": len(ids),
        "rows": len(all_ids),
        "distinct NCT ids": distinct,
        "rows of a study seen before": len(all_ids) - distinct,
    }
    if plan.planned_pages is not None:
        facts["planned pages"] = plan.planned_pages
    if plan.expected_studies is not None:
        facts["expected studies"] = plan.expected_studies

    if wrong_counts:
        described = (
            f"row counts of {len(wrong_counts)} of {len(ids)} pages are not as recorded: pages "
            f"{few(wrong_counts)}"
        )
        return CheckResult(False, described, facts=facts)
    completion = lake.extractions.completion(plan.extraction_id)
    if completion is not None and len(ids) < completion.pages:
        gone = (
            f"{completion.pages - len(ids)} of the {completion.pages} pages that were taken are gone "
            f"from {lake.location}; `ctg-assets refresh --again` takes all of them anew"
        )
        return CheckResult(False, gone, facts=facts)
    if plan.planned_pages is not None and len(ids) < plan.planned_pages:
        here = f"{len(ids)} of {plan.planned_pages} pages are there; what is there is sound"
        return CheckResult(True, here, facts=facts)
    expected = plan.expected_studies
    if expected is not None and distinct != expected:
        # All that a census is for is to tell what is there and what is not.
        is_census = plan.mode is ExtractionMode.CENSUS
        blocking = is_census or distinct < expected * (1 - _TOLERATED_MISSING_FRACTION)
        found = f"the registry counted {expected} studies, its pages held {distinct}"
        return CheckResult(False, found, blocking=blocking, facts=facts)
    if len(all_ids) != distinct:
        repeated = all_ids.filter(all_ids.is_duplicated()).unique().sort()
        seen = (
            f"{len(all_ids) - distinct} rows repeat a study; compaction keeps the newest: "
            f"{few(repeated)}"
        )
        return CheckResult(False, seen, blocking=False, facts=facts)
    return CheckResult(True, f"all pages are there with {distinct} distinct studies", facts=facts)


def check_disappearance(found: Disappearance | None, settings: Settings) -> CheckResult:
    """Whether about as many studies are there as before; asked before those gone count as removed.

    `found` is None for an extraction that does not tell what is gone.
    """
    if found is None:
        return CheckResult(True, "this extraction does not tell which studies are gone")
    facts: dict[str, int | float | str] = {"studies before": found.current, "gone": found.gone}
    share = found.gone / max(1, found.current)
    described = f"{found.gone} of {found.current} studies are gone"
    if found.left_scope:
        return CheckResult(True, f"{described}: another scope was walked", facts=facts)
    limit = settings.max_shrink_fraction
    if share > limit:
        return CheckResult(
            False,
            f"{described} ({share:.1%}, bound {limit:.1%}), {few(found.examples, found.gone)}; everything "
            "stays as it was. If this is real, set CTG_MAX_SHRINK_FRACTION for one refresh.",
            facts=facts,
        )
    return CheckResult(True, described, facts=facts)


def check_import_time(plan: ExtractionPlan) -> CheckResult:
    """Whether an import is of a time that can be; earlier releases took others, too."""
    if plan.mode is not ExtractionMode.IMPORT:
        return CheckResult(
            True, "a walk counts as of a time that can be, whatever the registry says"
        )
    try:
        reason = why_impossible(parse_data_timestamp(plan.data_timestamp), plan.planned_at)
    except ValueError:
        reason = "no time"
    if reason is None:
        return CheckResult(True, f"{plan.source} is of {plan.data_timestamp}")
    return CheckResult(
        False,
        f"{plan.source} was brought in as of {plan.data_timestamp}, which is {reason}; it is left "
        "out. Import it again, and say with --observed-at when the registry had these contents",
    )


def check_times(plan: ExtractionPlan, entry: HistoryEntry) -> CheckResult:
    """Whether what was recorded counts for times that were said; `entry` is that of `plan`."""
    found = []
    if plan.mode is not ExtractionMode.IMPORT:
        said = parse_data_timestamp(plan.data_timestamp)
        reason = why_impossible(said, plan.planned_at)
        if reason is not None and entry.counted_timestamp == entry.data_timestamp:
            found.append(
                f"the registry says that its data are of {plan.data_timestamp}, which is {reason}. The "
                "studies or the walk before bear it out, so the clock of this machine is probably wrong"
            )
        elif reason is not None:
            found.append(
                f"the registry says that its data are of {plan.data_timestamp}, which is {reason}. What "
                f"was seen counts as observed at {format_time(entry.observed_at)} UTC instead"
            )
    if entry.impossible_dates:
        found.append(
            f"{entry.impossible_dates} contents have a last update date that cannot be, such as "
            f"{entry.impossible_date}; they count as observed at {plan.data_timestamp}"
        )
    if found:
        return CheckResult(False, "; ".join(found), blocking=False)
    return CheckResult(
        True, f"what was seen counts as observed at {format_time(entry.observed_at)} UTC"
    )


def recording_check_results(
    lake: Lake, plan: ExtractionPlan, settings: Settings
) -> dict[str, CheckResult]:
    """The results of all checks of a complete extraction before it is recorded, by the name of the check."""
    shards = check_shards(lake, plan)
    if shards.passed or not shards.blocking:
        found = Recorder(lake.storage, lake.scratch).disappearance(plan.extraction_id)
        disappearance = check_disappearance(found, settings)
    else:
        disappearance = CheckResult(False, f"cannot be told: {shards.description}")
    return {
        "pages_are_complete_and_consistent": shards,
        "no_mass_disappearance": disappearance,
        "the_time_can_be": check_import_time(plan),
    }


def check_snapshot_count(manifest: SnapshotManifest) -> CheckResult:
    """Whether every NCT id of the shards is in the snapshot or in its quarantine."""
    facts: dict[str, int | float | str] = {
        "studies": manifest.studies,
        "quarantined": manifest.quarantined,
        "distinct NCT ids in the shards": manifest.distinct_ids,
    }
    accounted = manifest.studies + manifest.quarantined
    # Rows without an NCT id are quarantined too, but are no id of the shards.
    passed = manifest.studies <= manifest.distinct_ids <= accounted
    return CheckResult(
        passed,
        f"{manifest.studies} studies and {manifest.quarantined} in quarantine account for "
        f"{manifest.distinct_ids} distinct NCT ids",
        facts=facts,
    )


def check_quarantine(
    manifest: SnapshotManifest, settings: Settings, quarantined: Sequence[tuple[str, str]] = ()
) -> CheckResult:
    """Whether few enough studies could not be typed; `quarantined` are some of them with the reason.

    A record without an id does not count if it came with a file: it is no study that the tables lack.
    The registry's own records count, since it may have moved its ids elsewhere. One study alone beside
    sound ones is told and stops nothing, unless no share at all is allowed.
    """
    limit = settings.max_quarantine_fraction
    counted = manifest.quarantined - manifest.strays
    share = counted / max(1, manifest.studies + counted)
    facts: dict[str, int | float | str] = {"quarantined": manifest.quarantined, "share": share}
    reasons = sorted(manifest.quarantine_reasons.items(), key=lambda item: (-item[1], item[0]))
    named = few(f"{reason} ({studies})" for reason, studies in reasons)
    if quarantined:
        named += f"; for example {quarantined[0][0]}: {quarantined[0][1]}"
    is_alone = counted == 1 and manifest.studies > 0 and limit > 0
    if share > limit and not is_alone:
        return CheckResult(
            False,
            f"{share:.1%} of the studies ({counted}) could not be typed, more than "
            f"{limit:.1%}: the registry's format has probably changed: {named}. `ctg-assets status` lists "
            "the reasons; CTG_MAX_QUARANTINE_FRACTION sets the bound.",
            facts=facts,
        )
    if manifest.quarantined == 0:
        return CheckResult(True, "0 studies are in quarantine", blocking=False, facts=facts)
    studies = "study is" if manifest.quarantined == 1 else "studies are"
    described = f"{manifest.quarantined} {studies} in quarantine: {named}"
    return CheckResult(False, described, blocking=False, facts=facts)


def check_drift(
    manifest: SnapshotManifest, studies: Mapping[str, str] | None = None
) -> CheckResult:
    """Whether studies hold only fields that the model knows; `studies` has a study for some paths."""
    unknown = manifest.unknown_fields
    facts: dict[str, int | float | str] = dict(unknown)
    if unknown:
        named = few(f"{path} ({occurrences} times)" for path, occurrences in unknown.items())
        fields = "field is" if len(unknown) == 1 else "fields are"
        described = f"{len(unknown)} {fields} not in the model: {named}"
        for path, study in (studies or {}).items():
            described += f"; for example {study} has {path}"
            break
        return CheckResult(False, described, blocking=False, facts=facts)
    return CheckResult(True, "every field is in the model", facts=facts)


def snapshot_check_results(
    manifest: SnapshotManifest,
    settings: Settings,
    *,
    quarantined: Sequence[tuple[str, str]] = (),
    unknown: Mapping[str, str] | None = None,
) -> dict[str, CheckResult]:
    """The results of all checks of a snapshot, by the name of the check.

    `quarantined` (some studies in quarantine with the reason) and `unknown` (a study for some paths
    that are not in the model) are examples for the descriptions.
    """
    return {
        "every_study_is_accounted_for": check_snapshot_count(manifest),
        "few_studies_in_quarantine": check_quarantine(manifest, settings, quarantined),
        "no_unknown_fields": check_drift(manifest, unknown),
    }


def check_study_rows(manifest: SnapshotManifest, rows: int | None) -> CheckResult:
    """Whether the table `studies` was loaded whole; `rows` is None when it was not loaded just now."""
    facts: dict[str, int | float | str] = {"studies in the snapshot": manifest.studies}
    if rows is None:
        return CheckResult(True, "the table studies was not part of this load", facts=facts)
    facts["rows"] = rows
    described = f"{rows} rows for {manifest.studies} studies"
    return CheckResult(rows == manifest.studies, described, facts=facts)


def check_foreign_keys(missing: Collection[str]) -> CheckResult:
    """Whether all foreign keys between staging tables are there; whether they hold, loads make sure of."""
    if missing:
        named = ", ".join(sorted(missing))
        return CheckResult(False, f"{len(missing)} keys are missing: {named}")
    return CheckResult(True, "every declared foreign key is there, and was proved by the load")
