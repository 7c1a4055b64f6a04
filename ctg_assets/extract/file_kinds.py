"""What a file is, told by its first bytes, and the stream of text inside its packing."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, cast

import pyarrow as pa

from ctg_assets.errors import CtgAssetsError

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")

_HEAD_BYTES = 4096
# A gzip of a gzip happens; a deeper nest is an attack.
_DEEPEST = 4

_ZSTD = b"\x28\xb5\x2f\xfd"
_OPENERS: dict[bytes, Callable[[IO[bytes]], object]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream, mode="rb"),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    _ZSTD: lambda stream: pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd"),
}

_UTF_8_MARK = b"\xef\xbb\xbf"
# In this order: the mark of UTF-32 begins with that of UTF-16. JSON begins with a sign of ASCII, so
# that noughts tell the encoding where there is no mark.
_ENCODINGS = (
    (re.compile(rb"\xff\xfe\0\0|\0\0\xfe\xff"), "utf-32"),
    (re.compile(rb"\xff\xfe|\xfe\xff"), "utf-16"),
    (re.compile(rb"\0\0\0[^\0]"), "utf-32-be"),
    (re.compile(rb"[^\0]\0\0\0"), "utf-32-le"),
    (re.compile(rb"\0[^\0]"), "utf-16-be"),
    (re.compile(rb"[^\0]\0"), "utf-16-le"),
)

_KINDS = (
    # One that can be searched is read and does not come to be named.
    (
        rb"PK(\x03\x04|\x05\x06)",
        "a zip inside a compression that cannot be searched; unpack it first",
    ),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (rb"Rar!", "a RAR archive; unpack it first"),
    (rb"(?s).{257}ustar", "a tar archive; unpack it, and import its files or a zip of them"),
    (rb"PAR1", "a Parquet file; studies are taken as JSON only"),
    (rb"SQLite format 3", "an SQLite database; studies are taken as JSON only"),
    (rb"%PDF", "a PDF"),
    (rb"PGDMP", "a dump of a Postgres database, as AACT offers it; studies are taken as JSON only"),
    (rb"(?is)\s*<(!doctype html|html|head|body)", "an HTML page; the download may have failed"),
    (rb"(?s)\s*<", "XML; the registry's JSON (API version 2) is needed"),
    (
        rb"(?i)\s*\"?(id\|)?nct_id\"?\|",
        "a table of AACT (values with | between them); studies are taken as JSON only",
    ),
    (
        rb"(?i)\s*\"?NCT[0-9]{8}\"?\s*[,;]?\s*(\n|$)",
        "a list of NCT ids; the studies themselves are needed",
    ),
    (
        rb"(?i)\s*\"?(rank|nct.?(number|id)|title|study)\"?\s*[,;\t]",
        "search results as CSV; download them as JSON",
    ),
)


READ_ERRORS = (
    OSError,
    EOFError,
    UnicodeError,
    pa.ArrowException,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged file may raise."""


class UnpackError(CtgAssetsError):
    """What is in a file cannot be read; the message says why."""


class _Replayed:
    """A stream that cannot go back, with what was read of it in front of the rest."""

    closed = False

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size)
        end = len(self._head) if size < 0 else size
        part, self._head = self._head[:end], self._head[end:]
        return part + self._rest.read() if size < 0 else part

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Leave the stream open: it belongs to whoever opened it."""


class _Recoded:
    """A stream of another encoding, as UTF-8. Halves of surrogate pairs stay what they are."""

    def __init__(self, stream: IO[bytes], encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def read(self, size: int) -> bytes:
        while block := self._stream.read(size):
            if text := self._decoder.decode(block):
                return text.encode("utf-8", "surrogatepass")
        return self._decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def unpacked(stream: IO[bytes]) -> tuple[IO[bytes], bytes]:
    """The stream inside compressions, and its first bytes, which it still holds.

    `stream` is at its beginning. Reading on may raise READ_ERRORS. Raises UnpackError where
    compressions lie too deep.
    """
    can_go_back = stream.seekable()
    for _ in range(_DEEPEST):
        head = _head(stream)
        magic = next((magic for magic in _OPENERS if head.startswith(magic)), None)
        if can_go_back:
            stream.seek(0)
        else:
            stream = cast("IO[bytes]", _Replayed(head, stream))
        if magic is None:
            return stream, head
        stream = cast("IO[bytes]", _OPENERS[magic](stream))
        can_go_back = can_go_back and magic != _ZSTD
    message = f"it is compressed more than {_DEEPEST - 1} times over; unpack it first"
    raise UnpackError(message)


def as_utf8(stream: IO[bytes], head: bytes) -> tuple[IO[bytes], bytes]:
    """A stream of text and its first bytes as UTF-8 without a byte order mark in the bytes given."""
    encoding = next((name for sign, name in _ENCODINGS if sign.match(head)), None)
    if encoding is not None:
        stream = cast("IO[bytes]", _Recoded(stream, encoding))
        head = _head(stream)
        stream = cast("IO[bytes]", _Replayed(head, stream))
    return stream, head.removeprefix(_UTF_8_MARK)


def may_be_json(head: bytes) -> bool:
    """Whether UTF-8 text that begins like this may be a JSON object or array."""
    return head.lstrip()[:1] in (b"{", b"[")


def kind_of(head: bytes) -> str | None:
    """What a file that is no JSON is, and what to do, by its first bytes; None if that is unknown."""
    return next((kind for pattern, kind in _KINDS if re.match(pattern, head)), None)


def _head(stream: IO[bytes]) -> bytes:
    parts = b""
    while len(parts) < _HEAD_BYTES and (part := stream.read(_HEAD_BYTES - len(parts))):
        parts += part
    return parts
