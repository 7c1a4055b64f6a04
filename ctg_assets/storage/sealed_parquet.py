"""Parquet files that tell when a bit of them has flipped: the one way to the lake's Parquet.

The seal lies between the last column and Parquet's footer, where readers look only if the footer points
there; to them the file is Parquet like any other. It holds a CRC-32 of each block of what comes before
it, and a SHA-256 of itself and the footer. So one publication makes data and digests visible together,
nothing is ever patched, and a few rows of a large file are checked by the few blocks that they lie in.
Parquet's own page checksums would leave page headers unchecked, in which a bit can hide a page.

Files of releases before 2026-11-26 have no seal and are read as they are.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.storage.backend import InputFile
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets.storage.random_reads import RandomReads

# Of a large file the rows of one study are 20 kB; a smaller block would not be read faster. 2 GB of
# contents have 500 kB of digests then.
_BLOCK_BYTES = 16 << 10

_MAGIC = b"CTGSEAL1"

# After the blocks' digests: the length of what they are of, the size and number of blocks, the digest
# of seal and footer.
_FACTS = struct.Struct("<QII")
_SHA256_BYTES = 32
_FIXED_BYTES = _FACTS.size + _SHA256_BYTES + len(_MAGIC)

# Parquet ends with the footer's length and its own magic.
_PARQUET_END = struct.Struct("<I4s")
_PARQUET_MAGIC = b"PAR1"

# A second sign of the seal, so that a file whose seal cannot be found is not taken for one without.
_SEALED_KEY = "ctg_assets.sealed"

# One read brings the whole footer of most files.
_TAIL_BYTES = 64 << 10


@contextlib.contextmanager
def sealed_writer(
    storage: Storage, relative: str, schema: pa.Schema, *, create: bool = False, **options: Any
) -> Iterator[pq.ParquetWriter]:
    """A writer of a Parquet file that becomes visible, sealed, when the block ends well.

    `options` are those of `pyarrow.parquet.ParquetWriter`. `create`, and what is raised, as in `Storage.publish`.
    """
    with storage.publish(relative, create=create) as stream:
        sealing = _SealingStream(stream)
        with pq.ParquetWriter(sealing, schema, **options) as writer:
            yield writer
            writer.add_key_value_metadata({_SEALED_KEY: "1"})
            sealing.hold_back()
        sealing.finish()


@contextlib.contextmanager
def open_sealed(storage: Storage, relative: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file for reading; nothing is read of it but what its seal vouches for.

    Raises DamagedFileError, also from within the block, when it is not there or not as it was written.
    """
    with _opened(storage, relative) as checked, checked.errors_named():
        yield checked.parquet()


def check_sealed(storage: Storage, relative: str) -> bool:
    """Read all of a file; returns whether it carries a seal, without which little can be told.

    Raises DamagedFileError when it is not there, not as it was written, or, without a seal, no Parquet.
    """
    with _opened(storage, relative) as checked, checked.errors_named():
        if checked.is_sealed:
            # All that is Parquet in it is as its writer left it.
            checked.read_all()
        else:
            file = checked.parquet()
            for group in range(file.num_row_groups):
                file.read_row_group(group)
        return checked.is_sealed


class _SealingStream(io.RawIOBase):
    """Passes a Parquet file on to a stream, with a seal before its footer."""

    def __init__(self, stream: IO[bytes] | Any) -> None:
        self._stream = stream
        self._position = 0
        self._crc = 0
        self._digests: list[int] = []
        self._held: bytearray | None = None

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        if self._held is not None:
            self._held += view
        else:
            self._pass_on(view)
        self._position += len(view)
        return len(view)

    def hold_back(self) -> None:
        """Keep what follows, until it is known where the footer begins."""
        self._held = bytearray()

    def finish(self) -> None:
        """Pass on what was held back, with the seal."""
        held = bytes(self._held or b"")
        length, _ = _PARQUET_END.unpack(held[-_PARQUET_END.size :])
        beginning = len(held) - _PARQUET_END.size - length
        self._position -= len(held) - beginning
        body, footer = held[:beginning], held[beginning:]
        self._pass_on(memoryview(body), self._position - len(body))
        if self._position % _BLOCK_BYTES:
            self._digests.append(self._crc)
        facts = _FACTS.pack(self._position, _BLOCK_BYTES, len(self._digests))
        sealed = np.array(self._digests, "<u4").tobytes() + facts
        self._stream.write(sealed)
        self._stream.write(_digest(sealed, footer))
        self._stream.write(_MAGIC)
        self._stream.write(footer)

    def _pass_on(self, view: memoryview, position: int | None = None) -> None:
        at = self._position if position is None else position
        start = 0
        while start < len(view):
            end = min(len(view), start + _BLOCK_BYTES - at % _BLOCK_BYTES)
            self._crc = zlib.crc32(view[start:end], self._crc)
            at += end - start
            if at % _BLOCK_BYTES == 0:
                self._digests.append(self._crc)
                self._crc = 0
            start = end
        self._stream.write(view)


