"""Indexes on text are B-trees where the text fits into them, SP-GiST else, and no text stops them."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from ctg_assets.aact.schema import aact_tables
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.model.spec import ColumnType, TableShape
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import Connection, PostgresAddress, connect
from ctg_assets.postgres.indexes import build_indexes, is_too_long
from ctg_assets_tests.support.postgres import CONDITIONS

_TEXTS = {ColumnType.TEXT, ColumnType.VARCHAR}


def _text(length: int, seed: int = 0) -> str:
    """Text that does not compress."""
    return "".join(Random(seed).choices(string.ascii_letters + string.digits, k=length))


LONG = _text(10_000)


def _indexed_texts(shape: TableShape) -> list[str]:
    types = {column.name: column.type for column in shape.columns}
    return [
        columns[0]
        for columns in shape.indexes
        if columns != ("nct_id",) and types[columns[0]] in _TEXTS
    ]


def _cases() -> list[tuple[TableShape, str]]:
    shapes = [*staging_shapes(), *(table.shape for table in aact_tables())]
    return [(shape, column) for shape in shapes for column in _indexed_texts(shape)]


def _filled(
    connection: Connection, shape: TableShape, texts: Sequence[dict[str, str]]
) -> dict[str, str]:
    """The access method of each index on text, built on a new table that has these rows, all else missing."""
    connection.execute("DROP SCHEMA IF EXISTS tried CASCADE; CREATE SCHEMA tried")
    nullable = replace(
        shape, columns=tuple(replace(column, nullable=True) for column in shape.columns)
    )
    connection.execute(ddl.create_table(nullable, "tried"))
    for row in texts:
        connection.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier("tried", shape.name),
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(map(sql.Literal, row.values())),
            )
        )
    with connection.transaction():
        build_indexes(connection, shape, "tried")
    found = connection.execute(
        """
        SELECT a.attname, am.amname
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_am AS am ON am.oid = c.relam
        JOIN pg_attribute AS a ON a.attrelid = i.indexrelid AND a.attnum = 1
        WHERE c.relnamespace = 'tried'::regnamespace AND am.amname <> 'brin'
        """
    ).fetchall()
    assert len(found) == len(shape.indexes)
    return {column: method for column, method in found if column in _indexed_texts(shape)}


def test_there_are_indexes_on_text() -> None:
    """What the next test is about is not empty, in either schema."""
    names = {(shape.name, column) for shape, column in _cases()}
    assert {("facilities", "city"), ("sponsors", "agency_class")} <= names


@pytest.mark.parametrize(
    ("shape", "column"), [pytest.param(*case, id=f"{case[0].name}.{case[1]}") for case in _cases()]
)
def test_one_long_text_changes_the_kind_of_its_index_alone(
    address: PostgresAddress, shape: TableShape, column: str
) -> None:
    """Every declared index on text is a B-tree, and SP-GiST once its column has a text of 10,000 characters."""
    short = dict.fromkeys(_indexed_texts(shape), "x" * 500)
    b_trees = dict.fromkeys(short, "btree")
    with connect(address) as connection:
        assert _filled(connection, shape, [short]) == b_trees
        with_long = [short, {**short, column: LONG}, short]
        assert _filled(connection, shape, with_long) == {**b_trees, column: "spgist"}


def test_an_empty_table_is_ready_for_any_text(address: PostgresAddress) -> None:
    """Nothing is known of what an empty table will hold, and a first long text shall not cost a whole load."""
    with connect(address) as connection:
        assert _filled(connection, CONDITIONS, []) == {"name": "spgist"}


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.one_of(
            # Around what a B-tree takes, and what any index takes in a page.
            st.builds(_text, st.integers(2_600, 2_800), st.integers(0, 9)),
            st.builds(_text, st.integers(8_100, 8_300)),
            st.builds(lambda text, times: text * times, st.text(min_size=1), st.integers(1, 5_000)),
        ).map(lambda text: text.replace("\0", " ")),
        min_size=1,
        max_size=4,
    )
)
def test_no_text_stops_an_index(address: PostgresAddress, texts: list[str]) -> None:
    """Whatever the texts: there is an index, it finds each of them, and it is a B-tree if Postgres makes one."""
    with connect(address) as connection:
        [method] = _filled(connection, CONDITIONS, [{"name": text} for text in texts]).values()
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("CREATE INDEX ON tried.conditions (name)")
            fits = True
        except psycopg.errors.ProgramLimitExceeded:
            fits = False
        assert method == ("btree" if fits else "spgist")
        connection.execute("SET enable_seqscan = off")
        for text in texts:
            found = connection.execute(
                "SELECT count(*) FROM tried.conditions WHERE name = %s", [text]
            ).fetchone()
            assert found == (texts.count(text),)


def test_a_long_text_for_a_b_tree_is_told_from_other_errors(address: PostgresAddress) -> None:
    """Rows that a B-tree refuses are what `is_too_long` means, and no other refusal is."""
    with connect(address) as connection:
        _filled(connection, CONDITIONS, [{"name": "short"}])
        with pytest.raises(psycopg.Error) as refused:
            connection.execute("INSERT INTO tried.conditions (name) VALUES (%s)", [LONG])
        assert is_too_long(refused.value)
        with pytest.raises(psycopg.Error) as refused:
            connection.execute("INSERT INTO tried.conditions (id) VALUES ('x')")
        assert not is_too_long(refused.value)


def test_long_text_is_indexed_alone() -> None:
    """An index of several columns cannot hold text of any length, so the declaration is refused."""
    shape = replace(CONDITIONS, indexes=(("name", "version"),))
    with pytest.raises(ValueError, match="declare one index for each"):
        ddl.may_be_of_any_length(shape, shape.indexes[0])
    with pytest.raises(ValueError, match="declare one index for each"):
        ddl.definition(shape)
