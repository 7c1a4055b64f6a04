"""The Postgres that everything here loads into: a configured one, or one embedded in the data folder.

Layout of `<data_dir>/postgres`:
    data/          the cluster, owned by the user the server runs as
    control.lock   held (flock) by the one process that is starting or stopping the server
    holders.lock   held shared by everyone who uses the server. The kernel drops the lock of a dead
                   process, so nobody has to be pruned; whoever gets it file_lock was the last.
    start.log      what the last start said before the server's own log began
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import conninfo, sql

from ctg_assets.postgres.cluster import (
    POLL_SECONDS,
    START_SECONDS,
    SUPERUSER,
    Postmaster,
    create_cluster,
    read_postmaster,
    start,
    stop,
    user_name,
)
from ctg_assets.postgres.connection import (
    PostgresAddress,
    connect,
    connect_url,
    postgres_errors,
)
from ctg_assets.postgres.errors import ServerSetupError, ServerUnavailableError
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.postgres.server_settings import PORT
from ctg_assets.settings import Settings

logger = logging.getLogger(__name__)

DATABASE = "ctg"
# The loader recreates security_invoker views, which came with 15.
OLDEST_EXTERNAL_MAJOR = 15
_LOCK_SECONDS = 660


@contextmanager
def open_postgres(settings: Settings) -> Iterator[PostgresAddress]:
    """Yield the address of a Postgres that answers, and keep it up until the block ends.

    With `settings.postgres_url` set that server is checked and used. Otherwise the embedded server in
    `<data_dir>/postgres` is started or joined; it stops when the last process using it leaves this
    block or dies (a server left behind by `kill -9` stops with the next process that leaves). Any
    number of threads and processes may be inside at once; a forked child counts as a user until it
    exits. Raises ServerSetupError when a person has to change something, else
    ServerUnavailableError.
    """
    schemas = Schemas(
        staging=settings.staging_schema,
        staging_views=settings.staging_views_schema,
        intermediate=settings.intermediate_schema,
        marts=settings.marts_schema,
        meta=settings.meta_schema,
    )
    if settings.postgres_url is not None:
        yield replace(_external(settings.postgres_url), schemas=schemas)
        return
    hold = _ServerLease(settings.data_dir.resolve() / "postgres")
    address = replace(hold.acquire(), schemas=schemas)
    # A caller that never leaves the block (a generator not closed, sys.exit in a thread) still
    # must not leave the server behind.
    atexit.register(hold.release)
    try:
        yield address
    finally:
        atexit.unregister(hold.release)
        hold.release()


# --- a configured server --------------------------------------------------------------------------


def _external(url: str) -> PostgresAddress:
    scheme = url.partition("://")[0]
    if scheme not in {"postgresql", "postgres"}:
        message = (
            f"CTG_POSTGRES_URL begins with {scheme.split(':')[0]!r}, which is not a Postgres URL; write "
            "postgresql://user:password@host:port/database (without a driver such as +psycopg2)"
        )
        raise ServerSetupError(message)
    try:
        keywords = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        message = f"CTG_POSTGRES_URL cannot be read: {error}. Percent-encode special characters."
        raise ServerSetupError(message) from error
    port = str(keywords.get("port") or PORT)
    if not port.isdigit():
        message = f"the port {port!r} is not a number; correct CTG_POSTGRES_URL"
        raise ServerSetupError(message)
    shown = conninfo.make_conninfo("", **{**keywords, "password": None})
    own_pieces = {"host", "hostaddr", "port", "user", "password", "dbname", "service", "passfile"}
    with connect_url(url, shown=shown) as connection:
        info = connection.info
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


# --- holding the embedded server ------------------------------------------------------------------


class _ServerLease:
    """One user's share in the embedded server of one folder; not to be used by two threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cluster = folder / "data"
        self._descriptor: int | None = None

    def acquire(self) -> PostgresAddress:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _locked(self._folder / "control.lock"):
                create_cluster(self._cluster)
                postmaster = self._running_postmaster()
                address = PostgresAddress(
                    host=postmaster.socket_folder,
                    port=PORT,
                    user=SUPERUSER,
                    dbname=DATABASE,
                    embedded=True,
                )
                self._descriptor = _open_lock(self._folder / "holders.lock")
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)
                _create_database(address)
        except OSError as error:
            self.release()
            message = (
                f"cannot keep Postgres in {self._folder}: {error}. Make that folder writable for "
                f"{user_name(os.geteuid())}, or set CTG_DATA_DIR to one that is, or CTG_POSTGRES_URL."
            )
            raise ServerSetupError(message) from error
        except BaseException:
            self.release()
            raise
        return address

    def release(self) -> None:
        """Give the share back; the last one stops the server. Safe to call twice."""
        if self._descriptor is None:
            return
        # Closing, not unlocking: a forked child shares this lock and may still use the server.
        os.close(self._descriptor)
        self._descriptor = None
        if not self._folder.exists():
            # Somebody removed the data folder; the server notices within a minute and stops.
            logger.warning("%s was removed while its Postgres was in use", self._folder)
            return
        with _locked(self._folder / "control.lock"):
            if not self._others_hold():
                postmaster = read_postmaster(self._cluster)
                if postmaster is not None:
                    stop(postmaster)

    def _others_hold(self) -> bool:
        descriptor = _open_lock(self._folder / "holders.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _running_postmaster(self) -> Postmaster:
        deadline = time.monotonic() + START_SECONDS
        while (found := read_postmaster(self._cluster)) is not None:
            if found.status == "ready":
                if found.socket.exists():
                    return found
                # A cleaner of temporary files took the socket; nobody can reach the server any more.
                if self._others_hold():
                    message = (
                        f"the socket {found.socket} of the running Postgres (pid {found.pid}) was "
                        "removed. End the other ctg-assets processes, then try again."
                    )
                    raise ServerUnavailableError(message)
                stop(found)
            elif time.monotonic() > deadline:
                message = (
                    f"Postgres (pid {found.pid}) stays in state {found.status!r}; see {self._log()}"
                )
                raise ServerUnavailableError(message)
            # Whoever started or stopped it was killed half way; it gets there by itself.
            time.sleep(POLL_SECONDS)
        return start(self._cluster)

    def _log(self) -> Path:
        return self._cluster / "log"


def _open_lock(path: Path) -> int:
    # Reading is enough for flock, so that another user's file can be locked as well.
    return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _open_lock(path)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    message = (
                        f"another process has been starting or stopping Postgres too long: {path}"
                    )
                    raise ServerUnavailableError(message) from None
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _create_database(address: PostgresAddress) -> None:
    with (
        connect(address.database("postgres")) as connection,
        postgres_errors("creating a database"),
    ):
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [address.dbname])
        if known.fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(address.dbname)))
