"""`prune-events`: what goes, and that nothing is lost of what Dagster's UI and our sensors read."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dagster as dg
import pytest
from dagster_postgres.event_log import PostgresEventLogStorage
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.orchestration.event_log import prune_events
from ctg_assets.orchestration.instance import open_instance
from ctg_assets.orchestration.runs import failed_checks
from ctg_assets.postgres.connection import PostgresAddress

pytestmark = [
    pytest.mark.slow,
    # As `orchestration` ignores it where no test runs.
    pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`"),
]

PROJECT = Path(__file__).resolve().parents[2]
LATER = datetime.now(UTC) + timedelta(days=400)
PAGES = dg.DynamicPartitionsDefinition(name="page")
KEYS = ["x-00001", "x-00002", "x-00003"]
"""Shall fail: the last page, and with it the run."""


def definitions(*, failing: bool) -> dg.Definitions:
    """A range of pages, and a table with a check."""

    @dg.asset(partitions_def=PAGES, backfill_policy=dg.BackfillPolicy.single_run())
    def page_shards(context: dg.AssetExecutionContext) -> None:
        for key in context.partition_keys:
            context.log.info("a word on %s" % key)  # noqa: UP031 - as libraries do
            if failing and key == KEYS[-1]:
                message = "the registry is down"
                raise ValueError(message)
            if failing:
                context.log_event(dg.AssetMaterialization("page_shards", partition=key))

    @dg.asset(metadata={"dagster/table_name": "staging.studies"})
    def studies() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(
            metadata={"dagster/row_count": 3}, data_version=dg.DataVersion("7")
        )

    @dg.asset_check(asset=studies)
    def rows_fit() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="one is missing")

    return dg.Definitions(
        assets=[page_shards, studies],
        asset_checks=[rows_fit],
        jobs=[
            dg.define_asset_job("extract_pages", [page_shards]),
            dg.define_asset_job("build_warehouse", [studies]),
        ],
    )


def execute(instance: dg.DagsterInstance, job: str, *, failing: bool = False) -> str:
    """Run a job; pages as a range."""
    resolved = definitions(failing=failing).resolve_job_def(job)
    tags = {
        "dagster/asset_partition_range_start": KEYS[0],
        "dagster/asset_partition_range_end": KEYS[-1],
    }
    return resolved.execute_in_process(
        instance=instance, raise_on_error=False, tags=tags if job == "extract_pages" else {}
    ).run_id


def known(instance: dg.DagsterInstance) -> dict[str, Any]:
    """All that UI and sensors read: lineage, partitions, versions, checks, runs and their steps."""
    storage = instance.event_log_storage
    pages, studies = dg.AssetKey("page_shards"), dg.AssetKey("studies")
    partitions = definitions(failing=False).resolve_asset_graph().get(pages).partitions_def
    assert partitions is not None
    ends = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE)
    return {
        "materializations": {
            key.to_user_string(): [
                (record.storage_id, record.partition_key, record.asset_materialization)
                for record in instance.fetch_materializations(key, limit=100).records
            ]
            for key in (pages, studies)
        },
        "latest": instance.get_latest_materialization_event(studies),
        "version": instance.get_latest_data_version_record(studies),
        "partitions": instance.get_materialized_partitions(pages),
        "statuses": instance.get_status_by_partition(pages, KEYS, partitions),
        "attempts": storage.get_latest_asset_partition_materialization_attempts_without_materializations(
            pages
        ),
        "assets": [
            (record.asset_entry.asset_key, record.asset_entry.last_run_id)
            for record in instance.get_asset_records()
        ],
        "checks": [
            (one.run_id, one.status, one.event)
            for one in storage.get_asset_check_execution_history(
                dg.AssetCheckKey(studies, "rows_fit"), limit=10
            )
        ],
        "failed checks": failed_checks(instance),
        "ends": [
            (record.storage_id, record.run_id)
            for kind in ends
            for record in instance.fetch_run_status_changes(kind, limit=100).records
        ],
        "runs": [(run.run_id, run.status) for run in instance.get_runs()],
        "steps": {
            run.run_id: instance.get_run_step_stats(run.run_id) for run in instance.get_runs()
        },
        "stats": {run.run_id: instance.get_run_stats(run.run_id) for run in instance.get_runs()},
    }


def kinds(instance: dg.DagsterInstance, run_id: str) -> Counter[str]:
    """How many events of each kind a run has."""
    return Counter(
        "message" if entry.dagster_event is None else entry.dagster_event.event_type_value
        for entry in instance.all_logs(run_id)
    )


@pytest.fixture(params=["SQLite", pytest.param("Postgres", marks=pytest.mark.postgres)])
def instance(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance as our `dagster.yaml` describes it, or one whose events are in Postgres."""
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    with open_instance() as instance:
        if request.param == "Postgres":
            address: PostgresAddress = request.getfixturevalue("address")
            url = address.url.replace("postgresql://", "postgresql+psycopg2://")
            storage = PostgresEventLogStorage(url, should_autocreate_tables=True)
            storage.register_instance(instance)
            monkeypatch.setattr(instance, "_event_storage", storage)
        instance.add_dynamic_partitions("page", KEYS)
        yield instance


