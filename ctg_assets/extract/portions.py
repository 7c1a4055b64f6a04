"""Portions: some rows of an extraction, sorted by NCT id, in a local scratch file.

The registry hands studies out in no order. Sorting all of them within bounded memory has two halves:
portions that fit into memory are sorted and written, then all portions are merged. A portion is read
once, from its beginning, a block at a time; each block has a CRC-32, since what is merged becomes history.
"""

from __future__ import annotations

import io
import secrets
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import pyarrow as pa

from ctg_assets.errors import TransientError
from ctg_assets.extract.shards import ShardInfo, ShardStore
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import read_record, write_record

_FOLDER_PREFIX = "portions-"


class DamagedPortionError(TransientError):
    """A scratch file is not as it was written; it was removed, so the next try does without it."""


class RowBlock(msgspec.Struct, frozen=True, array_like=True):
    """Rows that are read at a time: how many bytes of the file, and the CRC-32 of these."""

    length: int
    crc: int


class Portion(msgspec.Struct, frozen=True, kw_only=True):
    """A file of sorted rows, and the blocks of which it consists."""

    file: str
    blocks: list[RowBlock]


class PortionWriter:
    """Writes the rows of a portion, which must come sorted by `nct_id`."""

    def __init__(
        self, file: Path, writer: pa.ipc.RecordBatchStreamWriter, stream: _DigestingStream
    ) -> None:
        self._file = file
        self._writer = writer
        self._stream = stream
        self._blocks: list[RowBlock] = []

    def write(self, rows: pa.RecordBatch) -> None:
        """Write rows as one block."""
        self._writer.write_batch(rows)
        self._blocks.append(self._stream.take_block())

    @property
    def portion(self) -> Portion:
        """What was written."""
        return Portion(file=str(self._file), blocks=self._blocks)


@contextmanager
def write_portion(file: Path, schema: pa.Schema) -> Iterator[PortionWriter]:
    """A writer of a new file with rows of a schema, which has `nct_id`; raises OSError."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with file.open("wb") as stream:
        digesting = _DigestingStream(stream)
        with pa.ipc.new_stream(digesting, schema, options=options) as writer:
            rows_writer = PortionWriter(file, writer, digesting)
            # The schema is written with the first rows; so that it is not in their block, these are none.
            rows_writer.write(pa.RecordBatch.from_pylist([], schema))
            yield rows_writer


class Merging:
    """Portions that are read side by side."""

    def __init__(self, readers: Sequence[_Reader]) -> None:
        self._readers = readers

    def until(self, last_id: str) -> list[pa.RecordBatch]:
        """The rows up to and with an NCT id that were not given before; each batch is sorted.

        Raises DamagedPortionError.
        """
        return [rows for reader in self._readers for rows in reader.until(last_id)]


@contextmanager
def merging(portions: Sequence[Portion], schema: pa.Schema) -> Iterator[Merging]:
    """Open portions with rows of a schema, to be merged; raises DamagedPortionError."""
    with ExitStack() as stack:
        yield Merging([_Reader(each, schema, stack) for each in portions])


class PortionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Portions that were made of the same pages while an extraction was under way.

    `studies` has the JSON; `typed` the same typed by a model with the fingerprint `typed_by`, and `extras`
    what the studies have outside this model.
    """

    pages: list[ShardInfo]
    studies: Portion
    typed: Portion
    extras: Portion
    typed_by: str

    @property
    def portions(self) -> tuple[Portion, ...]:
        """All of them."""
        return self.studies, self.typed, self.extras


class NewPortions:
    """Portions that are being made; `is_published` says whether they count."""

    def __init__(self, folder: Path, name: str, publish: Callable[[PortionRecord], None]) -> None:
        self._folder = folder
        self._name = name
        self._publish = publish
        self.is_published = False

    def write(self, kind: str, schema: pa.Schema) -> AbstractContextManager[PortionWriter]:
        """A writer of the portion of a kind, as the fields of the record are called; raises OSError."""
        return write_portion(self._folder / f"{self._name}-{kind}.arrow", schema)

    def publish(self, record: PortionRecord) -> None:
        """Let the portions count, whose files are whole."""
        self._publish(record)
        self.is_published = True


