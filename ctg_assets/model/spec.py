"""The vocabulary in which our tables are declared: columns, keys, references, row sources."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa


class ColumnType(Enum):
    """The types a staging column can have; each has one Arrow and one Postgres spelling."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    BIGINT = "bigint"
    DOUBLE = "double"
    DATE = "date"
    TIMESTAMP = "timestamp"
    LOCAL_TIMESTAMP = "local timestamp"
    JSON = "json"
    # Of AACT's tables only. The last two are made in the database; in Arrow they are text, which is as exact.
    VARCHAR = "varchar"
    NUMERIC = "numeric"
    COORDINATE = "numeric(10,6)"

    @property
    def is_copied(self) -> bool:
        """Whether rows with it are sent to the database."""
        return self not in {ColumnType.NUMERIC, ColumnType.COORDINATE}

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of a column; timestamps are UTC, local ones are of no stated zone."""
        return _ARROW_TYPES[self]


_ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    ColumnType.TEXT: pa.string(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.INTEGER: pa.int32(),
    ColumnType.BIGINT: pa.int64(),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.DATE: pa.date32(),
    ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    ColumnType.LOCAL_TIMESTAMP: pa.timestamp("us"),
    ColumnType.JSON: pa.string(),
    ColumnType.VARCHAR: pa.string(),
    ColumnType.NUMERIC: pa.string(),
    ColumnType.COORDINATE: pa.string(),
}


@dataclass(frozen=True)
class Column:
    """One physical column of a staging table.

    `sources` are the registry paths its values come from (empty for keys and constants); `aact` is
    the equivalent `table.column` in AACT where there is one.
    """

    name: str
    type: ColumnType
    description: str
    nullable: bool = True
    sources: tuple[str, ...] = ()
    aact: str | None = None


@dataclass(frozen=True)
class ForeignKey:
    """`columns` of this table refer to the primary key of `table`."""

    columns: tuple[str, ...]
    table: str


@dataclass(frozen=True)
class TableShape:
    """What a database needs to know of a table: columns, keys, references, indexes, comments.

    `indexes` lists the column tuples that get a plain index besides the primary key's;
    `ordered_columns` are those whose values lie close together in the order of the rows, so that one
    block range index over all of them, a thousandth of the size, finds rows as well.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    ordered_columns: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of the table's rows, columns in table order."""
        return pa.schema(
            [pa.field(column.name, column.type.arrow, column.nullable) for column in self.columns]
        )
