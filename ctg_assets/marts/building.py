"""What a build of the marts need not do again."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psycopg
from psycopg import sql

from ctg_assets.marts.dbt_project import profile_environment, seed_names
from ctg_assets.marts.selection import all_marts, needed_models
from ctg_assets.marts.up_to_date import are_definitions_current, are_views_current, note_dropped
from ctg_assets.postgres.builds import LoadInfo, load_info
from ctg_assets.postgres.connection import (
    Connection,
    PostgresAddress,
    connect,
    postgres_errors,
)
from ctg_assets.postgres.loads import newest_load_is_delta
from ctg_assets.postgres.meta import ensure_meta
from ctg_assets.postgres.ownership import (
    claim_schema,
    drop_relation,
    owned_relations,
    require_no_strangers,
)

# Unit tests prove the SQL, not the data; the test suite runs them. Nobody reads the files that dbt
# would write at the beginning and the end, 2 s of a build.
_BUILD = ("build", "--exclude-resource-type", "unit_test", "--no-write-json")

# Changed rows are few and lie far apart: finding them is waiting for the disk, which is done together.
# Building from all rows keeps two cores busy with the profile's two threads.
_CHANGES_TOGETHER = ("--threads", "6")

# One is enough for a data folder with one database; each takes some 20 MB.
_MOST_TARGETS = 3
_TARGET_NAMES = "[0-9a-f]" * 12

# Of earlier releases, in schema `intermediate`.
_FORMER_MODELS = {
    "int_condition_spellings",
    "int_intervention_spellings",
    "int_site_spellings",
    "int_sponsor_spellings",
}
# Rows of the past, which say themselves of which day they are, and could not all be made again.
_KEPT_MARTS = {"fct_study_snapshot_monthly", "dim_snapshot_month"}
_VIEWS = "config.materialized:view"
# Not by `--exclude`, which leaves out the tests that read a seed, too.
_NO_SEEDS = ("--exclude-resource-type", "seed")
# The marts have constraints and unique indexes that say the same at every moment.
_HELD_BY_CONSTRAINTS = (
    "test_name:unique",
    "test_name:unique_combination",
    "test_name:not_null,config.severity:error",
    "test_name:accepted_values,config.severity:error",
)


def build_arguments(address: PostgresAddress, marts: Collection[str] | None = None) -> list[str]:
    """Arguments for dbt to build these marts, or all, and the views that they are made from.

    Views that are there as the project has them are left alone: they show new rows by themselves. So are
    seeds, which are the same whatever is loaded. Each node costs dbt a twentieth of a second, so that after a load of changes only, tests are left out
    that could not fail. Tables that other SQL has made are replaced.
    """
    marts = all_marts() if marts is None else marts
    needless: list[str] = []
    options: tuple[str, ...] = ()
    if are_views_current(address, marts):
        needless.append(_VIEWS)
    if newest_load_is_delta(address):
        needless += _HELD_BY_CONSTRAINTS
        options = _CHANGES_TOGETHER
    if not are_definitions_current(address, marts):
        options = (*options, "--full-refresh")
    elif _are_seeds_there(address, marts):
        options = (*options, *_NO_SEEDS)
    return [*_BUILD, *options, *(["--exclude", " ".join(needless)] if needless else [])]


def prepare_build(address: PostgresAddress) -> None:
    """Make sure that our notes are there, and that dbt may build where it is about to.

    Tables of models that earlier releases had are dropped, unless somebody has built on them. Raises ForeignObjectError when a schema of ours is somebody else's.
    """
    doing = f"preparing to build the marts in {address.public_url}"
    with connect(address) as connection, postgres_errors(doing):
        ensure_meta(connection)
        require_no_strangers(connection, address.schemas.of_refresh())
        # dbt would make them as well, but what it makes in them first could not be read by readers.
        with connection.transaction():
            for purpose in ("staging_views", "intermediate", "marts"):
                claim_schema(connection, getattr(address.schemas, purpose), purpose)
        own = owned_relations(connection, address.schemas.intermediate)
        for name in own.keys() & _FORMER_MODELS:
            with suppress(psycopg.errors.DependentObjectsStillExist), connection.transaction():
                drop_relation(connection, address.schemas.intermediate, name)


def target_folder(folder: Path, address: PostgresAddress) -> Path:
    """Where in a folder of its own dbt keeps what it knows of the project between builds for one database.

    It parses everything anew, for three seconds, when the connection is another than in its notes. Notes
    for databases that were built least recently are removed.
    """
    variables = profile_environment(address)
    del variables["CTG_DBT_PASSWORD"]
    text = "\n".join(f"{name}={value}" for name, value in sorted(variables.items()))
    target = folder / hashlib.sha256(text.encode()).hexdigest()[:12]
    target.mkdir(parents=True, exist_ok=True)
    os.utime(target)
    known = sorted(folder.glob(_TARGET_NAMES), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in known[_MOST_TARGETS:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def drop_marts_but(address: PostgresAddress, wanted: Collection[str]) -> list[str]:
    """Drop our marts but those wanted, and the tables that only they were made from; returns those left over.

    Left over, and not brought up to date any more, are tables on which somebody has built, and the
    months of the past; their comments say so. Tables of others are left alone, and so are the staging views.
    """
    schemas = address.schemas
    left = []
    doing = f"dropping marts that are not wanted in {address.public_url}"
    info, needed = load_info(address), needed_models(wanted)
    with connect(address) as connection, postgres_errors(doing):
        ensure_meta(connection)
        # In one transaction: a mart that is noted as built and is not there would not be built again.
        with connection.transaction():
            for schema in (schemas.marts, schemas.intermediate):
                for name in sorted(owned_relations(connection, schema).keys() - needed):
                    if name in _KEPT_MARTS or not _dropped(connection, schema, name):
                        _say_left_over(connection, schema, name, info)
                        left.append(name)
            note_dropped(connection, wanted, left)
    return left


def _dropped(connection: Connection, schema: str, name: str) -> bool:
    try:
        with connection.transaction():
            drop_relation(connection, schema, name)
    except psycopg.errors.DependentObjectsStillExist:
        return False
    return True


def _say_left_over(connection: Connection, schema: str, name: str, info: LoadInfo | None) -> None:
    known = info is not None and info.data_timestamp is not None
    day = f" since {info.data_timestamp:%Y-%m-%d}" if info and known else ""
    said = f"Not brought up to date any more{day}: CTG_MARTS leaves it out."
    connection.execute(
        sql.SQL("COMMENT ON TABLE {} IS {}").format(sql.Identifier(schema, name), sql.Literal(said))
    )


def _are_seeds_there(address: PostgresAddress, marts: Collection[str]) -> bool:
    schema = address.schemas.intermediate
    with connect(address) as connection, postgres_errors(f"listing the tables of {schema}"):
        needed = seed_names() & needed_models(marts)
        return needed <= owned_relations(connection, schema).keys()
