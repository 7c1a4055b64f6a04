"""SQL statements for tables declared as `TableShape`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache

from psycopg import sql

from ctg_assets.model.spec import ColumnType, ForeignKey, TableShape

STAGING = "staging"

_TYPES: dict[ColumnType, sql.SQL] = {
    ColumnType.TEXT: sql.SQL("text"),
    ColumnType.BOOLEAN: sql.SQL("boolean"),
    ColumnType.INTEGER: sql.SQL("integer"),
    ColumnType.BIGINT: sql.SQL("bigint"),
    ColumnType.DOUBLE: sql.SQL("double precision"),
    ColumnType.DATE: sql.SQL("date"),
    ColumnType.TIMESTAMP: sql.SQL("timestamp with time zone"),
    ColumnType.LOCAL_TIMESTAMP: sql.SQL("timestamp without time zone"),
    # Not jsonb: that would lose the spelling of numbers, and cannot hold the escape \u0000.
    ColumnType.JSON: sql.SQL("json"),
    ColumnType.VARCHAR: sql.SQL("character varying"),
    ColumnType.NUMERIC: sql.SQL("numeric"),
    ColumnType.COORDINATE: sql.SQL("numeric(10,6)"),
}


def type_name(type_: ColumnType) -> str:
    """What Postgres calls the type of a column."""
    return _TYPES[type_].as_string()


NAME_BYTES = 63  # Postgres cuts longer names, silently and not always to different ones


def object_name(*words: str) -> str:
    """A name for a constraint or index: the words joined by `_`, the same on every machine.

    A name too long for Postgres keeps its beginning and gets a digest of the whole.
    """
    name = "_".join(words)
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    kept = name.encode()[: NAME_BYTES - 9].decode(errors="ignore")
    return f"{kept}_{digest}"


def foreign_key_name(shape: TableShape, key: ForeignKey) -> str:
    """The name of the constraint for one of the shape's foreign keys."""
    return object_name(shape.name, *key.columns, "fkey")


def create_table(shape: TableShape, schema: str) -> sql.Composed:
    """`CREATE TABLE` with types and NOT NULL only; keys are faster to build on loaded rows."""
    columns = [
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            _TYPES[column.type],
            sql.SQL("") if column.nullable else sql.SQL(" NOT NULL"),
        )
        for column in shape.columns
    ]
    return sql.SQL("CREATE TABLE {} ({})").format(
        sql.Identifier(schema, shape.name), sql.SQL(", ").join(columns)
    )


def copy_rows(shape: TableShape, schema: str, *, freeze: bool) -> sql.Composed:
    """`COPY` in binary format; with FREEZE only in the transaction that created the table."""
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary, FREEZE {})").format(
        sql.Identifier(schema, shape.name),
        _names(tuple(column.name for column in shape.columns)),
        sql.Literal(freeze),
    )


def create_primary_key(shape: TableShape, schema: str) -> sql.Composed:
    """`ALTER TABLE ... ADD PRIMARY KEY`."""
    return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({})").format(
        sql.Identifier(schema, shape.name),
        sql.Identifier(object_name(shape.name, "pkey")),
        _names(shape.primary_key),
    )


def order_index_name(shape: TableShape) -> str:
    """The name of the block range index over the shape's ordered columns."""
    return object_name(shape.name, "order", "idx")


# 128 kB of a table, some twenty studies: small enough to read for one of them, and the index stays tiny.
_PAGES_PER_RANGE = 16


def create_order_index(shape: TableShape, schema: str) -> Iterator[sql.Composed]:
    """`CREATE INDEX` for the block ranges of the shape's ordered columns, if it has any."""
    if shape.ordered_columns:
        yield sql.SQL("CREATE INDEX {} ON {} USING brin ({}) WITH (pages_per_range = {})").format(
            sql.Identifier(order_index_name(shape)),
            sql.Identifier(schema, shape.name),
            _names(shape.ordered_columns),
            sql.Literal(_PAGES_PER_RANGE),
        )


