"""What identifies a study and its content: NCT id, last update date, content hash."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from ctg_assets.model.json_text import is_nested_too_deeply, text_at, without_leaf
from ctg_assets.model.nct_ids import is_nct_id
from ctg_assets.model.volatile import VERSION_HOLDER, without_volatile

# Python understands other ISO 8601 forms too (week dates, no hyphens), which the registry does not use.
_FULL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

_NCT_ID = ("protocolSection", "identificationModule", "nctId")
_POSTED = ("protocolSection", "statusModule", "lastUpdatePostDateStruct", "date")
# Nothing else in a study is called so.
_NAMED_ID = re.compile(rb'"nctId"\s*:\s*"(NCT[0-9]{8})"')

_AFTER_NAME = b'":'

_ODD = "0" * 8


@dataclass(frozen=True)
class StudyIdentity:
    """Who a study is and what it says.

    `nct_id` and `last_update_post_date` are None where the JSON does not hold them in usable form;
    `content_hash` is 64 hexadecimal digits, see `may_be_odd`.
    """

    nct_id: str | None
    last_update_post_date: date | None
    content_hash: str


def identify(study: bytes) -> StudyIdentity:
    """Read a study's identity from its JSON; never fails, whatever the bytes are."""
    try:
        content = msgspec.json.decode(study)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _identify_odd(study)
    if is_nested_too_deeply(study):
        return _identify_odd(study)
    kept = without_volatile(content)
    canonical = msgspec.json.encode(kept, order="sorted")
    # The decoder takes the last of several members of one name. Counting finds out, for next to nothing.
    members = canonical.count(_AFTER_NAME) + (kept is not content)
    if study.count(_AFTER_NAME) != members and _repeats_a_name(study):
        return _identify_odd(study)
    nct_id = _at(content, *_NCT_ID)
    return StudyIdentity(
        nct_id=nct_id if isinstance(nct_id, str) and nct_id else None,
        last_update_post_date=_full_date(_at(content, *_POSTED)),
        content_hash=hashlib.sha256(canonical).hexdigest(),
    )


def may_be_odd(content_hash: str) -> bool:
    """Whether a study with an NCT id and this hash has to be looked at before it is typed.

    The hash of one that is not sound JSON, or has two members of one name in an object, begins with
    eight noughts, and is one of its bytes. So does one in four billion others.
    """
    return content_hash.startswith(_ODD)


def _identify_odd(study: bytes) -> StudyIdentity:
    """The identity of a study that goes to quarantine later, since no decoder takes it."""
    nct_id = text_at(study, _NCT_ID)
    if nct_id is None or not is_nct_id(nct_id):
        named = set(_NAMED_ID.findall(study))
        nct_id = named.pop().decode() if len(named) == 1 else None
    if nct_id is None or not is_nct_id(nct_id):
        return StudyIdentity(None, None, hashlib.sha256(study).hexdigest())
    digest = hashlib.sha256(without_leaf(study, VERSION_HOLDER)).hexdigest()
    return StudyIdentity(
        nct_id=nct_id,
        last_update_post_date=_full_date(text_at(study, _POSTED)),
        content_hash=_ODD + digest[len(_ODD) :],
    )


def _repeats_a_name(study: bytes) -> bool:
    """Whether two members of one object have the same name."""
    repeated = []

    def note(members: list[tuple[str, Any]]) -> None:
        names = [name for name, _ in members]
        repeated.extend([] if len(set(names)) == len(names) else names)

    json.loads(study, object_pairs_hook=note)
    return bool(repeated)


def _at(content: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(content, dict):
            return None
        content = content.get(key)
    return content


def _full_date(text: Any) -> date | None:
    if not isinstance(text, str) or not _FULL_DATE.fullmatch(text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
