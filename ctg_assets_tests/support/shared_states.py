"""What is expensive to make, made once for the whole run: whichever worker needs it first makes it for all.

The folder of the run is made by the process that starts the workers, which removes it, and what was left running in it.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from psycopg import sql

from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.server import open_postgres
from ctg_assets_tests.support.postgres import settings_for

_VARIABLE = "TESTS_SHARED_FOLDER"
_MADE = "made"

Made = TypeVar("Made")


def run_folder() -> Path:
    """The folder that all workers of this run share. The server lies in it, which root runs as somebody else."""
    return Path(os.environ[_VARIABLE])


def begin_run() -> Callable[[], None]:
    """Make the folder; returns what removes it when all workers are gone."""
    folder = Path(tempfile.mkdtemp(prefix="ctg test "))
    os.environ[_VARIABLE] = str(folder)

    def end_run() -> None:
        # A worker that was killed has left the server running; who leaves last stops it.
        if (folder / "postgres" / "data" / "postmaster.pid").exists():
            with open_postgres(settings_for(folder)):
                pass
        shutil.rmtree(folder, ignore_errors=True)

    return end_run


def made_once(name: str, make: Callable[[Path], Made]) -> Made:
    """What `make` has returned when it was called for the first time in this run, with a folder to write into.

    Whoever comes meanwhile waits. What a killed worker has left half done is made anew.
    """
    folder = run_folder() / name
    with (run_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _MADE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            pickled = pickle.dumps(make(folder))
            unfinished = folder / f"{_MADE}.unfinished"
            unfinished.write_bytes(pickled)
            unfinished.replace(folder / _MADE)
    made: Made = pickle.loads((folder / _MADE).read_bytes())
    return made


def made_database(
    server: PostgresAddress,
    name: str,
    make: Callable[[PostgresAddress, Path], Made],
    template: str = "template1",
) -> Made:
    """What `make` has returned after filling a new database of this name, to be read or copied, not changed.

    It starts as a copy of `template`. One that is to be copied by others must not be connected to meanwhile.
    """
    own = server.database(name)

    def fill(folder: Path) -> Made:
        copy_database(server, name, template)
        return make(own, folder)

    return made_once(name, fill)


def copy_database(server: PostgresAddress, name: str, template: str) -> None:
    """Make a database as a copy of another, in the place of one that may be there."""
    new, old = sql.Identifier(name), sql.Identifier(template)
    with connect(server) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(new))
        # By files, since they lie in memory: the other way, through the log, computes twice as long.
        copied = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(new, old)
        connection.execute(copied)