def create_index(
    shape: TableShape, columns: tuple[str, ...], schema: str, *, takes_any_length: bool
) -> sql.Composed:
    """`CREATE INDEX` for one of the shape's indexes; `takes_any_length` makes it SP-GiST instead of a B-tree."""
    return sql.SQL("CREATE INDEX {} ON {} {}({})").format(
        sql.Identifier(object_name(shape.name, *columns, "idx")),
        sql.Identifier(schema, shape.name),
        sql.SQL("USING spgist " if takes_any_length else ""),
        _names(columns),
    )


# What is text, and yet never longer than a B-tree's entries may be (2,704 bytes).
_SHORT_TEXT = frozenset({"nct_id"})


def may_be_of_any_length(shape: TableShape, columns: tuple[str, ...]) -> bool:
    """Whether a column holds text that may be longer than the entries of a B-tree.

    Raises ValueError when it is one of several: SP-GiST indexes, which take any length, have one column.
    """
    types = {column.name: column.type for column in shape.columns}
    texts = {ColumnType.TEXT, ColumnType.VARCHAR}
    long = {name for name in columns if types[name] in texts} - _SHORT_TEXT
    if long and len(columns) > 1:
        message = (
            f"the index of {shape.name} on {', '.join(columns)} has text of any length beside other "
            "columns; declare one index for each"
        )
        raise ValueError(message)
    return bool(long)


def add_foreign_key(
    shape: TableShape, key: ForeignKey, schema: str, referenced_schema: str
) -> sql.Composed:
    """`ALTER TABLE ... ADD FOREIGN KEY ... NOT VALID`: takes effect without reading the rows."""
    return sql.SQL(
        "ALTER TABLE {} ADD CONSTRAINT {} FOREIGN KEY ({}) REFERENCES {} NOT VALID"
    ).format(
        sql.Identifier(schema, shape.name),
        sql.Identifier(foreign_key_name(shape, key)),
        _names(key.columns),
        sql.Identifier(referenced_schema, key.table),
    )


def validate_constraint(schema: str, table: str, constraint: str) -> sql.Composed:
    """`ALTER TABLE ... VALIDATE CONSTRAINT`: reads the rows, and blocks neither readers nor writers."""
    return sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(
        sql.Identifier(schema, table), sql.Identifier(constraint)
    )


def comments(shape: TableShape, schema: str) -> Iterator[sql.Composed]:
    """`COMMENT ON` the table and each column: description, source paths, AACT equivalent."""
    yield sql.SQL("COMMENT ON TABLE {} IS {}").format(
        sql.Identifier(schema, shape.name), sql.Literal(shape.description)
    )
    for column in shape.columns:
        lines = [column.description]
        if column.sources:
            lines.append("Source: " + ", ".join(column.sources))
        if column.aact is not None:
            lines.append(f"AACT: {column.aact}")
        yield sql.SQL("COMMENT ON COLUMN {} IS {}").format(
            sql.Identifier(schema, shape.name, column.name), sql.Literal("\n".join(lines))
        )


@cache
def definition(shape: TableShape) -> str:
    """All statements that make a table, as text: what changes when the table has to be made anew."""
    statements = [
        create_table(shape, STAGING),
        create_primary_key(shape, STAGING),
        *create_order_index(shape, STAGING),
        # Which kind an index on text gets follows from the rows (`indexes.py`), so it is not told here.
        *(
            create_index(
                shape,
                columns,
                STAGING,
                takes_any_length=may_be_of_any_length(shape, columns),
            )
            for columns in shape.indexes
        ),
        *(add_foreign_key(shape, key, STAGING, STAGING) for key in shape.foreign_keys),
        *comments(shape, STAGING),
    ]
    return "\n".join(statement.as_string() for statement in statements)


def _names(columns: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
