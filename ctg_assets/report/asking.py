"""Asking the warehouse the report's questions, all of them at one moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.report.figures import Figure

# What Postgres says where a table or a column of a question is not there.
_NOT_THERE = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


@dataclass(frozen=True)
class Answer:
    """The rows that answer a question, or what is `missing` in the warehouse; with the SQL as it was asked."""

    figure: Figure
    sql: str
    rows: tuple[Mapping[str, Any], ...] = ()
    missing: str | None = None


@cache
def question(name: str) -> str:
    """The SQL of a figure, in which `{marts}` and `{staging}` stand for schemas."""
    return files(__package__).joinpath("queries", f"{name}.sql").read_text(encoding="utf-8").strip()


def shown_question(name: str, schemas: Schemas) -> str:
    """The SQL as people can run it."""
    text = question(name)
    for purpose, schema in schemas.by_purpose():
        text = text.replace(f"{{{purpose}}}", schema)
    return text


def ask(
    address: PostgresAddress,
    figures: Iterable[Figure],
    show: Callable[[str], None] = lambda _: None,
) -> dict[str, Answer]:
    """The answer to each figure's question, by name, all of one moment; `show` is told what is being asked.

    What is not there (nothing is loaded, or a mart is not built yet) is an answer, too. Raises WarehouseErrors.
    """
    answers = {}
    with (
        connect(address) as connection,
        postgres_errors("asking for the report"),
        connection.transaction(),
    ):
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for figure in figures:
            show(figure.title)
            answers[figure.name] = _ask(connection, figure)
    return answers


def _ask(connection: Connection, figure: Figure) -> Answer:
    schemas = connection.schemas
    shown = shown_question(figure.name, schemas)
    # The text is a file of ours.
    statement = schemas.sql(question(figure.name))
    try:
        # A savepoint, so that one question that cannot be asked leaves the others as they are.
        with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
            return Answer(figure, shown, tuple(cursor.execute(statement).fetchall()))
    except _NOT_THERE as error:
        return Answer(figure, shown, missing=error.diag.message_primary or str(error))
