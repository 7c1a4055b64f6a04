"""Studies out of a file: JSON array, JSON Lines, either compressed, or a zip of one file a study.

A file may be packed, and a zip may hold zips; whatever holds JSON is read as one stream (`record_stream.py`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from ctg_assets.extract.file_kinds import (
    READ_ERRORS,
    ZIP_MAGICS,
    UnpackError,
    as_utf8,
    kind_of,
    may_be_json,
    unpacked,
)
from ctg_assets.extract.json_objects import BulkFileError, excerpt_of
from ctg_assets.extract.record_stream import EXPECTED, Record, records_of_stream

# Where macOS puts files about the files of a zip, under the same names.
_NOT_STUDIES = "__MACOSX/"
_DEEPEST_ZIP = 3
# Of a member of a zip, so much is read before anything of it counts. One file a study is far below.
_HELD_BYTES = 64 << 20
_MOST_NAMED = 5


class _NothingInZipError(BulkFileError):
    """A zip has no member with studies; its members are noted one by one."""


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
        message = f"{name} is {kind} (expected {EXPECTED}); it begins with {excerpt_of(head)}"
        raise BulkFileError(message)
    yield from records_of_stream(name, stream)


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
            yield from records_of_stream(name, stream)
        elif not head.strip():
            left_out.add(name, "empty")
        else:
            left_out.add(name, kind_of(head) or f"no JSON: {excerpt_of(head)}")
