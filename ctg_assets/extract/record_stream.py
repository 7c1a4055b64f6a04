"""The records of one stream of JSON: studies one by one, or those of API answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import msgspec

from ctg_assets.cut_json import cut_list
from ctg_assets.extract.json_objects import (
    EXCERPT_BYTES,
    STUDY_LINE,
    BulkFileError,
    JsonObject,
    top_level_objects,
)

EXPECTED = "a JSON array or JSON Lines of study records"


class _Page(msgspec.Struct):
    studies: list[msgspec.Raw]


@dataclass(frozen=True)
class Record:
    """One record of a file: its exact JSON bytes, and where it begins, for people."""

    json: bytes
    place: str


def records_of_stream(name: str, stream: IO[bytes]) -> Iterator[Record]:
    """The records of a stream of UTF-8, in order; raises BulkFileError where there are none, or JSON is broken or cut off."""
    found = 0
    for item in top_level_objects(name, stream):
        where = f"{name}, line {item.line}"
        studies = [item.json] if item.is_broken else _studies_in(name, item)
        for number, study in enumerate(studies, start=1):
            found += 1
            yield Record(study, where if studies == [item.json] else f"{where}, study {number}")
    if not found:
        message = f"{name} holds no studies; expected {EXPECTED}"
        raise BulkFileError(message)


def _studies_in(name: str, found: JsonObject) -> list[bytes]:
    """The studies in a top-level object: itself, or those of an API answer."""
    item, offset = found.json, found.offset
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
        if item.startswith(STUDY_LINE[1:]) or found.shares_line:
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
                f"object: {study[:EXCERPT_BYTES]!r}"
            )
            raise BulkFileError(message)
    return studies
