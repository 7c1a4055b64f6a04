"""Temporary folders in memory: to be waiting for the disk costs tests more time than what they do.

Dagster writes every event in a transaction of its own. Killing processes loses none of that here either.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")
# Several times what lies there at once.
_ENOUGH_BYTES = 6 * 2**30
_CHOSEN_BY_PEOPLE = ("TMPDIR", "TEMP", "TMP")


def use_memory() -> None:
    """Let temporary folders, also those of processes started from now on, be in memory if there is enough."""
    if any(name in os.environ for name in _CHOSEN_BY_PEOPLE) or not os.access(_MEMORY, os.W_OK):
        return
    found = os.statvfs(_MEMORY)
    may_run_programs = not found.f_flag & os.ST_NOEXEC
    if may_run_programs and found.f_bavail * found.f_frsize >= _ENOUGH_BYTES:
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None
