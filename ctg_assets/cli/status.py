"""`status`: what is there, how fresh it is, and what is unfinished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctg_assets.cli.console import (
    MOST_LISTED,
    age,
    check_line,
    err,
    facts,
    labelled,
    out,
    quiet_dagster,
)
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.printable import printable
from ctg_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from ctg_assets.lake import Lake
    from ctg_assets.refresh.status import ExtractionStatus, WarehouseStatus


@with_exit_code
def status(
    page_range: Annotated[
        bool,
        typer.Option(
            "--page-range",
            help="Print only the partition range of the planned pages, for `dagster asset "
            "materialize --select page_shards --partition-range`.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="All of it as JSON, for programs; times are in UTC.")
    ] = False,
) -> None:
    """What is there, how fresh it is, and what is running or unfinished.

    Does not ask the registry. Exit codes: 0 all could be told, 1 something cannot be read, 2 unusable
    settings.
    """
    settings = load_settings()
    if page_range:
        _print_page_range(settings)
    elif as_json:
        told = whole_status(settings)
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        if told["database"]["problem"] is not None:
            raise typer.Exit(ExitCode.FAILED)
    else:
        _print_status(settings)


def whole_status(settings: Settings) -> dict[str, Any]:
    """Everything that this command tells, in JSON's types. Raises CtgAssetsError."""
    from ctg_assets.lake import open_lake
    from ctg_assets.orchestration.instance import has_state, open_instance
    from ctg_assets.orchestration.runs import failed_checks, unfinished_runs
    from ctg_assets.refresh.status_document import status_document

    told = status_document(settings, open_lake(settings))
    checks: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    if has_state(settings):
        with quiet_dagster(), open_instance() as instance:
            checks = [asdict(check) for check in failed_checks(instance)]
            runs = [asdict(run) for run in unfinished_runs(instance)]
    return {**told, "failed_checks": checks, "runs": runs}


def _print_status(settings: Settings) -> None:
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh.planner import Step
    from ctg_assets.refresh.status import extraction_statuses, odd_times, warehouse_and_next_step

    lake = open_lake(settings)
    places = [("data folder", str(settings.data_dir))]
    if settings.data_url is not None:
        places.append(("lake", settings.data_url))
    out.print(facts([*places, ("registry", settings.api_url)]))
    _print_published_model(settings, lake)
    _print_searches(settings, lake)
    extractions = extraction_statuses(lake)
    if not extractions:
        out.print("\nnothing has been extracted yet; `ctg-assets refresh` begins")
    for extraction in extractions:
        out.print()
        out.print(facts(extraction_facts(extraction)))
    for line in odd_times(lake, datetime.now(UTC)):
        out.print(f"\na time that cannot be: {printable(line)}")
    _print_snapshot(lake)
    out.print()
    warehouse, upcoming = warehouse_and_next_step(settings, lake)
    out.print(facts(warehouse_facts(warehouse)))
    out.print()
    _print_runs()
    if upcoming is None:
        raise typer.Exit(ExitCode.FAILED)
    if isinstance(upcoming, Step):
        out.print(f"to be done: {printable(upcoming.reason)}")
    elif upcoming.blocked:
        out.print(labelled("held back", "yellow", f": {upcoming.reason}"))
    else:
        out.print("nothing is unfinished")


def _print_published_model(settings: Settings, lake: Lake) -> None:
    from ctg_assets.extract.published_model import (
        differences,
        published_model_check,
        recorded_model,
    )

    record = recorded_model(lake.storage, settings.api_url)
    if record is None:
        return
    check_result = published_model_check(record)
    out.print(facts([("its model", f"{check_result.description} (asked {age(record.asked_at)})")]))
    found = differences(record)
    for difference in found[:MOST_LISTED]:
        out.print(f"  {printable(difference)}")
    if len(found) > MOST_LISTED:
        out.print(f"  {len(found) - MOST_LISTED:,} more differences")


def _print_searches(settings: Settings, lake: Lake) -> None:
    from ctg_assets.extract.search_file import saved_searches
    from ctg_assets.extract.searches import recorded_search, searches_check

    searches = saved_searches(settings.searches_file) if settings.aact else ()
    source = settings.api_url
    if not any(recorded_search(lake.storage, source, search) for search in searches):
        return
    check_result = searches_check(lake.storage, source, searches)
    out.print(facts([("searches", printable(check_result.description))]))


