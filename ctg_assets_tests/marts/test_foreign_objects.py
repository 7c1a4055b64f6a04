"""Somebody's schemas, tables and rows under our names, on a server of Debian's, where we are no superuser.

We may do to them all that their owner may: what protects them is that we know what is ours.
"""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.feed.positions import open_progress, sink_states
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.as_of import load_as_of
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.building import prepare_build
from ctg_assets.marts.months import rebuild_months
from ctg_assets.postgres.builds import load_info, staging_builds
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import ForeignObjectError, PermanentWarehouseError
from ctg_assets.postgres.inspection import row_counts
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.status import warehouse_status
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.marts.projects import WITHOUT_VIEWS, dbt_on, forked_dbt, values
from ctg_assets_tests.postgres.debian_server import debian_server, programs
from ctg_assets_tests.soak import only_in_soaks
from ctg_assets_tests.support.lakes import completed, planned
from ctg_assets_tests.support.postgres import ALL, batch, build, query

pytestmark = pytest.mark.process

# In each schema something that a load, a build or our notes would make under the same name.
FOREIGN = {
    "staging": ("studies", "load_info", "mine"),
    "staging_next": ("studies", "mine"),
    "staging_views": ("stg_studies", "mine"),
    "intermediate": ("int_condition_headings", "mine"),
    "marts": ("dim_study", "fct_study_snapshot_monthly", "mine"),
    "ctg_meta": ("builds", "loads", "owned", "feed_positions", "mine"),
}
AS_OF = ("june", "june_next")
OTHER_NAMES = {
    "staging_schema": "ct_tables",
    "staging_views_schema": "ct_views",
    "intermediate_schema": "ct_between",
    "marts_schema": "ct_marts",
    "meta_schema": "ct_notes",
}
_numbers = itertools.count(1)

Found = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def owner() -> Iterator[PostgresAddress]:
    """The server, for its superuser; `somebody` has made things, and `mirror` is what we are."""
    with debian_server() as address:
        query(address, "CREATE ROLE somebody")
        query(address, "CREATE ROLE mirror LOGIN NOSUPERUSER IN ROLE somebody")
        query(address, "GRANT SET ON PARAMETER session_replication_role TO mirror")
        yield address


def new_database(owner: PostgresAddress, template: str = "template0") -> PostgresAddress:
    """A database in which we may make schemas, and no more."""
    name = f"test_{next(_numbers)}"
    query(owner, f"CREATE DATABASE {name} TEMPLATE {template}")
    query(owner, f"GRANT CREATE ON DATABASE {name} TO mirror, somebody")
    return dataclasses.replace(owner.database(name), user="mirror")


def make_foreign(address: PostgresAddress, schema: str, names: Sequence[str]) -> None:
    """A schema of somebody's with tables of these names, and one of each kind of thing beside them."""
    with connect(address) as connection:
        connection.execute("SET ROLE somebody")
        connection.execute(f"CREATE SCHEMA {schema}".encode())
        for name in names:
            table = f"{schema}.{name}"
            connection.execute(f"CREATE TABLE {table} (nct_id text, kept text)".encode())
            connection.execute(f"INSERT INTO {table} VALUES ('NCT00000001', '{table}')".encode())
        for statement in (
            f"CREATE VIEW {schema}.a_view AS SELECT kept FROM {schema}.mine",
            f"CREATE MATERIALIZED VIEW {schema}.summed AS SELECT kept FROM {schema}.mine",
            f"CREATE SEQUENCE {schema}.numbers",
            f"CREATE TYPE {schema}.kind AS ENUM ('a', 'b')",
            f"CREATE FUNCTION {schema}.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            f"COMMENT ON TABLE {schema}.mine IS 'One row per study.'",
        ):
            connection.execute(statement.encode())


def contents(address: PostgresAddress, schemas: Sequence[str]) -> Found:
    """All that is in schemas: every object with its oid and owner, and every row."""
    listed = ", ".join(f"'{schema}'" for schema in schemas)
    found: Found = {
        "objects": values(
            address,
            f"""
            SELECT pg_describe_object(d.classid, d.objid, 0), d.classid, d.objid
            FROM pg_depend AS d JOIN pg_namespace AS n ON n.oid = d.refobjid
            WHERE d.refclassid = 'pg_namespace'::regclass AND n.nspname IN ({listed})
            ORDER BY 1, 2, 3
            """,
        ),
        "relations": values(
            address,
            f"""
            SELECT n.nspname, c.relname, c.oid, c.relfilenode, c.relowner, c.relacl::text, c.relkind
            FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname IN ({listed}) ORDER BY 1, 2
            """,
        ),
    }
    for schema, name, *_, kind in found["relations"]:
        if kind in {"r", "v", "m"}:
            rows = values(address, f"SELECT t::text FROM {schema}.{name} AS t ORDER BY 1")
            found[f"{schema}.{name}"] = rows
    return found


