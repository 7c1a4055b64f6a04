"""WHO's data: its indicators as partitions, a release each, and the tables of schema `who`."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from ctg_assets.errors import PermanentError
from ctg_assets.orchestration.check_results import check_result
from ctg_assets.orchestration.extraction import OWNERS
from ctg_assets.orchestration.metadata import column_schema
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.run_logs import about
from ctg_assets.postgres.inspection import describe_table
from ctg_assets.postgres.server import open_postgres
from ctg_assets.results import CheckResult
from ctg_assets.who.indicators import indicators, named
from ctg_assets.who.refreshing import WhoSource
from ctg_assets.who.releases import CHECKS
from ctg_assets.who.tables import SHAPES

GROUP = "who"

# One indicator at a time: the limit on requests is on us as a whole, and loads wait for each other.
WHO_POOL = "who"

_PARTITIONS = "indicator"
INDICATOR_PARTITIONS = dg.DynamicPartitionsDefinition(name=_PARTITIONS)

_LOADED_CHECK = "enabled_indicators_are_loaded"


@dg.asset(group_name=GROUP, kinds={"toml"}, owners=OWNERS)
def who_indicators(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Which of WHO's indicators there are: the shipped ones, and what CTG_WHO_INDICATORS_FILE says.

    Materializing it registers a partition of `who_observations` for each, and forgets those that are no more.
    """
    known = indicators(settings.load())
    register_indicators(context.instance, list(known))
    table = [
        dg.TableRecord(
            {
                "indicator": code,
                "name": each.name,
                "enabled": each.enabled,
                "schedule": each.schedule.value,
                "table": each.target.value,
            }
        )
        for code, each in known.items()
    ]
    return dg.MaterializeResult(
        metadata={
            "indicators": len(known),
            "enabled": sum(each.enabled for each in known.values()),
            "all of them": dg.MetadataValue.table(table),
        }
    )


def register_indicators(instance: dg.DagsterInstance, codes: list[str]) -> None:
    """Make these indicators, and no others, known as partitions."""
    there = instance.get_dynamic_partitions(_PARTITIONS)
    instance.add_dynamic_partitions(_PARTITIONS, codes)
    for gone in set(there) - set(codes):
        instance.delete_dynamic_partition(_PARTITIONS, gone)


@dg.asset(
    partitions_def=INDICATOR_PARTITIONS,
    deps=[who_indicators],
    group_name=GROUP,
    kinds={"parquet"},
    owners=OWNERS,
    pool=WHO_POOL,
    check_specs=[
        dg.AssetCheckSpec(
            name, asset="who_observations", description=description, blocking=blocking
        )
        for name, (description, blocking) in CHECKS.items()
    ],
)
def who_observations(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """What WHO has of an indicator: raw pages as they were sent, and a release if its content is new.

    A fetch goes on where an earlier one was ended. A release that a blocking check holds back is not made; the one
    before stays the newest.
    """
    configured, code = settings.load(), context.partition_key
    source = WhoSource(configured)
    try:
        [indicator] = named(configured, [code])
        with about(context, "who_observations", code):
            end = source.extract(indicator)
            state = source.transform(indicator)
    except PermanentError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    release = source.current(code)
    return dg.MaterializeResult(
        metadata={
            "rows fetched": end.rows,
            "pages": end.pages,
            "held back": state.is_held_back,
            "newest release": "(none)" if release is None else release.name,
            **({} if release is None else {"dagster/row_count": release.rows}),
        },
        check_results=[
            check_result(CheckResult(c.passed, f"{code}: {c.description}", c.blocking), name)
            for name, c in state.results().items()
        ],
    )


@dg.multi_asset(
    name="who_tables",
    specs=[
        dg.AssetSpec(
            [GROUP, shape.name],
            deps=[who_observations],
            description=shape.description,
            group_name=GROUP,
            kinds={"postgres"},
            owners=OWNERS,
            metadata={
                "dagster/column_schema": column_schema(shape),
                "dagster/table_name": f"{GROUP}.{shape.name}",
            },
        )
        for shape in SHAPES
    ],
    check_specs=[
        dg.AssetCheckSpec(
            _LOADED_CHECK,
            asset=[GROUP, "releases"],
            description="A release of each enabled indicator is loaded, and none is held back.",
        )
    ],
    pool=WHO_POOL,
)
def who_tables(
    context: dg.AssetExecutionContext, settings: SettingsResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:  # type: ignore[type-arg]
    """Load releases that are in the lake and not in the tables yet, an indicator in one transaction."""
    configured = settings.load()
    source, wanted = WhoSource(configured), named(configured)
    with about(context, "who_tables"), open_postgres(configured) as address:
        loaded = source.load(wanted, address=address)
        for each in loaded:
            for release, rows in each.rows.items():
                context.log.info(f"{each.code}: {rows:,} rows of release {release}")
        for shape in SHAPES:
            facts = describe_table(address, address.schemas.who, shape.name)
            yield dg.MaterializeResult(
                asset_key=[GROUP, shape.name], metadata={"dagster/row_count": facts.rows}
            )
    yield check_result(source.check_loaded(wanted), _LOADED_CHECK, dg.AssetKey([GROUP, "releases"]))


refresh_who = dg.define_asset_job(
    "refresh_who",
    selection=dg.AssetSelection.assets(who_observations, who_tables),
    description="Fetch an indicator of WHO's, make a release of it if it is new, and load it.",
)


@dg.schedule(
    job=refresh_who,
    cron_schedule="40 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def who_refresh(
    context: dg.ScheduleEvaluationContext, settings: SettingsResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """Once a day, a run for each enabled indicator of WHO's that is due by its own schedule; off until it is turned on."""
    configured = settings.load()
    known, source = indicators(configured), WhoSource(configured)
    register_indicators(context.instance, list(known))
    due = [code for code, each in known.items() if source.is_due(each)]
    if not due:
        return dg.SkipReason("no enabled indicator is due")
    day = (context.scheduled_execution_time or datetime.now(UTC)).date().isoformat()
    return [dg.RunRequest(run_key=f"{code} {day}", partition_key=code) for code in due]
