"""The walk: registry pages become page shards, and a finished walk becomes a complete extraction.

A page can be asked for only with the token that its predecessor's answer carried, and tokens hold
only within one data version. Whenever that chain breaks (the data version moved, a token expired)
the extraction is superseded and another one is planned: mixing pages of two versions could lose a
study that moved from a later page to an earlier one, or take it twice. Pages of a picked extraction
are asked for by ids, each by itself, but all of them must be of one data version no less.

Where answers take so long that one after the other is slower than the limit allows, a walk is divided into
slices, each of which is such a chain. Their pages are numbered in turns, so that all are walked at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from threading import Event

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.chains import Chain, SideBySide
from ctg_assets.extract.external_sort import page_keys
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionStore,
    new_extraction_id,
)
from ctg_assets.extract.shards import ShardInfo, ShardStore, empty_shard
from ctg_assets.extract.sizing import (
    IDS_PER_REQUEST,
    LARGEST_PAGE,
    MOST_PAGES,
    ONE_CHAIN,
    Pace,
    page_request,
    sized,
    sized_for_ids,
)
from ctg_assets.extract.slices import page_numbers
from ctg_assets.model.nct_ids import is_askable
from ctg_assets.registry.client import Page, PageRequest, RegistryClient, RegistryVersion
from ctg_assets.registry.errors import PageTokenRejectedError
from ctg_assets.registry_access import open_registry
from ctg_assets.settings import Settings

# A version check costs one request; at the tolerated rate this is about one a minute.
_PAGES_BETWEEN_VERSION_CHECKS = 50

# Planning is the first contact. A wrong URL or a registry that is down should be said soon, not after
# the ten minutes a page of a running crawl is worth.
PLANNING_PATIENCE_SECONDS = 30.0


class ExtractionSupersededError(CtgAssetsError):
    """The extraction cannot be finished and was given up; a new one has to be planned."""


class NotCrawlableError(CtgAssetsError):
    """The extraction asked for is not open for crawling; the message says what to do instead."""


@dataclass(frozen=True)
class CrawledPage:
    """A page of a crawl that is now there; `fresh` tells whether this crawl asked for it."""

    shard: ShardInfo
    fresh: bool


@dataclass(frozen=True)
class _Asked:
    """A request for the next page of a chain."""

    chain: Chain
    page: int
    request: PageRequest


class _Requests(SideBySide[_Asked | None, Page | RegistryVersion]):
    """The requests of a walk, and how many pages it got since data versions were compared.

    For the data version may be asked before a page, which is asked for then, or for none.
    """

    pages = 0


@contextmanager
def open_crawler(
    settings: Settings, extractions: ExtractionStore, shards: ShardStore
) -> Iterator[Crawler]:
    """A crawler of the registry that the settings name, under the limit that all share who ask it."""
    with open_registry(settings) as client:
        yield Crawler(client, extractions, shards)


class Crawler:
    """Plans and walks extractions of one registry into one lake."""

    def __init__(
        self, client: RegistryClient, extractions: ExtractionStore, shards: ShardStore
    ) -> None:
        """Walk with `client`; keep plans in `extractions` and pages in `shards`."""
        self.client = client
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
        pace: Pace = ONE_CHAIN,
    ) -> ExtractionPlan:
        """Plan an extraction from the scope of a query at the registry's present data version.

        Without a `mode`, all of the scope is walked. `since` is for an incremental extraction, `ids` for
        a picked one; `reason` is kept with the plan. `pace` says into how many chains a walk of all of the
        scope is divided. An open extraction that asks for the same of the same registry and data version is
        continued rather than planned again, in the chains that it has; any other open one is superseded, but
        only once there is a plan.

        Raises RegistryError when the registry cannot be asked or refuses the query, TooManyPagesError
        when pages of this size would be too many, and BusyError when another process plans, crawls or
        imports; nothing has changed then.
        """
        with self._extractions.lock():
            chosen = mode or (ExtractionMode.SCOPED if query else ExtractionMode.FULL)
            if chosen is ExtractionMode.PICKED:
                page_size = min(page_size, IDS_PER_REQUEST)
            version = self.client.version(retry_seconds=PLANNING_PATIENCE_SECONDS)
            now = datetime.now(UTC)
            wanted = ExtractionPlan(
                extraction_id=new_extraction_id(chosen, now),
                mode=chosen,
                source=self.client.api_url,
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
            if continued:
                plan = continued[-1]
            elif chosen is ExtractionMode.PICKED:
                plan = self._extractions.create(sized_for_ids(wanted, len(ids)), ids)
            else:
                plan = self._extractions.create(sized(self.client, wanted, pace))
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

    def walk(self, plan: ExtractionPlan, last_page: int) -> Generator[CrawledPage, None, None]:
        """Walk until `last_page` is there, yielding every page up to it, those already there first.

        Only missing pages are asked for, in each chain from the first gap on, in all chains at a time. When all
        planned pages are there, the extraction is marked complete. Ids that a picked extraction asks for and
        the registry does not have bring nothing home; those that were merged bring home the surviving study.
        Whoever stops before the end closes the iterator: until then no other process may crawl.

        Raises ExtractionSupersededError when the registry's data moved or a token was refused,
        NotCrawlableError for an extraction that is superseded or was imported, and BusyError when another
        process plans, crawls or imports. Pages yielded before a failure stay.
        """
        with self._extractions.lock():
            pages_planned = self._crawlable_pages(plan)
            last_page = min(last_page, pages_planned)
            self._shards.clean(plan.extraction_id)
            chains = self._chains(plan, pages_planned)
            kept = [shard for chain in chains for shard in chain.take_kept(last_page)]
            for shard in sorted(kept, key=lambda shard: shard.page):
                yield CrawledPage(shard, fresh=False)
            if any(chain.next_page(last_page) for chain in chains):
                yield from self._fetch(plan, chains, last_page)
            # What follows may be there already, if pages before it were lost.
            for chain in chains:
                chain.take_kept(pages_planned)
            is_whole = not any(chain.next_page(pages_planned) for chain in chains)
            if is_whole and self._extractions.completion(plan.extraction_id) is None:
                self._finish(plan, chains)

    def _chains(self, plan: ExtractionPlan, pages: int) -> list[Chain]:
        """The chains of an extraction of so many pages, each at its start."""
        store, id_ = self._shards, plan.extraction_id
        there = frozenset(store.pages(id_))
        if not plan.chains:
            return [Chain(store, id_, there, range(1, pages + 1))]
        numbers = page_numbers([chain.planned_pages for chain in plan.chains])
        return [
            Chain(store, id_, there, of_chain, chain.within)
            for chain, of_chain in zip(plan.chains, numbers, strict=True)
        ]

    def _fetch(
        self, plan: ExtractionPlan, chains: Sequence[Chain], last_page: int
    ) -> Generator[CrawledPage, None, None]:
        """Ask for the pages that are missing, one of each chain at a time, and keep them."""
        is_fresh = all(chain.is_at_start for chain in chains)
        with _Requests() as requests:
            if is_fresh and len(chains) > 1:
                # First pages have no tokens that could be refused, and if data moved they are given up with the rest.
                requests.start(None, lambda _: self.client.version())
            else:
                self._require_same_version(plan)
            for chain in chains:
                yield from self._go_on(plan, chain, last_page, requests)
            while requests:
                try:
                    asked, answer = requests.next()
                except PageTokenRejectedError as error:
                    raise self._superseded(plan, str(error)) from error
                if isinstance(answer, RegistryVersion):
                    self._require_version(plan, answer)
                    if asked is not None:
                        requests.start(asked, self._page_of(asked.request))
                elif asked is not None:
                    shard = self._shard_of(plan, asked, answer)
                    asked.chain.take(shard)
                    requests.pages += 1
                    if len(chains) == 1:
                        yield self._kept(asked, shard, answer.studies)
                    # Of several, this one need not wait until the page is written.
                    yield from self._go_on(plan, asked.chain, last_page, requests)
                    if len(chains) > 1:
                        yield self._kept(asked, shard, answer.studies)

    def _go_on(
        self, plan: ExtractionPlan, chain: Chain, last_page: int, requests: _Requests
    ) -> Generator[CrawledPage, None, None]:
        """Take the next pages of a chain that need no request, and ask for the one after them."""
        while True:
            for kept in chain.take_kept(last_page):
                yield CrawledPage(kept, fresh=False)
            page = chain.next_page(last_page)
            if page is None:
                return
            request = self._request(plan, page, chain)
            if request is not None:
                break
            create = not chain.has(page)
            shard = self._shards.write(empty_shard(plan, page), [], create=create)
            yield CrawledPage(chain.take(shard), fresh=True)
        if requests.pages < _PAGES_BETWEEN_VERSION_CHECKS:
            requests.start(_Asked(chain, page, request), self._page_of(request))
            return
        requests.pages = 0
        requests.start(_Asked(chain, page, request), lambda _: self.client.version())

    def _kept(self, asked: _Asked, shard: ShardInfo, studies: Sequence[bytes]) -> CrawledPage:
        """Publish a page that was asked for; what others have published meanwhile is theirs."""
        create = not asked.chain.has(shard.page)
        return CrawledPage(self._shards.write(shard, studies, create=create), fresh=True)

    def _page_of(self, request: PageRequest) -> Callable[[Event], Page]:
        return lambda stopped: self.client.page(request, stopped=stopped)

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

    def _request(self, plan: ExtractionPlan, page: int, chain: Chain) -> PageRequest | None:
        """What to ask for the next page of a chain with; None when nothing is left to ask for."""
        if plan.mode is ExtractionMode.PICKED:
            first = (page - 1) * plan.page_size
            ids = self._extractions.ids(plan.extraction_id)[first : first + plan.page_size]
            askable = tuple(filter(is_askable, ids))
            # By id alone: whether a study is still in the scope is for the recording to tell.
            return PageRequest("", LARGEST_PAGE, ids=askable) if askable else None
        if not chain.is_at_start and chain.token is None:
            return None
        return page_request(plan, chain.within, chain.token)

    def _shard_of(self, plan: ExtractionPlan, asked: _Asked, answer: Page) -> ShardInfo:
        """The description of the shard of a page."""
        if plan.mode is ExtractionMode.PICKED and answer.next_token is not None:
            raise self._superseded(
                plan,
                f"the registry has more than {LARGEST_PAGE} studies for {len(asked.request.ids)} ids",
            )
        return ShardInfo(
            extraction_id=plan.extraction_id,
            page=asked.page,
            data_timestamp=plan.data_timestamp,
            fetched_at=answer.fetched_at,
            token=asked.request.token,
            next_token=answer.next_token,
            request=asked.request.parameters(),
            seconds=answer.seconds,
        )

    def _require_same_version(self, plan: ExtractionPlan) -> None:
        self._require_version(plan, self.client.version())

    def _require_version(self, plan: ExtractionPlan, version: RegistryVersion) -> None:
        now = version.data_timestamp
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

    def _finish(self, plan: ExtractionPlan, chains: Sequence[Chain]) -> None:
        """Mark the extraction complete, if all its pages belong to one data version."""
        if any(chain.token is not None for chain in chains):
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
