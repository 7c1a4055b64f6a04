"""Locks that keep processes apart: files that a process holds, and that are free when it ends, however."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ctg_assets.errors import CtgAssetsError, ExitCode


class BusyError(CtgAssetsError):
    """Another process is already doing this; the message says what to do."""

    exit_code = ExitCode.BUSY


@contextlib.contextmanager
def hold(file: Path, what: str) -> Iterator[None]:
    """Hold the lock that is a file, in a folder that exists; `what` is said of who is found holding it.

    A thread that holds it may hold it once more, so that an operation with a lock may be part of another.
    Raises BusyError when another process or thread holds it.
    """
    # One object a file: that is what counts how often a thread holds it.
    lock = FileLock(file, is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        message = (
            f"another process is at work on {what}; wait until it is done "
            "(`ctg-assets status` shows how far it is)"
        )
        raise BusyError(message) from None
    try:
        yield
    finally:
        lock.release()
