"""`psql` and `db-url`: ways into the database."""

from __future__ import annotations

import os
import signal
import subprocess

import typer

from ctg_assets.cli.console import err
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.settings import load_settings


@with_exit_code
def psql(context: typer.Context) -> None:
    """Open a SQL shell on the database; further arguments go to psql (as in: psql -c 'select 1')."""
    from ctg_assets.postgres.connection import psql_path
    from ctg_assets.postgres.server import open_postgres

    settings = load_settings()
    with open_postgres(settings) as address:
        schemas = address.schemas
        # Ctrl-C belongs to the shell: it cancels a query there.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            done = subprocess.run(
                [psql_path(), address.url, *context.args],
                env={
                    **os.environ,
                    "PGOPTIONS": f"-c search_path={schemas.marts},{schemas.staging},public",
                },
                check=False,
            )
        finally:
            signal.signal(signal.SIGINT, before)
    raise typer.Exit(done.returncode)


@with_exit_code
def db_url() -> None:
    """Print the database's URL for other clients, and keep the embedded server up until Ctrl-C.

    With CTG_POSTGRES_URL set there is no embedded server: the URL is checked and printed.
    """
    from ctg_assets.postgres.server import open_postgres

    settings = load_settings()
    with open_postgres(settings) as address:
        print(address.url, flush=True)
        if address.embedded:
            err.print("the server stays up while this runs; stop with Ctrl-C", style="dim")
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
