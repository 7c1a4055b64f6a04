"""Assets of the extraction: the plan and the page shards, with the checks on them."""

from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

import dagster as dg

from ctg_assets.counters_file import counters_of
from ctg_assets.errors import PermanentError
from ctg_assets.extract.crawl import CrawledPage, open_crawler
from ctg_assets.extract.extractions import ExtractionPlan, ExtractionState, page_key, parse_page_key
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.lake import Lake, open_lake
from ctg_assets.metrics import RECORDS
from ctg_assets.orchestration.check_results import check_result
from ctg_assets.orchestration.pages import PAGES, prune_pages, register_pages
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.run_logs import about
from ctg_assets.refresh.checks import check_shards
from ctg_assets.refresh.extraction_plan import plan_and_ask
from ctg_assets.snapshot.typing_ahead import typing_ahead

# One crawl at a time, whoever asks for it: the registry's limit is on us as a whole.
REGISTRY_POOL = "registry"

GROUP = "extraction"
OWNERS = ["team:ctg-assets"]

_MODEL_CHECK = "the_registrys_model_is_ours"
_SEARCHES_CHECK = "saved_searches_are_answered"


@dg.asset(
    group_name=GROUP,
    kinds={"json"},
    owners=OWNERS,
    pool=REGISTRY_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            _MODEL_CHECK,
            asset="extraction_plan",
            description="The fields and values that the registry says it has are those of our model.",
        ),
        dg.AssetCheckSpec(
            _SEARCHES_CHECK,
            asset="extraction_plan",
            description="The registry has answered each saved search at its data version.",
        ),
    ],
)
def extraction_plan(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The extraction to be done: mode, query, data version, expected studies and pages.

    Materializing it asks the registry for its data version, chooses by the history and the settings
    what is due (everything, what was posted lately, a census, or what that found missing), and registers
    one `page_shards` partition for every page. An open plan of the same kind at the same data version
    is continued. Once per data version the registry is asked which fields and values it has, and what
    saved searches find, too.
    """
    configured = settings.load()
    lake = open_lake(configured)
    with about(context, "extraction_plan"):
        planned = plan_and_ask(configured, lake)
    plan = planned.plan
    pruned = prune_pages(context.instance, lake)
    register_pages(context.instance, plan)
    context.log.info(
        f"extraction {plan.extraction_id}: {plan.planned_pages} pages at data version "
        f"{plan.data_timestamp}; {plan.mode} because {plan.reason}; forgot {len(pruned)} stale pages",
        extra={"extraction": plan.extraction_id},
    )
    return dg.MaterializeResult(
        metadata={
            "extraction": plan.extraction_id,
            "mode": str(plan.mode),
            "why": plan.reason or "",
            "query": plan.query or "(every study)",
            "registry": plan.source,
            "data timestamp (UTC)": plan.data_timestamp,
            "posted since": "" if plan.since is None else plan.since.isoformat(),
            "expected studies": plan.expected_studies,
            "pages": plan.planned_pages,
            "page size": plan.page_size,
            "chains": max(1, len(plan.chains)),
            "first page": plan.page_key(1),
            "last page": plan.page_keys()[-1],
        },
        check_results=[
            check_result(planned.published_model, _MODEL_CHECK),
            check_result(planned.searches, _SEARCHES_CHECK),
        ],
    )


@dg.asset(
    partitions_def=PAGES,
    backfill_policy=dg.BackfillPolicy.single_run(),
    deps=[extraction_plan],
    group_name=GROUP,
    kinds={"parquet"},
    owners=OWNERS,
    pool=REGISTRY_POOL,
)
def page_shards(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """One Parquet file per API page: every study's JSON as sent, its id, date and content hash.

    A run takes a range of pages. Pages that are there already are not asked for again, and since a
    page can be asked for only with the token of its predecessor, missing ones before the range are
    walked too. Where the plan has several chains, they are walked side by side. After a crash, asking for the same range again goes on where the walk stopped.
    """
    configured = settings.load()
    lake = open_lake(configured)
    wanted = sorted(map(parse_page_key, context.partition_keys))
    keys = set(context.partition_keys)
    counters = counters_of(configured)
    done: list[ShardInfo] = []
    try:
        with open_crawler(configured, lake.extractions, lake.shards) as crawler:
            for extraction_id, pages in groupby(wanted, key=lambda page: page[0]):
                plan = lake.extractions.plan(extraction_id)
                last_page = max(number for _, number in pages)
                with (
                    about(context, "page_shards", extraction_id),
                    typing_ahead(lake.storage, lake.scratch, extraction_id) as ahead,
                    closing(crawler.walk(plan, last_page)) as crawled,
                ):
                    for page in crawled:
                        done.append(page.shard)
                        if ahead is not None:
                            ahead.add(page.shard)
                        if page.fresh:
                            counters.add(RECORDS.by(page.shard.studies, stage="extract"))
                        _log_page(context, plan, page)
    except BaseException as error:
        # What landed before the failure is there, so Dagster should know it.
        _report(context, lake, done)
        if isinstance(error, PermanentError):
            raise dg.Failure(str(error), allow_retries=False) from error
        raise
    _report(context, lake, [shard for shard in done if _key(shard) not in keys])
    for shard in done:
        if _key(shard) in keys:
            context.add_asset_metadata(_metadata(lake, shard), partition_key=_key(shard))
    return dg.MaterializeResult()


@dg.asset_check(asset=page_shards, blocking=True)
def pages_are_complete_and_consistent(settings: SettingsResource) -> dg.AssetCheckResult:
    """Row counts agree with the pages, NCT ids are unique, and the total is what the registry said."""
    lake = open_lake(settings.load())
    plans = [
        plan
        for state in (ExtractionState.OPEN, ExtractionState.COMPLETE)
        if (plan := lake.extractions.latest(state)) is not None
    ]
    if not plans:
        return dg.AssetCheckResult(passed=True, description="No extraction has been planned yet.")
    outcome = check_shards(lake, plans[0])
    return check_result(outcome)


def _log_page(context: dg.AssetExecutionContext, plan: ExtractionPlan, page: CrawledPage) -> None:
    shard = page.shard
    how = f"fetched in {shard.seconds:.1f} s" if page.fresh else "was there"
    context.log.debug(f"page {shard.page} of {plan.planned_pages}: {shard.studies} studies, {how}")


def _report(context: dg.AssetExecutionContext, lake: Lake, shards: Sequence[ShardInfo]) -> None:
    """Tell Dagster of pages that are there and that it does not know to be.

    Those are the pages of this run if it fails, pages before its range, and pages of a run that was
    killed before it could tell.
    """
    known = context.instance.get_materialized_partitions(context.asset_key)
    for shard in shards:
        if _key(shard) not in known:
            context.log_event(
                dg.AssetMaterialization(
                    context.asset_key, partition=_key(shard), metadata=_metadata(lake, shard)
                )
            )


def _metadata(lake: Lake, shard: ShardInfo) -> dict[str, Any]:
    return {
        "dagster/row_count": shard.studies,
        "JSON MB": round(shard.json_bytes / 1e6, 3),
        "file MB": round(lake.shards.file_size(shard.extraction_id, shard.page) / 1e6, 3),
        "request seconds": round(shard.seconds, 3),
        "fetched at": dg.MetadataValue.timestamp(shard.fetched_at),
        "next token": shard.next_token or "(last page)",
    }


def _key(shard: ShardInfo) -> str:
    return page_key(shard.extraction_id, shard.page)
