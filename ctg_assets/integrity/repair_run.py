"""Mending a lake with the registry's help."""

from __future__ import annotations

from dataclasses import dataclass

from ctg_assets.extract.by_id import studies_by_id
from ctg_assets.integrity.repair import Mended, Mender, NotMendableError
from ctg_assets.integrity.verification import Damage, verify
from ctg_assets.lake import Lake
from ctg_assets.settings import Settings

# What is made from other files comes after them.
_ORDER = ("entry.json", "plan.json", "periods.parquet", "contents.parquet")


@dataclass(frozen=True)
class MendingReport:
    """What was mended, and what could not be, with the reason and what is left to do."""

    mended: list[Mended]
    left: list[tuple[Damage, str]]


def mend_lake(settings: Settings, lake: Lake) -> MendingReport:
    """Look at all of a lake and mend what can be mended.

    The registry is asked only for contents that no kept page has. Raises BusyError when another process
    writes to the lake, and StorageError when the lake cannot be read or written for other reasons.
    """
    mended: list[Mended] = []
    left: list[tuple[Damage, str]] = []
    with lake.extractions.lock(), lake.history.lock():
        mender = Mender(lake.storage, lambda ids: studies_by_id(settings, ids))
        for finding in sorted(verify(lake.storage).findings, key=_place):
            try:
                mended.append(mender.mend(finding.relative))
            except NotMendableError as error:
                left.append((finding, str(error)))
    return MendingReport(mended, left)


def _place(finding: Damage) -> tuple[int, str]:
    name = finding.relative.rpartition("/")[2]
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), finding.relative)
