"""Our own stages, each a task."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from benchmarks.inputs import settings_of
from benchmarks.outcome import BEFORE, Clock, Outcome
from benchmarks.pages import (
    StraightFromShards,
    extraction_of,
    lake_of,
    manifest_of,
    page_columns,
    row_batches,
)
from benchmarks.report import STAR
from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.request import CtgovRequest
from ctg_assets.lake import Lake
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.building import build_arguments, prepare_build, target_folder
from ctg_assets.marts.dbt_project import PROJECT_DIR, profile_environment
from ctg_assets.marts.selection import all_marts, needed_models, wanted_views
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.postgres.server import open_postgres
from ctg_assets.release.places import release_to
from ctg_assets.shipped import shipped_marts
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.parsing import parse_studies
from ctg_assets.snapshot.typing_ahead import typing_ahead


def parse(data_dir: str) -> Outcome:
    """Type the studies of all shards."""
    clock = Clock()
    json_bytes = 0
    with clock.running():
        for page in page_columns(data_dir):
            parse_studies(page, identified=True)
            json_bytes += pc.sum(pc.binary_length(page)).as_py()
    return Outcome(clock.seconds, json_bytes=json_bytes)


def release(data_dir: str, place: str) -> Outcome:
    """Release the lake's tables as files, after the release that is there."""
    clock = Clock()
    with clock.running():
        report = release_to(settings_of(Path(data_dir)), place, lambda _: None, lake_only=True)
    rows = {table.name: table.rows for table in report.manifest.tables}
    return Outcome(clock.seconds, rows=rows)


def compact(data_dir: str) -> Outcome:
    """Make the snapshot of the shards."""
    lake = lake_of(data_dir)
    clock = Clock()
    with clock.running():
        manifest = Compactor(lake.storage, lake.scratch).compact(extraction_of(lake))
    return Outcome(clock.seconds, rows={"studies": manifest.studies})


def compact_typed_ahead(data_dir: str) -> Outcome:
    """Make the snapshot of shards that were typed while they came; that part is not counted.

    At the registry's pace of 72 s for 60 pages, a page is typed long before the next one is there.
    """
    lake = lake_of(data_dir)
    extraction_id = extraction_of(lake)
    clock, before = Clock(), Clock()
    with before.running(), typing_ahead(lake.storage, lake.scratch, extraction_id) as ahead:
        if ahead is None:
            message = "there is a history already, so nothing is typed while crawling"
            raise AssertionError(message)
        for shard in lake.shards.infos(extraction_id):
            ahead.add(shard)
    with clock.running():
        manifest = Compactor(lake.storage, lake.scratch).compact(extraction_id)
    return Outcome(
        clock.seconds, parts={BEFORE: before.seconds}, rows={"studies": manifest.studies}
    )


def flatten_snapshot(data_dir: str) -> Outcome:
    """Compute the rows of all tables from the snapshot, and drop them."""
    lake = lake_of(data_dir)
    rows = dict.fromkeys((shape.name for shape in staging_shapes()), 0)
    clock = Clock()
    with clock.running():
        for batch in row_batches(lake):
            for name, table in batch.items():
                rows[name] += table.num_rows
    return Outcome(clock.seconds, rows=rows)


def load(data_dir: str, server_dir: str, dbname: str) -> Outcome:
    """Load the snapshot into all tables of a database."""
    lake = lake_of(data_dir)
    return _load(lake, server_dir, dbname)


def straight(data_dir: str, server_dir: str, dbname: str) -> Outcome:
    """From the JSON in the shards to all tables, without a snapshot between."""
    lake = lake_of(data_dir)
    source = StraightFromShards(lake)
    outcome = _load(dataclasses.replace(lake, snapshots=source), server_dir, dbname)
    if source.studies != manifest_of(lake).studies:
        message = (
            f"{source.studies} studies were read from the shards, not {manifest_of(lake).studies}"
        )
        raise AssertionError(message)
    return outcome


