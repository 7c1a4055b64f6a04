"""The page that lists where AACT's tables here are not as AACT has them, and why."""

from __future__ import annotations

from collections.abc import Iterator

from ctg_assets.aact.definitions import DEFINITIONS, DEVIATIONS, ROW_DEVIATIONS
from ctg_assets.aact.schema import aact_tables
from ctg_assets.printable import markdown_text

_INTRODUCTION = """\
# Where schema ctgov is not as AACT has it

<!-- Written by `make generate` from ctg_assets/aact/definitions.py; change it there. -->

Names, order and types of columns are AACT's, but that ids are `bigint`. Values follow AACT's definitions, which were found by running its
public importer (its code of October 2024) beside ours on the same records and comparing every row. What is listed here differs on purpose;
nothing else does that we know of. How to use the schema is said in [aact.md](aact.md).
"""

_NOT_FITTING = """\
AACT has `integer` where the registry's numbers have no bound, and `numeric(10,6)` for places. A value beyond these types, which AACT could not
load at all, is NULL here and as sent in `staging`. The check `values_fit_the_types_of_aact` counts such values, in """


def deviations_page() -> str:
    """The whole page, in Markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            "## Columns\n",
            "| column | what differs, and why |",
            "|---|---|",
            *(_row(name, reason) for name, reason in _columns()),
            "",
            "## Rows\n",
            "| table | what differs, and why |",
            "|---|---|",
            *(_row(f"`{name}`", reason) for name, reason in ROW_DEVIATIONS.items()),
            "",
            "## Always NULL, in AACT as well\n",
            ", ".join(f"`{name}`" for name in sorted(_always_null())) + ".\n",
            "## Values that do not fit\n",
            _NOT_FITTING + ", ".join(f"`{name}`" for name in sorted(_narrow())) + ".\n",
        ]
    )


def _columns() -> Iterator[tuple[str, str]]:
    """The columns that differ with the reasons, in the order of tables and columns; `id` stands for every table's."""
    reasons = dict(DEVIATIONS) | {
        name: f"{definition.differs} Here: {definition.meaning}"
        for name, definition in DEFINITIONS.items()
        if definition.differs is not None
    }
    order = [
        f"{table.name}.{column.name}" for table in aact_tables() for column in table.shape.columns
    ]
    for name in ["id", *order]:
        if name in reasons:
            yield (f"`{name}` of every table" if name == "id" else f"`{name}`"), reasons[name]


def _always_null() -> Iterator[str]:
    for name, definition in DEFINITIONS.items():
        if definition.sql == "NULL":
            yield name


def _narrow() -> Iterator[str]:
    for table in aact_tables():
        yield from (f"{table.name}.{column}" for column in table.bounds)


def _row(name: str, reason: str) -> str:
    return f"| {name} | {markdown_text(reason)} |"
