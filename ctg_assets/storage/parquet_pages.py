"""Single values of a large column: of a row group only the pages in which they lie are decompressed.

Arrow decompresses and copies all of a row group. A page is compressed by itself, and its header says how
many values it has, so that the others are passed over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from ctg_assets.storage.sealed_parquet import SealedParquet

_COMPRESSION = "zstd"
_ENCODINGS = {"PLAIN", "RLE"}
_LENGTH_BYTES = 4

# Fields of Parquet's PageHeader, and of the DataPageHeader in it.
_KIND, _BYTES, _COMPRESSED_BYTES, _OF_DATA = 1, 2, 3, 5
_VALUES, _ENCODING = 1, 2
_DATA_PAGE = _PLAIN = 0

# Types of Thrift's compact protocol.
_BOOLEANS = (1, 2)
_BINARY, _STRUCT = 8, 12
_WITH_NUMBER = (4, 5, 6, _BINARY)


class _Page(NamedTuple):
    """A page: how many values it has, how large they are, and where in its row group they lie."""

    values: int
    size: int
    start: int
    end: int


class ScatteredRows:
    """Columns of binary values of a file, for reading single rows."""

    def __init__(self, file: SealedParquet, columns: Sequence[str]) -> None:
        """Read these columns of an open file; what lies between them is read with them."""
        self._file = file
        self._codec = pa.Codec(_COMPRESSION)
        self._places = {name: file.schema_arrow.get_field_index(name) for name in columns}

    def are_readable(self) -> bool:
        """Whether pages are such as this reads: plain values, never NULL, compressed by zstd."""
        if not self._file.metadata.num_row_groups:
            return False
        first = self._file.metadata.row_group(0)
        return all(
            self._file.schema.column(place).physical_type == "BYTE_ARRAY"
            and not self._file.schema.column(place).max_definition_level
            and first.column(place).compression.lower() == _COMPRESSION
            and set(first.column(place).encodings) <= _ENCODINGS
            for place in self._places.values()
        )

    def row_group(self, number: int) -> RowGroupPages:
        """The pages of a row group; raises what reading the file raises."""
        of_group = self._file.metadata.row_group(number)
        ranges = {}
        for name, place in self._places.items():
            chunk = of_group.column(place)
            start = chunk.data_page_offset
            ranges[name] = (start, start + chunk.total_compressed_size)
        first = min(start for start, _ in ranges.values())
        last = max(end for _, end in ranges.values())
        read = memoryview(self._file.between(first, last)).cast("B")
        return RowGroupPages(
            {name: read[start - first : end - first] for name, (start, end) in ranges.items()},
            of_group.num_rows,
            self._codec,
        )


class RowGroupPages:
    """What was read of a row group, still compressed."""

    def __init__(self, columns: Mapping[str, memoryview], rows: int, codec: pa.Codec) -> None:
        self._columns = columns
        self._rows = rows
        self._codec = codec

    def values(self, column: str, rows: Collection[int] | None = None) -> dict[int, bytes]:
        """The values of a column by their rows, or those of some rows; raises ArrowInvalid where pages are not as they should be."""
        pages = self._columns[column]
        wanted = range(self._rows) if rows is None else rows
        found: dict[int, bytes] = {}
        at = first = 0
        while len(found) < len(wanted):
            if at >= len(pages):
                message = f"a row group has not all of its values of {column}"
                raise pa.ArrowInvalid(message)
            page = _page(pages, at)
            here = [row for row in wanted if first <= row < first + page.values]
            if here:
                packed = pages[page.start : page.end]
                values = _plain_values(
                    self._codec.decompress(packed, page.size, asbytes=True), page.values
                )
                found |= {row: values[row - first] for row in here}
            at, first = page.end, first + page.values
        return found


def _page(pages: memoryview, at: int) -> _Page:
    """The page that begins at a byte; raises ArrowInvalid for one of another kind."""
    try:
        header, start = _fields(pages, at)
    except IndexError:
        header, start = {}, at
    of_data = header.get(_OF_DATA)
    if header.get(_KIND) != _DATA_PAGE or of_data is None or of_data.get(_ENCODING) != _PLAIN:
        message = "a page has something else than plain values"
        raise pa.ArrowInvalid(message)
    return _Page(of_data[_VALUES], header[_BYTES], start, start + header[_COMPRESSED_BYTES])


def _plain_values(page: bytes, count: int) -> list[bytes]:
    length = page[:_LENGTH_BYTES]
    size = _LENGTH_BYTES + int.from_bytes(length, "little")
    if size * count == len(page):
        starts = range(_LENGTH_BYTES, len(page) + 1, size)
        if all(page.startswith(length, start - _LENGTH_BYTES) for start in starts):
            # Ids and digests are each as long as the others.
            return [page[start : start + size - _LENGTH_BYTES] for start in starts]
    values = []
    at = 0
    for _ in range(count):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(page[at:start], "little")
        values.append(page[start:at])
    if at != len(page):
        message = "a page has other values than it says"
        raise pa.ArrowInvalid(message)
    return values


def _fields(data: memoryview, at: int) -> tuple[dict[int, Any], int]:
    """The whole numbers and structures of a structure in Thrift's compact protocol, by field; and where it ends."""
    found: dict[int, Any] = {}
    number = 0
    while byte := data[at]:
        at += 1
        kind = byte & 0xF
        if byte < 0x10:
            message = "a page's header has a field that none has"
            raise pa.ArrowInvalid(message)
        number += byte >> 4
        if kind == _STRUCT:
            found[number], at = _fields(data, at)
        elif kind in _WITH_NUMBER:
            value = shift = 0
            while (byte := data[at]) & 0x80:
                value |= (byte & 0x7F) << shift
                shift += 7
                at += 1
            value |= byte << shift
            at += 1
            if kind == _BINARY:
                at += value
            else:
                found[number] = (value >> 1) ^ -(value & 1)
        elif kind not in _BOOLEANS:
            message = "a page's header has a field of a kind that none has"
            raise pa.ArrowInvalid(message)
    return found, at + 1
