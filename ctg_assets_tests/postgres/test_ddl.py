"""The SQL for tables, as text and as Postgres understands it."""

from __future__ import annotations

import pytest

from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape
from ctg_assets.model.tables import staging_tables
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.indexes import build_indexes
from ctg_assets_tests.support.postgres import ALL, CONDITIONS, STUDIES, query


@pytest.mark.parametrize("table", ["a" * 58, "a" * 59, "a" * 200, "é" * 40, "x" + "é" * 40])
def test_names_fit_and_begin_with_the_table(table: str) -> None:
    """A name is the words joined while Postgres can hold that, else its whole letters and a digest."""
    name = ddl.object_name(table, "pkey")
    assert len(name.encode()) <= 63
    if len(table.encode()) <= 58:
        assert name == f"{table}_pkey"
    else:
        kept, _, digest = name.rpartition("_")
        assert table.startswith(kept)
        assert len(kept.encode()) >= 53
        assert len(digest) == 8


def test_long_names_stay_different() -> None:
    """Two long names that begin alike are not cut to the same one."""
    assert ddl.object_name("a" * 70, "fkey") != ddl.object_name("a" * 71, "fkey")


def test_odd_names_are_quoted(address: PostgresAddress) -> None:
    """Reserved words, quotes and capitals in names and comments arrive as they are."""
    shape = TableShape(
        name='Select "it"',
        description="It's 100%",
        columns=(Column("order", ColumnType.TEXT, "a \\ b {c}", nullable=False),),
        primary_key=("order",),
        indexes=(("order",),),
    )
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA odd")
        for statement in (
            ddl.create_table(shape, "odd"),
            ddl.create_primary_key(shape, "odd"),
            *ddl.comments(shape, "odd"),
        ):
            connection.execute(statement)
        build_indexes(connection, shape, "odd")
    assert query(
        address,
        """SELECT c.relname, obj_description(c.oid, 'pg_class'), a.attname, col_description(c.oid, 1)
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = 1
        WHERE c.relnamespace = 'odd'::regnamespace AND c.relkind = 'r'""",
    ) == [('Select "it"', "It's 100%", "order", "a \\ b {c}")]


def test_comments_give_source_and_equivalent(address: PostgresAddress) -> None:
    """A column's comment says what it means, where it comes from and what AACT calls it."""
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA said")
        connection.execute(ddl.create_table(STUDIES, "said"))
        for statement in ddl.comments(STUDIES, "said"):
            connection.execute(statement)
    assert query(address, "SELECT col_description('said.studies'::regclass, 1)") == [
        (
            """The registry's id.
Source: protocolSection.identificationModule.nctId
AACT: studies.nct_id""",
        )
    ]


def test_foreign_keys_refer_to_the_primary_key(address: PostgresAddress) -> None:
    """A foreign key names no columns of the other table: they are its primary key."""
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA keyed")
        for shape in ALL[:2]:
            connection.execute(ddl.create_table(shape, "keyed"))
            connection.execute(ddl.create_primary_key(shape, "keyed"))
        key = ForeignKey(("nct_id",), "studies")
        connection.execute(ddl.add_foreign_key(CONDITIONS, key, "keyed", "keyed"))
        connection.execute(ddl.validate_constraint("keyed", "conditions", "conditions_nct_id_fkey"))
    assert query(
        address,
        "SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'",
    ) == [("conditions_nct_id_fkey", True, "FOREIGN KEY (nct_id) REFERENCES keyed.studies(nct_id)")]


def test_names_in_the_model_are_unique() -> None:
    """No two tables, keys and indexes of the real model share a name in their schema."""
    shapes = [table.shape for table in staging_tables()]
    names = [shape.name for shape in shapes]
    names += [ddl.object_name(shape.name, "pkey") for shape in shapes]
    names += [
        ddl.object_name(shape.name, *columns, "idx")
        for shape in shapes
        for columns in shape.indexes
    ]
    assert len(names) == len(set(names))
