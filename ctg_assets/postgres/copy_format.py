"""Arrow tables as the bytes of Postgres' binary COPY format.

Why not a driver's bulk load: only `COPY ... FREEZE` shows the rows to a reader whose snapshot is older
than the load (after a plain COPY and the swap of tables it would see them empty) and spares VACUUM a
later rewrite. `adbc_ingest` cannot ask for it. pgpq makes the bytes, 600 MB of them a second on one
core; joining Arrow's binary kernels, as we did before, took five times as long.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pgpq import ArrowToPostgresBinaryEncoder

from ctg_assets.errors import CtgAssetsError
from ctg_assets.model.spec import ColumnType
from ctg_assets.model.values import without_nul

# Postgres begins in 4714 BC; the value below its first is its "-infinity".
_FIRST_DATE, _LAST_DATE = -2_440_588, 2_145_042_905
_FIRST_TIMESTAMP = -210_866_803_200_000_000

# The encoder holds Python's lock while it works: others should get their turn.
_PIECE_BYTES = 4 << 20

_ARROW_TYPES = frozenset(kind.arrow for kind in ColumnType)


class UnencodableError(CtgAssetsError, ValueError):
    """A value that Postgres cannot hold; the message names the column and what is wrong."""


def encode_rows(table: pa.Table) -> Iterator[bytes]:
    """The rows of a table as a whole binary COPY stream, piece by piece, header and end included.

    Columns have the types of `ColumnType`, in the order of the COPY statement; text goes as
    `storable` gives it. Raises UnencodableError for dates and times that Postgres does not have.
    """
    for field in table.schema:
        if field.type not in _ARROW_TYPES:
            message = f"column {field.name}: no COPY encoding for Arrow type {field.type}"
            raise UnencodableError(message)
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    yield encoder.write_header()
    for batch in map(_storable, _pieces(table)):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            _check_range(name, column)
        yield encoder.write_batch(batch)
    yield encoder.finish()


def storable(table: pa.Table) -> pa.Table:
    """The rows with U+FFFD for U+0000, which no text of Postgres can hold.

    All rows come through here on their way to the database, whatever table they are of. Who compares
    rows with those that are there compares them so.
    """
    return pa.Table.from_batches(map(_storable, _pieces(table)), schema=table.schema)


def _storable(rows: pa.RecordBatch) -> pa.RecordBatch:
    columns = [
        without_nul(column) if column.type == pa.string() else column for column in rows.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _pieces(table: pa.Table) -> Iterator[pa.RecordBatch]:
    rows = max(1, int(table.num_rows * _PIECE_BYTES / max(table.nbytes, 1)))
    yield from table.to_batches(max_chunksize=rows)


def _check_range(name: str, column: pa.Array) -> None:
    if pa.types.is_date32(column.type):
        first, last = _FIRST_DATE, _LAST_DATE
        numbers = column.cast(pa.int32())
    elif pa.types.is_timestamp(column.type):
        first, last = _FIRST_TIMESTAMP, (1 << 63) - 1
        numbers = column.cast(pa.int64())
    else:
        return
    found = pc.min_max(numbers).as_py()
    if found["min"] is not None and (found["min"] < first or found["max"] > last):
        message = f"column {name} holds a date or time outside the years 4714 BC to 5874897"
        raise UnencodableError(message)
