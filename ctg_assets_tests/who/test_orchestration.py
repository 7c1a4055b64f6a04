"""WHO's indicators as assets: partitions, releases, tables, checks, the schedule, and the marts that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.who import (
    INDICATOR_PARTITIONS,
    refresh_who,
    who_indicators,
    who_observations,
    who_refresh,
    who_tables,
)
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.simulator.who import WhoFault
from ctg_assets.simulator.who_rows import ghe_rows, gho_rows
from ctg_assets.who.indicators import indicators, switch
from ctg_assets_tests.who.conftest import Who

Ask = Callable[..., list[tuple[Any, ...]]]

CODE = "WHOSIS_000001"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster without runs."""
    folder = tmp_path / "dagster"
    folder.mkdir()
    with dg.DagsterInstance.local_temp(str(folder)) as made:
        yield made


@pytest.fixture
def resources(who: Who, address: PostgresAddress) -> dict[str, Any]:
    """Settings that ask the played WHO and load into the test's database."""
    settings = who.settings(postgres_url=address.url)
    overrides = settings.model_dump(mode="json", exclude_none=True)
    return {"settings": SettingsResource(overrides=overrides)}


def run(
    instance: dg.DagsterInstance, resources: dict[str, Any], code: str, *, succeeds: bool = True
) -> dg.ExecuteInProcessResult:
    """Run the job for an indicator."""
    definitions = dg.Definitions(
        assets=[who_indicators, who_observations, who_tables],
        jobs=[refresh_who],
        schedules=[who_refresh],
        resources=resources,
    )
    job = definitions.resolve_job_def("refresh_who")
    done = job.execute_in_process(
        instance=instance, partition_key=code, raise_on_error=succeeds, resources=resources
    )
    assert done.success is succeeds
    return done


def test_an_indicator_is_fetched_and_loaded_by_a_run(
    who: Who, instance: dg.DagsterInstance, resources: dict[str, Any], rows_of: Ask
) -> None:
    """The indicators are registered as partitions; a run of one makes its release, loads it, and tells checks and rows."""
    who.simulator.entities[CODE] = gho_rows(CODE, years=range(2020, 2022))
    assert dg.materialize([who_indicators], instance=instance, resources=resources).success
    known = instance.get_dynamic_partitions(INDICATOR_PARTITIONS.name or "")
    assert set(known) == indicators(who.settings()).keys()
    done = run(instance, resources, CODE)
    checks = {each.check_name: each for each in done.get_asset_check_evaluations()}
    assert not checks.pop("enabled_indicators_are_loaded").passed
    assert len(checks) == 5
    assert all(each.passed for each in checks.values())
    [made] = done.asset_materializations_for_node("who_observations")
    assert (made.partition, made.metadata["dagster/row_count"].value) == (CODE, 48)
    tables = {
        event.asset_key.path[-1]: event.metadata["dagster/row_count"].value
        for event in done.asset_materializations_for_node("who_tables")
    }
    assert tables == {
        "observations": 48,
        "global_health_estimates": 0,
        "indicators": 1,
        "releases": 1,
    }
    assert rows_of("SELECT count(*) FROM who.observations") == [(48,)]


def test_what_a_check_holds_back_is_not_loaded(
    who: Who, instance: dg.DagsterInstance, resources: dict[str, Any], rows_of: Ask
) -> None:
    """An answer without rows fails the check that blocks, the load does not run, and the rows of before stay."""
    who.simulator.entities[CODE] = gho_rows(CODE, years=range(2020, 2022))
    dg.materialize([who_indicators], instance=instance, resources=resources)
    run(instance, resources, CODE)
    who.simulator.faults[CODE] = WhoFault.EMPTY
    done = run(instance, resources, CODE, succeeds=False)
    failed = [each for each in done.get_asset_check_evaluations() if not each.passed]
    assert [each.check_name for each in failed] == ["has_rows"]
    assert (failed[0].description or "").startswith(f"{CODE}: no rows came")
    assert not done.asset_materializations_for_node("who_tables")
    assert rows_of("SELECT count(*) FROM who.observations") == [(48,)]


def test_the_schedule_asks_for_what_is_due(
    who: Who, instance: dg.DagsterInstance, resources: dict[str, Any]
) -> None:
    """A run for each enabled indicator that was not looked for within its time, and none for others."""
    who.simulator.entities["DEX_CMS/GHE_FULL"] = ghe_rows(years=range(2021, 2022))
    settings = who.settings()
    for code in indicators(settings):
        switch(settings, code, enabled=code in {"GHE", CODE})

    def asked_for() -> list[str | None]:
        with dg.build_schedule_context(
            instance=instance,
            resources=resources,
            scheduled_execution_time=datetime(2026, 11, 27, 4, 40, tzinfo=UTC),
        ) as context:
            requests = who_refresh(context)
        return [each.partition_key for each in requests] if isinstance(requests, list) else []

    assert sorted(map(str, asked_for())) == ["GHE", CODE]
    run(instance, resources, "GHE")
    assert asked_for() == [CODE]
    switch(settings, CODE, enabled=False)
    assert asked_for() == []
