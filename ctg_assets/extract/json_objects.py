"""The outermost JSON objects of a stream of any length: of an array, or of lines.

The boundaries are found with numpy on 8 MB at a time: quotes that are not escaped toggle "inside a
string", braces outside strings change the depth, and a study is what lies between depth 0 and 0. So
the bytes stay untouched and memory stays at a few blocks and the longest study. What lies between
studies is held to the grammar of an array or of lines, so that a file cut there does not pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import IO, Any

import numpy as np

from ctg_assets.errors import CtgAssetsError

_BLOCK_BYTES = 8 << 20

_QUOTE, _BACKSLASH, _OPEN, _CLOSE = b'"\\{}'

_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
EXCERPT_BYTES = 60

# How the registry and all who keep its studies line by line begin one.
STUDY_LINE = b'\n{"protocolSection"'
# An API answer of many pages in one object; it is held whole. Studies have some megabytes at most.
_LARGEST_OBJECT = 1 << 30

_NAMED = re.compile(rb'"nctId"\s*:\s*"(NCT[0-9]{8})"')
_EXCERPT_OF_ID = 4096


class BulkFileError(CtgAssetsError):
    """The file is not a readable collection of studies; the message says where and why."""


def excerpt_of(text: bytes) -> str:
    """The beginning of a text, for messages."""
    return repr(text[:EXCERPT_BYTES])


@dataclass(frozen=True)
class JsonObject:
    """An outermost JSON object, and where its first byte is; a broken one is not closed as it should.

    What shares its line with a study before it is most likely the rest of that study, which a sign too much
    has closed too early.
    """

    json: bytes
    offset: int
    line: int
    is_broken: bool = False
    shares_line: bool = False


def top_level_objects(name: str, stream: IO[bytes]) -> Iterator[JsonObject]:
    """Each outermost JSON object."""
    splitter = _Splitter(name)
    held = b""
    while block := stream.read(_BLOCK_BYTES):
        block = held + block
        # The beginning of a line that may be one of a study waits for its rest.
        split = max(0, len(block) - len(STUDY_LINE) + 1)
        split = next(
            (at for at in range(split, len(block)) if STUDY_LINE.startswith(block[at:])),
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
    at = block.find(STUDY_LINE)
    while at >= 0:
        found.append(at + 1)
        at = block.find(STUDY_LINE, at + 1)
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
        self._sees_studies = False  # the last object began as a study does, or on the line of one
        self._line_of_study = 0  # where the last object began that began as a study does
        self._study_offset = 0  # of the object being read
        self._study_line = 1
        self._offset = 0  # of the next block in the stream
        self._line = 1
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the last block ended with an odd run of backslashes

    def feed(self, block: bytes) -> Iterator[JsonObject]:
        """The objects that end in this block."""
        lines = _study_lines(block)
        if self._is_broken:
            yield from self._cut_by_lines(block, lines)
            return
        before = self._state()
        error = None
        items: list[JsonObject] = []
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

    def _cut_by_lines(self, block: bytes, lines: list[int]) -> Iterator[JsonObject]:
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
            items: list[JsonObject] = []
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
        """Whether what is pending began as a study does, or on the line of one."""
        beginning = b"".join(self._pending[: len(STUDY_LINE)])
        return beginning.startswith(STUDY_LINE[1:]) or self._shares_line()

    def _shares_line(self) -> bool:
        return self._study_line == self._line_of_study

    def _broken_item(self) -> JsonObject:
        """What is pending, which is no longer so; the next byte is outside of any object."""
        broken = b"".join(self._pending).rstrip()
        self._pending = []
        self._is_broken = False
        self._depth, self._in_string, self._escaped = 0, False, False
        return JsonObject(broken, self._study_offset, self._study_line, is_broken=True)

    def _pass_over(self, part: bytes) -> None:
        self._offset += len(part)
        self._line += part.count(b"\n")

    def _state(self) -> dict[str, Any]:
        return {**vars(self), "_pending": list(self._pending)}

    def _cut(self, block: bytes, items: list[JsonObject]) -> set[int]:
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
            begins_as_study = study.startswith(STUDY_LINE[1:])
            shares_line = not begins_as_study and self._shares_line()
            item = JsonObject(study, self._study_offset, self._study_line, shares_line=shares_line)
            items.append(item)
            self._sees_studies = begins_as_study or shares_line
            if begins_as_study:
                self._line_of_study = self._study_line
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
                    f"found {excerpt_of(block[position:])}"
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
