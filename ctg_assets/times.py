"""Times, as the registry writes them, as people type and read them, and which of them can be.

Nobody's clock is taken at its word. Neither the registry's, which may say 2096 for a day, nor ours, which
may be set back by years; `extract/credible_times.py` says which of the two counts.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from ctg_assets.errors import CtgAssetsError

# The registry went public in February 2000; the oldest of its studies were submitted in September 1999.
REGISTRY_BEGAN = date(1999, 9, 1)

# How far ahead of our clock a time may be: zones differ by 14 hours, and clocks are set wrongly.
CLOCK_TOLERANCE = timedelta(days=1)


class ImpossibleTimeError(CtgAssetsError, ValueError):
    """A time at which nothing can have been observed; the message says why and what to do."""


def parse_data_timestamp(text: str) -> datetime:
    """The registry's data timestamp (ISO 8601; UTC by its specification, without saying so), aware.

    Raises ValueError for anything else.
    """
    timestamp = datetime.fromisoformat(text)
    return timestamp.astimezone(UTC) if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


def format_data_timestamp(timestamp: datetime) -> str:
    """A time (aware) as the registry writes its data timestamps: UTC, to the second, without a zone."""
    return timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")


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


def format_time(at: datetime) -> str:
    """A time (aware) as people read it, in UTC."""
    # Not strftime, which writes years before 1000 with fewer digits than can be read again.
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


def why_impossible(at: datetime, now: datetime) -> str | None:
    """Why nothing can have been observed at a time, if so; `now` is our clock's (both aware)."""
    if at.date() < REGISTRY_BEGAN:
        return f"earlier than the registry itself, which began in {REGISTRY_BEGAN:%Y-%m}"
    if at - now > CLOCK_TOLERANCE:
        return f"later than now, which is {format_time(now)} UTC by this machine's clock"
    return None


def require_possible(at: datetime, what: str, now: datetime | None = None) -> datetime:
    """A time (aware) as it is; raises ImpossibleTimeError, which says `what` it was, if it cannot be."""
    reason = why_impossible(at, now or datetime.now(UTC))
    if reason is not None:
        message = f"{what}: {format_time(at)} UTC is {reason}"
        raise ImpossibleTimeError(message)
    return at
