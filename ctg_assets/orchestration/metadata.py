"""Metadata that several assets carry: Markdown tables, and what a database table holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import dagster as dg

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.inspection import first_rows
from ctg_assets.printable import markdown_text

_PREVIEW_ROWS = 5
_CELL_CHARACTERS = 60
_BAR_CHARACTERS = 30


class _ShownType(Protocol):
    @property
    def value(self) -> Any:
        """What it is called."""


class _ShownColumn(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def type(self) -> _ShownType: ...
    @property
    def description(self) -> str: ...
    @property
    def nullable(self) -> bool: ...


class ShownTable(Protocol):
    """A table as the UI shows it."""

    @property
    def name(self) -> str:
        """Its name, without the schema."""

    @property
    def description(self) -> str:
        """What a row is."""

    @property
    def columns(self) -> Sequence[_ShownColumn]:
        """Its columns, in their order."""

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The columns of its primary key."""


def column_schema(shape: ShownTable) -> dg.TableSchema:
    """The columns of a table, as the UI shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type.value,
                description=column.description,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, unique=shape.primary_key == (column.name,)
                ),
            )
            for column in shape.columns
        ]
    )


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table that shows cells as they are, whatever they hold; long ones are cut short."""
    header = list(header)
    lines = [" | ".join(map(markdown_text, header)), " | ".join("---" for _ in header)]
    lines += [" | ".join(map(_cell, row)) for row in rows]
    return "\n".join(lines) if len(lines) > 2 else "(none)"


def bar_chart(name: str, counts: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Counts, largest first, with a bar each."""
    most = max(counts.values(), default=1)
    rows = (
        (key, f"{count:,}", "█" * max(1, round(_BAR_CHARACTERS * count / most)))
        for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    return dg.MetadataValue.md(markdown_table((name, "count", ""), rows))


def table_preview(address: PostgresAddress, schema: str, table: str) -> dict[str, Any]:
    """The first rows of a database table, as the metadata entry `preview`."""
    columns, rows = first_rows(address, schema, table, _PREVIEW_ROWS)
    return {"preview": dg.MetadataValue.md(markdown_table(columns, rows))}


def _cell(value: object) -> str:
    text = "" if value is None else " ".join(str(value).split())
    cut = text if len(text) <= _CELL_CHARACTERS else text[: _CELL_CHARACTERS - 1] + "…"
    return markdown_text(cut)
