"""The Parquet files of the history: where they lie, how they are read and written."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.history.schemas import SEEN_SCHEMA
from ctg_assets.storage.files import Storage
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer

HISTORY_FOLDER = "history"

# JSON at level 1 is written at about 450 MB/s to a sixth of its size; level 3 takes twice as long.
_COMPRESSION_LEVEL = 1

_REPEATING = ("kind", "ended_by", "extraction_id", "path", "change", "last_observed_at")


def entry_folder(sequence: int) -> str:
    """The path within the lake of an entry."""
    return f"{HISTORY_FOLDER}/{sequence:06d}"


def history_path(sequence: int, name: str) -> str:
    """The path within the lake of one of an entry's files."""
    return f"{entry_folder(sequence)}/{name}"


def read_frame(storage: Storage, path: str, columns: Collection[str] | None = None) -> pl.DataFrame:
    """A whole file, or some of its columns; raises StorageError where it is damaged."""
    with open_sealed(storage, path) as file:
        chosen = None if columns is None else list(columns)
        frame = pl.from_arrow(file.read(columns=chosen))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - what a table becomes
    return frame


def write_frame(storage: Storage, path: str, frame: pl.DataFrame, schema: pa.Schema) -> None:
    """Write the columns of a schema as a file."""
    with frame_writer(storage, path, schema) as writer:
        writer.write_table(frame.select(schema.names).to_arrow().cast(schema))


@contextlib.contextmanager
def frame_writer(storage: Storage, path: str, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """A writer of a file, which is there only when the writer was left without an error."""
    with sealed_writer(
        storage,
        path,
        schema,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=[field.name for field in schema if field.name in _REPEATING],
        # What one walk after another sees is a list of all ids, close to one another.
        column_encoding={"nct_id": "DELTA_BYTE_ARRAY"} if schema == SEEN_SCHEMA else None,
        write_statistics=["nct_id"] if "nct_id" in schema.names else False,
    ) as writer:
        yield writer
