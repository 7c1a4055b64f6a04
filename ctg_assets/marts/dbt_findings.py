"""What a dbt test found, in words: how many rows, which values, one study.

dbt itself says how many rows a test found and keeps the rows only in tables of their own, which would
have to be made and dropped for each of hundreds of tests. Few tests find anything, so their SQL is
simply run once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from ctg_assets.postgres.connection import Connection, PostgresAddress, connect
from ctg_assets.postgres.errors import WarehouseError

_MOST_ROWS = 3
_MOST_COLUMNS = 5
_MOST_CHARACTERS = 60
_STUDY = "nct_id"


def describe_findings(
    address: PostgresAddress,
    test: Mapping[str, Any],
    tested: Mapping[str, Any] | None,
    compiled: Path,
    failures: int | None,
) -> str:
    """One sentence on a dbt test that did not pass.

    `test` and `tested` (the model or source that it reads, if it is of one) are nodes of dbt's manifest,
    `compiled` is the file with the test's SQL as it ran, and `failures` the number of rows that dbt
    counted, None if the test could not be run. Never fails: what cannot be told is said.
    """
    try:
        statement = compiled.read_text(encoding="utf-8")
        with connect(address) as connection:
            rows = _first_rows(connection, statement)
            number = _count(connection, statement) if failures is None else failures
            example = _example(connection, test, tested, rows)
    except (OSError, WarehouseError, psycopg.Error) as error:
        counted = "it could not be run" if failures is None else _number(failures)
        return f"{counted}; what it found cannot be told: {' '.join(str(error).split())}"
    return in_words(number, [_renamed(test, row) for row in rows], example)


def in_words(number: int, rows: Sequence[Mapping[str, Any]], example: str | None) -> str:
    """How many rows a test found, the first of them, and a study to look at."""
    # Of NULLs all rows look alike.
    shown = "; ".join(dict.fromkeys(map(_row, rows[:_MOST_ROWS])))
    said = f"{_number(number)}: {shown}" if shown else _number(number)
    if number > len(rows[:_MOST_ROWS]) > 0:
        said += f"; and {number - len(rows[:_MOST_ROWS]):,} more"
    return said if example is None else f"{said}; for example {example}"


def compiled_path(target: Path, test: Mapping[str, Any]) -> Path:
    """Where dbt writes a node's SQL: a file as in the project, or one of several that a file declares."""
    path = Path(test["original_file_path"])
    if Path(test["path"]).name != path.name:
        path /= test["path"]
    return Path(target, "compiled", test["package_name"], path)


def node_under_test(
    manifest: Mapping[str, Any], test: Mapping[str, Any]
) -> Mapping[str, Any] | None:
    """The model or source that a test is of, in dbt's manifest; None for one of nothing."""
    unique_id = test.get("attached_node") or next(iter(test["depends_on"]["nodes"]), None)
    if unique_id is None:
        return None
    found: Mapping[str, Any] | None = manifest["nodes"].get(unique_id)
    return found or manifest["sources"].get(unique_id)


def _number(rows: int) -> str:
    return f"{rows:,} {'row' if rows == 1 else 'rows'} that should not be there"


def _row(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in _columns(row))


def _columns(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The first columns of a row; of a whole row of a table only what can be read at a glance."""
    yield from list(row.items())[:_MOST_COLUMNS]


def _value(value: Any) -> str:
    if value is None:
        return "NULL"
    text = str(value)
    cut = text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
    return f"'{cut}'" if isinstance(value, str) else cut


def _first_rows(connection: Connection, statement: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        limited = f"SELECT * FROM (\n{statement}\n) AS found LIMIT {_MOST_ROWS}"  # noqa: S608 - dbt's own
        return cursor.execute(limited.encode()).fetchall()


def _count(connection: Connection, statement: str) -> int:
    counted = f"SELECT count(*) FROM (\n{statement}\n) AS found"  # noqa: S608 - dbt's own
    row = connection.execute(counted.encode()).fetchone()
    return 0 if row is None else int(row[0])


def _example(
    connection: Connection,
    test: Mapping[str, Any],
    tested: Mapping[str, Any] | None,
    rows: Sequence[Mapping[str, Any]],
) -> str | None:
    """A study concerned: one that the rows name, or one in the tested table with the first row's values."""
    if not rows:
        return None
    row = rows[0]
    named = [value for name, value in row.items() if _STUDY in name and value is not None]
    if named:
        return str(named[0])
    values = _tested_values(test, row)
    if tested is None or _STUDY not in tested["columns"] or not values:
        return None
    conditions = sql.SQL(" AND ").join(
        sql.SQL("{}::text IS NOT DISTINCT FROM {}::text").format(
            sql.Identifier(column), sql.Literal(value)
        )
        for column, value in values.items()
    )
    statement = sql.SQL("SELECT {} FROM {} WHERE {} LIMIT 1").format(
        sql.Identifier(_STUDY),
        sql.Identifier(tested["schema"], tested.get("alias") or tested["identifier"]),
        conditions,
    )
    found = connection.execute(statement).fetchone()
    return None if found is None else str(found[0])


def _arguments(test: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments: Mapping[str, Any] = (test.get("test_metadata") or {}).get("kwargs") or {}
    return arguments


def _renamed(test: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the tested column's own name: dbt's tests have its value first, under another."""
    column = _arguments(test).get("column_name")
    if column is None:
        return dict(row)
    first, *others = row.items()
    return {column: first[1], **dict(others)}


def _tested_values(test: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the tested table that a row of a generic test is about, with their values."""
    if "cell_value" in row:
        return {row["column_name"]: row["cell_value"]}
    arguments = _arguments(test)
    if "column_name" in arguments:
        return {arguments["column_name"]: next(iter(row.values()))}
    return {name: row[name] for name in arguments.get("columns", ()) if name in row}
