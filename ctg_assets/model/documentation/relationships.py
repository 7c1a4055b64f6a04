"""Diagrams of what refers to what, in Mermaid's notation, which GitHub draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ctg_assets.model.documentation import ORIGIN
from ctg_assets.model.documentation.sections import sections
from ctg_assets.model.spec import ForeignKey
from ctg_assets.model.tables import Table
from ctg_assets.model.tables.declaration import STUDY_TABLE

_INTRODUCTION = f"""\
# Entity relationships

<!-- {ORIGIN} -->

The tables of schema `staging` and their foreign keys. Loads prove that they hold, and Postgres enforces them. What the tables
and columns mean is in the [data dictionary](data_dictionary.md).

Every table refers to `{STUDY_TABLE}` by `nct_id`. To keep the diagrams readable that line is drawn only
from tables that lie in no other table. Of the columns, only keys are shown.

How to read a line: `||--o{{` joins one row to any number of rows, `|o--o{{` likewise where the reference
may be missing, `||--o|` one row to at most one.
"""

_OVERVIEW = """\
## Overview

All references between tables except those to `studies`.
"""


def entity_relationships(tables: Sequence[Table]) -> str:
    """An overview of references between tables, then a diagram with key columns per section."""
    parts = [_INTRODUCTION, _OVERVIEW, _diagram(_overview(tables))]
    for title, members in sections(tables).items():
        parts += [f"## {title}\n", _diagram(_section(members))]
    return "\n".join(parts)


def _diagram(lines: Iterator[str]) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"```mermaid\nerDiagram\n{body}```\n"


def _overview(tables: Sequence[Table]) -> Iterator[str]:
    for table in tables:
        for key in table.shape.foreign_keys:
            if key.table != STUDY_TABLE:
                yield _line(table, key)


def _section(tables: Sequence[Table]) -> Iterator[str]:
    for table in tables:
        yield from _entity(table)
    for table in tables:
        keys = table.shape.foreign_keys
        lies_elsewhere = any(_is_certain(table, key) for key in keys if key.table != STUDY_TABLE)
        for key in keys:
            if key.table != STUDY_TABLE or not lies_elsewhere:
                yield _line(table, key)


def _entity(table: Table) -> Iterator[str]:
    shape = table.shape
    foreign = {name for key in shape.foreign_keys for name in key.columns}
    yield f"{shape.name} {{"
    for column in shape.columns:
        marks = [
            mark
            for mark, holds in (
                ("PK", column.name in shape.primary_key),
                ("FK", column.name in foreign),
            )
            if holds
        ]
        if marks:
            yield f"    {column.type.value.replace(' ', '_')} {column.name} {', '.join(marks)}"
    yield "}"


def _line(table: Table, key: ForeignKey) -> str:
    one = "||" if _is_certain(table, key) else "|o"
    has_many = any(source.is_list for source in table.sources) or len(table.sources) > 1
    many = "o{" if has_many or key.table != STUDY_TABLE else "o|"
    return f"{key.table} {one}--{many} {table.name} : {'_'.join(key.columns)}"


def _is_certain(table: Table, key: ForeignKey) -> bool:
    """Whether every row refers to one."""
    nullable = {column.name for column in table.shape.columns if column.nullable}
    return nullable.isdisjoint(key.columns)
