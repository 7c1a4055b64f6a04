"""The assets one by one, as the UI materializes them, and what their materializations carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from ctg_assets.extract.extractions import ExtractionPlan, ExtractionState
from ctg_assets.extract.portions import PortionStore
from ctg_assets.lake import Lake, open_lake
from ctg_assets.orchestration.extraction import extraction_plan, page_shards
from ctg_assets.orchestration.pages import range_tags, registered_pages
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.snapshot import history, studies
from ctg_assets.orchestration.staging import build_staging_assets
from ctg_assets.postgres.inspection import row_counts
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator import catalog
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot import typing_ahead
from ctg_assets_tests.support.postgres import temporary_folder

# Each test has a Dagster instance of its own.
pytestmark = pytest.mark.slow

STUDIES, PAGE_SIZE, PAGES = 25, 10, 3


@dataclass
class Bench:
    """An instance and a data folder to materialize in."""

    settings: Settings
    instance: dg.DagsterInstance
    simulator: RunningSimulator

    @property
    def lake(self) -> Lake:
        """Its lake."""
        return open_lake(self.settings)

    def materialize(
        self,
        asset: dg.AssetsDefinition,
        tags: Mapping[str, str] | None = None,
        selection: list[dg.AssetKey] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets; a failure is in the result."""
        overrides = self.settings.model_dump(mode="json", exclude_none=True)
        overrides["data_dir"] = str(self.settings.data_dir)
        return dg.materialize(
            [asset],
            instance=self.instance,
            resources={"settings": SettingsResource(overrides=overrides)},
            tags=dict(tags or {}),
            selection=selection,
            raise_on_error=False,
        )

    def plan(self) -> ExtractionPlan:
        """Materialize the plan, and return it."""
        assert self.materialize(extraction_plan).success
        plan = self.lake.extractions.latest(ExtractionState.OPEN)
        assert plan is not None
        return plan

    def metadata(self, *key: str, partition: str | None = None) -> dict[str, Any]:
        """What the last materialization of an asset, or of one of its partitions, carries."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(key), asset_partitions=[partition] if partition else None
            ),
            limit=1,
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        return {name: value.value for name, value in materialization.metadata.items()}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An empty bench with a registry of its own."""
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as simulator,
        temporary_folder() as folder,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        settings = load_settings(
            api_url=simulator.api_url,
            data_dir=folder,
            page_size=PAGE_SIZE,
            requests_per_minute=10_000,
            retry_seconds=0,
        )
        yield Bench(settings, instance, simulator)


