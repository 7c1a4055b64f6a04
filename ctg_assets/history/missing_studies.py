"""What became of studies that a walk did not see, as the registry tells.

A study that is not found was removed. One that is found under another id was merged into that one,
which bears its id as an alias. One that is found under its own id has left the scope of the query; if
the scope is everything, it came back since the walk, and the next walk will tell.

The history also has records of which no registry can have the id: they came from a file. They are not
asked for, and are gone as soon as a whole walk does not see them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ctg_assets.extract.sizing import IDS_PER_REQUEST
from ctg_assets.history.entries import ChangeKind
from ctg_assets.history.extraction_diff import MissingReason
from ctg_assets.history.recording import ExplainMissing
from ctg_assets.model.nct_ids import is_nct_id
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.registry_access import open_registry
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


def explain_missing(settings: Settings, *, query: str) -> ExplainMissing:
    """A way to ask the configured registry about studies missing from a walk over `query`.

    The asking raises RegistryError when the registry cannot be asked.
    """

    def ask(nct_ids: Sequence[str]) -> Mapping[str, MissingReason]:
        asked = set(filter(is_nct_id, nct_ids))
        still_there = None if not query else ChangeKind.LEAVE_SCOPE
        reasons: dict[str, MissingReason] = {}
        with open_registry(settings) as client:
            for some in _batched(sorted(asked), IDS_PER_REQUEST):
                found = _found(client, some)
                for nct_id in found.unreadable:
                    reasons[nct_id] = MissingReason(still_there)
                for study in found.studies:
                    if study.nctId in asked:
                        reasons[study.nctId] = MissingReason(still_there)
                    for alias in asked.intersection(study.nctIdAliases):
                        reasons.setdefault(alias, MissingReason(ChangeKind.MERGE, study.nctId))
        return reasons

    return ask


@dataclass(frozen=True)
class _Found:
    """What the registry has under some ids; of the `unreadable` ones it has something."""

    studies: Sequence[_Identification]
    unreadable: Sequence[str]


def _found(client: RegistryClient, nct_ids: Sequence[str]) -> _Found:
    """Ask for some ids. Of what cannot be read nobody can tell which of them it is: halves are asked for."""
    request = PageRequest("", _LARGEST_PAGE, ids=tuple(nct_ids), fields=_FIELDS)
    studies: list[_Identification] = []
    try:
        for study in client.page(request).studies:
            read = msgspec.json.decode(study, type=_Study)
            studies.append(read.protocolSection.identificationModule)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(nct_ids) == 1:
            return _Found([], nct_ids)
        middle = len(nct_ids) // 2
        halves = _found(client, nct_ids[:middle]), _found(client, nct_ids[middle:])
        return _Found(
            [study for half in halves for study in half.studies],
            [nct_id for half in halves for nct_id in half.unreadable],
        )
    return _Found(studies, [])


def _batched(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
