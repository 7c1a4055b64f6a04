"""How many pages an extraction takes, and in how many chains, as the registry is asked when it is planned."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Event

import msgspec

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.chains import SideBySide
from ctg_assets.extract.extractions import (
    ExtractionMode,
    ExtractionPlan,
    PlannedChain,
    planned_pages,
)
from ctg_assets.extract.slices import chains_needed, slice_filters
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.registry.errors import BadRequestError
from ctg_assets.times import parse_data_timestamp

_log = logging.getLogger(__name__)

# What a census asks for of each study.
_CENSUS_FIELDS = ("NCTId", "LastUpdatePostDate")

# Ids are part of the URL. Servers and what stands before them commonly refuse request lines of more than
# 8 kB; with its separator, which travels as %7C, an id takes 14 bytes, so this is less than half of that.
IDS_PER_REQUEST = 250

# The most that the registry returns at a time, so that an answer to ids is never cut in two.
LARGEST_PAGE = 1000

# Each page is a partition that Dagster keeps, and several extractions are kept. SQLite takes at most
# 32,766 values in a statement, of which Dagster makes one for each page of a plan.
MOST_PAGES = 10_000


class TooManyPagesError(CtgAssetsError):
    """The settings would cut an extraction into too many pages; the message says which would work."""


@dataclass(frozen=True)
class Pace:
    """How fast a walk is to go: into how many chains it is divided; None is as many as the limit has work for.

    The limit are so many `requests_per_minute`.
    """

    chains: int | None
    requests_per_minute: int


ONE_CHAIN = Pace(chains=1, requests_per_minute=1)


def page_request(plan: ExtractionPlan, within: str = "", token: str | None = None) -> PageRequest:
    """The request for a page of a walk, or of a slice of it."""
    return PageRequest(
        query=plan.query,
        page_size=plan.page_size,
        token=token,
        posted_since=plan.since,
        fields=_CENSUS_FIELDS if plan.mode is ExtractionMode.CENSUS else (),
        within=within,
    )


def sized_for_ids(wanted: ExtractionPlan, ids: int) -> ExtractionPlan:
    """A plan to ask for so many studies by their ids, with the number of its pages; raises TooManyPagesError."""
    pages = max(1, -(-ids // wanted.page_size))
    _require_few_pages(pages, ids, wanted.page_size)
    return msgspec.structs.replace(wanted, planned_pages=pages)


def sized(client: RegistryClient, wanted: ExtractionPlan, pace: Pace) -> ExtractionPlan:
    """A plan of a walk with the number of its studies and pages, and its chains if it has several.

    Raises RegistryError and TooManyPagesError.
    """
    # To learn how long a page takes, one is asked for; where that does not matter, an id is enough to count.
    measured = pace.chains is None and wanted.mode.covers_scope
    studies = client.count(page_request(wanted) if measured else _counting(wanted))
    pages = planned_pages(studies, wanted.page_size)
    number = pace.chains
    if number is None:
        number = chains_needed(client.answer_seconds, pace.requests_per_minute, pages)
    chains: tuple[PlannedChain, ...] = ()
    if wanted.mode.covers_scope and number > 1:
        chains = _counted_slices(client, wanted, studies, number)
    if chains:
        pages = sum(chain.planned_pages for chain in chains)
    _require_few_pages(pages, studies, wanted.page_size)
    return msgspec.structs.replace(
        wanted, expected_studies=studies, planned_pages=pages, chains=chains
    )


def _counted_slices(
    client: RegistryClient, wanted: ExtractionPlan, studies: int, number: int
) -> tuple[PlannedChain, ...]:
    """The slices of all `studies` that are asked for, each with its count; none if these do not add up.

    They do not where a query is a list of ids, for which the registry ignores filters.
    """
    filters = slice_filters(number, parse_data_timestamp(wanted.data_timestamp).date())
    counts: dict[str, int] = {}
    with SideBySide[str, int]() as counting:
        for within in filters:
            counting.start(within, _count_of(client, _counting(wanted, within)))
        try:
            while counting:
                within, count = counting.next()
                counts[within] = count
        except BadRequestError as error:
            _log.warning("the walk stays one chain, since slices are refused: %s", error)
            return ()
    counted = sum(counts.values())
    if counted != studies:
        _log.warning(
            "the walk stays one chain: the registry counted %s studies, and %s in %s slices of them",
            studies,
            counted,
            len(filters),
        )
        return ()
    chains = tuple(
        PlannedChain(
            within=within,
            expected_studies=counts[within],
            planned_pages=planned_pages(counts[within], wanted.page_size),
        )
        for within in filters
        if counts[within]
    )
    return chains if len(chains) > 1 else ()


def _count_of(client: RegistryClient, request: PageRequest) -> Callable[[Event], int]:
    return lambda stopped: client.count(request, stopped)


def _counting(plan: ExtractionPlan, within: str = "") -> PageRequest:
    """The smallest request whose answer says how many studies a walk, or a slice of it, has."""
    return replace(page_request(plan, within), page_size=1, fields=("NCTId",))


def _require_few_pages(pages: int, studies: int, page_size: int) -> None:
    if pages <= MOST_PAGES:
        return
    smallest = studies // MOST_PAGES + 1
    message = (
        f"{studies:,} studies in pages of {page_size} are {pages:,} pages, and Dagster cannot keep more "
        f"than {MOST_PAGES:,} of one extraction as partitions. Nothing was planned; set CTG_PAGE_SIZE to "
        f"{smallest} or more (the registry gives up to {LARGEST_PAGE} studies a page)"
    )
    raise TooManyPagesError(message)
