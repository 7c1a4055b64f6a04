"""The commands `ctg-assets`, `dagster` and `dbt` as forks of a process that has everything imported.

There is one such process for all workers of a test run; importing takes it seven seconds.
"""

from __future__ import annotations

import atexit
import shlex
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

from filelock import FileLock

from ctg_assets_tests.support import asking, forking
from ctg_assets_tests.support.shared_states import run_folder

# Beside the commands: `dying.py` of the tests of Dagster, what `python -c` runs, Dagster's server of a code location.
_PROGRAMS = (
    "ctg-assets",
    "dagster",
    "dagster-daemon",
    "dbt",
    "dying",
    "code",
    "code-server",
    "worker",
)


@cache
def forked_commands() -> Path:
    """A folder to put on PATH, with programs that do what those of the same name do, sooner.

    The process that they are forked from is started by the first worker that calls, and ends with the last.
    """
    folder = run_folder() / "commands"
    with FileLock(f"{folder}.lock"):
        if not _join(folder):
            _start(folder)
            assert _join(folder), "the process that commands are forked from has ended"
    return folder


def _join(folder: Path) -> bool:
    """Whether the process was there, and will be for as long as this one."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        server.connect(str(folder / forking.SOCKET))
        server.send(forking.STAY)
        joined = server.recv(100) == forking.STAY
    except OSError:
        joined = False
    if joined:
        atexit.register(server.close)
    else:
        server.close()
    return joined


def _start(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / forking.SOCKET).unlink(missing_ok=True)
    for name in _PROGRAMS:
        command = [sys.executable, "-I", "-S", asking.__file__, str(folder / forking.SOCKET), name]
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (folder / name).chmod(0o755)
    # Of what Python can be asked, `-c TEXT`.
    (folder / "python").write_text(f'#!/bin/sh\nshift\nexec {shlex.quote(str(folder))}/code "$@"\n')
    (folder / "python").chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", forking.__name__, str(folder)],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdout is not None
    with server.stdout as told:
        assert told.readline() == b"ready\n"
    # It may outlive this process, which is not to wait for it.
    server.returncode = 0