class PortionStore:
    """The portions that were made of extractions before they were complete.

    Each is known by its record, which is written last. All of it can be made again from the shards.
    """

    def __init__(self, scratch: Path) -> None:
        """Keep portions in `scratch`, a local folder for temporary files."""
        self._scratch = scratch
        self._records = Storage.local(scratch)

    def extractions(self) -> list[str]:
        """The ids of extractions that have portions, or had begun to."""
        folders = self._scratch.glob(f"{_FOLDER_PREFIX}*")
        return sorted(folder.name.removeprefix(_FOLDER_PREFIX) for folder in folders)

    def records(self, extraction_id: str, shards: ShardStore) -> list[PortionRecord]:
        """The portions of an extraction whose pages are as they were when they were made.

        No page is in two of them, should two processes have made portions of it.
        """
        found = []
        covered: set[int] = set()
        for record in self._all(extraction_id):
            pages = {info.page for info in record.pages}
            if covered.isdisjoint(pages) and _is_of(record, extraction_id, shards):
                found.append(record)
                covered |= pages
        return found

    @contextmanager
    def new(self, extraction_id: str) -> Iterator[NewPortions]:
        """Portions to be written and published; what is not published is removed."""
        name = secrets.token_hex(8)
        folder = self._folder(extraction_id)
        folder.mkdir(parents=True, exist_ok=True)

        def publish(record: PortionRecord) -> None:
            write_record(self._records, f"{folder.name}/{name}.json", record)

        new = NewPortions(folder, name, publish)
        try:
            yield new
        finally:
            if not new.is_published:
                for file in folder.glob(f"{name}-*"):
                    file.unlink()

    def remove(self, extraction_id: str) -> None:
        """Remove all portions of an extraction; nothing happens where there are none."""
        self._records.delete_folder(self._folder(extraction_id).name)

    def _folder(self, extraction_id: str) -> Path:
        return self._scratch / f"{_FOLDER_PREFIX}{extraction_id}"

    def _all(self, extraction_id: str) -> Iterator[PortionRecord]:
        folder = self._folder(extraction_id).name
        for name in self._records.names(folder):
            if name.endswith(".json"):
                # A damaged one vouches for nothing, and its pages are still there.
                with suppress(DamagedFileError):
                    yield read_record(self._records, f"{folder}/{name}", PortionRecord)


def _is_of(record: PortionRecord, extraction_id: str, shards: ShardStore) -> bool:
    """Whether the pages are still those that the portions were made of, and their files are there."""
    there = set(shards.pages(extraction_id))
    return all(Path(each.file).exists() for each in record.portions) and all(
        info.page in there and shards.info(extraction_id, info.page) == info
        for info in record.pages
    )


class _DigestingStream(io.RawIOBase):
    """Passes bytes on and notes the length and digest of each block."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._length = 0
        self._crc = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._crc = zlib.crc32(view, self._crc)
        self._length += len(view)
        self._stream.write(view)
        return len(view)

    def take_block(self) -> RowBlock:
        """What was written since the block before."""
        block = RowBlock(self._length, self._crc)
        self._length = self._crc = 0
        return block


class _Reader:
    """A portion, read block by block."""

    def __init__(self, portion: Portion, schema: pa.Schema, stack: ExitStack) -> None:
        self._path = Path(portion.file)
        self._schema = schema
        with self._errors_told():
            self._file = stack.enter_context(pa.OSFile(portion.file))
        self._blocks = iter(portion.blocks)
        self._next_block()
        self._rows: pa.RecordBatch | None = None
        self._ids = np.empty(0, dtype=str)

    def until(self, last_id: str) -> Iterator[pa.RecordBatch]:
        while self._rows is not None or (content := self._next_block()) is not None:
            if self._rows is None:
                self._rows = pa.ipc.read_record_batch(content, self._schema)
                self._ids = self._rows["nct_id"].to_numpy(zero_copy_only=False).astype(str)
            taken = int(np.searchsorted(self._ids, last_id, side="right"))
            if taken:
                yield self._rows.slice(0, taken)
            if taken < len(self._ids):
                self._rows, self._ids = self._rows.slice(taken), self._ids[taken:]
                return
            self._rows = None

    def _next_block(self) -> pa.Buffer | None:
        block = next(self._blocks, None)
        if block is None:
            return None
        with self._errors_told():
            content = self._file.read_buffer(block.length)
            if content.size != block.length or zlib.crc32(content) != block.crc:
                message = "it is not as it was written"
                raise OSError(message)
        return content

    @contextmanager
    def _errors_told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._path.unlink(missing_ok=True)
            message = (
                f"the scratch file {self._path} cannot be used: {error}. It was removed; the next try makes its "
                "rows from the page shards. If this comes again, check the disk"
            )
            raise DamagedPortionError(message) from error
