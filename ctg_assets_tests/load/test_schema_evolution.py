"""A data model that changes under a database that is full: what is loaded again, and what is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.lake import open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.model.tables.columns import text
from ctg_assets.model.tables.declaration import Table
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh.planner import Idle, Stage, next_build_step
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.model.models import changed_fields, changed_tables
from ctg_assets_tests.simulator.in_memory import study
from ctg_assets_tests.support.lakes import completed, planned
from ctg_assets_tests.support.postgres import query, take_as_built

TITLE = text(
    "brief_title",
    "^.protocolSection.identificationModule.briefTitle",
    "Title of the study, for searching.",
    None,
)
NICKNAME = "protocolSection.identificationModule.nickname"


class Warehouse:
    """A database that is brought up to date step by step, as a refresh does it but without Dagster."""

    def __init__(self, folder: Path, address: PostgresAddress) -> None:
        self.settings = load_settings(
            data_dir=folder, postgres_url=address.url, api_url="http://registry.test/api/v2"
        )
        self.lake = open_lake(self.settings)
        self.address = address

    @property
    def plan(self) -> ExtractionPlan:
        """The extraction that the lake holds."""
        (plan,) = self.lake.extractions.plans()
        return plan

    def refresh(self) -> list[tuple[Stage, tuple[str, ...]]]:
        """Do what is next until nothing is; the steps done, with the tables that each names."""
        done = []
        while not isinstance(step := next_build_step(self.settings, self.lake), Idle):
            assert (step.stage, step.tables) not in done
            done.append((step.stage, step.tables))
            manifest = self.lake.snapshots.manifest(self.plan.extraction_id)
            if step.stage is Stage.SNAPSHOT:
                Compactor(self.lake.storage, self.lake.scratch).compact(self.plan.extraction_id)
            elif step.stage is Stage.STAGING:
                assert manifest is not None
                load_staging(self.address, self.lake, manifest, step.tables)
            else:
                assert step.stage is Stage.MARTS
                note_built(self.address)
        assert not step.blocked, step.reason
        return done

    def oids(self) -> dict[str, int]:
        """What Postgres knows each staging table by; a table that is replaced gets another."""
        return dict(
            query(
                self.address,
                "SELECT relname, oid::int FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'staging'::regnamespace AND relname <> 'load_info'",
            )
        )

    def columns(self, table: str) -> dict[str, str]:
        """The columns of a staging table, and their comments."""
        return dict(
            query(
                self.address,
                "SELECT attname, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid ="
                f" 'staging.{table}'::regclass AND attnum > 0 AND NOT attisdropped",
            )
        )


@pytest.fixture(scope="module")
def filled(
    server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Warehouse]:
    """A database that holds an extraction by the project's own model; tests work on copies."""
    studies: list[dict[str, Any]] = [
        study(number, title=f"Study {number}", conditions=["Asthma", "Eczema"][:number])
        for number in (1, 2, 3)
    ]
    studies[1]["protocolSection"]["identificationModule"]["nickname"] = "AIR"
    with new_database(server) as address:
        warehouse = Warehouse(tmp_path_factory.mktemp("filled"), address)
        plan = planned(warehouse.lake, warehouse.settings, studies=len(studies))
        completed(warehouse.lake, plan, [msgspec.json.encode(one) for one in studies])
        stages = [stage for stage, _ in warehouse.refresh()]
        assert stages == [Stage.SNAPSHOT, Stage.STAGING, Stage.MARTS]
        yield warehouse


@pytest.fixture
def warehouse(filled: Warehouse, server: PostgresAddress, tmp_path: Path) -> Iterator[Warehouse]:
    """A copy of the database and its lake, up to date."""
    shutil.copytree(filled.settings.data_dir, tmp_path, dirs_exist_ok=True)
    with new_database(server, template=filled.address.dbname) as address:
        yield Warehouse(tmp_path, address)


def other(name: str, change: Callable[[Table], Table]) -> Callable[[list[Table]], list[Table]]:
    """The change of a model that changes the declaration of one table."""
    return lambda tables: [change(table) if table.name == name else table for table in tables]


def with_column(table: Table) -> Table:
    """A table with the study's title in a column more."""
    return replace(table, declared=(*table.declared, TITLE))


def test_a_new_column_fills_its_own_table_only(warehouse: Warehouse) -> None:
    """The column is there with values and comment; no other table was touched; then there is rest.

    When the declaration is as before, so is the table.
    """
    assert warehouse.refresh() == []
    before = warehouse.oids()
    columns = warehouse.columns("conditions")
    with changed_tables(other("conditions", with_column)):
        assert warehouse.refresh() == [(Stage.STAGING, ("conditions",)), (Stage.MARTS, ())]
        after = warehouse.oids()
        assert {name for name in before if after[name] != before[name]} == {"conditions"}
        assert warehouse.columns("conditions") == columns | {
            "brief_title": "Title of the study, for searching.\n"
            "Source: protocolSection.identificationModule.briefTitle"
        }
        assert query(
            warehouse.address,
            "SELECT name, brief_title FROM staging.conditions ORDER BY nct_id, position",
        ) == [
            ("Asthma", "Study 1"),
            ("Asthma", "Study 2"),
            ("Eczema", "Study 2"),
            ("Asthma", "Study 3"),
            ("Eczema", "Study 3"),
        ]
        assert warehouse.refresh() == []

    assert warehouse.refresh() == [(Stage.STAGING, ("conditions",)), (Stage.MARTS, ())]
    assert warehouse.columns("conditions") == columns


