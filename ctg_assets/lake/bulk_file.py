"""Studies out of a file: JSON array, JSON Lines, gzip of either, or a zip of one file a study.

Belongs here: finding the exact bytes of each study in a stream that may be many gigabytes long. Does
not belong here: what becomes of them (`pipeline/import_file.py`).

The boundaries are found with numpy on 8 MB at a time: quotes that are not escaped toggle "inside a
string", braces outside strings change the depth, and a study is what lies between depth 0 and 0. So
the bytes stay untouched and memory stays at a few blocks and the longest study. What lies between
studies is held to the grammar of an array or of lines, so that a file cut there does not pass.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import IO, cast

import msgspec
import numpy as np

_BLOCK_BYTES = 8 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_ZIP_MAGIC = b"PK\x03\x04"
_EMPTY_ZIP_MAGIC = b"PK\x05\x06"

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = b'"\\{}'

_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXCERPT_BYTES = 60

# Where macOS puts files about the files of a zip, under the same names.
_NOT_STUDIES = "__MACOSX/"


class BulkFileError(Exception):
    """The file is not a readable collection of studies; the message says where and why."""


class _Page(msgspec.Struct):
    studies: list[msgspec.Raw]


def read_studies(path: Path) -> Iterator[bytes]:
    """The exact JSON bytes of each study in a file, in order.

    Understands the bulk download of the registry's site (a JSON array, or a zip of one file a study),
    JSON Lines, API answers (`{"studies": [...]}`), each also gzipped; told apart by content.

    Raises BulkFileError when the file is missing, empty, damaged, cut off or holds anything else.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if not magic:
                message = f"{path} is empty"
                raise BulkFileError(message)
            if magic in {_ZIP_MAGIC, _EMPTY_ZIP_MAGIC}:
                yield from _read_zip(path, file)
            else:
                with ExitStack() as stack:
                    stream = cast("IO[bytes]", file)
                    if magic.startswith(_GZIP_MAGIC):
                        stream = cast("IO[bytes]", stack.enter_context(gzip.open(file, "rb")))
                    yield from _read_stream(str(path), stream)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        message = f"{path} cannot be read: {error}"
        raise BulkFileError(message) from error


