"""Records: the lake's small JSON files, which tell when they are not as they were written.

The last member of a record is the SHA-256 of the whole file with that digest's digits as zeros. Records
of releases before 2026-11-26 have none and are read as they are.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, TypeVar

import msgspec

from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage

_Record = TypeVar("_Record")

_DIGITS = 64
_UNTOLD = b"0" * _DIGITS
_KEY = "sha256"

# Whatever the name of the last member: one of this form is a digest, so that a name with a flipped bit
# does not make a record pass for one of an earlier release.
_END = re.compile(rb'"([^"]*)": "([^"]*)"\s*\}\s*\Z')


def write_record(
    storage: Storage, relative: str, record: msgspec.Struct, *, create: bool = False
) -> None:
    """Publish a record, replacing one of the same name unless it is `create`; raises as `Storage.publish`."""
    storage.write_bytes(relative, record_bytes(record), create=create)


def record_bytes(record: msgspec.Struct) -> bytes:
    """A record as its file has it."""
    members: dict[str, Any] = {**msgspec.to_builtins(record), _KEY: _UNTOLD.decode()}
    text = msgspec.json.format(msgspec.json.encode(members), indent=2)
    beginning = text.rindex(_UNTOLD)
    digest = hashlib.sha256(text).hexdigest().encode()
    return text[:beginning] + digest + text[beginning + _DIGITS :]


def read_record(storage: Storage, relative: str, kind: type[_Record]) -> _Record:
    """A record as it was written; raises FileNotFoundError when it is not there.

    Raises DamagedFileError when it is not as it was written, or no record of this kind.
    """
    content = storage.read_bytes(relative)
    _check(storage, relative, content)
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = f"it is no record of the kind that belongs here ({error})"
        raise DamagedFileError(storage, relative, problem) from error


def check_record(storage: Storage, relative: str) -> bool:
    """Read a record of whatever kind; returns whether it carries a digest.

    Raises FileNotFoundError when it is not there, DamagedFileError when it is damaged.
    """
    content = storage.read_bytes(relative)
    carries = _check(storage, relative, content)
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedFileError(storage, relative, f"it is not JSON ({error})") from error
    return carries


def _check(storage: Storage, relative: str, content: bytes) -> bool:
    if not content.strip():
        raise DamagedFileError(storage, relative, "it is empty")
    found = _END.search(content)
    if found is None or (found[1] != _KEY.encode() and len(found[2]) != _DIGITS):
        return False
    untold = content[: found.start(2)] + _UNTOLD + content[found.end(2) :]
    if found[1] != _KEY.encode() or hashlib.sha256(untold).hexdigest().encode("ascii") != found[2]:
        raise DamagedFileError(storage, relative, "its content is not what its digest says")
    return True
