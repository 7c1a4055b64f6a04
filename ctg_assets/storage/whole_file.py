"""A file for people to take away: there under its name when it is whole, and not before."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ctg_assets.errors import CtgAssetsError
from ctg_assets.storage.locks import BusyError

_UNFINISHED = ".unfinished-"


class WholeFileError(CtgAssetsError):
    """The file cannot be written; the message names the path and the cause."""


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """A stream to write a file to, which takes its name, in place of an older one, when the block ends well.

    What a killed writer left is overwritten. Raises BusyError when another process is writing this file,
    WholeFileError when it cannot be written.
    """
    unfinished = path.with_name(f"{_UNFINISHED}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened_alone(unfinished, path) as stream:
            try:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        _sync(path.parent)
    except OSError as error:
        message = (
            f"cannot write {path}: {error}; check that the folder can be written to and the disk has room, "
            "or name another with --output"
        )
        raise WholeFileError(message) from error


@contextlib.contextmanager
def _opened_alone(unfinished: Path, path: Path) -> Iterator[BinaryIO]:
    """The file, empty, under a lock that dies with its holder."""
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "r+b") as stream:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(path) from None
        # Between opening and locking, the one before us may have given the file its name.
        if not unfinished.exists() or not os.path.samestat(unfinished.stat(), os.fstat(descriptor)):
            raise _busy(path)
        stream.truncate(0)
        yield stream


def _busy(path: Path) -> BusyError:
    return BusyError(f"another process is writing {path}; wait until it is done, or name another")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
