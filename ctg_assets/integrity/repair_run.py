"""Mending a lake with the registry's help."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ctg_assets.extract.sizing import IDS_PER_REQUEST
from ctg_assets.integrity.repair import Mended, Mender, NotMendableError
from ctg_assets.integrity.verification import Finding, verify
from ctg_assets.lake import Lake
from ctg_assets.registry.client import PageRequest
from ctg_assets.registry.errors import RegistryError
from ctg_assets.registry_access import open_registry
from ctg_assets.settings import Settings
from ctg_assets.storage.files import Work

_log = logging.getLogger(__name__)

# What is made from other files comes after them.
_ORDER = ("entry.json", "plan.json", "periods.parquet", "contents.parquet")

_LARGEST_PAGE = 1000


@dataclass(frozen=True)
class MendingReport:
    """What was mended, and what could not be, with the reason and what is left to do."""

    mended: list[Mended]
    left: list[tuple[Finding, str]]


def mend_lake(settings: Settings, lake: Lake) -> MendingReport:
    """Look at all of a lake and mend what can be mended.

    The registry is asked only for contents that no kept page has. Raises BusyError when another process
    writes to the lake, and StorageError when the lake cannot be read or written for other reasons.
    """
    mended: list[Mended] = []
    left: list[tuple[Finding, str]] = []
    with lake.extractions.lock(), lake.storage.lock(Work.SNAPSHOT):
        mender = Mender(lake.storage, lambda ids: _fetched(settings, ids))
        for finding in sorted(verify(lake.storage).findings, key=_place):
            try:
                mended.append(mender.mend(finding.relative))
            except NotMendableError as error:
                left.append((finding, str(error)))
    return MendingReport(mended, left)


def _place(finding: Finding) -> tuple[int, str]:
    name = finding.relative.rpartition("/")[2]
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), finding.relative)


def _fetched(settings: Settings, ids: Sequence[str]) -> Iterator[bytes]:
    """Studies as the registry has them now; none, and a warning, when it cannot be asked."""
    try:
        with open_registry(settings) as client:
            for first in range(0, len(ids), IDS_PER_REQUEST):
                some = tuple(ids[first : first + IDS_PER_REQUEST])
                yield from client.page(PageRequest("", _LARGEST_PAGE, ids=some)).studies
    except RegistryError as error:
        _log.warning("the registry could not be asked for %d lost studies: %s", len(ids), error)
