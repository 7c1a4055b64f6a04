"""What identifies a study and its content: NCT id, last update date, content hash.

Belongs here: reading those few facts out of a study's JSON. Does not belong here: parsing a study as
a whole (`parsing.py`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from ctg_assets.model.volatile import without_volatile

# Python understands other ISO 8601 forms too (week dates, no hyphens), which the registry does not use.
_FULL_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class StudyIdentity:
    """Who a study is and what it says.

    `nct_id` and `last_update_post_date` are None where the JSON does not hold them in usable form;
    `content_hash` is 64 hexadecimal digits.
    """

    nct_id: str | None
    last_update_post_date: date | None
    content_hash: str


def identify(study: bytes) -> StudyIdentity:
    """Read a study's identity from its JSON; never fails, whatever the bytes are."""
    try:
        content = msgspec.json.decode(study)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Such a study goes to quarantine later; its bytes are the only content it has.
        return StudyIdentity(None, None, hashlib.sha256(study).hexdigest())
    nct_id = _at(content, "protocolSection", "identificationModule", "nctId")
    posted = _at(content, "protocolSection", "statusModule", "lastUpdatePostDateStruct", "date")
    return StudyIdentity(
        nct_id=nct_id if isinstance(nct_id, str) and nct_id else None,
        last_update_post_date=_full_date(posted),
        content_hash=_content_hash(content),
    )


def _content_hash(content: Any) -> str:
    """SHA-256 of the canonical JSON (sorted keys, no white space) without its volatile parts."""
    kept = without_volatile(content)
    return hashlib.sha256(msgspec.json.encode(kept, order="sorted")).hexdigest()


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
