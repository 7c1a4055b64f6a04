"""Text of any length in every column that an index covers, from the study to the last mart."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import psycopg
import pytest
from psycopg import sql

from ctg_assets.extract.import_file import import_file
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.model.fields import FieldNode, field_tree
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import WITHOUT_VIEWS, dbt_on, values
from ctg_assets_tests.marts.who_estimates import ESTIMATE, ESTIMATES
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.lakes import FIRST_DATA, NEXT_DATA, completed, planned

LENGTH = 10_000

# Written by us alone: ids of studies, codes of a seed, and in our notes names of tables, tests, loads and sinks.
_BOUNDED = {"nct_id"}
_OUR_NOTES = "ctg_meta"
# Rows with longer keys are set aside before (`who/test_faults.py`).
_OF_WHO = "who"
_OUR_KEYS = {("staging", "load_info", "snapshot_id"), ("marts", "dim_country", "country_code")}


def _incompressible(draw: Random) -> str:
    return "".join(draw.choices(string.ascii_letters + string.digits, k=LENGTH))


def _compressible(draw: Random) -> str:
    return (draw.choice("abcdef") * 97 + " ") * 102 + str(draw.random())


_KINDS = {"incompressible": _incompressible, "compressible": _compressible}


def _study(number: int, kind: str, revision: int = 0) -> bytes:
    """A study in which every field is there, and every text is long."""
    draw = Random(f"{kind} {number} {revision}")

    def value(node: FieldNode) -> Any:
        return [item(node), item(node)] if node.is_list else item(node)

    def item(node: FieldNode) -> Any:
        if node.children:
            return {child.name: value(child) for child in node.children}
        match node.base_type:
            case "boolean":
                return True
            case "integer" | "long" | "number":
                return 7
            case "GeoPoint":
                return {"lat": 1.5, "lon": 2.5}
            case _:
                return _KINDS[kind](draw)

    study = {node.name: value(node) for node in field_tree()}
    study["protocolSection"]["identificationModule"]["nctId"] = f"NCT{number:08}"
    study[_KINDS[kind](draw)] = {_KINDS[kind](draw): _KINDS[kind](draw)}
    return msgspec.json.encode(study)


class Indexed(NamedTuple):
    """A text column that an index covers, as the catalog has it."""

    schema: str
    table: str
    index_name: str
    column: str
    columns: int


def _indexed(address: PostgresAddress) -> list[Indexed]:
    """Every column of text that some index of our schemas covers, but for those that we bound."""
    found = values(
        address,
        """
        SELECT n.nspname, c.relname, ic.relname, a.attname, i.indnkeyatts
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indrelid
        JOIN pg_class AS ic ON ic.oid = i.indexrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        JOIN pg_am AS am ON am.oid = ic.relam
        -- Of an expression, all columns that it reads.
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND (
            a.attnum = ANY(i.indkey) OR EXISTS (
                SELECT FROM pg_depend AS d
                WHERE d.objid = i.indexrelid AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
            )
        )
        WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
        AND a.atttypid IN ('text'::regtype, 'varchar'::regtype)
        ORDER BY 1, 2, 3, 4
        """,
    )
    return [
        column
        for column in map(Indexed._make, found)
        if column.column not in _BOUNDED
        and column.schema not in {_OUR_NOTES, _OF_WHO}
        and (column.schema, column.table, column.column) not in _OUR_KEYS
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a data folder of the test's own."""
    return load_settings(data_dir=tmp_path / "data", query="", max_quarantine_fraction=1)


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """An empty lake."""
    return open_lake(settings)


@pytest.fixture
def with_marts(server: PostgresAddress, generated_marts: str) -> Iterator[PostgresAddress]:
    """A database with all marts, and their indexes, of other studies."""
    with new_database(server, generated_marts) as own:
        yield own