def _load(lake: Lake, server_dir: str, dbname: str) -> Outcome:
    manifest = manifest_of(lake)
    clock = Clock()
    with open_postgres(settings_of(Path(server_dir))) as server:
        address = server.database(dbname)
        with clock.running():
            report = load_staging(address, lake, manifest)
    # Opening connections is part of what it takes to copy.
    rest = sum(seconds for phase, seconds in report.seconds.items() if phase != "copy")
    parts = {**report.seconds, "copy": clock.seconds - rest}
    return Outcome(clock.seconds, parts=parts, rows=dict(report.rows))


def ctgov(server_dir: str, dbname: str) -> Outcome:
    """Make AACT's tables, or replace in them what changed, as a refresh would."""
    clock = Clock()
    with open_postgres(settings_of(Path(server_dir))) as server, clock.running():
        report = build_ctgov(CtgovRequest(server.database(dbname)))
    return Outcome(clock.seconds, parts=dict(report.seconds), rows=dict(report.rows))


def follow(data_dir: str, server_dir: str, dbname: str, with_dbt: bool = True) -> Outcome:
    """Bring tables, and unless told otherwise the star schema, to what has come into a lake.

    All in one process, which starts dbt, as the steps of a refresh are. Raises AssertionError where
    the tables were loaded whole.
    """
    clock = Clock()
    parts: dict[str, float] = {}
    rows: dict[str, int] = {}
    with open_postgres(settings_of(Path(server_dir))), clock.running():
        parts["compact"] = compact(data_dir).seconds
        loaded = load(data_dir, server_dir, dbname)
        if not {"delete", "commit"} & loaded.parts.keys():
            message = "the tables were loaded whole after a small change"
            raise AssertionError(message)
        parts["load"], rows = loaded.seconds, loaded.rows
        if with_dbt:
            parts[STAR] = star_schema(server_dir, dbname).seconds
    return Outcome(clock.seconds, parts=parts, rows=rows)


def star_schema(server_dir: str, dbname: str) -> Outcome:
    """Build the star schema and run its tests, as a refresh would that is asked for nothing else."""
    # Tests that also read other marts are left out, as CTG_MARTS would.
    alone = {"DBT_INDIRECT_SELECTION": "cautious"}
    return _dbt(server_dir, dbname, [f"+{name}" for name in sorted(star_marts())], alone)


def other_marts(server_dir: str, dbname: str) -> Outcome:
    """Build all other marts, after the star schema, and run all tests that are left."""
    outcome = _dbt(server_dir, dbname, ["source:*", *sorted(other_models())], {})
    with open_postgres(settings_of(Path(server_dir))) as server:
        note_built(server.database(dbname))
    return outcome


def star_marts() -> frozenset[str]:
    """The marts that CTG_MARTS=core asks for."""
    return needed_models(shipped_marts()["core"]) & all_marts()


def other_models() -> frozenset[str]:
    """All other marts, what they are made from, and the views that no mart reads."""
    others = all_marts() - star_marts()
    return (needed_models(others) | wanted_views(all_marts())) - star_marts()


def _dbt(
    server_dir: str, dbname: str, selected: Sequence[str], variables: dict[str, str]
) -> Outcome:
    """Build what is selected of all marts and what they are made from."""
    clock = Clock()
    with open_postgres(settings_of(Path(server_dir))) as server:
        address = server.database(dbname)
        notes = str(target_folder(Path(server_dir) / "dbt", address))
        command = [sys.executable, "-m", "dbt.cli.main", "--no-use-colors"]
        command += [*build_arguments(address), "--select", " ".join(selected)]
        command += ["--target-path", notes, "--log-path", notes]
        command += ["--project-dir", str(PROJECT_DIR), "--profiles-dir", str(PROJECT_DIR)]
        environment = os.environ | profile_environment(address) | variables
        with clock.running():
            prepare_build(address)
            subprocess.run(command, env=environment, check=True)
    return Outcome(clock.seconds)
