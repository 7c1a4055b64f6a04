"""A Postgres of the tests' own as Debian packages it, where we are a role without special rights."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from ctg_assets.postgres.cluster import read_postmaster
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.support.postgres import kill_server

_PROGRAMS = Path("/usr/lib/postgresql")
_OLDEST_MAJOR = 15
# Debian's package makes this user; Postgres refuses to run as root.
_ROOT_STAND_IN = "postgres"

LOOPBACK = "127.0.0.1"


def programs() -> Path:
    """The folder of the newest server's programs; skips the test where there is none."""
    majors = sorted(
        (int(path.parents[1].name), path.parent) for path in _PROGRAMS.glob("[0-9]*/bin/initdb")
    )
    if not majors or majors[-1][0] < _OLDEST_MAJOR:
        pytest.skip(
            f"no Postgres server {_OLDEST_MAJOR} or newer below {_PROGRAMS} (Debian: apt-get install "
            "postgresql)"
        )
    return majors[-1][1]


def _identity() -> Mapping[str, Any]:
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam(_ROOT_STAND_IN)
    except KeyError:
        pytest.skip(f"root cannot run Postgres, and there is no user {_ROOT_STAND_IN}")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def run(program: str, *arguments: str) -> None:
    """Run a program of the server's to its end."""
    subprocess.run(
        [programs() / program, *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        # A file's descriptor: the server inherits it, and would keep a pipe open.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        **_identity(),
    )


class DebianServer:
    """A server that can be killed and started again."""

    def __init__(self, folder: Path, port: int | None, host: str) -> None:
        """Make a cluster in an empty folder, and start it; for `port` and `host` see `running_server`."""
        self._folder = folder
        self._cluster = folder / "data"
        self._listen = f"-p {port} -c listen_addresses={host}" if port else "-c listen_addresses=''"
        self.address = PostgresAddress(
            host if port else str(folder), port or 5432, "owner", "postgres"
        )
        run(
            "initdb",
            "-D",
            str(self._cluster),
            "-U",
            "owner",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        )
        if host != LOOPBACK:
            access = "local all all trust\nhost all all samenet trust\n"
            (self._cluster / "pg_hba.conf").write_text(access)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-k {self._folder} {self._listen} -c fsync=off"
        log = str(self._folder / "log")
        run("pg_ctl", "start", "-w", "-D", str(self._cluster), "-l", log, "-o", options)

    def kill(self) -> None:
        """`kill -9` all its processes."""
        postmaster = read_postmaster(self._cluster)
        assert postmaster is not None
        server = psutil.Process(postmaster.pid)
        everyone = [server, *server.children()]
        kill_server(self._cluster)
        # One that is dying holds what the next one needs.
        wait_until("all are dead", lambda: all(map(_is_dead, everyone)))
        # A dead process that stays, or another with its number, would pass for the server that these name.
        (self._cluster / "postmaster.pid").unlink()
        (self._folder / f".s.PGSQL.{self.address.port}.lock").unlink()

    def stop(self) -> None:
        """End it, if it runs."""
        if (self._cluster / "postmaster.pid").exists():
            run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._cluster))


def _is_dead(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def running_server(port: int | None = None, host: str = LOOPBACK) -> Iterator[DebianServer]:
    """A server; it listens on this port of an address, else on a socket in its folder alone.

    On an address other than loopback everybody in its network may come in.
    """
    programs()
    identity = _identity()
    # Short, for the socket's path may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ctg-pg-"))
    try:
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        server = DebianServer(folder, port, host)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def debian_server() -> Iterator[PostgresAddress]:
    """The address of a running server's first database, for its superuser."""
    with running_server() as server:
        yield server.address
