"""`psql` and `db-url`: ways into the database."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from ctg_assets.cli.console import err, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from ctg_assets.postgres.server import OpenedTcp


@with_exit_code
def psql(context: typer.Context) -> None:
    """Open a SQL shell on the database; further arguments go to psql (as in: psql -c 'select 1')."""
    from ctg_assets.postgres.connection import psql_path
    from ctg_assets.postgres.server import open_postgres

    settings = load_settings()
    with open_postgres(settings) as address:
        # Ctrl-C belongs to the shell: it cancels a query there.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            done = subprocess.run(
                # The password goes another way: arguments can be seen by everybody on the machine.
                [psql_path(), address.public_url, *context.args],
                env={
                    **os.environ,
                    **({} if address.password is None else {"PGPASSWORD": address.password}),
                    "PGOPTIONS": f"-c search_path={','.join(address.schemas.searched)}",
                },
                check=False,
            )
        finally:
            signal.signal(signal.SIGINT, before)
    raise typer.Exit(done.returncode)


@with_exit_code
def db_url(
    tcp: Annotated[
        bool | None,
        typer.Option(
            "--tcp/--no-tcp",
            help="Let clients into the embedded server over TCP, by password, or let nobody in any more.",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. 127.0.0.1, the default, is for this machine alone; 0.0.0.0 is for "
            "everybody who can reach it, without encryption."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port to listen on; at first a free one from 5433 on, then the same.",
        ),
    ] = None,
    owner: Annotated[
        bool,
        typer.Option(
            "--owner/--read-only",
            help="Let in the owner of everything, a superuser, or the role of CTG_READER_ROLE, which reads "
            "our tables and writes none.",
        ),
    ] = False,
) -> None:
    """Print the database's URL for other clients, and keep the embedded server up until Ctrl-C.

    Without options the URL is of a private socket, for programs of this user.

    With --tcp it is for any client. Port and password stay until --no-tcp.

    The password is that in CTG_TCP_PASSWORD, or is made up and shown once.

    With CTG_POSTGRES_URL set there is no embedded server: the URL is checked and printed.
    """
    from ctg_assets.postgres.databases import search_path_advice
    from ctg_assets.postgres.server import close_tcp, open_postgres

    if not tcp and (host is not None or port is not None or owner):
        message = "--host, --port and --owner are about --tcp; add it"
        raise typer.BadParameter(message)
    settings = load_settings()
    if tcp:
        _keep_open(settings, host, port, owner=owner)
    elif tcp is not None:
        was_open = close_tcp(settings)
        out.print("TCP is closed again" if was_open else "TCP was not open")
    else:
        with open_postgres(settings) as address:
            print(address.url, flush=True)
            if address.embedded:
                _hold()
            elif statement := search_path_advice(address):
                err.print(f"to find tables without a schema, run once: {statement}", style="dim")


def _keep_open(settings: Settings, host: str | None, port: int | None, *, owner: bool) -> None:
    from ctg_assets.postgres.cluster import SUPERUSER
    from ctg_assets.postgres.server import open_tcp
    from ctg_assets.postgres.tcp import TcpRequest

    role = SUPERUSER if owner else settings.reader_role
    with open_tcp(settings, TcpRequest(role, host, port, settings.tcp_password)) as opened:
        address = opened.address
        print(address.url if opened.is_new else address.public_url, flush=True)
        _explain(opened)
        _hold()


def _explain(opened: OpenedTcp) -> None:
    role = opened.address.user
    if opened.is_new:
        err.print(f"the password of {role} in this URL was made up now and is not shown again")
    err.print(
        f"the password is kept in {opened.file}; libpq's clients (psql, psycopg) take it from there with "
        f"PGPASSFILE={opened.file}",
        style="dim",
    )
    if not opened.access.is_loopback:
        err.print(
            f"port {opened.access.port} is open to other machines, which use this one's name as host; "
            "nothing is encrypted. On a network you do not trust, use --host 127.0.0.1 and a tunnel (ssh -L)",
            style="yellow",
        )


def _hold() -> None:
    err.print("the server stays up while this runs; stop with Ctrl-C", style="dim")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