def test_text_of_any_length_passes_every_index(
    with_marts: PostgresAddress, lake: Lake, settings: Settings, tmp_path: Path
) -> None:
    """Studies whose every text has 10,000 characters are loaded, changed and built into the marts.

    The space: every leaf of the field tree that is text, enumerated values, dates and ages included, and
    names of unknown fields; text that compresses and text that does not; first load and change; all
    columns of text that an index in any of our schemas covers, as the catalog lists them.
    """
    address = with_marts
    # Few of many, so that their change is a change in place.
    source = GeneratedSource(40, seed=3)
    others = [source.raw(index) for index in range(40)]
    first = [_study(number, kind) for number, kind in enumerate(_KINDS, 10)]
    plan = planned(lake, settings, studies=42, data_timestamp=FIRST_DATA)
    completed(lake, plan, [*first, *others])
    load_staging(address, lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id))

    changed = [_study(number, kind, 1) for number, kind in enumerate(reversed(_KINDS), 10)]
    plan = planned(lake, settings, studies=42, data_timestamp=NEXT_DATA)
    completed(lake, plan, [*changed, *others])
    load_staging(address, lake, Compactor(lake.storage, lake.scratch).compact(plan.extraction_id))
    loads = values(address, "SELECT kind FROM ctg_meta.loads ORDER BY load_number")
    assert loads == [("full",), ("full",), ("delta",)]
    with connect(address) as connection:
        # Marts beside WHO's numbers have no row without one.
        connection.execute(ESTIMATES)
        connection.execute(ESTIMATE, ("GHE2021", "USA", 2021, "TOTAL", "TOTAL", 30, 1e6))
    dbt_on(address, tmp_path, "run", *WITHOUT_VIEWS)

    indexed = _indexed(address)
    names = {f"{column.schema}.{column.table}.{column.column}" for column in indexed}
    assert {
        "staging.conditions.downcase_name",
        "staging.studies.overall_status",
        "staging.study_field_changes.path",
        "staging.extras.path",
        "marts.dim_condition.condition_name",
        "marts.dim_study.overall_status",
    } <= names, "the catalog was not read right"
    with connect(address) as connection:
        for column in indexed:
            _put_long_values(connection, column)
            _require_use(connection, column)


def _put_long_values(connection: Connection, column: Indexed) -> None:
    """Write each kind of long text into a column, whatever was there, and take it back."""
    name, table = sql.Identifier(column.column), sql.Identifier(column.schema, column.table)
    for kind, text in _KINDS.items():
        with connection.transaction(force_rollback=True):
            try:
                written = connection.execute(
                    sql.SQL(
                        "UPDATE {0} SET {1} = %s WHERE ctid = (SELECT min(ctid) FROM {0})"
                    ).format(table, name),
                    [text(Random(1))],
                )
            except psycopg.errors.ProgramLimitExceeded as error:
                pytest.fail(f"{column} does not take {kind} text: {error}")
            except psycopg.errors.CheckViolation:
                # A test of accepted values has them all, and a constraint says so: none is long.
                return
            assert written.rowcount, f"{column.table} has no row to try"


def _require_use(connection: Connection, column: Indexed) -> None:
    """That a plain comparison finds rows through the index, with a text and with what a query gives."""
    assert column.columns == 1, f"{column} is one of several columns"
    name, table = sql.Identifier(column.column), sql.Identifier(column.schema, column.table)
    for compared in (
        sql.SQL("'x'"),
        sql.SQL("(SELECT string_agg(v, '') FROM (VALUES ('x')) AS t (v))"),
    ):
        statement = sql.SQL("EXPLAIN SELECT * FROM {} WHERE {} = {}").format(table, name, compared)
        with connection.transaction(force_rollback=True):
            # Of a few rows Postgres reads all if it may.
            connection.execute("SET LOCAL enable_seqscan = off")
            plan = [line for (line,) in connection.execute(statement).fetchall()]
        assert any(column.index_name in line for line in plan), (column, plan)


def test_a_long_name_does_not_stop_the_load(
    address: PostgresAddress, lake: Lake, tmp_path: Path
) -> None:
    """Case 07: a condition of 4,300 characters is loaded, and all other studies with it."""
    path = shared_path("cases/07-long-name-stops-load.jsonl")
    entry = import_file(lake, path, page_size=100)
    load_staging(address, lake, Compactor(lake.storage, lake.scratch).compact(entry.extraction_id))
    assert values(address, "SELECT nct_id FROM staging.studies ORDER BY 1") == [
        ("NCT09810001",),
        ("NCT09810002",),
    ]
    dbt_on(address, tmp_path, "run", "--select", "+dim_condition")
    longest = "SELECT max(length(condition_name)) > 4000 FROM marts.dim_condition"
    assert values(address, longest) == [(True,)]
