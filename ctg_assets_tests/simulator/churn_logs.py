"""Reading the log of a registry in motion, and what it says the contents of studies are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ctg_assets.simulator.churn_log import ActRecord

_RECORDS = msgspec.json.Decoder(ActRecord)


def read_churn_log(path: Path) -> list[ActRecord]:
    """All records of a log, in the order in which things happened."""
    return _RECORDS.decode_lines(path.read_bytes())


def hashes_after(
    beginning: Mapping[str, str], records: Iterable[ActRecord], through: int | None = None
) -> dict[str, str]:
    """The content hash of each study after a round (None: after the last), by NCT id.

    `beginning` are the hashes before the first round. Raises ValueError for records that do not follow from it.
    """
    hashes = dict(beginning)
    for record in records:
        if through is not None and record.round > through:
            continue
        if hashes.get(record.nct_id) != record.content_hash_before:
            message = (
                f"round {record.round}: {record.act} of {record.nct_id} begins with content "
                f"{record.content_hash_before}, but the study's is {hashes.get(record.nct_id)}"
            )
            raise ValueError(message)
        if record.content_hash_after is None:
            del hashes[record.nct_id]
        else:
            hashes[record.nct_id] = record.content_hash_after
    return hashes
