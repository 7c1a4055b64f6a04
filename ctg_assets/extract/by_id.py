"""Asking the registry for single studies, by their ids."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ctg_assets.extract.sizing import IDS_PER_REQUEST, LARGEST_PAGE
from ctg_assets.model.nct_ids import is_nct_id
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.registry.errors import RegistryError
from ctg_assets.registry_access import open_registry
from ctg_assets.settings import Settings

_log = logging.getLogger(__name__)

_FIELDS = ("NCTId", "NCTIdAlias")


class _Identification(msgspec.Struct):
    nctId: str  # noqa: N815 - the API's spelling
    nctIdAliases: list[str] = []  # noqa: N815 - the API's spelling


class _Protocol(msgspec.Struct):
    identificationModule: _Identification  # noqa: N815 - the API's spelling


class _Study(msgspec.Struct):
    protocolSection: _Protocol  # noqa: N815 - the API's spelling


def studies_by_id(settings: Settings, nct_ids: Sequence[str]) -> Iterator[bytes]:
    """The JSON of studies as the registry has them now; none, and a warning, when it cannot be asked."""
    try:
        with open_registry(settings) as client:
            for some in _batched(nct_ids):
                yield from client.page(PageRequest("", LARGEST_PAGE, ids=tuple(some))).studies
    except RegistryError as error:
        _log.warning("the registry could not be asked for %d studies: %s", len(nct_ids), error)


def ids_in_registry(settings: Settings, nct_ids: Collection[str]) -> Mapping[str, str]:
    """Those of some NCT ids that the registry has now, each with the id of its study.

    That is another one if the study was merged into it, so that it bears the id as an alias. What cannot be
    an NCT id is not asked for. Raises RegistryError when the registry cannot be asked.
    """
    asked = set(filter(is_nct_id, nct_ids))
    there: dict[str, str] = {}
    with open_registry(settings) as client:
        for some in _batched(sorted(asked)):
            found = _found(client, some)
            there.update((nct_id, nct_id) for nct_id in found.unreadable)
            for study in found.studies:
                if study.nctId in asked:
                    there[study.nctId] = study.nctId
                for alias in asked.intersection(study.nctIdAliases):
                    there.setdefault(alias, study.nctId)
    return there


@dataclass(frozen=True)
class _Found:
    """What the registry has under some ids; of the `unreadable` ones it has something."""

    studies: Sequence[_Identification]
    unreadable: Sequence[str]


def _found(client: RegistryClient, nct_ids: Sequence[str]) -> _Found:
    """Ask for some ids. Of what cannot be read nobody can tell which of them it is: halves are asked for."""
    request = PageRequest("", LARGEST_PAGE, ids=tuple(nct_ids), fields=_FIELDS)
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


def _batched(nct_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(nct_ids), IDS_PER_REQUEST):
        yield nct_ids[start : start + IDS_PER_REQUEST]
