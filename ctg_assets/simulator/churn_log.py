"""What a registry in motion did to its studies, as JSON lines: the truth that tests hold results against.

The hash is computed here once more, and not with the product's code: a truth that shares the code with what is
tested by it would share its errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec


class ActKind(StrEnum):
    """What can happen to a study between two data versions of the registry."""

    INSERT = "insert"
    UPDATE = "update"
    SILENT_EDIT = "silent_edit"
    DELETE = "delete"
    RESTORE = "restore"
    MERGE = "merge"


class ActRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One act: a line of the log.

    `round` counts from 1 and `data_timestamp` is the one from which on the act can be seen. `into` is the study
    that a merged one became part of, which has a record of its own in the same round. The hashes are None where
    the study is not there, before or after. `edits` names what was done to the content; it is empty for deletes,
    merges, plain restores and contents that the caller gave.
    """

    round: int
    data_timestamp: str
    act: ActKind
    nct_id: str
    into: str | None = None
    content_hash_before: str | None = None
    content_hash_after: str | None = None
    edits: tuple[str, ...] = ()


def content_hash(study: bytes) -> str:
    """SHA-256 of the study's canonical JSON (sorted keys, no white space) without its `versionHolder`.

    A `versionHolder` that is neither text nor null counts.
    """
    content: Any = msgspec.json.decode(study)
    derived = content.get("derivedSection")
    misc = derived.get("miscInfoModule") if isinstance(derived, dict) else None
    if isinstance(misc, dict) and isinstance(misc.get("versionHolder"), str | None):
        misc.pop("versionHolder", None)
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


class ChurnLog:
    """Writes the log. A file that is there already is begun anew: it tells of another registry's life."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_bytes(b"")

    def append(self, records: Iterable[ActRecord]) -> None:
        """Add a round's records in one write, so that a reader never meets half a line."""
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        with self._path.open("ab", buffering=0) as file:
            file.write(lines)
