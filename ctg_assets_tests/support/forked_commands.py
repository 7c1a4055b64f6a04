"""The commands `ctg-assets`, `dagster` and `dbt` as forks of a process that has everything imported."""

from __future__ import annotations

import atexit
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from ctg_assets_tests.support import asking, forking

# Beside the commands: `dying.py` of the tests of Dagster, and what `python -c` runs.
_PROGRAMS = ("ctg-assets", "dagster", "dbt", "dying", "code")


@cache
def forked_commands() -> Path:
    """A folder to put on PATH, with programs that do what those of the same name do, sooner.

    The process that they are forked from is started at the first call, and ends with this one.
    """
    folder = Path(tempfile.mkdtemp(prefix="ctg-assets-commands-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
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
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    atexit.register(server.communicate)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return folder