def test_what_ui_and_sensors_read_stays(instance: dg.DagsterInstance) -> None:
    """After pruning every answer is what it was, of a run that failed and of those that did not, and events are fewer."""
    failed = execute(instance, "extract_pages", failing=True)
    fetched = execute(instance, "extract_pages")
    built = execute(instance, "build_warehouse")
    runs = (failed, fetched, built)
    before, events = known(instance), {run: kinds(instance, run) for run in runs}
    would = prune_events(instance, ended_before=LATER, dry_run=True)
    assert {run: kinds(instance, run) for run in runs} == events
    done = prune_events(instance, ended_before=LATER)
    after = known(instance)
    for name, answer in before.items():
        assert after[name] == answer, name
    assert (done.runs, done.events) == (would.runs, would.events) == (3, done.events)
    left = {run: kinds(instance, run) for run in runs}
    assert sum(sum(each.values()) for each in events.values()) - done.events == sum(
        sum(each.values()) for each in left.values()
    )
    assert events[fetched]["message"] == len(KEYS)
    assert not {"message", "HANDLED_OUTPUT"} & {*left[fetched], *left[failed], *left[built]}
    assert left[failed]["ASSET_MATERIALIZATION_PLANNED"] == len(KEYS)
    assert left[fetched]["ASSET_MATERIALIZATION_PLANNED"] == 0
    assert left[fetched]["ASSET_MATERIALIZATION"] == len(KEYS)
    again = prune_events(instance, ended_before=LATER)
    assert (again.runs, again.events) == (0, 0)


@pytest.mark.parametrize("instance", ["SQLite"], indirect=True)
def test_who_is_killed_between_two_files_goes_on(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run has in the index of all runs is not forgotten when its own file is done first."""
    run_id = execute(instance, "build_warehouse")
    storage: Any = instance.event_log_storage
    events = kinds(instance, run_id)
    with monkeypatch.context() as killed:
        killed.setattr(storage, "index_connection", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prune_events(instance, ended_before=LATER)
    assert kinds(instance, run_id) == events
    assert prune_events(instance, ended_before=LATER).runs == 1


def test_recent_and_unfinished_runs_are_left_alone(instance: dg.DagsterInstance) -> None:
    """Only runs that ended before the moment lose anything, and none that has not ended."""
    run_id = execute(instance, "build_warehouse")
    # Its events say from the beginning what it is to make.
    unfinished = instance.create_run_for_job(
        definitions(failing=False).resolve_job_def("build_warehouse"),
        status=dg.DagsterRunStatus.STARTED,
    )
    planned = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value
    events = kinds(instance, run_id)
    assert prune_events(instance, ended_before=datetime.now(UTC) - timedelta(days=1)).events == 0
    assert kinds(instance, run_id) == events
    prune_events(instance, ended_before=LATER)
    assert kinds(instance, unfinished.run_id)[planned] == 1


def test_the_command_says_what_it_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--dry-run` counts, and leaves everything; files of SQLite become smaller."""
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    with open_instance() as instance:
        instance.add_dynamic_partitions("page", KEYS)
        execute(instance, "extract_pages")
    monkeypatch.setattr("ctg_assets.cli.events.timedelta", lambda days: -timedelta(days=days))
    for arguments, said in (
        (["--dry-run"], "would be removed"),
        ([], "removed"),
        ([], "0 events of 0"),
    ):
        told = CliRunner().invoke(app, ["prune-events", *arguments])
        assert (told.exit_code, said in told.output) == (0, True), told.output
