"""Where the simulator's studies come from: a file of real ones, or the generator."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ctg_assets.simulator import identity
from ctg_assets.simulator.generate import study_json

_NCT_ID = re.compile(r"NCT\d{8}", re.ASCII)
_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_JSON_SPACE = b" \t\r\n"
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")


class StudySource(Protocol):
    """An ordered collection of studies as JSON bytes, at one data version."""

    def __len__(self) -> int:
        """How many studies there are."""
        ...

    def nct_id(self, index: int) -> str:
        """The NCT id of the study at this place; cheap."""
        ...

    def last_update_post_date(self, index: int) -> str:
        """When the study's latest change was posted, as `YYYY-MM-DD`; empty if it does not say; cheap."""
        ...

    def raw(self, index: int) -> bytes:
        """The study's JSON object, UTF-8, with no white space around it."""
        ...

    def index_of(self, nct_id: str) -> int | None:
        """The place of the study with this NCT id; None when there is none, and for obsolete ids."""
        ...

    def alias_target(self, nct_id: str) -> str | None:
        """The NCT id that survives in place of this obsolete one; None when it is no such id."""
        ...


class SourceError(ValueError):
    """A file cannot serve as a source of studies; the message names the file and the place in it."""


class _Sections(msgspec.Struct):
    """What is read of a study. The section stays untyped: some real files hold old or mistyped shapes."""

    protocol: Any = msgspec.field(default=None, name="protocolSection")


_SECTIONS = msgspec.json.Decoder(_Sections)


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """What a source tells of a study without reading it again; `nct_id` is whatever stands in its place."""

    nct_id: object
    last_update_post_date: str
    aliases: tuple[str, ...]


def study_facts(study: bytes) -> StudyFacts:
    """Read those facts from a study's JSON; raises msgspec.DecodeError for what is no JSON object."""
    protocol = _SECTIONS.decode(study).protocol
    identification = _member(protocol, "identificationModule")
    nct_id = _member(identification, "nctId")
    posted = _member(_member(protocol, "statusModule"), "lastUpdatePostDateStruct")
    day = _member(posted, "date")
    aliases = _member(identification, "nctIdAliases")
    return StudyFacts(
        nct_id,
        day if isinstance(day, str) else "",
        tuple(alias for alias in aliases if isinstance(alias, str))
        if isinstance(aliases, list)
        else (),
    )


class FileSource:
    """The studies of a JSON Lines file or of a JSON array, plain or gzipped, held in memory.

    What the file is, is told from its content. Each study keeps the bytes it has in the file, less
    white space around it. Raises SourceError for a file that cannot be read or decoded, and for a study
    without NCT id or with one that an earlier study of the file has.
    """

    def __init__(self, path: Path) -> None:
        self._studies: list[bytes] = []
        self._nct_ids: list[str] = []
        self._dates: list[str] = []
        self._indexes: dict[str, int] = {}
        self._targets: dict[str, str] = {}
        for place, study in _studies(path):
            self._add(path, place, study)

    def _add(self, path: Path, place: str, study: bytes) -> None:
        try:
            facts = study_facts(study)
        except msgspec.DecodeError as error:
            message = f"{path}: {place} is no study: {error}; a study is one JSON object"
            raise SourceError(message) from error
        nct_id = facts.nct_id
        if not isinstance(nct_id, str) or not _NCT_ID.fullmatch(nct_id):
            found = "none" if nct_id is None else repr(nct_id)
            message = (
                f"{path}: {place} has no NCT id: expected NCT and 8 digits at "
                f"protocolSection.identificationModule.nctId, found {found}"
            )
            raise SourceError(message)
        if nct_id in self._indexes:
            message = f"{path}: {place} repeats {nct_id}; a registry holds each study once"
            raise SourceError(message)
        self._indexes[nct_id] = len(self._studies)
        self._studies.append(study)
        self._nct_ids.append(nct_id)
        self._dates.append(facts.last_update_post_date)
        self._targets.update(dict.fromkeys(facts.aliases, nct_id))

    def __len__(self) -> int:
        """How many studies the file holds."""
        return len(self._studies)

    def nct_id(self, index: int) -> str:
        """The NCT id of the study at this place of the file."""
        return self._nct_ids[index]

    def last_update_post_date(self, index: int) -> str:
        """The study's last update post date as it stands in the file; empty if it has none."""
        return self._dates[index]

    def raw(self, index: int) -> bytes:
        """The study's bytes in the file; a study of a pretty-printed array spans several lines."""
        return self._studies[index]

    def index_of(self, nct_id: str) -> int | None:
        """The place of the study with this NCT id, or None."""
        return self._indexes.get(nct_id)

    def alias_target(self, nct_id: str) -> str | None:
        """The NCT id that survives in place of this obsolete one; a study's own id is no alias."""
        return None if nct_id in self._indexes else self._targets.get(nct_id)


def _member(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        message = f"{path}: broken gzip after {path.stat().st_size} bytes on disk: {error}"
        raise SourceError(message) from error
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        raise SourceError(message) from error
    return content.removeprefix(_UTF8_MARK)


def _studies(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each study of the file with its place in it, in file order."""
    content = _content(path)
    beginning = _NOT_SPACE.search(content)
    if beginning is None:
        message = f"{path}: holds no studies; expected JSON Lines or a JSON array of studies"
        raise SourceError(message)
    if beginning.group() == b"[":
        try:
            items = msgspec.json.decode(content, type=list[msgspec.Raw])
        except msgspec.DecodeError as error:
            message = f"{path}: broken JSON array of {len(content)} bytes: {error}"
            raise SourceError(message) from error
        for number, item in enumerate(items, start=1):
            yield f"study {number} of the array", bytes(item)
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if study := line.strip(_JSON_SPACE):
            yield f"line {number}", study


class GeneratedSource:
    """`studies` generated studies: a pure function of the seed, holding nothing in memory.

    `data_day` (an ordinal) is the registry's day, which every study bears as its `versionHolder`.

    Raises SourceError for a number of studies that the generator cannot number.
    """

    def __init__(self, studies: int, seed: int, data_day: int = identity.FIRST_DATA_DAY) -> None:
        if not 0 <= studies <= identity.MAX_STUDIES:
            message = f"can generate 0 to {identity.MAX_STUDIES} studies, not {studies}"
            raise SourceError(message)
        self._count = studies
        self.seed = seed
        self._data_day = data_day

    def _checked(self, index: int) -> int:
        if not 0 <= index < self._count:
            message = f"study {index} of {self._count}"
            raise IndexError(message)
        return index

    def __len__(self) -> int:
        """How many studies are generated."""
        return self._count

    def nct_id(self, index: int) -> str:
        """The NCT id of this study."""
        return identity.nct_id(self.seed, self._checked(index))

    def last_update_post_date(self, index: int) -> str:
        """When the study's latest change was posted, as `YYYY-MM-DD`."""
        return identity.iso(identity.last_update_post_day(self.seed, self._checked(index)))

    def raw(self, index: int) -> bytes:
        """The study's JSON object, compact, on one line."""
        return study_json(self.seed, self._checked(index), data_day=self._data_day)

    def index_of(self, nct_id: str) -> int | None:
        """The index of the study with this NCT id, or None."""
        index = identity.index_of(self.seed, nct_id)
        return index if index is not None and index < self._count else None

    def alias_target(self, nct_id: str) -> str | None:
        """The NCT id that survives in place of this obsolete one, or None."""
        index = identity.alias_index(self.seed, nct_id)
        return self.nct_id(index) if index is not None and index < self._count else None
