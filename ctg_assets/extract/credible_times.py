"""Whose clock counts for what was observed: the registry's, or ours.

Where the two disagree, the dates of the studies and the walks before tell.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.times import CLOCK_TOLERANCE, REGISTRY_BEGAN, parse_data_timestamp, why_impossible

# Data of a time ahead of our clock are credible all the same if studies were posted so shortly before,
# or if the walk before was observed so shortly before.
_POSTED_BEFORE = timedelta(days=31)
_WALKED_BEFORE = timedelta(days=3)


def is_possible_date(column: str, now: datetime) -> pl.Expr:
    """Whether a study can have been posted on the date in a column; NULL for NULL."""
    return pl.col(column).is_between(REGISTRY_BEGAN, (now + CLOCK_TOLERANCE).date())


def observed_at(plan: ExtractionPlan, last: datetime | None, posted: pl.Series) -> datetime:
    """The time that a walk counts for, before walks are put in order: the registry's, if credible.

    Otherwise that of our clock when the walk was planned. `last` is when the walk before was observed,
    `posted` the last update dates of the studies seen.
    """
    said = parse_data_timestamp(plan.data_timestamp)
    reason = why_impossible(said, plan.planned_at)
    if reason is None or (
        said.date() >= REGISTRY_BEGAN and _is_supported(said, plan, last, posted)
    ):
        return said
    return plan.planned_at.astimezone(UTC)


def _is_supported(
    said: datetime, plan: ExtractionPlan, last: datetime | None, posted: pl.Series
) -> bool:
    """Whether a time ahead of our clock is credible nevertheless: then it is our clock that is wrong."""
    if plan.planned_at.date() < REGISTRY_BEGAN:
        return True
    if last is not None and said - last <= _WALKED_BEFORE:
        return True
    days_before = (pl.lit(said.date()) - posted).dt.total_days()
    shortly = days_before.is_between(-CLOCK_TOLERANCE.days, _POSTED_BEFORE.days)
    return bool(pl.select(shortly.any()).item())
