"""The files of the history: where they lie, how they are read and written."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.schemas import SEEN_SCHEMA
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer

HISTORY_FOLDER = "history"
_ENTRY = "entry.json"

_REQUESTS_AT_ONCE = 16

# JSON at level 1 is written at about 450 MB/s to a sixth of its size; level 3 takes twice as long.
_COMPRESSION_LEVEL = 1

_REPEATING = ("kind", "ended_by", "extraction_id", "path", "change", "last_observed_at")


def entry_folder(sequence: int) -> str:
    """The path within the lake of an entry."""
    return f"{HISTORY_FOLDER}/{sequence:06d}"


def history_path(sequence: int, name: str) -> str:
    """The path within the lake of one of an entry's files."""
    return f"{entry_folder(sequence)}/{name}"


# Entries never change. Where each is a request, those that cannot be taken back as if never written are read once
# by a process.
_final: dict[tuple[str, int], HistoryEntry] = {}


def read_entry(storage: Storage, sequence: int) -> HistoryEntry | None:
    """What an entry says of itself; None when there is no such entry.

    Raises DamagedFileError where it is damaged: were it none, the next one would take its place.
    """
    key = (storage.root, sequence)
    if key in _final:
        return _final[key]
    try:
        entry = read_record(storage, history_path(sequence, _ENTRY), HistoryEntry)
    except FileNotFoundError:
        return None
    if storage.is_remote and entry.undo is None:
        _final[key] = entry
    return entry


def read_ahead(storage: Storage, sequences: Collection[int]) -> None:
    """Read many entries at once where each is a request, so that each is there at once afterwards."""
    unknown = [each for each in sequences if (storage.root, each) not in _final]
    if storage.is_remote and len(unknown) > 1:
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            list(threads.map(partial(read_entry, storage), unknown))


def write_entry(storage: Storage, entry: HistoryEntry) -> None:
    """Publish an entry whose other files are in place; raises AlreadyPublishedError where its number is taken."""
    write_record(storage, history_path(entry.sequence, _ENTRY), entry, create=True)


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
