"""`import-file`: studies come from a file instead of the registry."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ctg_assets.cli.console import err, labelled, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.cli.times import utc_time
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings

if TYPE_CHECKING:
    from ctg_assets.extract.shards import ShardInfo

# In place of a time: each study counts as observed on its own last update date.
_EACH_ON_ITS_OWN_DAY = "last-update"


@with_exit_code
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON array (the site's bulk download), JSON Lines, either compressed (gzip, bz2, xz, "
            "zstd), or a zip of JSON files."
        ),
    ],
    observed_at: Annotated[
        str | None,
        typer.Option(
            help="When the registry had these contents (UTC), as 2024-05-31 or 2024-05-31T09:00:00; "
            "the file's time of modification if not given. [bold]last-update[/]: each study on its own "
            "last update date.",
        ),
    ] = None,
) -> None:
    """Bring in a file of studies instead of walking the API, and build everything from it.

    Older contents take their place in the history of their studies; what is current stays. Studies
    that are not in the file stay as well: only walks of the registry tell that one is gone. Files of
    many gigabytes are streamed. A file that is broken, or most of which is no study, changes nothing.
    """
    from ctg_assets.cli.stages import REFRESH_LOCK, run_until_idle
    from ctg_assets.counters_file import counters_of
    from ctg_assets.extract import import_file as extract
    from ctg_assets.lake import open_lake
    from ctg_assets.metrics import RECORDS
    from ctg_assets.refresh.planner import next_build_step
    from ctg_assets.storage.data_folder import file_lock

    settings = load_settings()
    by_study = observed_at == _EACH_ON_ITS_OWN_DAY
    at = None if observed_at is None or by_study else utc_time(observed_at, "--observed-at")
    lake = open_lake(settings)
    counters = counters_of(settings)
    studies = 0
    warnings: list[str] = []

    def show(shard: ShardInfo) -> None:
        nonlocal studies
        studies += shard.studies
        counters.add(RECORDS.by(shard.studies, stage="extract"))
        live.update(Text(f"reading {printable(file)}: {studies:,} studies"))

    with file_lock(settings, REFRESH_LOCK):
        with out.status(Text(f"reading {printable(file)}")) as live:
            extract.import_file(
                lake,
                file,
                page_size=settings.page_size,
                data_timestamp=at,
                dated_by_studies=by_study,
                progress=show,
                warn=warnings.append,
            )
        out.print(f"{studies:,} records from {printable(file)}")
        for warning in warnings:
            err.print(labelled("note", "yellow", f": {warning}"))
        run_until_idle(settings, partial(next_build_step, settings, lake))
