"""The Postgres that everything here loads into: a configured one, or one embedded in the data folder."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import conninfo

from ctg_assets.postgres.cluster import POLL_SECONDS
from ctg_assets.postgres.connection import (
    SECRET_KEYWORDS,
    PostgresAddress,
    connect,
    connect_url,
)
from ctg_assets.postgres.embedded import ServerLease, leased, schemas_of
from ctg_assets.postgres.errors import (
    NoWarehouseError,
    ServerSetupError,
    ServerUnavailableError,
    WarehouseError,
)
from ctg_assets.postgres.server_settings import PORT
from ctg_assets.postgres.tcp import (
    EVERYWHERE,
    LOOPBACK,
    TcpAccess,
    TcpRequest,
    access_file,
    opened,
    read_access,
)
from ctg_assets.redaction import keep_secret
from ctg_assets.settings import Settings

# The loader recreates security_invoker views, which came with 15.
OLDEST_EXTERNAL_MAJOR = 15
_ANSWER_SECONDS = 10


@contextmanager
def open_postgres(settings: Settings) -> Iterator[PostgresAddress]:
    """Yield the address of a Postgres that answers, and keep it up until the block ends.

    With `settings.postgres_url` set that server is checked and used. Otherwise the embedded server in
    `<data_dir>/postgres` is started or joined; it stops when the last process using it leaves this
    block or dies (a server left behind by `kill -9` stops with the next process that leaves). Any
    number of threads and processes may be inside at once; a forked child counts as a user until it
    exits. Raises NoWarehouseError when the settings want none, ServerSetupError when a person has to change
    something, else ServerUnavailableError.
    """
    if not settings.has_warehouse:
        message = "there is no database, since CTG_WAREHOUSE=none; unset it to have one in the data folder"
        raise NoWarehouseError(message)
    if settings.postgres_url is not None:
        yield replace(
            _external(settings.postgres_url),
            schemas=schemas_of(settings),
            reader_role=settings.reader_role,
        )
        return
    with leased(ServerLease(settings)) as address:
        yield address


# --- TCP into the embedded server -----------------------------------------------------------------


@dataclass(frozen=True)
class OpenedTcp:
    """What a client needs to connect over TCP.

    `address` has the password, which is `is_new` if it was made up just now. `file` keeps it.
    """

    address: PostgresAddress
    access: TcpAccess
    file: Path
    is_new: bool


@contextmanager
def open_tcp(settings: Settings, request: TcpRequest) -> Iterator[OpenedTcp]:
    """As `open_postgres`, and let a role into the embedded server over TCP, now and whenever it runs.

    Host, port and password stay until others are asked for, or `close_tcp` is called. A server that runs
    and nobody uses is restarted if it has to be. Raises ServerSetupError when the port is taken or the server is
    not embedded, and ServerUnavailableError when others use it and it would have to be restarted.
    """
    is_new = False

    def change(before: TcpAccess | None) -> TcpAccess:
        nonlocal is_new
        access, is_new = opened(before, request)
        return access

    lease = _embedded_lease(settings)
    with leased(lease, change) as address:
        access = read_access(lease.folder)
        if access is None:
            message = "TCP was closed again by another command just now; try again"
            raise ServerUnavailableError(message)
        reached = replace(
            address,
            host=LOOPBACK if access.host == EVERYWHERE else access.host,
            user=request.role,
            password=access.passwords[request.role],
        )
        _wait_for_answer(reached)
        yield OpenedTcp(reached, access, access_file(lease.folder), is_new)


def close_tcp(settings: Settings) -> bool:
    """Let nobody into the embedded server over TCP any more, and end such sessions; whether it was open."""
    lease = _embedded_lease(settings)
    was_open = read_access(lease.folder) is not None
    if was_open:
        with leased(lease, lambda _: None):
            pass
    return was_open


def _embedded_lease(settings: Settings) -> ServerLease:
    if settings.postgres_url is not None:
        message = (
            "CTG_POSTGRES_URL is set, so there is no embedded server to reach over TCP: clients connect to "
            "that server as its administrator lets them. Unset it to use the embedded one."
        )
        raise ServerSetupError(message)
    return ServerLease(settings)


def _wait_for_answer(address: PostgresAddress) -> None:
    """Connect over TCP, again and again until the server has read its new rules."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while True:
        try:
            connect(address).close()
        except WarehouseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return


# --- a configured server --------------------------------------------------------------------------


# What stands between colon and @ is told by nothing, also where libpq takes a part of it for something else.
_ENCODE = "Percent-encode special characters of the password: / is %2F, @ is %40."


def _require_readable(url: str) -> None:
    """Raise ServerSetupError for what is no URL of Postgres, and shows nothing of it that may be a password."""
    scheme = url.partition("://")[0]
    if scheme not in {"postgresql", "postgres"}:
        is_plain = "://" in url and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,30}", scheme)
        found = f"begins with {scheme!r}, which" if is_plain else "is text without a scheme, which"
        message = (
            f"CTG_POSTGRES_URL {found} is not a Postgres URL; write "
            "postgresql://user:password@host:port/database (without a driver such as +psycopg2)"
        )
        raise ServerSetupError(message)
    if url.partition("://")[2].partition("/")[0].count("@") > 1:
        message = f"CTG_POSTGRES_URL has more than one @ before its first /. {_ENCODE}"
        raise ServerSetupError(message)


def _without_values(said: str) -> str:
    """What libpq says of a URL, without what it quotes from it."""
    return re.sub(r'"[^"]*"', '"…"', said).strip()


def _external(url: str) -> PostgresAddress:
    _require_readable(url)
    try:
        keywords = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        message = f"CTG_POSTGRES_URL cannot be read: {_without_values(str(error))}. {_ENCODE}"
        raise ServerSetupError(message) from None
    port = str(keywords.get("port") or PORT)
    if not port.isdigit():
        message = f"the port in CTG_POSTGRES_URL is not a number; correct it. {_ENCODE}"
        raise ServerSetupError(message)
    shown = conninfo.make_conninfo("", **{**keywords, **dict.fromkeys(SECRET_KEYWORDS)})
    own_pieces = {"host", "hostaddr", "port", "user", "password", "dbname", "service", "passfile"}
    with connect_url(url, shown=shown) as connection:
        info = connection.info
        keep_secret(info.password)
        address = PostgresAddress(
            host=info.host,
            port=info.port,
            user=info.user,
            password=info.password or None,
            dbname=info.dbname,
            parameters={k: str(v) for k, v in keywords.items() if k not in own_pieces},
        )
        encoding = info.parameter_status("server_encoding")
        major = info.server_version // 10_000
    if encoding != "UTF8":
        message = (
            f"database {address.dbname!r} at {address.public_url} has encoding {encoding}; the "
            "registry needs UTF8. Create one: CREATE DATABASE ctg ENCODING 'UTF8' TEMPLATE template0"
        )
        raise ServerSetupError(message)
    if major < OLDEST_EXTERNAL_MAJOR:
        message = f"{address.public_url} runs Postgres {major}; {OLDEST_EXTERNAL_MAJOR} or newer is needed"
        raise ServerSetupError(message)
    return address