class _CheckedFile(RandomReads):
    """A file whose bytes are checked against its seal before anybody gets them."""

    def __init__(self, storage: Storage, relative: str, file: InputFile) -> None:
        super().__init__(int(file.size()))
        self._storage = storage
        self._relative = relative
        self._file = file
        self._problem: StorageError | None = None
        # What the seal vouches for by itself: seal and footer, from here on.
        self._tail = b""
        self._body_bytes = 0
        self._digests: np.ndarray[Any, np.dtype[np.uint32]] | None = None
        self._read_seal()

    @property
    def is_sealed(self) -> bool:
        """Whether there is a seal."""
        return self._digests is not None

    def parquet(self) -> pq.ParquetFile:
        """The file, for reading rows."""
        if self._digests is None:
            return pq.ParquetFile(self)
        # Left to itself, Parquet begins by reading the end of the file, rows and all.
        footer = self._tail[4 * len(self._digests) + _FIXED_BYTES :]
        return pq.ParquetFile(self, metadata=_parsed(footer))

    def read(self, size: int | None = -1) -> Any:
        start = self._position
        end = self._size if size is None or size < 0 else min(self._size, start + size)
        self._position = max(start, end)
        if end <= start:
            return b""
        if self._digests is None:
            return self._raw(start, end)
        if start >= self._body_bytes:
            return self._tail[start - self._body_bytes : end - self._body_bytes]
        if end <= self._body_bytes:
            return self._checked(start, end)
        inner = self._checked(start, self._body_bytes)
        return bytes(inner) + self._tail[: end - self._body_bytes]

    def read_all(self) -> None:
        """Check every block."""
        step = 256 * _BLOCK_BYTES
        for start in range(0, self._body_bytes, step):
            self._checked(start, min(self._body_bytes, start + step))

    @contextlib.contextmanager
    def errors_named(self) -> Iterator[None]:
        """Turn what goes wrong with the file into an error that names it."""
        try:
            yield
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if self._problem is not None:
                raise self._problem from error
            self._fail(f"it cannot be read as Parquet ({_first_line(error)})")

    def _raw(self, start: int, end: int) -> pa.Buffer:
        self._file.seek(start)
        try:
            found: pa.Buffer = self._file.read_buffer(end - start)
        except StorageError as error:
            # What cannot be had is not damaged.
            self._problem = error
            raise
        if found.size != end - start:
            self._fail(f"it ends after {start + found.size:,} bytes")
        return found

    def _checked(self, start: int, end: int) -> pa.Buffer:
        assert self._digests is not None  # noqa: S101 - asked by the caller
        first, last = start // _BLOCK_BYTES, -(-end // _BLOCK_BYTES)
        beginning = first * _BLOCK_BYTES
        blocks = self._raw(beginning, min(self._body_bytes, last * _BLOCK_BYTES))
        view = memoryview(blocks)
        for place, expected in enumerate(self._digests[first:last].tolist()):
            offset = place * _BLOCK_BYTES
            if zlib.crc32(view[offset : offset + _BLOCK_BYTES]) != expected:
                at = beginning + offset
                self._fail(
                    f"bytes {at:,} to {min(self._body_bytes, at + _BLOCK_BYTES):,} are not as they "
                    "were written"
                )
        return blocks.slice(start - beginning, end - start)

    def _read_seal(self) -> None:
        tail_at = max(0, self._size - _TAIL_BYTES)
        tail = self._raw(tail_at, self._size).to_pybytes()
        if len(tail) < _PARQUET_END.size:
            self._fail("it is empty" if not tail else "it is too short for Parquet")
        length, magic = _PARQUET_END.unpack(tail[-_PARQUET_END.size :])
        footer_at = self._size - _PARQUET_END.size - length
        if magic != _PARQUET_MAGIC or footer_at < len(_PARQUET_MAGIC):
            self._fail("it does not end as Parquet does; it may have been cut off")
        tail_at, tail = self._from(footer_at - _FIXED_BYTES, tail_at, tail)
        fixed = tail[footer_at - _FIXED_BYTES - tail_at : footer_at - tail_at]
        if not fixed.endswith(_MAGIC):
            if _SEALED_KEY.encode() in tail[footer_at - tail_at :]:
                self._fail("its seal is not where it was put")
            return
        body_bytes, block_bytes, blocks = _FACTS.unpack(fixed[: _FACTS.size])
        sealed_at = footer_at - _FIXED_BYTES - 4 * blocks
        if sealed_at != body_bytes or block_bytes != _BLOCK_BYTES:
            self._fail("its seal is not as it was written")
        tail_at, tail = self._from(body_bytes, tail_at, tail)
        self._tail = tail[body_bytes - tail_at :]
        sealed = self._tail[: 4 * blocks + _FACTS.size]
        footer = self._tail[4 * blocks + _FIXED_BYTES :]
        told = fixed[_FACTS.size : _FACTS.size + _SHA256_BYTES]
        if _digest(sealed, footer) != told:
            self._fail("its footer is not as it was written")
        self._body_bytes = body_bytes
        self._digests = np.frombuffer(sealed[: 4 * blocks], "<u4")

    def _from(self, wanted: int, tail_at: int, tail: bytes) -> tuple[int, bytes]:
        """The end of the file from `wanted` on, or from where it is known already."""
        wanted = max(0, wanted)
        if wanted >= tail_at:
            return tail_at, tail
        return wanted, self._raw(wanted, tail_at).to_pybytes() + tail

    def _fail(self, problem: str) -> NoReturn:
        # Kept, since Arrow may hand an error on as one of its own.
        self._problem = DamagedFileError(self._storage, self._relative, problem)
        raise self._problem


@contextlib.contextmanager
def _opened(storage: Storage, relative: str) -> Iterator[_CheckedFile]:
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(storage.open_input(relative))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DamagedFileError(storage, relative, "it is not there") from error
            raise
        yield _CheckedFile(storage, relative, file)


# A snapshot's footer, of some hundred columns, takes longer to parse than a few of its rows to read, and
# what a refresh reads it reads several times.
@functools.lru_cache(maxsize=16)
def _parsed(footer: bytes) -> pq.FileMetaData:
    return pq.read_metadata(pa.BufferReader(footer))


def _digest(sealed: bytes, footer: bytes) -> bytes:
    return hashlib.sha256(sealed + _MAGIC + footer).digest()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
