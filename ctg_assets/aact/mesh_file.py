"""NLM's file of MeSH descriptors, as XML or in its ASCII form: names and places in the tree."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.parsers import expat

from ctg_assets.errors import CtgAssetsError, ExitCode

_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ASCII_RECORD = b"*NEWRECORD"
_PIECE_BYTES = 1 << 20

_RECORD = "DescriptorRecord"
_PATHS = {
    "DescriptorRecordSet/DescriptorRecord/DescriptorUI": "number",
    "DescriptorRecordSet/DescriptorRecord/DescriptorName/String": "name",
    "DescriptorRecordSet/DescriptorRecord/TreeNumberList/TreeNumber": "tree_numbers",
}
_ASCII_FIELDS = {"UI": "number", "MH": "name", "MN": "tree_numbers"}


class MeshFileError(CtgAssetsError):
    """The MeSH file cannot be used until a person changes it or the setting; the message says how."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


@dataclass(frozen=True)
class Descriptor:
    """A MeSH descriptor: NLM's number (D000005), the term, and its places in the tree (A01.923.047)."""

    number: str
    name: str
    tree_numbers: tuple[str, ...]


def mesh_stamp(path: Path) -> str:
    """What tells one state of the file from another, without reading it.

    Raises MeshFileError when it is not there.
    """
    try:
        stat = path.stat()
    except OSError as error:
        _fail(path, f"it cannot be read ({error.strerror})")
    return f"{stat.st_size} {stat.st_mtime_ns}"


def descriptors(path: Path) -> Iterator[Descriptor]:
    """The descriptors of a file, in its order, while it is read; memory does not grow with it.

    Raises MeshFileError when it cannot be read, is neither of NLM's two forms, is cut off, or has none.
    """
    found = 0
    try:
        with path.open("rb") as plain:
            zipped = plain.read(len(_GZIP)) == _GZIP
            plain.seek(0)
            with _unzipped(plain, zipped=zipped) as stream:
                beginning = stream.read(64).removeprefix(_BYTE_ORDER_MARK).lstrip()
                stream.seek(0)
                if beginning.startswith(b"<"):
                    each = _of_xml(stream)
                elif beginning.startswith(_ASCII_RECORD):
                    each = _of_ascii(stream)
                else:
                    _fail(path, f"it begins with {beginning[:20]!r}")
                for descriptor in each:
                    found += 1
                    yield descriptor
    except OSError as error:
        _fail(path, f"it cannot be read ({error.strerror or error})")
    except (EOFError, zlib.error) as error:
        _fail(path, f"it is cut off or damaged ({error})")
    except expat.ExpatError as error:
        _fail(path, f"it is no sound XML ({error})")
    except UnicodeDecodeError as error:
        _fail(path, f"it is not UTF-8 ({error})")
    except _UnexpectedContentError as error:
        _fail(path, str(error))
    if not found:
        _fail(path, "it has no descriptors")


@contextlib.contextmanager
def _unzipped(plain: IO[bytes], *, zipped: bool) -> Iterator[Any]:
    if zipped:
        with gzip.open(plain) as stream:
            yield stream
    else:
        yield plain


class _UnexpectedContentError(CtgAssetsError):
    """The file has what NLM's have not."""


def _fail(path: Path, problem: str) -> NoReturn:
    message = (
        f"cannot use {path} as MeSH: {problem}. Expected: NLM's descriptors, as desc2026.xml or d2026.bin, "
        "gzipped or not; correct CTG_MESH_FILE"
    )
    raise MeshFileError(message)


@dataclass
class _Values:
    """What has been read of the descriptor under way."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, value: str) -> None:
        self.found.setdefault(name, []).append(value.strip())

    def descriptor(self) -> Descriptor:
        try:
            (number,), (name,) = self.found["number"], self.found["name"]
        except (KeyError, ValueError) as error:
            message = f"a descriptor has not one number and one name: {self.found}"
            raise _UnexpectedContentError(message) from error
        return Descriptor(number, name, tuple(self.found.get("tree_numbers", ())))


class _XmlReader:
    """Takes what an XML parser tells, and makes descriptors of it."""

    def __init__(self) -> None:
        self.done: list[Descriptor] = []
        self._path: list[str] = []
        self._values = _Values()
        self._text: list[str] | None = None
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._entity

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._path.append(name)
        if "/".join(self._path) in _PATHS:
            self._text = []

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _end(self, name: str) -> None:
        if self._text is not None:
            self._values.add(_PATHS["/".join(self._path)], "".join(self._text))
            self._text = None
        self._path.pop()
        if name == _RECORD:
            self.done.append(self._values.descriptor())
            self._values = _Values()

    def _entity(self, name: str, *_: object) -> None:
        # A few of them can stand for more text than a machine has memory.
        message = f"it declares an entity ({name}), which NLM's files do not"
        raise _UnexpectedContentError(message)


def _of_xml(stream: IO[bytes]) -> Iterator[Descriptor]:
    reader = _XmlReader()
    while piece := stream.read(_PIECE_BYTES):
        reader.parser.Parse(piece)
        yield from reader.done
        reader.done.clear()
    reader.parser.Parse(b"", True)
    yield from reader.done


def _of_ascii(stream: IO[bytes]) -> Iterator[Descriptor]:
    values: _Values | None = None
    for line in stream:
        text = line.decode("utf-8").strip()
        if text == _ASCII_RECORD.decode():
            if values is not None:
                yield values.descriptor()
            values = _Values()
            continue
        name, separator, value = text.partition(" = ")
        if separator and values is not None and name in _ASCII_FIELDS:
            values.add(_ASCII_FIELDS[name], value)
    if values is not None:
        yield values.descriptor()
