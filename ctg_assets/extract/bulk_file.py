"""Studies out of a file: JSON array, JSON Lines, either compressed, or a zip of one file a study.

The boundaries are found with numpy on 8 MB at a time: quotes that are not escaped toggle "inside a
string", braces outside strings change the depth, and a study is what lies between depth 0 and 0. So
the bytes stay untouched and memory stays at a few blocks and the longest study. What lies between
studies is held to the grammar of an array or of lines, so that a file cut there does not pass.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, cast

import msgspec
import numpy as np

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.file_kinds import (
    READ_ERRORS,
    ZIP_MAGICS,
    UnpackError,
    as_utf8,
    kind_of,
    may_be_json,
    unpacked,
)
from ctg_assets.model.json_text import cut_list

_BLOCK_BYTES = 8 << 20

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = b'"\\{}'

_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXCERPT_BYTES = 60
_EXPECTED = "a JSON array or JSON Lines of study records"

# How the registry and all who keep its studies line by line begin one.
_STUDY_LINE = b'\n{"protocolSection"'
# An API answer of many pages in one object; it is held whole. Studies have some megabytes at most.
_LARGEST_OBJECT = 1 << 30

_NAMED = re.compile(rb'"nctId"\s*:\s*"(NCT[0-9]{8})"')
_EXCERPT_OF_ID = 4096

# Where macOS puts files about the files of a zip, under the same names.
_NOT_STUDIES = "__MACOSX/"
_DEEPEST_ZIP = 3
# Of a member of a zip, so much is read before anything of it counts. One file a study is far below.
_HELD_BYTES = 64 << 20
_MOST_NAMED = 5


class BulkFileError(CtgAssetsError):
    """The file is not a readable collection of studies; the message says where and why."""


class _NothingInZipError(BulkFileError):
    """A zip has no member with studies; its members are noted one by one."""


class _Page(msgspec.Struct):
    studies: list[msgspec.Raw]


@dataclass(frozen=True)
class Record:
    """One record of a file: its exact JSON bytes, and where it begins, for people."""

    json: bytes
    place: str


@dataclass
class LeftOut:
    """The members of a zip that hold no JSON that can be read: how many, and the first of them with the reason."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        """Note one more."""
        self.count += 1
        if len(self.examples) < _MOST_NAMED:
            self.examples.append(f"{name} ({reason})")


def read_studies(path: Path) -> Iterator[bytes]:
    """The JSON bytes of each record of a file, in order, as by `read_records`."""
    return (record.json for record in read_records(path))


def read_records(path: Path, left_out: LeftOut | None = None) -> Iterator[Record]:
    """The records of a file, in order; whether they are studies is not checked_records here.

    Understands the bulk download of the registry's site (a JSON array, or a zip of one file a study),
    JSON Lines and API answers (`{"studies": [...]}`), each of them also compressed (gzip, bz2, xz,
    zstd), in UTF-16 or 32, or in zips in zips; told apart by content. Members of a zip that are no
    JSON, or encrypted, cut off or damaged, are noted in `left_out`. A line of studies that is not closed is a record of its own.

    Raises BulkFileError when the file is missing, empty, damaged, cut off or holds no JSON.
    """
    left_out = LeftOut() if left_out is None else left_out
    try:
        with path.open("rb") as file:
            if not file.read(1):
                message = f"{path} is empty"
                raise BulkFileError(message)
            file.seek(0)
            yield from _read_packed(str(path), cast("IO[bytes]", file), left_out)
    except READ_ERRORS as error:
        message = f"{path} cannot be read: {error}"
        raise BulkFileError(message) from error
    except UnpackError as error:
        message = f"{path} cannot be read: {error}"
        raise BulkFileError(message) from error


def _read_packed(name: str, stream: IO[bytes], left_out: LeftOut) -> Iterator[Record]:
    """The records of a stream that may be compressed, or a zip."""
    stream, head = unpacked(stream)
    if head.startswith(ZIP_MAGICS):
        if not stream.seekable():
            message = f"{name} is {kind_of(head)}"
            raise BulkFileError(message)
        yield from _read_zip(name, stream, left_out)
        return
    stream, head = as_utf8(stream, head)
    kind = None if may_be_json(head) else kind_of(head)
    if kind is not None:
        message = f"{name} is {kind} (expected {_EXPECTED}); it begins with {_excerpt(head)}"
        raise BulkFileError(message)
    yield from _read_stream(name, stream)


def _read_zip(name: str, file: IO[bytes], left_out: LeftOut, depth: int = 0) -> Iterator[Record]:
    if depth > _DEEPEST_ZIP:
        message = f"{name} is a zip in more than {_DEEPEST_ZIP} zips; unpack it first"
        raise BulkFileError(message)
    left_out_before = left_out.count
    found = False
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir() or member.filename.startswith(_NOT_STUDIES):
                continue
            whole_name = f"{name}:{member.filename}"
            records = _read_member(archive, member, whole_name, left_out, depth)
            for record in _readable(whole_name, records, left_out):
                found = True
                yield record
    if not found:
        few = "".join(f"; {each}" for each in left_out.examples)
        message = (
            f"{name} is a zip without JSON files that can be read; expected one JSON file a study. "
            f"Members that are something else: {left_out.count - left_out_before}{few}"
        )
        raise _NothingInZipError(message)


def _readable(name: str, records: Iterator[Record], left_out: LeftOut) -> Iterator[Record]:
    """The records of a member of a zip; none, and a note of it, where it cannot be read to its end.

    Of a large member records are passed on before its end is seen: what is wrong behind that is an error
    of the whole file.
    """
    held: list[Record] = []
    size, left_out_before = 0, left_out.count
    try:
        for record in records:
            held.append(record)
            size += len(record.json)
            if size > _HELD_BYTES:
                break
    except (*READ_ERRORS, UnpackError, BulkFileError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the member's
        if not (isinstance(error, _NothingInZipError) and left_out.count > left_out_before):
            reason = str(error).removeprefix(name).lstrip(" :") or type(error).__name__
            left_out.add(name, reason)
        return
    yield from held
    yield from records


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, left_out: LeftOut, depth: int
) -> Iterator[Record]:
    """The records of a member of a zip, which may be compressed once more, or a zip."""
    try:
        opened = archive.open(member)
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed unusually
        raise UnpackError(str(error)) from error
    with opened:
        stream, head = unpacked(opened)
        if head.startswith(ZIP_MAGICS) and stream.seekable():
            yield from _read_zip(name, stream, left_out, depth + 1)
            return
        stream, head = as_utf8(stream, head)
        if may_be_json(head):
            yield from _read_stream(name, stream)
        elif not head.strip():
            left_out.add(name, "empty")
        else:
            left_out.add(name, kind_of(head) or f"no JSON: {_excerpt(head)}")


def _read_stream(name: str, stream: IO[bytes]) -> Iterator[Record]:
    found = 0
    for item in _top_level_objects(name, stream):
        where = f"{name}, line {item.line}"
        studies = [item.json] if item.is_broken else _studies_in(name, item.json, item.offset)
        for number, study in enumerate(studies, start=1):
            found += 1
            yield Record(study, where if studies == [item.json] else f"{where}, study {number}")
    if not found:
        message = f"{name} holds no studies; expected {_EXPECTED}"
        raise BulkFileError(message)


def _excerpt(text: bytes) -> str:
    return repr(text[:_EXCERPT_BYTES])


def _studies_in(name: str, item: bytes, offset: int) -> list[bytes]:
    """The studies in a top-level object: itself, or those of an API answer."""
    try:
        keys = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
        if "studies" not in keys or "protocolSection" in keys:
            return [item]
        studies = [bytes(raw) for raw in msgspec.json.decode(item, type=_Page).studies]
    except msgspec.ValidationError as error:
        message = f"{name}: broken JSON in the object that starts at byte {offset}: {error}"
        raise BulkFileError(message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # What no decoder takes is set aside later, by itself: a study, or those of an API answer.
        if item.startswith(_STUDY_LINE[1:]):
            return [item]
        cut = cut_list(item, "studies")
        if cut is None:
            message = f"{name}: broken JSON in the object that starts at byte {offset}: {error}"
            raise BulkFileError(message) from error
        studies = cut[1]
    for study in studies:
        if not study.startswith(b"{"):
            message = (
                f"{name}: the object that starts at byte {offset} lists as a study what is no JSON "
                f"object: {study[:_EXCERPT_BYTES]!r}"
            )
            raise BulkFileError(message)
    return studies


@dataclass(frozen=True)
class _Item:
    """An outermost JSON object, and where its first byte is; a broken one is not closed as it should."""

    json: bytes
    offset: int
    line: int
    is_broken: bool = False


def _top_level_objects(name: str, stream: IO[bytes]) -> Iterator[_Item]:
    """Each outermost JSON object."""
    splitter = _Splitter(name)
    held = b""
    while block := stream.read(_BLOCK_BYTES):
        block = held + block
        # The beginning of a line that may be one of a study waits for its rest.
        split = max(0, len(block) - len(_STUDY_LINE) + 1)
        split = next(
            (at for at in range(split, len(block)) if _STUDY_LINE.startswith(block[at:])),
            len(block),
        )
        held, block = block[split:], block[:split]
        if block:
            yield from splitter.feed(block)
    if held:
        yield from splitter.feed(held)
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


def _study_lines(block: bytes) -> list[int]:
    """Where in a block lines begin as those of studies do."""
    found = []
    at = block.find(_STUDY_LINE)
    while at >= 0:
        found.append(at + 1)
        at = block.find(_STUDY_LINE, at + 1)
    return found


class _Splitter:
    """Cuts a stream of blocks into outermost JSON objects.

    No study holds a line that begins as a study does (JSON wants line ends in strings escaped). So in a
    file of lines one that is not closed ends where the next study begins, and costs no other.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._outside = _Outside.BEGINNING
        self._pending: list[bytes] = []  # the beginning of an object that is not closed yet
        self._is_broken = False  # what is pending will not close
        self._sees_studies = False  # the last object began as a study does
        self._study_offset = 0  # of the object being read
        self._study_line = 1
        self._offset = 0  # of the next block in the stream
        self._line = 1
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the last block ended with an odd run of backslashes

    def feed(self, block: bytes) -> Iterator[_Item]:
        """The objects that end in this block."""
        lines = _study_lines(block)
        if self._is_broken:
            yield from self._cut_by_lines(block, lines)
            return
        before = self._state()
        error = None
        items: list[_Item] = []
        try:
            starts = self._cut(block, items)
        except BulkFileError as found:
            error, starts = found, set()
        outside = before["_outside"]
        begins = outside is _Outside.BEGINNING
        is_lines = (
            block.lstrip(_SPACE + _BYTE_ORDER_MARK)[:1] == b"{"
            if begins
            else (outside is _Outside.LINES)
        )
        if is_lines and (error is not None or not starts.issuperset(lines)):
            vars(self).update(before)
            yield from self._cut_by_lines(block, lines)
            return
        if error is not None:
            raise error
        yield from items

    def _cut_by_lines(self, block: bytes, lines: list[int]) -> Iterator[_Item]:
        """As `feed`, but a study ends at the latest where a line begins as a study does."""
        borders = [0, *lines, len(block)]
        for start, end in pairwise(borders):
            if start in lines and self._pending and (self._is_broken or self._opens_study()):
                yield self._broken_item()
            if start == end:
                continue
            part = block[start:end]
            if self._is_broken:
                self._pending.append(part)
                self._pass_over(part)
                self._hold_to_the_limit()
                continue
            before = self._state()
            items: list[_Item] = []
            try:
                self._cut(part, items)
            except BulkFileError:
                vars(self).update(before)
                if not self._pending:
                    self._study_offset, self._study_line = self._offset, self._line
                    self._outside = _Outside.LINES
                self._pending = [*self._pending, part]
                # Of other files nobody knows where the next record begins.
                if not self._sees_studies and not self._opens_study():
                    raise
                self._is_broken = True
                self._pass_over(part)
                continue
            yield from items

    def _opens_study(self) -> bool:
        """Whether what is pending began as a study does."""
        beginning = b"".join(self._pending[: len(_STUDY_LINE)])
        return beginning.startswith(_STUDY_LINE[1:])

    def _broken_item(self) -> _Item:
        """What is pending, which is no longer so; the next byte is outside of any object."""
        broken = b"".join(self._pending).rstrip()
        self._pending = []
        self._is_broken = False
        self._depth, self._in_string, self._escaped = 0, False, False
        return _Item(broken, self._study_offset, self._study_line, is_broken=True)

    def _pass_over(self, part: bytes) -> None:
        self._offset += len(part)
        self._line += part.count(b"\n")

    def _state(self) -> dict[str, Any]:
        return {**vars(self), "_pending": list(self._pending)}

    def _cut(self, block: bytes, items: list[_Item]) -> set[int]:
        """Add the objects that end in this block to `items`; returns where in it objects begin."""
        closings, depths = self._depths(block)
        starts = set()
        counted = position = 0
        line = self._line

        def find(start: int, end: int) -> int:
            nonlocal counted, line
            found = self._find_study(block, start, end)
            if found < end:
                line += block.count(b"\n", counted, found)
                counted = found
                self._study_line = line
                starts.add(found)
            return found

        for end in (closings[depths == 0] + 1).tolist():
            if not self._pending:
                position = find(position, end)
            study = b"".join([*self._pending, block[position:end]])
            self._pending = []
            items.append(_Item(study, self._study_offset, self._study_line))
            self._sees_studies = study.startswith(_STUDY_LINE[1:])
            position = end
        if not self._pending:
            position = find(position, len(block))
        if position < len(block):
            self._pending.append(block[position:])
        self._pass_over(block)
        self._hold_to_the_limit()
        return starts

    def _hold_to_the_limit(self) -> None:
        if self._pending and self._offset - self._study_offset > _LARGEST_OBJECT:
            message = (
                f"{self._name}: {self._open_object()} is not closed after {_LARGEST_OBJECT:,} bytes"
            )
            raise BulkFileError(message)

    def _open_object(self) -> str:
        """The object being read, in words."""
        named = _NAMED.search(b"".join(self._pending[:1])[:_EXCERPT_OF_ID])
        study = f" (study {named[1].decode()})" if named else ""
        return (
            f"the object that starts at byte {self._study_offset} in line {self._study_line}{study}"
        )

    def end(self) -> None:
        """To be called at the end of the stream; raises BulkFileError when something is cut off."""
        if self._is_broken:
            message = (
                f"{self._name}: broken JSON in {self._open_object()}, the last of the file: braces and "
                "quotes do not match"
            )
            raise BulkFileError(message)
        if self._pending:
            message = f"{self._name} ends in the middle of {self._open_object()}; it is cut off"
            raise BulkFileError(message)
        if self._outside not in _MAY_END:
            message = (
                f"{self._name} is cut off: it ends at byte {self._offset} in line {self._line}, where "
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
                line = self._line + block.count(b"\n", 0, position)
                message = (
                    f"{self._name}: expected {self._outside.value} at byte {at} in line {line}, "
                    f"found {_excerpt(block[position:])}"
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
            place = int(braces[int(np.argmax(depths < 0))])
            line = self._line + block.count(b"\n", 0, place)
            message = f"{self._name}: a closing brace too many at byte {self._offset + place} in line {line}"
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
