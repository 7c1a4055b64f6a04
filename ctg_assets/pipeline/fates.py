"""What became of studies that a walk did not see, as the registry tells.

Belongs here: asking the registry for them by id. Does not belong here: what follows from the answer
(`lake/recording.py`).

A study that is not found was removed. One that is found under another id was merged into that one,
which bears its id as an alias. One that is found under its own id has left the scope of the query; if
the scope is everything, it came back since the walk, and the next walk will tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from ctg_assets.lake.history import ChangeKind
from ctg_assets.lake.observing import Fate
from ctg_assets.lake.recording import Fates
from ctg_assets.pipeline.crawl import IDS_PER_REQUEST
from ctg_assets.pipeline.services import open_registry
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.settings import Settings

_FIELDS = ("NCTId", "NCTIdAlias")
_LARGEST_PAGE = 1000


class _Identification(msgspec.Struct):
    nctId: str  # noqa: N815 - the API's spelling
    nctIdAliases: list[str] = []  # noqa: N815 - the API's spelling


class _Protocol(msgspec.Struct):
    identificationModule: _Identification  # noqa: N815 - the API's spelling


class _Study(msgspec.Struct):
    protocolSection: _Protocol  # noqa: N815 - the API's spelling


def registry_fates(settings: Settings, *, query: str) -> Fates:
    """A way to ask the configured registry about studies missing from a walk over `query`.

    The asking raises RegistryError when the registry cannot be asked.
    """

    def ask(nct_ids: Sequence[str]) -> Mapping[str, Fate]:
        asked = set(nct_ids)
        still_there = None if not query else ChangeKind.LEAVE_SCOPE
        fates: dict[str, Fate] = {}
        with open_registry(settings) as client:
            for study in _found(client, sorted(asked)):
                if study.nctId in asked:
                    fates[study.nctId] = Fate(still_there)
                for alias in asked.intersection(study.nctIdAliases):
                    fates.setdefault(alias, Fate(ChangeKind.MERGE, study.nctId))
        return fates

    return ask


def _found(client: RegistryClient, nct_ids: Sequence[str]) -> Iterator[_Identification]:
    """What the registry has under these ids."""
    for start in range(0, len(nct_ids), IDS_PER_REQUEST):
        some = tuple(nct_ids[start : start + IDS_PER_REQUEST])
        request = PageRequest("", _LARGEST_PAGE, ids=some, fields=_FIELDS)
        for study in client.page(request).studies:
            yield msgspec.json.decode(study, type=_Study).protocolSection.identificationModule