def test_a_first_walk_is_typed_while_it_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages lie in portions afterwards, the snapshot is made of these, and they are removed."""
    monkeypatch.setattr(typing_ahead, "_PORTION_JSON_BYTES", 1)
    plan = bench.plan()
    assert bench.materialize(page_shards, range_tags(plan, 1, 2)).success
    assert bench.materialize(page_shards, range_tags(plan, 3, PAGES)).success
    portions = PortionStore(bench.lake.scratch)
    records = portions.records(plan.extraction_id, bench.lake.shards)
    assert sorted(info.page for record in records for info in record.pages) == [1, 2, 3]
    assert bench.materialize(history).success
    with monkeypatch.context() as patch:
        patch.setattr("ctg_assets.snapshot.compaction.type_contents", None)
        assert bench.materialize(studies).success
    assert bench.metadata("studies")["dagster/row_count"] == STUDIES
    assert portions.extractions() == []


@pytest.mark.postgres
def test_each_asset_in_turn(bench: Bench) -> None:
    """Plan, pages, snapshot and a few tables can be materialized alone, and show what they made."""
    plan = bench.plan()
    shown = bench.metadata("extraction_plan")
    assert (shown["expected studies"], shown["pages"]) == (STUDIES, PAGES)
    assert shown["last page"] == plan.page_key(PAGES)
    assert registered_pages(bench.instance) == plan.page_keys()

    assert bench.materialize(page_shards, range_tags(plan, 1, PAGES)).success
    assert bench.instance.get_materialized_partitions(dg.AssetKey("page_shards")) == set(
        plan.page_keys()
    )
    shown = bench.metadata("page_shards", partition=plan.page_key(PAGES))
    assert shown["dagster/row_count"] == STUDIES % PAGE_SIZE
    assert shown["next token"] == "(last page)"
    assert shown["JSON MB"] > shown["file MB"] > 0
    assert shown["request seconds"] > 0

    result = bench.materialize(history)
    assert result.success
    checks = result.get_asset_check_evaluations()
    assert {check.check_name: check.passed for check in checks} == {
        "no_mass_disappearance": True,
        "times_can_be": True,
    }
    assert bench.metadata("study_versions")["current studies"] == STUDIES
    assert bench.metadata("study_changes")["next change_seq"] == STUDIES + 1

    result = bench.materialize(studies)
    assert result.success
    assert {check.check_name: check.passed for check in result.get_asset_check_evaluations()} == {
        "every_study_is_accounted_for": True,
        "few_studies_in_quarantine": True,
        "no_unknown_fields": True,
    }
    shown = bench.metadata("studies")
    assert shown["dagster/row_count"] == STUDIES
    assert shown["preview"].startswith("NCT id | title | status\n--- | --- | ---\nNCT")
    bars = [line.split(" | ") for line in shown["studies by status"].splitlines()[2:]]
    assert sum(int(count) for _, count, _ in bars) == STUDIES
    assert bars[0][2] == "█" * 30
    columns = {column.name: column.type for column in shown["dagster/column_schema"].columns}
    assert columns["nct_id"] == "string"
    assert columns["protocolSection"].startswith("struct<identificationModule, ")

    tables = [dg.AssetKey(["staging", name]) for name in ("studies", "conditions")]
    assert bench.materialize(build_staging_assets(), selection=tables).success
    with open_postgres(bench.settings) as address:
        rows = row_counts(address, "staging")
    assert rows["studies"] == STUDIES
    assert rows.keys() == {"studies", "conditions", "load_info"}
    shown = bench.metadata("staging", "conditions")
    assert shown["dagster/row_count"] == rows["conditions"]
    assert shown["size MB (with indexes)"] > 0
    header, _, *preview = shown["preview"].splitlines()
    assert header.startswith("id | nct_id | ")
    assert len(preview) == 5


def model_check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    """How a plan's check of the registry's model ended."""
    assert result.success
    evaluations = {found.check_name: found for found in result.get_asset_check_evaluations()}
    return evaluations["the_registrys_model_is_ours"]


def test_the_plan_warns_of_a_registry_with_other_fields(bench: Bench) -> None:
    """What drifted is a table in the check; a registry that does not tell is no failure of the plan."""
    bench.simulator.set_faults("every=1@enums:500")
    evaluation = model_check(bench.materialize(extraction_plan))
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert "could not be asked for" in (evaluation.description or "")

    bench.simulator.set_faults()
    assert model_check(bench.materialize(extraction_plan)).passed

    enums = [enum for enum in catalog.enums() if enum["type"] != "Sex"]
    bench.simulator.publish_model(enums=enums)
    bench.simulator.advance()
    evaluation = model_check(bench.materialize(extraction_plan))
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    shown = evaluation.metadata["differences"]
    assert isinstance(shown, dg.TableMetadataValue)
    assert {record.data["what"] for record in shown.records} == {"value removed"}
    assert {record.data["name"] for record in shown.records} == {
        "Sex FEMALE",
        "Sex MALE",
        "Sex ALL",
    }


def test_pages_before_a_failure_are_known(bench: Bench) -> None:
    """When a page fails, those before it are materialized in Dagster; the next run adds the rest."""
    plan = bench.plan()
    bench.simulator.set_faults("page=3@studies:500x*")
    failed = bench.materialize(page_shards, range_tags(plan, 1, PAGES))
    assert not failed.success
    key = dg.AssetKey("page_shards")
    assert bench.instance.get_materialized_partitions(key) == {plan.page_key(1), plan.page_key(2)}

    bench.simulator.set_faults()
    assert bench.materialize(page_shards, range_tags(plan, 3, PAGES)).success
    assert bench.instance.get_materialized_partitions(key) == set(plan.page_keys())


def test_a_later_page_brings_those_before_it(bench: Bench) -> None:
    """Asking for the last page alone walks there, and Dagster learns of every page on the way."""
    plan = bench.plan()
    assert bench.materialize(page_shards, range_tags(plan, PAGES, PAGES)).success
    known = bench.instance.get_materialized_partitions(dg.AssetKey("page_shards"))
    assert known == set(plan.page_keys())


def test_pages_of_chains_are_partitions_like_others(bench: Bench) -> None:
    """A walk in chains has its partitions from the first to the last, and any range of them can be asked for."""
    bench.settings = bench.settings.model_copy(update={"token_chains": "2", "page_size": 5})
    plan = bench.plan()
    assert len(plan.chains) == bench.metadata("extraction_plan")["chains"] == 2
    last = plan.planned_pages or 0
    assert registered_pages(bench.instance) == plan.page_keys()
    assert bench.materialize(page_shards, range_tags(plan, 3, 4)).success
    key = dg.AssetKey("page_shards")
    assert bench.instance.get_materialized_partitions(key) == set(plan.page_keys()[:4])
    assert bench.materialize(page_shards, range_tags(plan, last, last)).success
    assert bench.instance.get_materialized_partitions(key) == set(plan.page_keys())
    assert bench.lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE


def test_too_early_says_what_is_missing(bench: Bench) -> None:
    """Snapshot and tables before their time fail with what has to be materialized first."""
    for asset, needed in (
        (history, "no extraction is complete yet; materialize extraction_plan"),
        (studies, "no extraction is recorded yet; materialize extraction_plan"),
        (build_staging_assets(), "there is no snapshot yet; materialize studies first"),
    ):
        result = bench.materialize(asset)
        (failure,) = result.filter_events(lambda event: event.is_step_failure)
        error = failure.step_failure_data.error
        assert error is not None
        assert error.cause is not None
        assert needed in error.cause.message


def test_stale_pages_are_forgotten(bench: Bench) -> None:
    """When the data moved, the pages of the walk that was given up are no partitions any more."""
    given_up = bench.plan()
    bench.simulator.advance(GeneratedSource(STUDIES, 2))
    plan = bench.plan()
    assert plan.extraction_id != given_up.extraction_id
    assert registered_pages(bench.instance) == plan.page_keys()
