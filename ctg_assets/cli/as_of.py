"""`as-of`: the flat tables, or AACT's, as they stood at an earlier time."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ctg_assets.cli.console import out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.cli.times import utc_time
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings

if TYPE_CHECKING:
    from ctg_assets.load.request import LoadProgress


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
    from ctg_assets.aact.as_of import load_aact_as_of
    from ctg_assets.aact.other_rows import other_rows
    from ctg_assets.extract.credible_times import require_possible
    from ctg_assets.lake import open_lake
    from ctg_assets.load.as_of import load_as_of
    from ctg_assets.postgres.server import open_postgres

    settings = load_settings()
    at = require_possible(utc_time(date, "DATE", end_of_day=True), "DATE")
    lake = open_lake(settings)
    with open_postgres(settings) as address, out.status("reading the history") as live:

        def show(progress: LoadProgress) -> None:
            of_total = "" if progress.total is None else f" of {progress.total:,}"
            live.update(f"{progress.phase}: {progress.done:,}{of_total}")

        if like is Like.CTGOV:
            others = other_rows(lake, settings, at)
            rows = load_aact_as_of(address, lake, at, schema, show, others=others).rows
        else:
            rows = load_as_of(address, lake, at, schema, show).rows
    out.print(
        f"{rows['studies']:,} studies as of {at:%Y-%m-%d %H:%M:%S} UTC in "
        f"{len(rows)} tables of schema {printable(schema)}, "
        f"{sum(rows.values()):,} rows"
    )
