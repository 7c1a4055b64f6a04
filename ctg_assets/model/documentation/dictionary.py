"""The data dictionary: every table and column, what it means and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ctg_assets.model.documentation import ORIGIN
from ctg_assets.model.documentation.markdown import cell, literal
from ctg_assets.model.documentation.sections import sections
from ctg_assets.model.documentation.values import enumerations, vocabularies
from ctg_assets.model.spec import Column, TableShape
from ctg_assets.model.tables import Table
from ctg_assets.model.tables.omissions import (
    AACT_COLUMNS_HELD_ONCE,
    AACT_COLUMNS_LEFT_OUT,
    AACT_TABLES_LEFT_OUT,
    FIELDS_LEFT_OUT,
)

_INTRODUCTION = f"""\
# Data dictionary

<!-- {ORIGIN} -->

The tables of schema `staging`, derived from the declarations by which studies are flattened. The same
columns, under the same names, are in the views `stg_*` of schema `staging_views`, which the marts read.
What refers to what is drawn in [entity relationships](entity_relationships.md).

## How to read it

**Keys.** `nct_id` names the study. Every table but `studies` has a key `id`: the NCT number times 10⁹ plus
the row's running position in its table and study. The same content gives the same keys on every load
and machine, and the study can be read off them. Foreign keys hold the `id` of another table's row.

**Positions.** The registry's lists are ordered. `position` is the item's position in its own list, from 1;
a column `…_position` is that of an enclosing list for which there is no table to refer to.

**Text** is as the registry sent it, Markdown and codes included, unless the description says otherwise.
NULL means that the registry sent nothing.

**Partial dates.** The registry has dates to the day, month or year. `…_month_year` (or AACT's name) is the
text as sent, `…_date` the last day that it covers, as in AACT, `…_date_first` the first, and
`…_date_precision` says which of the three it was.

**Numbers that the registry sends as text** are kept as sent beside the number that was read from it.
`…_qualifier` (or AACT's name) has what stood before the number (`<`, `<=`, `>`, `>=`, `=`, `~`) or in its
place (`NA` and the like). `…_status` is `number`, `qualified`, `not available`, or `unparsed` for what cannot be read for certain;
nothing is guessed. `1,249` is `ambiguous comma`, and no number, where other values of the same measure have decimal
commas such as `0,3139`.

**Ages and durations** are kept as sent, and in years and days (a year has 365.25 days, a month a twelfth of
that).

**Types** are Postgres's: `double` is `double precision`, `timestamp` has a time zone, `local timestamp` has none,
because the registry states none.

**AACT** names the column of [AACT](https://aact.ctti-clinicaltrials.org) with the same meaning.
**Source** is the path in the registry's JSON, with `[]` after lists.
"""


def data_dictionary(tables: Sequence[Table], others: Sequence[TableShape] = ()) -> str:
    """The whole dictionary; `others` are tables that studies are not flattened into."""
    grouped: dict[str, list[TableShape]] = {
        title: [table.shape for table in members] for title, members in sections(tables).items()
    }
    if others:
        grouped["Beside the studies"] = list(others)
    values = {table.name: _values(table) for table in tables}
    parts = [_INTRODUCTION, _left_out(), "## Tables\n", _contents(grouped)]
    for title, shapes in grouped.items():
        parts.append(f"## {title}\n")
        parts += ["\n".join(_table(shape, values.get(shape.name, {}))) for shape in shapes]
    return "\n".join(parts)


def tables_page(introduction: str, shapes: Sequence[TableShape]) -> str:
    """A dictionary of some tables by themselves, after this text."""
    return "\n".join([introduction, *("\n".join(_table(shape, {})) for shape in shapes)])


def _left_out() -> str:
    lines = ["## What is not here", ""]
    held_once = {name: held.reason for name, held in AACT_COLUMNS_HELD_ONCE.items()}
    for kind, reasons in (
        ("field of the registry", FIELDS_LEFT_OUT),
        ("column of AACT", {**AACT_COLUMNS_LEFT_OUT, **held_once}),
        ("table of AACT", AACT_TABLES_LEFT_OUT),
    ):
        lines += [f"| {kind} | reason |", "|---|---|"]
        lines += [f"| `{name}` | {cell(reason)} |" for name, reason in reasons.items()]
        lines.append("")
    return "\n".join(lines)


def _contents(grouped: Mapping[str, Sequence[TableShape]]) -> str:
    lines = ["| section | table | what it holds |", "|---|---|---|"]
    for title, shapes in grouped.items():
        for number, shape in enumerate(shapes):
            section = title if number == 0 else ""
            lines.append(
                f"| {section} | [{shape.name}](#{shape.name}) | {cell(shape.description)} |"
            )
    return "\n".join([*lines, ""])


def _table(shape: TableShape, values: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"### {shape.name}"
    yield ""
    yield literal(shape.description)
    yield ""
    yield f"- Primary key: {_names(shape.primary_key)}"
    for key in shape.foreign_keys:
        yield f"- Foreign key: {_names(key.columns)} → [{key.table}](#{key.table})"
    if shape.ordered_columns:
        yield f"- Block range index: {_names(shape.ordered_columns)}"
    if shape.indexes:
        yield f"- Indexes: {'; '.join(_names(columns) for columns in shape.indexes)}"
    yield ""
    yield "| column | type | NULL | meaning | source | AACT |"
    yield "|---|---|---|---|---|---|"
    for column in shape.columns:
        yield _row(column)
    yield ""
    for name, known in values.items():
        yield f"Values of `{name}`: {', '.join(f'`{value}`' for value in known)}."
        yield ""


def _row(column: Column) -> str:
    cells = (
        f"`{column.name}`",
        column.type.value,
        "yes" if column.nullable else "no",
        cell(column.description),
        "<br>".join(f"`{path}`" for path in column.sources),
        f"`{column.aact}`" if column.aact else "",
    )
    return f"| {' | '.join(cells)} |"


def _values(table: Table) -> dict[str, Sequence[str]]:
    """The values that a table's columns can have, where they are known, in the order of columns."""
    known = {name: one.values for name, one in enumerations(table).items()} | dict(
        vocabularies(table)
    )
    return {item.name: known[item.name] for item in table.fields if item.name in known}


def _names(columns: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)
