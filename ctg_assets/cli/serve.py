"""`serve`: metrics, health, readiness and status over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from ctg_assets.cli.console import err, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.settings import load_settings

PORT = 9187


@with_exit_code
def serve(
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. 127.0.0.1, the default, is for this machine alone; 0.0.0.0 is for "
            "everybody who can reach it: nothing is encrypted, and nobody is asked who he is."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 lets the system choose.")
    ] = PORT,
) -> None:
    """Tell programs how it goes, over HTTP, until Ctrl-C or SIGTERM.

    [bold]/metrics[/] is for Prometheus (docs/monitoring.md lists all): requests, records and loads as counters, and
    the age of the data, tables, feed, runs and disk as they are.

    [bold]/health[/] answers 200 while this service and its database answer, else 503. Old data are not unhealthy:
    a restart would not make them newer.

    [bold]/ready[/] answers 200 while the tables are there, else 503.

    [bold]/status[/] says what [bold]status --json[/] says; all rows are counted for it.

    It runs beside refreshes and Dagster, in a process of its own, and changes nothing. The embedded Postgres
    is started for it and stays up as long as it runs.

    For instance: ctg-assets serve & curl http://127.0.0.1:9187/health

    Exit codes: 0 stopped, 1 cannot listen there, 2 unusable settings.
    """
    from ctg_assets.cli.status import whole_status
    from ctg_assets.feed.service import sink_statuses
    from ctg_assets.orchestration.watching import DagsterWatch
    from ctg_assets.refresh.status import extraction_statuses
    from ctg_assets.serve.app import build_app
    from ctg_assets.serve.database import KeptDatabase
    from ctg_assets.serve.server import run
    from ctg_assets.serve.watch import Watch

    settings = load_settings()

    def tell(url: str) -> None:
        out.print(f"serving {url}/metrics, /health, /ready and /status")
        err.print("stop with Ctrl-C", style="dim")

    with KeptDatabase(settings) as database:
        watch = Watch(
            settings,
            database,
            scheduler=DagsterWatch(settings).read,
            sinks=lambda: sink_statuses(settings, 0),
            walks=extraction_statuses,
            status=lambda: whole_status(settings),
        )
        run(build_app(watch), host=host, port=port, ready=tell)
