"""SQL as AACT's users write it gives the answers that a separate program works out from the JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.aact.from_json import Registry
from ctg_assets_tests.aact.statements import (
    catalogs,
    counting,
    joins,
    numbers,
    old_labels,
    own_objects,
    text,
    views,
)
from ctg_assets_tests.aact.statements.statement import SHAPES, Rows, Statement
from ctg_assets_tests.support.loaded_studies import LoadedStudies

TODAY = [
    statement
    for module in (counting, text, numbers, joins, views, own_objects, catalogs)
    for statement in module.STATEMENTS
]
OLD = list(old_labels.STATEMENTS)


@dataclass(frozen=True)
class Asked:
    """A database with AACT's tables of studies, and the same studies as JSON."""

    address: PostgresAddress
    registry: Registry
    is_recorded: bool


@pytest.fixture(scope="module", params=["recorded", "generated"])
def asked(request: pytest.FixtureRequest, server: PostgresAddress) -> Asked:
    """The recorded studies, where there are any, and generated ones, both on this server."""
    if request.param == "recorded":
        address = request.getfixturevalue("aact")
        return Asked(address, request.getfixturevalue("registry"), is_recorded=True)
    loaded: LoadedStudies = request.getfixturevalue("generated_studies")
    return Asked(loaded.address, Registry(loaded.in_tables), is_recorded=False)


@pytest.fixture(scope="module")
def connection(asked: Asked) -> Iterator[psycopg.Connection[Any]]:
    """A session such as any client has: the search path is that of the database."""
    with psycopg.connect(asked.address.url) as connection:
        yield connection


@pytest.fixture(scope="module")
def old(asked: Asked) -> Iterator[psycopg.Connection[Any]]:
    """A session that has asked for the labels of before June 2024."""
    with psycopg.connect(asked.address.url) as connection:
        connection.execute("SET search_path = ctgov_2023")
        connection.commit()
        yield connection


def run(connection: psycopg.Connection[Any], statement: Statement) -> Rows:
    """The rows of a statement, or of the last of several; what they made is undone."""
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        if not statement.as_owner:
            cursor.execute("SET LOCAL ROLE ctg_reader")
        if statement.sql.split()[0] == "COPY":
            with cursor.copy(statement.sql.encode()) as copy:
                return [(line,) for line in b"".join(copy).decode().splitlines()]
        cursor.execute(
            statement.sql.replace("aact.ctgov", f"{connection.info.dbname}.ctgov").encode()
        )
        while cursor.nextset():
            pass
        names = [column.name for column in cursor.description or []]
        # What ids AACT gives is nobody's business.
        return [
            tuple("id" if name == "id" else value for name, value in zip(names, row, strict=True))
            for row in cursor
        ]


def plain(value: Any) -> Any:
    """A value in a form in which equal ones look the same."""
    if isinstance(value, Decimal | int | float) and not isinstance(value, bool):
        return Decimal(str(value)).normalize() + 0
    return value


def compared(rows: Rows, statement: Statement) -> Rows:
    """Rows as they are compared: in any order, unless the statement asks for one."""
    same = [tuple(map(plain, row)) for row in rows]
    return same if statement.is_ordered else sorted(same, key=repr)


def check(statement: Statement, found: Rows, asked: Asked) -> None:
    """Whether the answer is the one worked out; of recorded studies it is never empty, or proves nothing."""
    expected = statement.answer(asked.registry)
    assert expected != [] or not asked.is_recorded or statement.name == "columns_of_no_rows"
    assert compared(found, statement) == compared(expected, statement)


@pytest.mark.parametrize("statement", TODAY, ids=lambda statement: statement.name)
def test_a_statement_of_today(
    statement: Statement, connection: psycopg.Connection[Any], asked: Asked
) -> None:
    """A statement with names without a schema has the answer worked out from the JSON."""
    check(statement, run(connection, statement), asked)


@pytest.mark.parametrize("statement", OLD, ids=lambda statement: statement.name)
def test_a_statement_with_old_labels(
    statement: Statement, old: psycopg.Connection[Any], asked: Asked
) -> None:
    """So has one that compares with the labels of before June 2024, in the schema that has them."""
    check(statement, run(old, statement), asked)


def test_every_shape_of_use_has_its_statement() -> None:
    """Each shape in the census is asked for, with enough statements of today and of old."""
    every = [*TODAY, *OLD]
    assert {shape for statement in every for shape in statement.shapes} == SHAPES
    assert len({statement.name for statement in every}) == len(every)
    assert len(TODAY) >= 50
    assert len(OLD) >= 12
