"""Loads into other schemas than staging: the same tables, made apart, over nothing of anybody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.postgres.builds import load_info, staging_builds
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import LoadRejectedError, PermanentWarehouseError
from ctg_assets.postgres.inspection import foreign_keys, row_counts
from ctg_assets_tests.support.postgres import (
    ALL,
    STUDIES,
    batch,
    build,
    query,
    table,
    versions,
)

AS_OF = "As of 2024"


def load_as_of(address: PostgresAddress, version: int = 2, schema: str = AS_OF) -> None:
    """Load as many studies as the version says into another schema."""
    rows = [batch(range(1, version + 1), version)]
    load_tables(LoadRequest(address, ALL, build=build(version), schema=schema), rows)


def made(address: PostgresAddress, schema: str) -> list[str]:
    """Every index, constraint and comment of a schema's tables, without its name."""
    rows = query(
        address,
        f"""
        WITH own AS (SELECT * FROM pg_class WHERE relnamespace = '"{schema}"'::regnamespace)
        SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i JOIN own ON own.oid = i.indrelid
        UNION ALL
        SELECT k.conname || pg_get_constraintdef(k.oid)
        FROM pg_constraint AS k JOIN own ON own.oid = k.conrelid
        UNION ALL
        SELECT own.relname || d.objsubid || d.description
        FROM pg_description AS d JOIN own ON own.oid = d.objoid AND d.classoid = 'pg_class'::regclass
        """,
    )
    return sorted(row[0].replace(f'"{schema}"', schema).replace(f"{schema}.", "") for row in rows)


def test_another_schema_has_the_same_tables(address: PostgresAddress) -> None:
    """It has all that staging has, and staging and its records stay as they are."""
    load_tables(LoadRequest(address, ALL, build=build(1)), [batch(range(1, 4))])
    records = "SELECT * FROM ctg_meta.loads"
    before = (versions(address), query(address, records), load_info(address))
    load_as_of(address)
    assert row_counts(address, AS_OF) == {
        "studies": 2,
        "conditions": 4,
        "keywords": 4,
        "load_info": 1,
    }
    assert [(key.name, key.validated) for key in foreign_keys(address, AS_OF)] == [
        ("conditions_nct_id_fkey", False),
        ("keywords_condition_id_fkey", False),
    ]
    assert len(made(address, "staging")) > 10
    assert made(address, AS_OF) == made(address, "staging")
    assert query(address, f'SELECT snapshot_id, load_number FROM "{AS_OF}".load_info') == [
        ("snapshot-2", None)
    ]
    assert (versions(address), query(address, records), load_info(address)) == before
    assert set(staging_builds(address).values()) == {"content-1/model"}


def test_a_schema_of_an_earlier_load_is_replaced(address: PostgresAddress) -> None:
    """Its tables are replaced with their grants and views kept; tables the model lost are dropped."""
    load_as_of(address)
    query(address, f'GRANT SELECT ON "{AS_OF}".studies TO PUBLIC')
    query(address, f'CREATE VIEW public.seen AS SELECT version FROM "{AS_OF}".studies')
    load_tables(
        LoadRequest(address, [STUDIES], build=build(3, tables=["studies"]), schema=AS_OF),
        [{"studies": batch(range(1, 4), 3)["studies"]}],
    )
    assert row_counts(address, AS_OF) == {"studies": 3, "load_info": 1}
    assert query(address, "SELECT DISTINCT version FROM public.seen") == [(3,)]
    assert query(
        address,
        f"""SELECT relacl::text LIKE '%{{=r/%' OR relacl::text LIKE '%,=r/%'
        FROM pg_class WHERE oid = '"{AS_OF}".studies'::regclass""",
    ) == [(True,)]


def test_a_failed_load_leaves_the_schema_as_it_was(address: PostgresAddress) -> None:
    """Rows that are no good change nothing, and nothing is left beside it."""
    load_as_of(address)
    twice = table(STUDIES, [("NCT00000001", 1), ("NCT00000001", 1)])
    with pytest.raises(LoadRejectedError, match=r"keys of As of 2024\.studies"):
        load_tables(LoadRequest(address, ALL, build=build(3), schema=AS_OF), [{"studies": twice}])
    assert row_counts(address, AS_OF)["studies"] == 2
    assert query(address, "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%next'") == []


@pytest.mark.parametrize(
    "schema",
    [
        "staging_next",
        "staging_views",
        "marts",
        "marts_next",
        "ctg_meta",
        "public",
        "information_schema",
        "pg_catalog",
        "",
        "x" * 64,
    ],
)
def test_names_that_are_taken(address: PostgresAddress, schema: str) -> None:
    """Schemas with another purpose, and what is no name of a schema, are refused."""
    with pytest.raises(PermanentWarehouseError, match="choose"):
        load_as_of(address, schema=schema)


@pytest.mark.parametrize("schema", ["mine", "mine_next"])
def test_a_schema_of_somebody_else(address: PostgresAddress, schema: str) -> None:
    """Tables that no load of ours has made are not touched, beside or in the schema."""
    query(address, f"CREATE SCHEMA {schema}")
    query(address, f"CREATE TABLE {schema}.studies ()")
    with pytest.raises(PermanentWarehouseError, match=f"schema {schema} is there and was not made"):
        load_as_of(address, schema="mine")
    assert row_counts(address, schema) == {"studies": 0}


def test_an_empty_schema_may_be_used(address: PostgresAddress) -> None:
    """A schema that somebody made for us is as good as one that is not there."""
    query(address, "CREATE SCHEMA mine")
    for version in (2, 3):
        load_as_of(address, version, schema="mine")
        assert row_counts(address, "mine")["studies"] == version


def test_both_at_once(address: PostgresAddress) -> None:
    """A load into another schema and one into staging do not exclude each other."""

    def batches() -> Iterator[dict[str, pa.Table]]:
        load_as_of(address)
        yield batch(range(1, 4), version=1)

    load_tables(LoadRequest(address, ALL, build=build(1)), batches())
    assert row_counts(address, AS_OF)["studies"] == 2
    assert versions(address) == [("conditions", 1, 6), ("studies", 1, 3)]
