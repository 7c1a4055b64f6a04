"""`as-of`: the flat tables, or AACT's, as they stood at an earlier time."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ctg_assets.cli.console import out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.cli.times import utc_time
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings


class Like(StrEnum):
    """Which tables are made."""

    STAGING = "staging"
    CTGOV = "ctgov"


@with_exit_code
def as_of(
    date: Annotated[
        str,
        typer.Argument(
            help="A day (its end, UTC), as 2024-05-31, or a time, as 2024-05-31T09:00:00."
        ),
    ],
    schema: Annotated[
        str,
        typer.Option(
            help="The Postgres schema to fill; what an earlier as-of put there is replaced."
        ),
    ],
    like: Annotated[
        Like, typer.Option(help="Which tables: the flat ones of staging, or AACT's as in ctgov.")
    ] = Like.STAGING,
) -> None:
    """Load the flat tables, or AACT's, as they stood at an observed time into a schema of their own.

    Takes every study with the content that it had then; studies that were removed since are there
    again, and those that were not known are not. The live tables are not touched.
    """
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh.as_of import tables_as_of
    from ctg_assets.times import require_possible

    settings = load_settings()
    at = require_possible(utc_time(date, "DATE", end_of_day=True), "DATE")
    with out.status("reading the history") as live:
        rows = tables_as_of(
            settings,
            open_lake(settings),
            at,
            schema,
            lambda progress: live.update(str(progress)),
            like_aact=like is Like.CTGOV,
        )
    out.print(
        f"{rows['studies']:,} studies as of {at:%Y-%m-%d %H:%M:%S} UTC in "
        f"{len(rows)} tables of schema {printable(schema)}, "
        f"{sum(rows.values()):,} rows"
    )
