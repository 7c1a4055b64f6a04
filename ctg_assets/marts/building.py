"""What a build of the marts need not do again."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

import psycopg

from ctg_assets.load.load_log import newest_load_is_delta
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts.dbt_project import (
    definitions_fingerprint,
    profile_environment,
    project_fingerprint,
    seed_names,
)
from ctg_assets.postgres.builds import LOAD_INFO, last_build, record_build
from ctg_assets.postgres.connection import PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.inspection import view_names
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

_ALL_VIEWS = "(all)"
_ALL_DEFINITIONS = "(definitions)"
# Of earlier releases, in schema `intermediate`.
_FORMER_MODELS = {
    "int_condition_spellings",
    "int_intervention_spellings",
    "int_site_spellings",
    "int_sponsor_spellings",
}
_VIEWS = "config.materialized:view"
# Not by `--exclude`, which leaves out the tests that read a seed, too.
_NO_SEEDS = ("--exclude-resource-type", "seed")
# The marts have constraints and unique indexes that say the same at every moment.
_HELD_BY_CONSTRAINTS = (
    "test_name:unique",
    "test_name:unique_combination",
    "test_name:not_null,config.severity:error",
)


def build_arguments(address: PostgresAddress) -> list[str]:
    """Arguments for dbt to build marts and views.

    Views that are there as the project has them are left alone: they show new rows by themselves. So are
    seeds, which are the same whatever is loaded. Each node costs dbt a twentieth of a second, so that after a load of changes only, tests are left out
    that could not fail. Tables that other SQL has made are replaced.
    """
    needless: list[str] = []
    options: tuple[str, ...] = ()
    if _are_views_current(address):
        needless.append(_VIEWS)
    if newest_load_is_delta(address):
        needless += _HELD_BY_CONSTRAINTS
        options = _CHANGES_TOGETHER
    if not _are_definitions_current(address):
        options = (*options, "--full-refresh")
    elif _are_seeds_there(address):
        options = (*options, *_NO_SEEDS)
    return [*_BUILD, *options, *(["--exclude", " ".join(needless)] if needless else [])]


def prepare_build(address: PostgresAddress) -> None:
    """Make sure that our notes are there, and that dbt may build where it is about to.

    Tables of models that earlier releases had are dropped, unless somebody has built on them. Raises ForeignObjectError when a schema of ours is somebody else's.
    """
    doing = f"preparing to build the marts in {address.public_url}"
    with connect(address) as connection, postgres_errors(doing):
        ensure_meta(connection)
        require_no_strangers(connection, address.schemas.by_purpose())
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


def record_definitions(address: PostgresAddress) -> None:
    """Note that all staging views and all tables were just built, or found to be current."""
    schemas = address.schemas
    record_build(address, schemas.staging_views, _ALL_VIEWS, project_fingerprint())
    record_build(address, schemas.intermediate, _ALL_DEFINITIONS, definitions_fingerprint())


def _are_definitions_current(address: PostgresAddress) -> bool:
    build = last_build(address, address.schemas.intermediate, _ALL_DEFINITIONS)
    return build is not None and build.fingerprint == definitions_fingerprint()


def _are_seeds_there(address: PostgresAddress) -> bool:
    schema = address.schemas.intermediate
    with connect(address) as connection, postgres_errors(f"listing the tables of {schema}"):
        return seed_names() <= owned_relations(connection, schema).keys()


def _are_views_current(address: PostgresAddress) -> bool:
    build = last_build(address, address.schemas.staging_views, _ALL_VIEWS)
    if build is None or build.fingerprint != project_fingerprint():
        return False
    # A load makes them again as they were, but for those that do not fit the new tables.
    wanted = {f"stg_{shape.name}" for shape in (*staging_shapes(), LOAD_INFO)}
    return wanted <= view_names(address, address.schemas.staging_views)
