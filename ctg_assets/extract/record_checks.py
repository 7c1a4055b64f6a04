"""Whether the records of a file are studies: checked_records as they come, before any of them counts.

A file of another kind must not get into the history, where it would stay. A few odd records among
studies (a line about the export, say) must not stop them: they go the way of what cannot be typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from ctg_assets.extract.json_objects import BulkFileError
from ctg_assets.extract.record_stream import Record

_STUDY = "protocolSection"
_EXPECTED = 'expected a study of the registry\'s API version 2, {"protocolSection": {"identificationModule": …'

# Nobody puts so much in front of a file's first study.
_RECORDS_WITHOUT_A_STUDY = 100
_MOST_NAMED = 5
_EXCERPT_BYTES = 100


@dataclass
class RecordTally:
    """What has been found so far: studies, and records that are none, with the places of the first."""

    studies: int = 0
    odd: int = 0
    odd_places: list[str] = field(default_factory=list)


def checked_records(path: object, records: Iterable[Record], tally: RecordTally) -> Iterator[bytes]:
    """Pass the records' JSON on, odd ones too; `tally` is kept current.

    Raises BulkFileError when there is no study among the first hundred records, or when at the end most
    were none: nothing of the file may count then.
    """
    first_odd: Record | None = None
    for record in records:
        if is_study(record.json):
            tally.studies += 1
        else:
            tally.odd += 1
            first_odd = first_odd or record
            if len(tally.odd_places) < _MOST_NAMED:
                tally.odd_places.append(record.place)
            if tally.studies == 0 and tally.odd == _RECORDS_WITHOUT_A_STUDY:
                raise _refusal(path, tally, first_odd)
        yield record.json
    if first_odd is not None and tally.studies < max(1, tally.odd):
        raise _refusal(path, tally, first_odd)


def is_study(record: bytes) -> bool:
    """Whether a record is meant as a study, though perhaps not a sound one."""
    keys = _keys(record)
    if keys is None:
        return b'"protocolSection"' in record
    section = keys.get(_STUDY)
    return section is not None and bytes(section).lstrip()[:1] == b"{"


def _keys(record: bytes) -> dict[str, msgspec.Raw] | None:
    """The outermost keys of a record with what they hold; None if it cannot be read."""
    try:
        return msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _refusal(path: object, tally: RecordTally, first: Record) -> BulkFileError:
    read = tally.studies + tally.odd
    share = "none" if not tally.studies else f"only {tally.studies:,}"
    excerpt = first.json[:_EXCERPT_BYTES].decode("utf-8", "replace")
    return BulkFileError(
        f"{path} is no file of studies: of {read:,} records read, {share} is a study. The first that is "
        f"none is in {first.place}: {excerpt!r}; {_EXPECTED}.{_hint(first.json)} Nothing was recorded."
    )


def _hint(record: bytes) -> str:
    """What kind of record it is and what to do, if that is known."""
    keys = _keys(record) or {}
    wrapping = [key for key, below in keys.items() if _STUDY in (_keys(bytes(below)) or {})]
    if wrapping:
        return f" The study is in the field {wrapping[0]!r}; make a file of these (jq -c .{wrapping[0]})."
    if keys.keys() & {"FullStudiesResponse", "FullStudy", "Study", "StudyFieldsResponse"}:
        return " It is of the registry's former API (version 1), whose studies have another form."
    if "changes" in keys:
        return " It looks like a list of a study's versions, without their contents."
    if "nctId" in keys or "NCTId" in keys:
        return " It names a study, but does not hold it."
    return ""
