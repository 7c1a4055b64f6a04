"""The one way to the lake's files: whole files only, on a disk or in an object store.

A file becomes visible complete or not at all. How, is for `disk.py` and `objects.py` to know.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow.fs as pafs

from ctg_assets.storage.backend import (
    AlreadyPublishedError,
    Backend,
    LockLostError,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
    Work,
)
from ctg_assets.storage.disk import DiskBackend

__all__ = [
    "AlreadyPublishedError",
    "LockLostError",
    "PermanentStorageError",
    "Storage",
    "StorageError",
    "TransientStorageError",
    "Work",
]

# Damaged files, each with its path below a folder named by the time; for people to look at.
_ASIDE = "damaged"

_COPY_BYTES = 1 << 22


class Storage:
    """Files below one root; all paths are relative to it, with `/` between their parts."""

    def __init__(self, backend: Backend) -> None:
        """Keep files in `backend`."""
        self.backend = backend

    @classmethod
    def local(cls, folder: Path) -> Storage:
        """Storage in a folder of this machine, which is created when the first file is published."""
        return cls(DiskBackend(pafs.LocalFileSystem(), str(folder)))

    @classmethod
    def remote(cls, url: str, scratch: Path) -> Storage:
        """Storage in an object store; `scratch` is a local folder for temporary files.

        Nothing is asked of it yet. Raises StorageError where it cannot be used.
        """
        from ctg_assets.storage.objects import ObjectBackend  # noqa: PLC0415 - who has a disk does without

        return cls(ObjectBackend.connect(url, scratch))

    @property
    def root(self) -> str:
        """Where all of it lies, as people name it."""
        return self.backend.path("").rstrip("/") or "/"

    @property
    def is_remote(self) -> bool:
        """Whether each file that is opened costs a request."""
        return self.backend.is_remote

    def path(self, relative: str) -> str:
        """The full path of a file, as people and other programs name it."""
        return self.backend.path(relative)

    def exists(self, relative: str) -> bool:
        """Whether a file is there."""
        return self.backend.size(relative) is not None

    def size(self, relative: str) -> int:
        """The size of a file in bytes; raises StorageError when it is not there."""
        size = self.backend.size(relative)
        if size is None:
            message = f"cannot read {self.path(relative)}: it is not there; `ctg-assets verify` says what can be done"
            raise StorageError(message)
        return size

    def modified(self, relative: str) -> int:
        """When a file became visible, in nanoseconds since 1970 by the clock of the storage."""
        return self.backend.modified(relative)

    def names(self, folder: str) -> list[str]:
        """The names of the published files and folders directly below `folder`, sorted."""
        return self.backend.names(folder)

    def files(self, folder: str) -> list[str]:
        """The paths of all published files below `folder`, however deep, sorted."""
        return self.backend.files(folder)

    def lock(self, work: Work) -> AbstractContextManager[None]:
        """Hold the right to a kind of work on what is stored here, which one at a time has.

        An operation takes it for itself, and one that is made of others may take it around them. It ends
        with its holder, killed or not. Raises BusyError when another process or thread holds it.
        """
        return self.backend.lock(work)

    def set_aside(self, relative: str) -> str:
        """Move a file or folder out of the way, below `damaged/`; returns where it is then."""
        aside = _aside(relative)
        self.backend.move(relative, aside)
        return aside

    def copy_aside(self, relative: str) -> str:
        """As `set_aside`, but the file stays where it is, too."""
        aside = _aside(relative)
        self.backend.copy(relative, aside)
        return aside

    def read_bytes(self, relative: str) -> bytes:
        """The whole content of a small file.

        Raises FileNotFoundError when it is not there, StorageError when it cannot be read.
        """
        return self.backend.read_bytes(relative)

    def open_input(self, relative: str) -> AbstractContextManager[Any]:
        """A file opened for random reads (an InputFile).

        Raises StorageError when it cannot be read or does not hold what the block looks for.
        """
        return self.backend.open_input(relative)

    def copy_to(self, target: Storage, relative: str) -> int:
        """Publish a file under the same path in another storage, byte for byte; returns how many bytes.

        Raises StorageError when it cannot be read, or not be written there.
        """
        copied = 0
        with self.open_input(relative) as stream, target.publish(relative) as copy:
            while block := stream.read(_COPY_BYTES):
                copy.write(block)
                copied += len(block)
        return copied

    def write_bytes(self, relative: str, content: bytes, *, create: bool = False) -> None:
        """Publish a small file; raises as `publish`."""
        with self.publish(relative, create=create) as stream:
            stream.write(content)

    @contextlib.contextmanager
    def publish(self, relative: str, *, create: bool = False) -> Iterator[IO[bytes] | Any]:
        """A stream to write a file to, which becomes visible under its name when the block ends well.

        It replaces one of the same name, unless it is `create`: then such a one raises AlreadyPublishedError.
        Raises StorageError when the file cannot be written; nothing is visible then.
        """
        with self.backend.publish(relative, create=create) as stream:
            yield stream

    def delete_file(self, relative: str) -> None:
        """Remove a file; nothing happens when it is not there."""
        self.backend.delete_file(relative)

    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all it holds; nothing happens when it is not there."""
        self.backend.delete_folder(folder)

    def delete_unfinished(self, folder: str) -> None:
        """Remove what killed writers left behind directly in `folder`."""
        self.backend.delete_unfinished(folder)


def _aside(relative: str) -> str:
    return f"{_ASIDE}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}/{relative}"