def _settings(folder: Path, address: PostgresAddress, **schemas: str) -> Settings:
    return load_settings(data_dir=folder, query="", postgres_url=address.url, **schemas)


def _studies() -> list[bytes]:
    source = GeneratedSource(40, seed=3)
    return [source.raw(index) for index in range(40)]


def observe(lake: Lake, settings: Settings, day: date, studies: Sequence[bytes]) -> None:
    """Record studies as observed on a day, and load them."""
    moment = f"{day}T09:00:05"
    mode = ExtractionMode.IMPORT
    plan = planned(lake, settings, studies=len(studies), data_timestamp=moment, mode=mode)
    completed(lake, plan, studies)
    manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    with open_postgres(settings) as address:
        load_staging(address, lake, manifest)


def _changed(studies: Sequence[bytes]) -> list[bytes]:
    return [studies[0].replace(b'"briefTitle":"', b'"briefTitle":"Changed: ', 1), *studies[1:]]


@pytest.mark.parametrize("schema", FOREIGN)
def test_a_schema_of_somebody_else_stops_the_load(owner: PostgresAddress, schema: str) -> None:
    """Whatever has the name of a schema of ours stays as it is, and the message says where else to go."""
    address = new_database(owner)
    make_foreign(address, schema, FOREIGN[schema])
    before = contents(address, [schema])
    with pytest.raises(
        ForeignObjectError, match=f"schema {schema} is there .* left alone.*another"
    ):
        load_tables(LoadRequest(address, ALL, build=build(1)), [batch(range(1, 4))])
    with pytest.raises(ForeignObjectError, match=f"schema {schema} is there"):
        load_tables(LoadRequest(address, ALL, build=build(1)), [batch(range(1, 4))])
    # What only looks finds nothing of ours, and does not stumble.
    assert load_info(address) is None
    assert staging_builds(address) == {}
    assert sink_states(address) == []
    assert row_counts(address, schema, only_ours=True) == {}
    if schema == "ctg_meta":
        with (
            pytest.raises(ForeignObjectError, match="CTG_META_SCHEMA"),
            open_progress(address, "x"),
        ):
            pass
    assert contents(address, [schema]) == before


@pytest.mark.parametrize("schema", AS_OF)
def test_as_of_leaves_schemas_of_somebody_else_alone(owner: PostgresAddress, schema: str) -> None:
    """Neither the schema named nor the one beside it is touched; what as-of has made is made anew."""
    address = new_database(owner)
    make_foreign(address, schema, FOREIGN["staging_next"])
    before = contents(address, [schema])
    for _ in range(2):
        with pytest.raises(ForeignObjectError, match=f"schema {schema} is there.*choose another"):
            load_tables(
                LoadRequest(address, ALL, build=build(1), schema="june"), [batch(range(1, 4))]
            )
    assert contents(address, [schema]) == before
    # One that as-of has made is not taken for the one beside another.
    for name in ("july_next", "july_next"):
        load_tables(LoadRequest(address, ALL, build=build(1), schema=name), [batch(range(1, 4))])
    made = contents(address, ["july_next"])
    with pytest.raises(ForeignObjectError, match="july_next"):
        load_tables(LoadRequest(address, ALL, build=build(1), schema="july"), [batch(range(1, 4))])
    assert contents(address, ["july_next"]) == made


# The months, a dimension, what lies between, a seed, and a view that nothing is built on. That no SQL
# names a schema is told of the whole project (test_project.py).
_BUILT = (
    "--select",
    *("+fct_study_snapshot_monthly", "dim_snapshot_month", "+dim_sponsor", "+dim_condition"),
    *("countries", "stg_links", "stg_keywords"),
)

# Of each schema that dbt builds in: the view on which people have theirs, a table between, marts.
_SOME = ("--select", "stg_studies", "+dim_condition")


@dataclasses.dataclass
class Built:
    """A database of somebody's in which everything of ours was built under other names."""

    settings: Settings
    address: PostgresAddress
    lake: Lake
    written: Path
    studies: list[bytes]
    foreign_before: Found

    def copy(self, owner: PostgresAddress) -> Built:
        """The same in a database of its own."""
        copied = new_database(owner, self.address.dbname)
        settings = self.settings.model_copy(update={"postgres_url": copied.url})
        with open_postgres(settings) as address:
            return dataclasses.replace(self, settings=settings, address=address)


