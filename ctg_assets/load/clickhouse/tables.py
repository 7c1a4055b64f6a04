"""How tables are declared in ClickHouse: of a flat table the rows with their versions, and the view that people read; a mart."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from ctg_assets.load.clickhouse.server import literal, quoted
from ctg_assets.model.spec import Column, ColumnType, TableShape
from ctg_assets.postgres.arrow_tables import ArrowColumn, ArrowTable

VERSION, DELETED = "row_change_seq", "row_deleted"
"""The columns of each row's own; `study_changes` has a `change_seq` already."""

NEXT = "next "
"""Names of tables that are being made begin with it."""

_TYPES = {
    ColumnType.TEXT: "String",
    ColumnType.VARCHAR: "String",
    ColumnType.JSON: "String",
    ColumnType.BOOLEAN: "Bool",
    ColumnType.INTEGER: "Int32",
    ColumnType.BIGINT: "Int64",
    ColumnType.DOUBLE: "Float64",
    ColumnType.DATE: "Date32",
    # Local times, too: a column without a zone would be shown in the server's.
    ColumnType.TIMESTAMP: "DateTime64(6, 'UTC')",
    ColumnType.LOCAL_TIMESTAMP: "DateTime64(6, 'UTC')",
}
_TEXTS = frozenset({ColumnType.TEXT, ColumnType.VARCHAR, ColumnType.JSON})
# Most bytes are texts, which ZSTD makes smaller than LZ4, the default, does.
_TEXT_CODEC = " CODEC(ZSTD(1))"

_STUDY = "nct_id"
_ARROW_TYPES = {
    pa.bool_(): "Bool",
    pa.int16(): "Int16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.string(): "String",
    pa.date32(): "Date32",
    pa.timestamp("us", "UTC"): "DateTime64(6, 'UTC')",
    pa.timestamp("us"): "DateTime64(6, 'UTC')",
}


def key(shape: TableShape) -> tuple[str, ...]:
    """What tells rows apart, as they are sorted: the study first."""
    return ("nct_id", *(name for name in shape.primary_key if name != "nct_id"))


def declaration(shape: TableShape, database: str, name: str) -> str:
    """The statement that makes the table of a shape under some name.

    Partitions are the millions of NCT numbers: of a study all versions of a row are in one, so that each is made
    final by itself. Old ones hardly change, and are merged once.
    """
    columns = [_column(column) for column in shape.columns]
    columns += [f"{VERSION} UInt64", f"{DELETED} UInt8"]
    sorted_by = ", ".join(map(quoted, key(shape)))
    return (
        f"CREATE TABLE {quoted(database)}.{quoted(name)} (\n  "
        + ",\n  ".join(columns)
        + f"\n) ENGINE = ReplacingMergeTree({VERSION}, {DELETED})\n"
        f"PARTITION BY substring(nct_id, 1, 5) ORDER BY ({sorted_by})\n"
        f"COMMENT {literal(shape.description)}"
    )


def view(shape: TableShape, database: str, rows: str) -> str:
    """The statement that makes the view of a table: each row as it is now, none that is deleted."""
    columns = ", ".join(quoted(column.name) for column in shape.columns)
    return (
        f"CREATE OR REPLACE VIEW {quoted(database)}.{quoted(shape.name)} AS "
        f"SELECT {columns} FROM {quoted(rows)}.{quoted(shape.name)} FINAL "
        "SETTINGS do_not_merge_across_partitions_select_final = 1"
    )


def mart_declaration(mart: ArrowTable, database: str, name: str) -> str:
    """The statement that makes the table of a mart under some name: sorted by the study, where each row has one, and the key.

    A list that is missing becomes an empty one there: arrays take no nulls.
    """
    required = {column.name for column in mart.columns if not column.nullable}
    first = (_STUDY,) if _STUDY in required else ()
    sorted_by = (*first, *(each for each in mart.key if each not in first))
    columns = ",\n  ".join(map(_mart_column, mart.columns))
    return (
        f"CREATE TABLE {quoted(database)}.{quoted(name)} (\n  {columns}\n) ENGINE = MergeTree\n"
        f"ORDER BY ({', '.join(map(quoted, sorted_by))}) COMMENT {literal(mart.description)}"
    )


def made_by(shape: TableShape, depends_on: str) -> str:
    """A digest of a table's declaration here, and of what its rows depend on."""
    told = f"{declaration(shape, '', shape.name)}\n{view(shape, '', '')}\n{depends_on}"
    return hashlib.sha256(told.encode()).hexdigest()


def versioned(rows: pa.Table, version: int, *, deleted: bool = False) -> pa.Table:
    """Rows with the columns of their version."""
    versions = pa.repeat(pa.scalar(version, pa.uint64()), rows.num_rows)
    marks = pa.repeat(pa.scalar(int(deleted), pa.uint8()), rows.num_rows)
    return rows.append_column(VERSION, versions).append_column(DELETED, marks)


def _column(column: Column) -> str:
    kind = _TYPES[column.type]
    kind = f"Nullable({kind})" if column.nullable else kind
    codec = _TEXT_CODEC if column.type in _TEXTS else ""
    return f"{quoted(column.name)} {kind} COMMENT {literal(column.description)}{codec}"


def _mart_column(column: ArrowColumn) -> str:
    kind = _arrow_type(column.type)
    if column.nullable and not pa.types.is_list(column.type):
        kind = f"Nullable({kind})"
    codec = _TEXT_CODEC if pa.types.is_string(column.type) else ""
    return f"{quoted(column.name)} {kind} COMMENT {literal(column.description)}{codec}"


def _arrow_type(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"Array(Nullable({_arrow_type(kind.value_type)}))"
    if pa.types.is_decimal(kind):
        return f"Decimal({kind.precision}, {kind.scale})"
    return _ARROW_TYPES[kind]
