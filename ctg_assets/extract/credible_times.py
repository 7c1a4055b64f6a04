"""Which times can be: of imports, of studies, and of what a registry says of its data.

Nobody's clock is taken at its word. Neither the registry's, which may say 2096 for a day, nor ours, which
may be set back by years. Where the two disagree, the dates of the studies and the walks before tell.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl

from ctg_assets.errors import CtgAssetsError
from ctg_assets.extract.extractions import ExtractionPlan, parse_data_timestamp

# The registry went public in February 2000; the oldest of its studies were submitted in September 1999.
REGISTRY_BEGAN = date(1999, 9, 1)

# How far ahead of our clock a time may be: zones differ by 14 hours, and clocks are set wrongly.
CLOCK_TOLERANCE = timedelta(days=1)

# Data of a time ahead of our clock are credible all the same if studies were posted so shortly before,
# or if the walk before was observed so shortly before.
_POSTED_BEFORE = timedelta(days=31)
_WALKED_BEFORE = timedelta(days=3)


class ImpossibleTimeError(CtgAssetsError, ValueError):
    """A time at which nothing can have been observed; the message says why and what to do."""


def why_impossible(at: datetime, now: datetime) -> str | None:
    """Why nothing can have been observed at a time, if so; `now` is our clock's (both aware)."""
    if at.date() < REGISTRY_BEGAN:
        return f"earlier than the registry itself, which began in {REGISTRY_BEGAN:%Y-%m}"
    if at - now > CLOCK_TOLERANCE:
        return f"later than now, which is {spelled(now)} UTC by this machine's clock"
    return None


def require_possible(at: datetime, what: str, now: datetime | None = None) -> datetime:
    """A time (aware) as it is; raises ImpossibleTimeError, which says `what` it was, if it cannot be."""
    reason = why_impossible(at, now or datetime.now(UTC))
    if reason is not None:
        message = f"{what}: {spelled(at)} UTC is {reason}"
        raise ImpossibleTimeError(message)
    return at


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


def parse_time(text: str, *, end_of_day: bool) -> datetime:
    """A time as people type it, in UTC unless it says otherwise; a day is its end or its beginning.

    Raises ValueError for a text that is none.
    """
    try:
        at = datetime.fromisoformat(text)
        if end_of_day and len(text) == len("2024-05-31"):
            at = at.replace(hour=23, minute=59, second=59, microsecond=999_999)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        message = f"{text!r} is no time; write it as 2024-05-31 or 2024-05-31T09:00:00"
        raise ValueError(message) from None


def spelled(at: datetime) -> str:
    """A time (aware) as people read it, in UTC."""
    # Not strftime, which writes years before 1000 with fewer digits than can be read again.
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")
