"""Planning the extraction that is due, and what the registry is asked at the same moment."""

from __future__ import annotations

from dataclasses import dataclass

from ctg_assets.extract.crawl import PLANNING_PATIENCE_SECONDS, Crawler, open_crawler
from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.extract.published_model import check_published_model
from ctg_assets.extract.search_file import saved_searches
from ctg_assets.extract.searches import evaluate_searches
from ctg_assets.extract.sizing import Pace
from ctg_assets.lake import Lake
from ctg_assets.refresh.mode_policy import choose_again
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings


@dataclass(frozen=True)
class PlannedExtraction:
    """A plan, whether the registry's model is ours, and whether saved searches were answered."""

    plan: ExtractionPlan
    published_model: CheckResult
    searches: CheckResult


def plan_and_ask(settings: Settings, lake: Lake) -> PlannedExtraction:
    """Plan what is due; ask for the registry's model and for saved searches, once per data version.

    Raises SearchFileError before anything is planned, and RegistryError as `Crawler.plan` does; on the
    other answers nothing depends.
    """
    searches = saved_searches(settings.searches_file) if settings.aact else ()
    with open_crawler(settings, lake.extractions, lake.shards) as crawler:
        plan = plan_extraction(settings, lake, crawler)
        return PlannedExtraction(
            plan,
            check_published_model(crawler.client, lake.storage, plan),
            evaluate_searches(crawler.client, lake.storage, searches, plan.data_timestamp),
        )


def plan_extraction(settings: Settings, lake: Lake, crawler: Crawler) -> ExtractionPlan:
    """Plan what is due by the policy, or, when nothing is, what the settings ask for all the same.

    Raises RegistryError as `Crawler.plan` does.
    """
    now = crawler.client.version(retry_seconds=PLANNING_PATIENCE_SECONDS).data_timestamp
    choice = choose_again(settings, lake.history.entries(), now)
    ids = () if choice.ids_from is None else lake.history.stale_ids(choice.ids_from)
    return crawler.plan(
        query=settings.query,
        page_size=settings.page_size,
        mode=choice.mode,
        since=choice.since,
        ids=ids,
        reason=choice.reason,
        pace=Pace(settings.chains_asked_for, settings.requests_per_minute),
    )
