"""The one way to the lake's files: any Arrow filesystem, whole files only.

A file becomes visible complete or not at all: it is written under a temporary name and moved into
place, on a local disk synced before and after. (An object store shows an upload when it is closed,
and closing is also what a failed writer does, so there a temporary name is needed no less.)
"""

from __future__ import annotations

import contextlib
import enum
import os
import posixpath
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.fs as pafs

from ctg_assets.errors import CtgAssetsError
from ctg_assets.storage.locks import hold

_TEMPORARY_PREFIX = ".unfinished-"

# Damaged files, each with its path below a folder named by the time; for people to look at.
_ASIDE = "damaged"

_LOCKS = "locks"


class Work(enum.StrEnum):
    """The kinds of work that a lake allows one process at a time, each beside the others."""

    EXTRACTION = "extraction"
    SNAPSHOT = "snapshot"


class StorageError(CtgAssetsError):
    """The lake's files cannot be read or written; the message names the path and the cause."""


class Storage:
    """Files below one root folder of an Arrow filesystem; all paths are relative to that root."""

    def __init__(self, filesystem: pafs.FileSystem, root: str) -> None:
        """Use `root` of `filesystem`; the folder is created when the first file is published."""
        self.filesystem = filesystem
        self.root = root.rstrip("/") if root.strip("/") else root
        self._is_local = isinstance(filesystem, pafs.LocalFileSystem)

    @classmethod
    def local(cls, folder: Path) -> Storage:
        """Storage in a folder of this machine."""
        return cls(pafs.LocalFileSystem(), str(folder))

    def path(self, relative: str) -> str:
        """The full path of a file, as the filesystem understands it."""
        return posixpath.join(self.root, relative)

    def exists(self, relative: str) -> bool:
        """Whether a file is there."""
        info = self.filesystem.get_file_info(self.path(relative))
        return bool(info.type == pafs.FileType.File)

    def size(self, relative: str) -> int:
        """The size of a file in bytes."""
        return int(self.filesystem.get_file_info(self.path(relative)).size)

    def modified(self, relative: str) -> int:
        """When a file became visible, in nanoseconds since 1970 by the clock of the storage."""
        return int(self.filesystem.get_file_info(self.path(relative)).mtime_ns)

    def names(self, folder: str) -> list[str]:
        """The names of the published files and folders directly below `folder`, sorted."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        names = (info.base_name for info in self.filesystem.get_file_info(selector))
        return sorted(name for name in names if not name.startswith(_TEMPORARY_PREFIX))

    def files(self, folder: str) -> list[str]:
        """The paths of all published files below `folder`, however deep, sorted."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True, recursive=True)
        prefix = len(self.path(folder).rstrip("/")) + 1
        return sorted(
            posixpath.join(folder, info.path[prefix:])
            for info in self.filesystem.get_file_info(selector)
            if info.type == pafs.FileType.File and not info.base_name.startswith(_TEMPORARY_PREFIX)
        )

    @contextlib.contextmanager
    def lock(self, work: Work) -> Iterator[None]:
        """Hold the right to a kind of work on what is stored here, which one at a time has.

        An operation takes it for itself, and one that is made of others may take it around them. It ends
        with its holder, killed or not. Only storage on this machine's disks is shared by processes.
        Raises BusyError when another process or thread holds it.
        """
        if not self._is_local:
            yield
            return
        folder = Path(self.path(_LOCKS))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"cannot create {folder}: {error.strerror}"
            raise StorageError(message) from error
        with hold(folder / f"{work}.lock", f"the {work} of {self.root}"):
            yield

    def set_aside(self, relative: str) -> str:
        """Move a file or folder out of the way, below `damaged/`; returns where it is then."""
        aside = self._aside(relative)
        self.filesystem.move(self.path(relative), self.path(aside))
        return aside

    def copy_aside(self, relative: str) -> str:
        """As `set_aside`, but the file stays where it is, too."""
        aside = self._aside(relative)
        self.filesystem.copy_file(self.path(relative), self.path(aside))
        return aside

    def _aside(self, relative: str) -> str:
        aside = f"{_ASIDE}/{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}/{relative}"
        self.filesystem.create_dir(posixpath.dirname(self.path(aside)), recursive=True)
        return aside

    def read_bytes(self, relative: str) -> bytes:
        """The whole content of a small file.

        Raises FileNotFoundError when it is not there, StorageError when it cannot be read.
        """
        try:
            with self.filesystem.open_input_stream(self.path(relative)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unreadable(relative, error) from error

    @contextlib.contextmanager
    def open_input(self, relative: str) -> Iterator[pa.NativeFile]:
        """A file opened for random reads.

        Raises StorageError when it cannot be read or does not hold what the block looks for.
        """
        try:
            with self.filesystem.open_input_file(self.path(relative)) as file:
                yield file
        except (OSError, pa.ArrowInvalid) as error:
            raise self._unreadable(relative, error) from error

    def write_bytes(self, relative: str, content: bytes) -> None:
        """Publish a small file, replacing one of the same name."""
        with self.publish(relative) as stream:
            stream.write(content)

    @contextlib.contextmanager
    def publish(self, relative: str) -> Iterator[IO[bytes] | Any]:
        """A stream to write a file to, which becomes visible under its name when the block ends well.

        Raises StorageError when the file cannot be written; nothing is visible then.
        """
        target = self.path(relative)
        folder, name = posixpath.split(target)
        temporary = posixpath.join(folder, f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}-{name}")
        try:
            self.filesystem.create_dir(folder, recursive=True)
            with self._written(temporary) as stream:
                yield stream
            self.filesystem.move(temporary, target)
            if self._is_local:
                _sync(folder)  # else the move itself may be lost when the machine loses power
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.filesystem.delete_file(temporary)
            if not isinstance(error, OSError):
                raise
            message = (
                f"cannot write {target}: {error}; check that the folder can be written to, that the "
                "disk has room, and CTG_DATA_DIR"
            )
            raise StorageError(message) from error

    def delete_file(self, relative: str) -> None:
        """Remove a file; nothing happens when it is not there."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(relative))

    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all it holds; nothing happens when it is not there."""
        if self.filesystem.get_file_info(self.path(folder)).type != pafs.FileType.NotFound:
            self.filesystem.delete_dir(self.path(folder))

    def delete_unfinished(self, folder: str) -> None:
        """Remove what killed writers left behind directly in `folder`."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        for info in self.filesystem.get_file_info(selector):
            if info.base_name.startswith(_TEMPORARY_PREFIX):
                self.filesystem.delete_file(info.path)

    @contextlib.contextmanager
    def _written(self, path: str) -> Iterator[IO[bytes] | Any]:
        """A stream to a new file, whose content is safe when the block has ended."""
        if self._is_local:
            with Path(path).open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
        else:
            with self.filesystem.open_output_stream(path) as stream:
                yield stream

    def _unreadable(self, relative: str, error: Exception) -> StorageError:
        return StorageError(
            f"cannot read {self.path(relative)}: {error}; check its permissions and the disk. If it is "
            "damaged, `ctg-assets verify` says what can be done"
        )


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
