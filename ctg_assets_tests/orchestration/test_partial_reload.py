"""A refresh through Dagster after one table's declaration changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import dagster as dg
import pytest

from ctg_assets.lake import open_lake
from ctg_assets.model.tables import Table
from ctg_assets.model.tables.columns import text
from ctg_assets.orchestration.refresh import run_stages
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh.planner import Idle, Stage, Step, next_step
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.model.models import changed_tables
from ctg_assets_tests.orchestration.graph import definitions_without_dbt
from ctg_assets_tests.support.postgres import query, temporary_folder


class Record:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.assets: list[str] = []

    def stage_started(self, step: Step) -> None:
        """Keep the stage."""
        self.stages.append(step.stage)

    def asset_materialized(self, asset: str, rows: int | None) -> None:
        """Keep the asset."""
        self.assets.append(asset)

    def check_failed(self, check: str, description: str, *, warning: bool) -> None:
        """No check fails here, but for warnings of what is generated."""
        assert warning, (check, description)

    def stage_finished(self) -> None:
        """Nothing to keep."""


@contextmanager
def place(address: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A data folder and a registry of a few studies, to which the environment's settings lead."""
    with running_simulator(GeneratedSource(25, 1)) as running, temporary_folder() as folder:
        chosen = {
            "api_url": running.api_url,
            "data_dir": str(folder),
            "postgres_url": address.url,
            "page_size": "10",
            "requests_per_minute": "10000",
        }
        for name, value in chosen.items():
            monkeypatch.setenv(f"CTG_{name.upper()}", value)
        yield load_settings()


def refresh(settings: Settings, instance: dg.DagsterInstance) -> Record:
    """Refresh up to where dbt would take over."""
    listener = Record()

    def following() -> Step | Idle:
        upcoming = next_step(settings, open_lake(settings))
        is_for_dbt = isinstance(upcoming, Step) and upcoming.stage is Stage.MARTS
        return Idle("the rest is dbt's") if is_for_dbt else upcoming

    first = following()
    if isinstance(first, Step):
        run_stages(
            settings,
            definitions_without_dbt(),
            instance,
            listener=listener,
            first=first,
            following=following,
        )
    return listener


def with_shout(tables: list[Table]) -> list[Table]:
    """The tables with one column more in one of them."""
    shout = text("as_sent_again", ".", "The keyword once more.", None)
    return [
        replace(table, declared=(*table.declared, shout)) if table.name == "keywords" else table
        for table in tables
    ]


def test_only_the_table_that_changed_is_materialized(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a new column one table, the load's record and the marts are made; then nothing is."""
    with place(address, monkeypatch) as settings, dg.DagsterInstance.ephemeral() as instance:
        done = refresh(settings, instance)
        assert done.stages == [Stage.PLAN, Stage.PAGES, Stage.SNAPSHOT, Stage.STAGING]
        assert "staging/studies" in done.assets

        with changed_tables(with_shout):
            done = refresh(settings, instance)
            assert done.stages == [Stage.STAGING]
            assert sorted(done.assets) == [
                "marts/dim_study",
                "staging/keywords",
                "staging/load_info",
            ]
            differing = "SELECT count(*) FROM staging.keywords WHERE name <> as_sent_again"
            assert query(address, differing) == [(0,)]
            assert refresh(settings, instance).stages == []

        with changed_tables(lambda tables: [one for one in tables if one.name != "keywords"]):
            done = refresh(settings, instance)
            assert sorted(done.assets) == ["marts/dim_study", "staging/load_info"]
            assert query(address, "SELECT to_regclass('staging.keywords')") == [(None,)]
            assert refresh(settings, instance).stages == []
