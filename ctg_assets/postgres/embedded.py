"""The server embedded in the data folder: sharing it between processes, starting it for the first, stopping it after the last.

Layout of `<data_dir>/postgres`:
    data/          the cluster, owned by the user the server runs as
    control.lock   held (flock) by the one process that is starting or stopping the server
    holders.lock   held shared by everyone who uses the server. The kernel drops the lock of a dead
                   process, so nobody has to be pruned; whoever gets it for itself was the last.
    start.log      what the last start said before the server's own log began
    tcp.pgpass     who is let in over TCP, where, and with what password; there only when somebody asked for it
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
from ctg_assets.postgres.connection import PostgresAddress, connect, postgres_errors
from ctg_assets.postgres.databases import prepare_database
from ctg_assets.postgres.errors import ServerSetupError, ServerUnavailableError
from ctg_assets.postgres.reader_role import ensure_reader, grant_reading_of_all
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.postgres.server_settings import write_rules
from ctg_assets.postgres.tcp import (
    TcpAccess,
    cannot_listen,
    read_access,
    require_free,
    rules,
    set_passwords,
    withdraw_passwords,
    write_access,
)
from ctg_assets.settings import Settings

logger = logging.getLogger(__name__)

_LOCK_SECONDS = 660
_CLUSTER = "data"

ChangeAccess = Callable[[TcpAccess | None], TcpAccess | None]
"""Makes of the access over TCP that is open the one that shall be."""


def schemas_of(settings: Settings) -> Schemas:
    """What the settings call our schemas."""
    return Schemas(
        staging=settings.staging_schema,
        staging_views=settings.staging_views_schema,
        intermediate=settings.intermediate_schema,
        marts=settings.marts_schema,
        ctgov=settings.ctgov_schema if settings.aact else None,
        ctgov_2023=settings.ctgov_2023_schema if settings.aact else None,
        who=settings.who_schema,
        meta=settings.meta_schema,
    )


@contextmanager
def leased(lease: ServerLease, change: ChangeAccess | None = None) -> Iterator[PostgresAddress]:
    """Hold a share until the block ends; yields the server's address."""
    address = lease.acquire(change)
    # A caller that never leaves the block (a generator not closed, sys.exit in a thread) still
    # must not leave the server behind.
    atexit.register(lease.release)
    try:
        yield address
    finally:
        atexit.unregister(lease.release)
        lease.release()


def is_running(settings: Settings) -> bool:
    """Whether the server of a data folder runs, whoever uses it and whether or not it answers."""
    return read_postmaster(_folder(settings) / _CLUSTER) is not None


def _folder(settings: Settings) -> Path:
    return settings.data_dir.resolve() / "postgres"


class ServerLease:
    """One user's share in the embedded server of one folder; not to be used by two threads."""

    def __init__(self, settings: Settings) -> None:
        """Of the server in the data folder of the settings; nothing is taken yet."""
        self.folder = _folder(settings)
        self._settings = settings
        self._cluster = self.folder / _CLUSTER
        self._descriptor: int | None = None

    def acquire(self, change: ChangeAccess | None = None) -> PostgresAddress:
        """Take a share and start the server unless it runs; `change` is what TCP access becomes."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / "control.lock"):
                create_cluster(self._cluster)
                alone = not self._others_hold()
                before = access = read_access(self.folder)
                if change is not None:
                    access = self._change_access(change(before), alone=alone)
                postmaster, is_started = self._running_postmaster()
                if change is not None and access is not None:
                    self._require_listening(postmaster, before, access)
                address = PostgresAddress(
                    host=postmaster.socket_folder,
                    port=postmaster.port,
                    user=SUPERUSER,
                    dbname="postgres",
                    embedded=True,
                    schemas=schemas_of(self._settings),
                    reader_role=self._settings.reader_role,
                )
                self._descriptor = _open_lock(self.folder / "holders.lock")
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)
                address = prepare_database(address, self._settings.database, alone=alone)
                if change is not None or is_started:
                    self._let_in(address, before, access)
        except OSError as error:
            self.release()
            message = (
                f"cannot keep Postgres in {self.folder}: {error}. Make that folder writable for "
                f"{user_name(os.geteuid())}, or set CTG_DATA_DIR to one that is, or CTG_POSTGRES_URL."
            )
            raise ServerSetupError(message) from error
        except BaseException:
            self.release()
            raise
        return address

    def _change_access(self, access: TcpAccess | None, *, alone: bool) -> TcpAccess | None:
        """Keep the access for the next start, and see to it that this comes if it is needed."""
        running = read_postmaster(self._cluster)
        host, port = ("", 0) if running is None else (running.listen_address, running.port)
        fits = not host if access is None else access.listens_as(host, port)
        if not fits and running is not None:
            if alone:
                stop(running)
            elif access is not None:
                message = (
                    f"Postgres has to be restarted to listen on {access.host} port {access.port}, and other "
                    "ctg-assets processes use it (refresh, dev, psql, db-url). Nothing was changed. End "
                    "them, or wait, then try again."
                )
                raise ServerUnavailableError(message)
        if not fits and access is not None:
            require_free(access)
        if access is not None or running is None or alone:
            write_access(self.folder, access)
        return access

    def _require_listening(
        self, postmaster: Postmaster, before: TcpAccess | None, access: TcpAccess
    ) -> None:
        """Go back to the access of before, and say so, when the port was taken just before the start."""
        if not access.listens_as(postmaster.listen_address, postmaster.port):
            write_access(self.folder, before)
            raise cannot_listen(access)

    def _let_in(
        self, address: PostgresAddress, before: TcpAccess | None, access: TcpAccess | None
    ) -> None:
        """Make passwords and rules of the server what the access says."""
        if access is None and before is None:
            return
        with connect(address) as connection, postgres_errors("changing who is let in over TCP"):
            if access is not None:
                ensure_reader(connection)
                set_passwords(connection, access)
                grant_reading_of_all(connection)
            elif before is not None:
                withdraw_passwords(connection, before)
            # A server that others use listens until it stops.
            write_rules(self._cluster, rules(access, refuse=True))
            connection.execute("SELECT pg_reload_conf()")
        if access is None:
            # Last, so that who is interrupted finds it open still and can close it again.
            write_access(self.folder, None)

    def release(self) -> None:
        """Give the share back; the last one stops the server. Safe to call twice."""
        if self._descriptor is None:
            return
        # Closing, not unlocking: a forked child shares this lock and may still use the server.
        os.close(self._descriptor)
        self._descriptor = None
        if not self.folder.exists():
            # Somebody removed the data folder; the server notices within a minute and stops.
            logger.warning("%s was removed while its Postgres was in use", self.folder)
            return
        with _locked(self.folder / "control.lock"):
            if not self._others_hold():
                postmaster = read_postmaster(self._cluster)
                if postmaster is not None:
                    stop(postmaster)

    def _others_hold(self) -> bool:
        descriptor = _open_lock(self.folder / "holders.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _running_postmaster(self) -> tuple[Postmaster, bool]:
        """The server, and whether it was started just now."""
        deadline = time.monotonic() + START_SECONDS
        while (found := read_postmaster(self._cluster)) is not None:
            if found.status == "ready":
                if found.socket.exists():
                    return found, False
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
        return start(self._cluster), True

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
