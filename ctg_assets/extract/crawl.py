"""The walk: registry pages become page shards, and a finished walk becomes a complete extraction.

A page can be asked for only with the token that its predecessor's answer carried, and tokens hold
only within one data version. Whenever that chain breaks (the data version moved, a token expired)
the extraction is superseded and another one is planned: mixing pages of two versions could lose a
study that moved from a later page to an earlier one, or take it twice. Pages of a picked extraction
are asked for by ids, each by itself, but all of them must be of one data version no less.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.external_sort import page_keys
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionStore,
    new_extraction_id,
    planned_pages,
)
from ctg_assets.extract.shards import ShardInfo, ShardStore, empty_shard, first_missing_page
from ctg_assets.model.nct_ids import is_askable
from ctg_assets.registry.client import PageRequest, RegistryClient
from ctg_assets.registry.errors import PageTokenRejectedError

# A version check costs one request; at the tolerated rate this is about one a minute.
_PAGES_BETWEEN_VERSION_CHECKS = 50

# Planning is the first contact. A wrong URL or a registry that is down should be said soon, not after
# the ten minutes a page of a running crawl is worth.
PLANNING_PATIENCE_SECONDS = 30.0

# What a census asks for of each study.
_CENSUS_FIELDS = ("NCTId", "LastUpdatePostDate")

# Ids are part of the URL. Servers and what stands before them commonly refuse request lines of more than
# 8 kB; with its separator, which travels as %7C, an id takes 14 bytes, so this is less than half of that.
IDS_PER_REQUEST = 250

# The most that the registry returns at a time, so that an answer to ids is never cut in two.
_LARGEST_PAGE = 1000


# Each page is a partition that Dagster keeps, and several extractions are kept. SQLite takes at most
# 32,766 values in a statement, of which Dagster makes one for each page of a plan.
MOST_PAGES = 10_000


class TooManyPagesError(CtgAssetsError):
    """The settings would cut an extraction into too many pages; the message says which would work."""


class ExtractionSupersededError(CtgAssetsError):
    """The extraction cannot be finished and was given up; a new one has to be planned."""


class NotCrawlableError(CtgAssetsError):
    """The extraction asked for is not open for crawling; the message says what to do instead."""


@dataclass(frozen=True)
class CrawledPage:
    """A page of a crawl that is now there; `fresh` tells whether this crawl asked for it."""

    shard: ShardInfo
    fresh: bool


class Crawler:
    """Plans and walks extractions of one registry into one lake."""

    def __init__(
        self, client: RegistryClient, extractions: ExtractionStore, shards: ShardStore
    ) -> None:
        """Walk with `client`; keep plans in `extractions` and pages in `shards`."""
        self._client = client
        self._extractions = extractions
        self._shards = shards

    def plan(
        self,
        *,
        query: str,
        page_size: int,
        mode: ExtractionMode | None = None,
        since: date | None = None,
        ids: Sequence[str] = (),
        reason: str | None = None,
    ) -> ExtractionPlan:
        """Plan an extraction from the scope of a query at the registry's present data version.

        Without a `mode`, all of the scope is walked. `since` is for an incremental extraction, `ids` for
        a picked one; `reason` is kept with the plan. An open extraction that asks for the same of the
        same registry and data version is continued rather than planned again; any other open one is
        superseded, but only once there is a plan.

        Raises RegistryError when the registry cannot be asked or refuses the query, TooManyPagesError
        when pages of this size would be too many, and BusyError when another process plans, crawls or
        imports; nothing has changed then.
        """
        with self._extractions.lock():
            chosen = mode or (ExtractionMode.SCOPED if query else ExtractionMode.FULL)
            if chosen is ExtractionMode.PICKED:
                page_size = min(page_size, IDS_PER_REQUEST)
            version = self._client.version(retry_seconds=PLANNING_PATIENCE_SECONDS)
            now = datetime.now(UTC)
            wanted = ExtractionPlan(
                extraction_id=new_extraction_id(chosen, now),
                mode=chosen,
                source=self._client.api_url,
                query=query,
                page_size=page_size,
                data_timestamp=version.data_timestamp,
                planned_at=now,
                api_version=version.api_version,
                since=since,
                reason=reason,
            )
            open_plans = self._extractions.open_crawls()
            continued = [plan for plan in open_plans if self._is_same(plan, wanted, ids)]
            plan = continued[-1] if continued else self._create(wanted, ids)
            for other in open_plans:
                if other != plan:
                    self._extractions.supersede(
                        other.extraction_id,
                        f"extraction {plan.extraction_id} at data version {plan.data_timestamp} took "
                        "its place",
                    )
            return plan

    def _is_same(self, plan: ExtractionPlan, wanted: ExtractionPlan, ids: Sequence[str]) -> bool:
        """Whether an open extraction asks for what another one would ask for."""
        # One of an earlier release may have more pages than can be walked.
        same = (plan.planned_pages or 0) <= MOST_PAGES and all(
            getattr(plan, name) == getattr(wanted, name)
            for name in ("mode", "source", "query", "page_size", "data_timestamp", "since")
        )
        return same and self._extractions.ids(plan.extraction_id) == list(ids)

    def _create(self, wanted: ExtractionPlan, ids: Sequence[str]) -> ExtractionPlan:
        """Record a new extraction, with the number of its pages."""
        if wanted.mode is ExtractionMode.PICKED:
            pages = max(1, -(-len(ids) // wanted.page_size))
            _require_few_pages(pages, len(ids), wanted.page_size)
            plan = msgspec.structs.replace(wanted, planned_pages=pages)
            return self._extractions.create(plan, ids)
        studies = self._client.count(wanted.query, posted_since=wanted.since)
        pages = planned_pages(studies, wanted.page_size)
        _require_few_pages(pages, studies, wanted.page_size)
        plan = msgspec.structs.replace(
            wanted,
            expected_studies=studies,
            planned_pages=pages,
        )
        return self._extractions.create(plan)

    def walk(self, plan: ExtractionPlan, last_page: int) -> Generator[CrawledPage, None, None]:
        """Walk until `last_page` is there, yielding every page up to it, those already there first.

        Only missing pages are asked for, from the first gap on. When all planned pages are there,
        the extraction is marked complete. Ids that a picked extraction asks for and the registry does
        not have bring nothing home; those that were merged bring home the surviving study. Whoever stops
        before the end closes the iterator: until then no other process may crawl.

        Raises ExtractionSupersededError when the registry's data moved or a token was refused,
        NotCrawlableError for an extraction that is superseded or was imported, and BusyError when another
        process plans, crawls or imports. Pages yielded before a failure stay.
        """
        with self._extractions.lock():
            extraction_id = plan.extraction_id
            pages_planned = self._crawlable_pages(plan)
            last_page = min(last_page, pages_planned)
            self._shards.clean(extraction_id)
            next_page = first_missing_page(self._shards.pages(extraction_id))
            for page in range(1, min(next_page - 1, last_page) + 1):
                yield CrawledPage(self._shards.info(extraction_id, page), fresh=False)

            token = None
            if next_page > 1:
                token = self._shards.info(extraction_id, next_page - 1).next_token
            if next_page <= last_page:
                self._require_same_version(plan)
            since_check = 0
            there = set(self._shards.pages(extraction_id))
            while next_page <= last_page:
                # After a page that was set aside come others that still belong to the same walk.
                if (
                    next_page in there
                    and (kept := self._shards.info(extraction_id, next_page)).token == token
                ):
                    yield CrawledPage(kept, fresh=False)
                    token = kept.next_token
                    next_page += 1
                    continue
                if since_check == _PAGES_BETWEEN_VERSION_CHECKS:
                    self._require_same_version(plan)
                    since_check = 0
                request = self._request(plan, next_page, token)
                if request is None:
                    shard = self._shards.write(empty_shard(plan, next_page), [])
                else:
                    shard = self._take_page(plan, next_page, request)
                    since_check += 1
                yield CrawledPage(shard, fresh=True)
                token = shard.next_token
                next_page += 1

            if next_page > pages_planned and self._extractions.completion(extraction_id) is None:
                self._finish(plan, token)

    def _crawlable_pages(self, plan: ExtractionPlan) -> int:
        """The number of pages of an extraction that may be crawled."""
        if plan.planned_pages is None:
            message = f"extraction {plan.extraction_id} was imported; it has no API pages"
            raise NotCrawlableError(message)
        supersession = self._extractions.supersession(plan.extraction_id)
        if supersession is not None:
            message = (
                f"extraction {plan.extraction_id} was given up ({supersession.reason}); "
                "materialize extraction_plan to plan a new one"
            )
            raise NotCrawlableError(message)
        return plan.planned_pages

    def _request(self, plan: ExtractionPlan, page: int, token: str | None) -> PageRequest | None:
        """What to ask for a page with; None when nothing is left to ask for."""
        if plan.mode is ExtractionMode.PICKED:
            first = (page - 1) * plan.page_size
            ids = self._extractions.ids(plan.extraction_id)[first : first + plan.page_size]
            askable = tuple(filter(is_askable, ids))
            # By id alone: whether a study is still in the scope is for the recording to tell.
            return PageRequest("", _LARGEST_PAGE, ids=askable) if askable else None
        if page > 1 and token is None:
            return None
        return PageRequest(
            query=plan.query,
            page_size=plan.page_size,
            token=token,
            posted_since=plan.since,
            fields=_CENSUS_FIELDS if plan.mode is ExtractionMode.CENSUS else (),
        )

    def _take_page(self, plan: ExtractionPlan, page: int, request: PageRequest) -> ShardInfo:
        """Ask for one page and publish its shard."""
        try:
            answer = self._client.page(request)
        except PageTokenRejectedError as error:
            raise self._superseded(plan, str(error)) from error
        if plan.mode is ExtractionMode.PICKED and answer.next_token is not None:
            raise self._superseded(
                plan,
                f"the registry has more than {_LARGEST_PAGE} studies for {len(request.ids)} ids",
            )
        shard = ShardInfo(
            extraction_id=plan.extraction_id,
            page=page,
            data_timestamp=plan.data_timestamp,
            fetched_at=answer.fetched_at,
            token=request.token,
            next_token=answer.next_token,
            request=request.parameters(),
            seconds=answer.seconds,
        )
        return self._shards.write(shard, answer.studies)

    def _require_same_version(self, plan: ExtractionPlan) -> None:
        now = self._client.version().data_timestamp
        if now != plan.data_timestamp:
            raise self._superseded(
                plan,
                f"the registry's data moved from {plan.data_timestamp} to {now} during the walk",
            )

    def _superseded(self, plan: ExtractionPlan, reason: str) -> ExtractionSupersededError:
        self._extractions.supersede(plan.extraction_id, reason)
        return ExtractionSupersededError(
            f"extraction {plan.extraction_id} cannot be finished: {reason}. Its pages are set aside; "
            "materialize extraction_plan to plan a new one (the sensor and `ctg-assets refresh` do)."
        )

    def _finish(self, plan: ExtractionPlan, next_token: str | None) -> None:
        """Mark the extraction complete, if all its pages belong to one data version."""
        if next_token is not None:
            raise self._superseded(
                plan,
                f"the registry has more pages than the {plan.planned_pages} that its count of "
                f"{plan.expected_studies} studies promised",
            )
        self._require_same_version(plan)
        ids: set[str] = set()
        pages = rows = json_bytes = 0
        for info in self._shards.infos(plan.extraction_id):
            ids.update(page_keys(self._shards, plan.extraction_id, info.page))
            pages += 1
            rows += info.studies
            json_bytes += info.json_bytes
        completion = Completion(
            pages=pages,
            rows=rows,
            distinct_studies=len(ids),
            json_bytes=json_bytes,
            completed_at=datetime.now(UTC),
        )
        self._extractions.complete(plan.extraction_id, completion)


def _require_few_pages(pages: int, studies: int, page_size: int) -> None:
    if pages <= MOST_PAGES:
        return
    smallest = studies // MOST_PAGES + 1
    message = (
        f"{studies:,} studies in pages of {page_size} are {pages:,} pages, and Dagster cannot keep more "
        f"than {MOST_PAGES:,} of one extraction as partitions. Nothing was planned; set CTG_PAGE_SIZE to "
        f"{smallest} or more (the registry gives up to {_LARGEST_PAGE} studies a page)"
    )
    raise TooManyPagesError(message)
