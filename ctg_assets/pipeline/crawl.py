"""The walk: registry pages become page shards, and a finished walk becomes a complete extraction.

Belongs here: planning an extraction, asking page after page, resuming, and what happens when the
registry's data move in the middle. Does not belong here: who asks for which pages when (Dagster).

A page can be asked for only with the token that its predecessor's answer carried, and tokens hold
only within one data version. Whenever that chain breaks (the data version moved, a token expired)
the extraction is superseded and another one is planned: mixing pages of two versions could lose a
study that moved from a later page to an earlier one, or take it twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ctg_assets.lake.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionStore,
    new_extraction_id,
    planned_pages,
)
from ctg_assets.lake.shards import ShardInfo, ShardStore, empty_shard, first_missing_page
from ctg_assets.registry.client import PageRequest, RegistryClient, RegistryVersion
from ctg_assets.registry.errors import PageTokenRejectedError

# A version check costs one request; at the tolerated rate this is about one a minute.
_PAGES_BETWEEN_VERSION_CHECKS = 50

# Planning is the first contact. A wrong URL or a registry that is down should be said soon, not after
# the ten minutes a page of a running crawl is worth.
PLANNING_PATIENCE_SECONDS = 30.0


class ExtractionSupersededError(Exception):
    """The extraction cannot be finished and was given up; a new one has to be planned."""


class NotCrawlableError(Exception):
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

    def plan(self, *, query: str, page_size: int) -> ExtractionPlan:
        """Plan a walk over a query at the registry's present data version.

        An open extraction of the same query, page size, registry and data version is continued
        rather than planned again; any other open one is superseded, but only once there is a plan.
        Only one process may plan or walk at a time (the caller sees to it).

        Raises RegistryError when the registry cannot be asked or refuses the query; nothing has
        changed then.
        """
        version = self._client.version(retry_seconds=PLANNING_PATIENCE_SECONDS)
        open_plans = self._extractions.open_crawls()
        continued = [p for p in open_plans if self._continues(p, version, query, page_size)]
        plan = continued[-1] if continued else self._new_plan(version, query, page_size)
        for other in open_plans:
            if other != plan:
                self._extractions.supersede(
                    other.extraction_id,
                    f"extraction {plan.extraction_id} at data version {plan.data_timestamp} took "
                    "its place",
                )
        return plan

    def _new_plan(self, version: RegistryVersion, query: str, page_size: int) -> ExtractionPlan:
        studies = self._client.count(query)
        mode = ExtractionMode.SCOPED if query else ExtractionMode.FULL
        now = datetime.now(UTC)
        plan = ExtractionPlan(
            extraction_id=new_extraction_id(mode, now),
            mode=mode,
            source=self._client.api_url,
            query=query,
            page_size=page_size,
            data_timestamp=version.data_timestamp,
            planned_at=now,
            api_version=version.api_version,
            expected_studies=studies,
            planned_pages=planned_pages(studies, page_size),
        )
        self._extractions.create(plan)
        return plan

    def walk(self, plan: ExtractionPlan, last_page: int) -> Iterator[CrawledPage]:
        """Walk until `last_page` is there, yielding every page up to it, those already there first.

        Only missing pages are asked for, from the first gap on. When all planned pages are there,
        the extraction is marked complete. Only one crawl of a lake may run at a time (the caller
        sees to it).

        Raises ExtractionSupersededError when the registry's data moved or a token was refused, and
        NotCrawlableError for an extraction that is superseded or was imported. Pages yielded before
        a failure stay.
        """
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
        while next_page <= last_page:
            if since_check == _PAGES_BETWEEN_VERSION_CHECKS:
                self._require_same_version(plan)
                since_check = 0
            if next_page > 1 and token is None:
                shard = self._shards.write(empty_shard(plan, next_page), [])
            else:
                shard = self._take_page(plan, next_page, token)
                since_check += 1
            yield CrawledPage(shard, fresh=True)
            token = shard.next_token
            next_page += 1

        if next_page > pages_planned and self._extractions.completion(extraction_id) is None:
            self._finish(plan, token)

    def _continues(
        self, plan: ExtractionPlan, version: RegistryVersion, query: str, page_size: int
    ) -> bool:
        return (plan.data_timestamp, plan.source, plan.query, plan.page_size) == (
            version.data_timestamp,
            self._client.api_url,
            query,
            page_size,
        )

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

    def _take_page(self, plan: ExtractionPlan, page: int, token: str | None) -> ShardInfo:
        """Ask for one page and publish its shard."""
        request = PageRequest(query=plan.query, page_size=plan.page_size, token=token)
        try:
            answer = self._client.page(request)
        except PageTokenRejectedError as error:
            raise self._superseded(plan, str(error)) from error
        shard = ShardInfo(
            extraction_id=plan.extraction_id,
            page=page,
            data_timestamp=plan.data_timestamp,
            fetched_at=answer.fetched_at,
            token=token,
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
            page_ids = self._shards.read(plan.extraction_id, info.page, ["nct_id"])["nct_id"]
            ids.update(page_ids.drop_null().to_pylist())
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
