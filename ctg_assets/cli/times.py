"""Reading the times and months that people type."""

from __future__ import annotations

from datetime import UTC, date, datetime

import typer


def utc_time(text: str, name: str, *, end_of_day: bool = False) -> datetime:
    """A time that somebody typed, in UTC; a day is its beginning or its end.

    Raises typer.BadParameter for a text that is no time.
    """
    from ctg_assets.times import parse_time

    try:
        return parse_time(text, end_of_day=end_of_day)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def first_of_month(text: str, name: str) -> date:
    """The first day of a month that somebody typed as `2024-05`.

    Raises typer.BadParameter for a text that is no month, ImpossibleTimeError for a month in which nothing
    can have been observed.
    """
    from ctg_assets.times import require_possible

    try:
        month = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        message = f"{text!r} is no month; write it as 2024-05"
        raise typer.BadParameter(message, param_hint=name) from None
    return require_possible(month, name).date()
