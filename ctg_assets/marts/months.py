"""Past months of the monthly snapshot, written again from the history."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import polars as pl

from ctg_assets.lake import Lake
from ctg_assets.load.as_of import current_at, rows_current_at
from ctg_assets.load.row_sources import study_shapes
from ctg_assets.marts.compiled_sql import ModelSql, compile_models
from ctg_assets.marts.past_months import (
    TEMPORARY,
    MonthlyModels,
    MonthlyTable,
    month_of_next_build,
    past_months,
    remove_days,
)
from ctg_assets.marts.selection import selected_marts
from ctg_assets.model.nct_ids import are_nct_ids
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import Settings, SettingsError

_FACT = "fct_study_snapshot_monthly"
_MONTHS = "dim_snapshot_month"
# What the fact is made from: a row a study, which depends on nothing but the study's content.
_STUDIES = "dim_study"
_VIEW = "view"


@dataclass(frozen=True)
class RebuiltMonth:
    """A month (its first day) that was written again: as of when, and its rows before and now."""

    month: date
    observed_at: datetime
    rows_before: int
    rows: int


def require_monthly_marts(settings: Settings) -> None:
    """Raise SettingsError unless the monthly snapshot is one of the marts that are built."""
    if _FACT not in selected_marts(settings):
        message = f"{_FACT} is not built with CTG_MARTS={settings.marts}; add it there, and refresh"
        raise SettingsError(message)


def rebuild_months(
    address: PostgresAddress,
    lake: Lake,
    *,
    first: date | None = None,
    last: date | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[RebuiltMonth]:
    """Write past months of the monthly snapshot as they were at the last observation in each.

    The months are those from `first` to `last` (any day of each) in which something was observed, and
    that are over: the newest one, and the one that dbt is about to write, are dbt's. Unless `first`
    says otherwise they begin where the history began to be kept: what was imported of earlier times may
    be few studies. All other rows of the fact are left alone. Each month is replaced in one transaction.
    `progress` is called with the contents read and their total.

    Raises PermanentWarehouseError when the marts are not built, DbtError, and what a load raises.
    """
    months = observed_months(_observations(lake), first, last)
    if not months:
        return []
    compiled = compile_models(address, [_FACT, _MONTHS])
    monthly = _monthly_models(compiled)
    dbts = month_of_next_build(address, monthly, compiled.models[_FACT].sql)
    months = {month: at for month, at in months.items() if month != dbts}
    periods = lake.history.periods()
    identified = periods.filter(are_nct_ids(pl.col("nct_id")))
    shapes = [shape for shape in study_shapes() if shape.name in compiled.sources]
    rebuilt = []
    with past_months(address, monthly, shapes) as writer:
        names = [shape.name for shape in shapes]
        for rows in rows_current_at(lake, identified, [*months.values()], names, progress):
            writer.add(rows)
        for month, observed_at in months.items():
            contents = current_at(identified, observed_at).select("nct_id", "content_hash")
            replaced = writer.replace(month, observed_at, contents.to_arrow())
            rebuilt.append(RebuiltMonth(month, observed_at, replaced.rows_before, replaced.rows))
    return rebuilt


def remove_months(
    address: PostgresAddress, lake: Lake, undone: Collection[datetime]
) -> dict[date, int]:
    """Remove the months of which an undo took back all that was observed; returns their studies.

    `undone` are the times of what was taken back. A month whose rows are of another time stays: that is
    history which exists nowhere else.
    """
    observed = {_month(at) for at in _observations(lake)}
    gone = {at.astimezone(UTC).date() for at in undone if _month(at) not in observed}
    return remove_days(address, facts=_FACT, months=_MONTHS, days=gone) if gone else {}


def observed_months(
    observations: Sequence[datetime], first: date | None = None, last: date | None = None
) -> dict[date, datetime]:
    """The last observation in each month that is over, by the month's first day, oldest first.

    `observations` are the times (aware) of the history's entries, in their order.
    """
    ends = {_month(at): at for at in sorted(observations)}
    if not ends:
        return {}
    begin = _month(observations[0]) if first is None else first.replace(day=1)
    newest = max(ends)
    return {
        month: observed_at
        for month, observed_at in ends.items()
        if begin <= month < newest and (last is None or month <= last)
    }


def _observations(lake: Lake) -> list[datetime]:
    return [entry.observed_at for entry in lake.history.entries()]


def _month(at: datetime) -> date:
    return at.astimezone(UTC).date().replace(day=1)


def _monthly_models(compiled: ModelSql) -> MonthlyModels:
    def table(name: str) -> MonthlyTable:
        model = compiled.models[name]
        return MonthlyTable(
            model.name, model.relation, model.columns, compiled.reading(model.sql, TEMPORARY)
        )

    studies = compiled.models[_STUDIES]
    return MonthlyModels(
        fact=table(_FACT),
        months=table(_MONTHS),
        views={
            model.name: compiled.reading(model.sql, TEMPORARY)
            for model in compiled.models.values()
            if model.materialized == _VIEW
        },
        study_name=studies.name,
        study_sql=compiled.reading(studies.sql, TEMPORARY),
    )