def _read_zip(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    found = 0
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename
            if name.startswith(_NOT_STUDIES) or not name.endswith((".json", ".jsonl", ".ndjson")):
                continue
            try:
                stream = archive.open(member)
            except RuntimeError as error:  # it is encrypted, or compressed in an unusual way
                message = f"{path}:{name} cannot be read: {error}"
                raise BulkFileError(message) from error
            with stream:
                for study in _read_stream(f"{path}:{name}", stream):
                    found += 1
                    yield study
    if not found:
        message = f"{path} is a zip without JSON files; expected one .json file a study"
        raise BulkFileError(message)


def _read_stream(name: str, stream: IO[bytes]) -> Iterator[bytes]:
    found = 0
    for item, offset in _top_level_objects(name, stream):
        for study in _studies_in(name, item, offset):
            found += 1
            yield study
    if not found:
        message = f"{name} holds no studies; expected a JSON array or JSON Lines of study records"
        raise BulkFileError(message)


def _studies_in(name: str, item: bytes, offset: int) -> list[bytes]:
    """The studies in a top-level object: itself, or those of an API answer."""
    try:
        keys = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
        if "studies" not in keys or "protocolSection" in keys:
            return [item]
        studies = [bytes(raw) for raw in msgspec.json.decode(item, type=_Page).studies]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"{name}: broken JSON in the object that starts at byte {offset}: {error}"
        raise BulkFileError(message) from error
    for study in studies:
        if not study.startswith(b"{"):
            message = (
                f"{name}: the object that starts at byte {offset} lists as a study what is no JSON "
                f"object: {study[:_EXCERPT_BYTES]!r}"
            )
            raise BulkFileError(message)
    return studies


def _top_level_objects(name: str, stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each outermost JSON object with the offset of its first byte."""
    splitter = _Splitter(name)
    while block := stream.read(_BLOCK_BYTES):
        yield from splitter.feed(block)
    splitter.end()


class _Outside(Enum):
    """Where the stream is between studies; the value says what may come next."""

    BEGINNING = "a study (a JSON object) or an array of studies"
    LINES = "another study (a JSON object)"
    ARRAY_BEGINNING = "a study (a JSON object) or the end of the array"
    AFTER_STUDY = "a comma or the end of the array"
    AFTER_COMMA = "the array's next study (a JSON object)"
    END = "nothing after the end of the array"


# What each token between studies leads to; the brace is the beginning of a study.
_NEXT = {
    (_Outside.BEGINNING, b"{"): _Outside.LINES,
    (_Outside.BEGINNING, b"["): _Outside.ARRAY_BEGINNING,
    (_Outside.LINES, b"{"): _Outside.LINES,
    (_Outside.ARRAY_BEGINNING, b"{"): _Outside.AFTER_STUDY,
    (_Outside.ARRAY_BEGINNING, b"]"): _Outside.END,
    (_Outside.AFTER_STUDY, b","): _Outside.AFTER_COMMA,
    (_Outside.AFTER_STUDY, b"]"): _Outside.END,
    (_Outside.AFTER_COMMA, b"{"): _Outside.AFTER_STUDY,
}
_MAY_END = {_Outside.BEGINNING, _Outside.LINES, _Outside.END}


class _Splitter:
    """Cuts a stream of blocks into outermost JSON objects."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._outside = _Outside.BEGINNING
        self._pending: list[bytes] = []  # the beginning of an object that is not closed yet
        self._study_offset = 0  # of the object being read
        self._offset = 0  # of the next block in the stream
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the last block ended with an odd run of backslashes

    def feed(self, block: bytes) -> Iterator[tuple[bytes, int]]:
        """The objects that end in this block."""
        closings, depths = self._depths(block)
        position = 0
        for end in (closings[depths == 0] + 1).tolist():
            if not self._pending:
                position = self._find_study(block, position, end)
            study = b"".join([*self._pending, block[position:end]])
            self._pending = []
            yield study, self._study_offset
            position = end
        if not self._pending:
            position = self._find_study(block, position, len(block))
        if position < len(block):
            self._pending.append(block[position:])
        self._offset += len(block)

    def end(self) -> None:
        """To be called at the end of the stream; raises BulkFileError when something is cut off."""
        if self._pending:
            message = (
                f"{self._name} ends in the middle of the object that starts at byte "
                f"{self._study_offset}; it is cut off"
            )
            raise BulkFileError(message)
        if self._outside not in _MAY_END:
            message = (
                f"{self._name} is cut off: it ends at byte {self._offset}, where "
                f"{self._outside.value} was expected"
            )
            raise BulkFileError(message)

    def _find_study(self, block: bytes, start: int, end: int) -> int:
        """The position of the brace that opens the next study; `end` if there is none before it.

        Raises BulkFileError for anything between studies that does not belong there.
        """
        for position in range(start, end):
            token = block[position : position + 1]
            if token in _SPACE:
                continue
            following = _NEXT.get((self._outside, token))
            if following is not None:
                self._outside = following
                if token == b"{":
                    self._study_offset = self._offset + position
                    return position
                continue
            at = self._offset + position
            if token != _BYTE_ORDER_MARK[at : at + 1]:
                message = (
                    f"{self._name}: expected {self._outside.value} at byte {at}, "
                    f"found {block[position : position + _EXCERPT_BYTES]!r}"
                )
                raise BulkFileError(message)
        return end

    def _depths(self, block: bytes) -> tuple[np.ndarray, np.ndarray]:
        """The positions of closing braces outside strings and the depth after each of them."""
        values = np.frombuffer(block, np.uint8)
        quotes = np.flatnonzero(values == _QUOTE)
        quotes = quotes[~self._is_escaped(values, quotes)]
        braces = np.flatnonzero((values == _OPEN) | (values == _CLOSE))
        # A brace is inside a string when an odd number of quotes precedes it.
        quotes_before = np.searchsorted(quotes, braces) + self._in_string
        braces = braces[quotes_before % 2 == 0]
        steps = np.where(values[braces] == _OPEN, 1, -1)
        depths = self._depth + np.cumsum(steps)
        if depths.size and depths.min() < 0:
            at = self._offset + int(braces[int(np.argmax(depths < 0))])
            message = f"{self._name}: a closing brace too many at byte {at}"
            raise BulkFileError(message)
        self._remember(values, len(quotes), depths)
        closing = steps < 0
        return braces[closing], depths[closing]

    def _is_escaped(self, values: np.ndarray, quotes: np.ndarray) -> np.ndarray:
        """Which of these quotes follow an odd run of backslashes."""
        escaped = np.zeros(len(quotes), bool)
        suspects = np.flatnonzero((quotes == 0) | (values[quotes - 1] == _BACKSLASH))
        for index in suspects.tolist():
            escaped[index] = self._odd_backslashes_before(values, int(quotes[index]))
        return escaped

    def _odd_backslashes_before(self, values: np.ndarray, position: int) -> bool:
        run = position
        while run > 0 and values[run - 1] == _BACKSLASH:
            run -= 1
        return ((position - run) % 2 == 1) ^ (run == 0 and self._escaped)

    def _remember(self, values: np.ndarray, quotes: int, depths: np.ndarray) -> None:
        """Carry the state at the end of this block over to the next."""
        self._escaped = self._odd_backslashes_before(values, len(values))
        self._in_string ^= quotes % 2 == 1
        if depths.size:
            self._depth = int(depths[-1])