@pytest.fixture(scope="module")
def built(owner: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Everything there is to do, done once beside somebody's things."""
    folder = tmp_path_factory.mktemp("foreign")
    plain = new_database(owner)
    for schema, names in {**FOREIGN, "june": ("studies", "mine")}.items():
        make_foreign(plain, schema, names)
    before = contents(plain, [*FOREIGN, "june"])
    settings = _settings(folder / "data", plain, **OTHER_NAMES)
    lake = open_lake(settings)
    studies = _studies()
    with open_postgres(settings) as address:
        observe(lake, settings, date(2025, 9, 20), studies)
        tests = ("--exclude-resource-type", "unit_test", "--indirect-selection", "cautious")
        dbt_on(address, folder, "build", *_BUILT, *tests)
        observe(lake, settings, date(2025, 10, 20), _changed(studies))
        dbt_on(address, folder, "run", *_BUILT, *WITHOUT_VIEWS)
        return Built(settings, address, lake, folder, studies, before)


@pytest.mark.soak
@only_in_soaks
def test_everything_works_under_other_names(built: Built) -> None:
    """With the settings of all schemas, loads, changes, marts, past tables, months and feed work beside them.

    Nothing of ours is outside our schemas, and all that somebody has made is as it was, row by row.
    """
    address = built.address
    assert values(address, "SELECT kind FROM ct_notes.loads ORDER BY load_number") == [
        ("full",),
        ("delta",),
    ]
    load_as_of(address, built.lake, datetime(2025, 9, 30, tzinfo=UTC), "september")
    with pytest.raises(PermanentWarehouseError, match="another purpose"):
        load_as_of(address, built.lake, datetime(2025, 9, 30, tzinfo=UTC), "ct_marts")
    with pytest.raises(ForeignObjectError, match="schema june is there"):
        load_as_of(address, built.lake, datetime(2025, 9, 30, tzinfo=UTC), "june")
    with forked_dbt():
        months = rebuild_months(address, built.lake)
    assert [(month.month, month.rows) for month in months] == [(date(2025, 9, 1), 40)]
    with open_progress(address, "hook") as ledger:
        ledger.begin(7)
    assert [(state.sink, state.change_seq) for state in sink_states(address)] == [("hook", 7)]
    status = warehouse_status(built.settings)
    assert status.problem is None
    assert status.staging_rows is not None
    assert status.marts_rows is not None
    assert status.staging_rows["studies"] == status.marts_rows["dim_study"] == 40
    titles = "SELECT count(*) FROM {} WHERE brief_title LIKE 'Changed: %'"
    for table, count in {
        "ct_tables.studies": 1,
        "ct_marts.dim_study": 1,
        "september.studies": 0,
    }.items():
        assert values(address, titles.format(table)) == [(count,)]

    assert contents(address, [*FOREIGN, "june"]) == built.foreign_before
    schemas = values(address, "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'")
    assert {name for (name,) in schemas} == {
        *FOREIGN,
        *("june", "september", "public", "information_schema"),
        *OTHER_NAMES.values(),
    }


def test_what_people_make_in_our_schemas_stays(built: Built, owner: PostgresAddress) -> None:
    """Tables, views and functions of people's own in our schemas outlive loads, changes and builds."""
    built = built.copy(owner)
    address = built.address
    schemas = [*OTHER_NAMES.values()]
    for schema in schemas:
        for statement in (
            f"CREATE TABLE {schema}.mine (kept text)",
            f"INSERT INTO {schema}.mine VALUES ('{schema}')",
            f"CREATE VIEW {schema}.titles AS SELECT nct_id, brief_title FROM ct_tables.studies",
            f"CREATE VIEW {schema}.viewed AS SELECT nct_id FROM ct_views.stg_studies",
            f"CREATE FUNCTION {schema}.one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ):
            query(address, statement)

    def kept() -> list[list[tuple[Any, ...]]]:
        return [
            values(
                address,
                f"SELECT kept, {schema}.one(), (SELECT count(*) FROM {schema}.titles), "
                f"(SELECT count(*) FROM {schema}.viewed) FROM {schema}.mine",
            )
            for schema in schemas
        ]

    before = kept()
    assert before == [[(schema, 1, 40, 40)] for schema in schemas]
    observe(built.lake, built.settings, date(2025, 11, 20), built.studies)  # changes back
    assert kept() == before
    query(address, "UPDATE ct_notes.builds SET fingerprint = 'other'")  # loads everything
    observe(built.lake, built.settings, date(2025, 11, 21), _changed(built.studies))
    assert kept() == before
    dbt_on(address, built.written, "run", "--full-refresh", *_SOME)
    assert kept() == before


def test_what_took_a_name_of_ours_stops_what_would_replace_it(
    built: Built, owner: PostgresAddress
) -> None:
    """A table or view in our schemas that is not the one we made there is left alone, by load and by build."""
    built = built.copy(owner)
    address = built.address
    for statement in (
        "ALTER TABLE ct_marts.dim_sponsor RENAME TO dim_sponsor_before",
        "CREATE TABLE ct_marts.dim_sponsor AS SELECT 'mine' AS kept",
        "DROP VIEW ct_views.stg_links",
        "CREATE VIEW ct_views.stg_links AS SELECT 'mine' AS kept",
    ):
        query(address, statement)
    mine = "SELECT s.kept, l.kept FROM ct_marts.dim_sponsor AS s, ct_views.stg_links AS l"
    with pytest.raises(AssertionError) as failure:
        dbt_on(
            address, built.written, "run", "--full-refresh", "--select", "dim_sponsor", "stg_links"
        )
    named = (
        "ct_marts.dim_sponsor, ct_views.stg_links would be replaced, but was not made by ctg_assets"
    )
    assert named in str(failure.value)
    assert values(address, mine) == [("mine", "mine")]

    query(address, "ALTER TABLE ct_tables.links RENAME TO links_before")
    query(address, "CREATE TABLE ct_tables.links AS SELECT 'mine' AS kept")
    with pytest.raises(ForeignObjectError, match=r"ct_tables\.links would be replaced"):
        observe(built.lake, built.settings, date(2025, 12, 20), built.studies)
    assert values(address, "SELECT kept FROM ct_tables.links") == [("mine",)]


def test_a_foreign_schema_stops_the_build(owner: PostgresAddress, tmp_path: Path) -> None:
    """A schema of marts that somebody makes after the load is not built into, by Dagster or by hand."""
    address = new_database(owner)
    settings = _settings(tmp_path / "data", address)
    observe(open_lake(settings), settings, date(2025, 9, 20), _studies())
    make_foreign(address, "marts", FOREIGN["marts"])
    before = contents(address, ["marts"])
    with pytest.raises(ForeignObjectError, match="CTG_MARTS_SCHEMA"):
        prepare_build(address)
    with pytest.raises(AssertionError, match="CTG_MARTS_SCHEMA"):
        dbt_on(address, tmp_path, "run", "--select", "dim_study")
    assert contents(address, ["marts"]) == before


@pytest.mark.parametrize("how", ["restored from a dump", "of a release before"])
def test_what_is_ours_is_known_again(
    built: Built, owner: PostgresAddress, tmp_path: Path, how: str
) -> None:
    """A database restored from a dump, or left by a release that noted nothing, is loaded and built into."""
    if how == "restored from a dump":
        source, address = built.address, new_database(owner)
        dump = tmp_path / "dump"
        at = ["-h", owner.host, "-U", "owner", "-d"]
        dumping = [str(programs() / "pg_dump"), "-Fc", "-f", str(dump), *at, source.dbname]
        subprocess.run(dumping, check=True)
        restore = [str(programs() / "pg_restore"), *at, address.dbname, str(dump)]
        subprocess.run(restore, check=True, capture_output=True)
        settings = built.settings.model_copy(update={"postgres_url": address.url})
    else:
        settings = built.copy(owner).settings
    with open_postgres(settings) as address:
        if how == "of a release before":
            query(address, "DROP TABLE ct_notes.owned")
        info = load_info(address)
        assert info is not None
        assert len(staging_builds(address)) > 50
        prepare_build(address)
        # Whether all models are ours is asked before the first of those that are built.
        dbt_on(address, built.written, "run", "--full-refresh", *_SOME)
        query(address, "UPDATE ct_notes.builds SET fingerprint = 'other'")
        manifest = built.lake.snapshots.latest()
        assert manifest is not None
        load_staging(address, built.lake, manifest)
        assert contents(address, [*FOREIGN, "june"]).keys() == built.foreign_before.keys()
        for name, rows in built.foreign_before.items():
            if "." in name:
                assert values(address, f"SELECT t::text FROM {name} AS t ORDER BY 1") == rows
