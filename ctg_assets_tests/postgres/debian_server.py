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

import pytest

from ctg_assets.postgres.connection import PostgresAddress

_PROGRAMS = Path("/usr/lib/postgresql")
_OLDEST_MAJOR = 15
# Debian's package makes this user; Postgres refuses to run as root.
_ROOT_STAND_IN = "postgres"


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


@contextlib.contextmanager
def debian_server() -> Iterator[PostgresAddress]:
    """The address of a running server's first database, for its superuser."""
    programs()
    identity = _identity()
    # Short, for the socket's path may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ctg-pg-"))
    try:
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        cluster = str(folder / "data")
        run("initdb", "-D", cluster, "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "start", "-w", "-D", cluster, "-l", str(folder / "log"), "-o", options)
        try:
            yield PostgresAddress(str(folder), 5432, "owner", "postgres")
        finally:
            run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", cluster)
    finally:
        shutil.rmtree(folder)