def test_a_column_of_a_table_that_others_refer_to(warehouse: Warehouse) -> None:
    """The tables that refer to it stay, and refer to the new one."""
    before = warehouse.oids()
    keys = "SELECT count(*) FROM pg_constraint WHERE confrelid = 'staging.studies'::regclass"
    referring = query(warehouse.address, keys)
    title = text(
        "title_again", "protocolSection.identificationModule.briefTitle", "Title again.", None
    )
    with changed_tables(
        other("studies", lambda table: replace(table, declared=(*table.declared, title)))
    ):
        # What is told of former contents is made by the same flattening.
        reloaded = ("studies", "study_version_reporting")
        assert warehouse.refresh()[0] == (Stage.STAGING, reloaded)
    after = warehouse.oids()
    assert {name for name in before if after[name] != before[name]} == {*reloaded}
    assert query(warehouse.address, keys) == referring
    assert (
        query(warehouse.address, "SELECT brief_title = title_again FROM staging.studies")
        == [(True,)] * 3
    )


def test_other_rows_of_a_table_reload_those_that_refer_to_them(warehouse: Warehouse) -> None:
    """When a table's rows get other ids, the tables that hold those ids go along."""
    with changed_tables(
        other("result_groups", lambda table: replace(table, sources=table.sources[:-1]))
    ):
        (stage, tables), *_ = warehouse.refresh()
    assert stage is Stage.STAGING
    assert {"result_groups", "baseline_counts"} <= set(tables)
    assert not {"studies", "conditions", "outcomes"} & set(tables)


def test_a_new_leaf_is_read_from_the_shards(warehouse: Warehouse) -> None:
    """When the model learns a field, studies are compacted anew and its column alone is loaded."""
    before = warehouse.oids()
    first = warehouse.lake.snapshots.latest()
    assert first is not None
    assert first.unknown_fields == {NICKNAME: 1}
    leaf = {"path": NICKNAME, "piece": "Nickname", "type": "text", "source_type": "TEXT"}
    column = text("nickname", NICKNAME, "What people call the study.", None)
    with (
        changed_fields(lambda rows: [*rows, leaf]),
        changed_tables(
            other("studies", lambda table: replace(table, declared=(*table.declared, column)))
        ),
    ):
        steps = warehouse.refresh()
        assert [stage for stage, _ in steps] == [Stage.SNAPSHOT, Stage.STAGING, Stage.MARTS]
        again = warehouse.lake.snapshots.latest()
        assert again is not None
        assert again.unknown_fields == {}
        assert again.content_fingerprint == first.content_fingerprint
        after = warehouse.oids()
        reloaded = {name for name in before if after[name] != before[name]}
        assert reloaded == set(steps[1][1])
        assert "studies" in reloaded
        assert not {"conditions", "keywords", "design_groups"} & reloaded
        assert query(warehouse.address, "SELECT nickname FROM staging.studies ORDER BY nct_id") == [
            (None,),
            ("AIR",),
            (None,),
        ]
        assert warehouse.refresh() == []


def test_a_new_leaf_without_a_column_loads_next_to_nothing(warehouse: Warehouse) -> None:
    """A field that no table reads leaves the declared tables as they are."""
    before = warehouse.oids()
    leaf = {"path": NICKNAME, "piece": "Nickname", "type": "text", "source_type": "TEXT"}
    with changed_fields(lambda rows: [*rows, leaf]):
        steps = warehouse.refresh()
    assert steps[0] == (Stage.SNAPSHOT, ())
    after = warehouse.oids()
    assert {name for name in before if after[name] != before[name]} <= {
        "extras",
        "study_version_reporting",
    }


def test_removed_columns_and_tables_go(warehouse: Warehouse) -> None:
    """A column that left the model leaves its table, also under a staging view; a table is dropped."""
    query(warehouse.address, "CREATE SCHEMA staging_views")
    for name in ("conditions", "keywords"):
        query(
            warehouse.address,
            f"CREATE VIEW staging_views.stg_{name} AS SELECT * FROM staging.{name}",
        )
    take_as_built(warehouse.address, "staging_views")
    before = warehouse.oids()

    def change(tables: list[Table]) -> list[Table]:
        return [
            replace(table, declared=table.declared[:1], indexes=())
            if table.name == "conditions"
            else table
            for table in tables
            if table.name != "keywords"
        ]

    with changed_tables(change):
        assert warehouse.refresh() == [(Stage.STAGING, ("conditions",)), (Stage.MARTS, ())]
        after = warehouse.oids()
        assert before.keys() - after.keys() == {"keywords"}
        assert {name for name in after if after[name] != before[name]} == {"conditions"}
        assert "downcase_name" not in warehouse.columns("conditions")
        assert (
            query(
                warehouse.address,
                "SELECT viewname FROM pg_views WHERE schemaname = 'staging_views'",
            )
            == []
        )
        assert warehouse.refresh() == []

    steps = warehouse.refresh()
    assert steps == [(Stage.STAGING, ("conditions", "keywords")), (Stage.MARTS, ())]


def test_a_table_that_left_the_model_alone(warehouse: Warehouse) -> None:
    """Nothing has to be loaded, yet the table goes."""
    before = warehouse.oids()
    with changed_tables(lambda tables: [one for one in tables if one.name != "keywords"]):
        assert warehouse.refresh() == [(Stage.STAGING, ()), (Stage.MARTS, ())]
        assert warehouse.oids() == {name: before[name] for name in before if name != "keywords"}
