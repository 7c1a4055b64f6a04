"""A field that the registry adds, from the declaration of its column to a view that shows it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec

from ctg_assets.codegen import derived_files
from ctg_assets.lake import open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.dbt_project import PROJECT_DIR, profile_environment
from ctg_assets.model.tables import Table
from ctg_assets.model.tables.columns import text
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.marts.projects import dbt, values
from ctg_assets_tests.model.models import changed_fields, changed_tables
from ctg_assets_tests.simulator.in_memory import study
from ctg_assets_tests.support.lakes import completed, planned

PATH = "protocolSection.identificationModule.nickname"
LEAF = {"path": PATH, "piece": "Nickname", "type": "text", "source_type": "TEXT"}
MEANING = "What people call the study."


def with_nickname(tables: list[Table]) -> list[Table]:
    """The tables of a model that reads the new field: one line more in one declaration."""
    nickname = text("nickname", PATH, MEANING, aact=None)
    return [
        replace(table, declared=(*table.declared, nickname)) if table.name == "studies" else table
        for table in tables
    ]


def test_a_new_column_is_everywhere_without_hand_work(
    tmp_path: Path, address: PostgresAddress
) -> None:
    """One leaf and one declared column more: it is in Postgres, in the dictionary and in dbt."""
    settings = load_settings(data_dir=tmp_path / "data")
    lake = open_lake(settings)
    named = study(1)
    named["protocolSection"]["identificationModule"]["nickname"] = "AIR"
    plan = completed(lake, planned(lake, settings, studies=1), [msgspec.json.encode(named)])
    project = tmp_path / PROJECT_DIR.name
    (tmp_path / "docs").mkdir()
    shutil.copytree(PROJECT_DIR, project, ignore=shutil.ignore_patterns("target", "logs"))

    with changed_fields(lambda rows: [*rows, LEAF]), changed_tables(with_nickname):
        load_staging(
            address, lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
        )
        # What `make generate` does, but beside the project.
        for path, content in derived_files().items():
            place = tmp_path / path.relative_to(PROJECT_DIR.parent)
            place.write_text(content, encoding="utf-8")
    dbt(["run", "--select", "stg_studies"], profile_environment(address), tmp_path, project)

    assert values(address, "SELECT nickname FROM staging.studies") == [("AIR",)]
    dictionary = (tmp_path / "docs" / "data_dictionary.md").read_text(encoding="utf-8")
    assert f"| `nickname` | text | yes | {MEANING} | `{PATH}` |  |" in dictionary
    assert values(address, "SELECT nickname FROM staging_views.stg_studies") == [("AIR",)]
    comments = (
        "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attname = 'nickname'"
        " AND attrelid IN ('staging.studies'::regclass, 'staging_views.stg_studies'::regclass)"
        " ORDER BY attrelid"
    )
    assert values(address, comments) == [(f"{MEANING}\nSource: {PATH}",), (MEANING,)]