def _print_snapshot(lake: Lake) -> None:
    from ctg_assets.refresh.status import quarantine_reasons

    manifest = lake.snapshots.latest()
    if manifest is None:
        return
    parquet, json = manifest.file_bytes / 1e6, manifest.json_bytes / 1e6
    shown = [
        ("snapshot", lake.snapshots.studies_path(manifest.snapshot_id)),
        ("data version", f"{manifest.data_timestamp} UTC"),
        ("studies", f"{manifest.studies:,}"),
        ("in quarantine", f"{manifest.quarantined:,}"),
        ("size", f"{parquet:,.1f} MB of {json:,.1f} MB JSON"),
    ]
    out.print()
    out.print(facts(shown))
    quarantined = quarantine_reasons(lake, manifest)
    for nct_id, reason in quarantined[:MOST_LISTED]:
        out.print(f"  in quarantine: {printable(nct_id)}: {printable(reason)}")
    if len(quarantined) > MOST_LISTED:
        rest = len(quarantined) - MOST_LISTED
        out.print(f"  in quarantine: {rest:,} more, in quarantine.parquet beside the snapshot")
    for path, occurrences in manifest.unknown_fields.items():
        out.print(f"  not in the model: {printable(path)} ({occurrences} times)")


def _print_page_range(settings: Settings) -> None:
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh.status import planned_page_range

    planned = planned_page_range(open_lake(settings))
    if planned is None:
        err.print("no pages are planned; materialize extraction_plan first", style="red")
        raise typer.Exit(ExitCode.FAILED)
    print("...".join(planned))


def _print_runs() -> None:
    from ctg_assets.orchestration.instance import open_instance
    from ctg_assets.orchestration.runs import failed_checks, unfinished_runs

    with quiet_dagster(), open_instance() as instance:
        failed = failed_checks(instance)
        runs = unfinished_runs(instance)
    for check in failed:
        name = f"{check.asset}: {check.name}"
        out.print(check_line(name, check.description, warning=check.is_warning))
    for run in runs:
        out.print(str(run))


def extraction_facts(status: ExtractionStatus) -> list[tuple[str, str]]:
    """An extraction: its plan, its state and how far it is."""
    plan = status.plan
    of_pages = "" if plan.planned_pages is None else f" of {plan.planned_pages}"
    in_chains = f", in {len(plan.chains)} chains side by side" if plan.chains else ""
    found = [
        ("extraction", plan.extraction_id),
        ("state", str(status.state)),
        ("from", plan.source + (f" where {plan.query}" if plan.query else "")),
        ("data version", f"{plan.data_timestamp} UTC"),
        ("mode", str(plan.mode) + (f": {plan.reason}" if plan.reason else "")),
        ("planned", f"{plan.planned_at:%Y-%m-%d %H:%M:%S} UTC ({age(plan.planned_at)})"),
        ("pages", f"{status.pages}{of_pages}{in_chains}"),
    ]
    if status.completion is not None:
        found.append(("studies", f"{status.completion.distinct_studies:,}"))
    if status.supersession is not None:
        found.append(("given up", status.supersession.reason))
    return found


def warehouse_facts(status: WarehouseStatus) -> list[tuple[str, str]]:
    """What the database holds."""
    if not status.is_wanted:
        return [("database", "none wanted (CTG_WAREHOUSE)")]
    if status.problem is not None:
        return [("database", status.problem)]
    found = [("database", status.address or "")]
    if status.info is None:
        # A load makes tables and fills them at once.
        emptied = "empty; what they held was taken back (`ctg-assets history list`)"
        found.append(("tables", emptied if status.staging_rows else "nothing has been loaded yet"))
        return found
    loaded, version = status.info.loaded_at, status.info.data_timestamp
    return [
        *found,
        ("loaded", f"{loaded:%Y-%m-%d %H:%M:%S} UTC ({age(loaded)})"),
        ("from snapshot", status.info.snapshot_id),
        ("data version", "unknown" if version is None else f"{version:%Y-%m-%dT%H:%M:%S} UTC"),
        ("staging", _rows_in_words(status.staging_rows)),
        *_aact_facts(status.ctgov_rows),
        *_marts_facts(status),
    ]


def _marts_facts(status: WarehouseStatus) -> list[tuple[str, str]]:
    rows, left_over = status.marts_rows, ", ".join(status.marts_left_over)
    return [
        ("marts", "none wanted (CTG_MARTS)" if rows is None else _rows_in_words(rows)),
        *(
            [("not kept up to date", f"{left_over} (CTG_MARTS leaves them out)")]
            if left_over
            else []
        ),
    ]


def _aact_facts(rows: Mapping[str, int] | None) -> list[tuple[str, str]]:
    return [] if rows is None else [("AACT's (ctgov)", _rows_in_words(rows))]


def _rows_in_words(rows: Mapping[str, int] | None) -> str:
    if not rows:
        return "not built yet"
    return f"{len(rows)} tables, {sum(rows.values()):,} rows"
