"""The lake on a disk: a file is written under a temporary name and moved into place, synced before and after."""

from __future__ import annotations

import contextlib
import os
import posixpath
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.fs as pafs

from ctg_assets.storage.backend import AlreadyPublishedError, StorageError, Work
from ctg_assets.storage.locks import hold

_TEMPORARY_PREFIX = ".unfinished-"

_LOCKS = "locks"


class DiskBackend:
    """Files below one root folder of an Arrow filesystem, as a rule of this machine's.

    Only files of this machine's disks are shared by processes, and only these are synced and locked.
    """

    def __init__(self, filesystem: pafs.FileSystem, root: str) -> None:
        """Use `root` of `filesystem`; the folder is created when the first file is published."""
        self.filesystem = filesystem
        self.root = root.rstrip("/") if root.strip("/") else root
        self.is_local = isinstance(filesystem, pafs.LocalFileSystem)

    @property
    def is_remote(self) -> bool:
        """As Backend says."""
        return False

    def path(self, relative: str) -> str:
        """As Backend says."""
        return posixpath.join(self.root, relative)

    def size(self, relative: str) -> int | None:
        """As Backend says."""
        info = self.filesystem.get_file_info(self.path(relative))
        return int(info.size) if info.type == pafs.FileType.File else None

    def modified(self, relative: str) -> int:
        """As Backend says."""
        return int(self.filesystem.get_file_info(self.path(relative)).mtime_ns)

    def names(self, folder: str) -> list[str]:
        """As Backend says."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        names = (info.base_name for info in self.filesystem.get_file_info(selector))
        return sorted(name for name in names if not name.startswith(_TEMPORARY_PREFIX))

    def files(self, folder: str) -> list[str]:
        """As Backend says."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True, recursive=True)
        prefix = len(self.path(folder).rstrip("/")) + 1
        return sorted(
            posixpath.join(folder, info.path[prefix:])
            for info in self.filesystem.get_file_info(selector)
            if info.type == pafs.FileType.File and not info.base_name.startswith(_TEMPORARY_PREFIX)
        )

    def read_bytes(self, relative: str) -> bytes:
        """As Backend says."""
        try:
            with self.filesystem.open_input_stream(self.path(relative)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._unreadable(relative, error) from error

    @contextlib.contextmanager
    def open_input(self, relative: str) -> Iterator[pa.NativeFile]:
        """As Backend says."""
        try:
            with self.filesystem.open_input_file(self.path(relative)) as file:
                yield file
        except (OSError, pa.ArrowInvalid) as error:
            raise self._unreadable(relative, error) from error

    @contextlib.contextmanager
    def publish(self, relative: str, *, create: bool) -> Iterator[IO[bytes] | Any]:
        """As Backend says; who publishes what others might publish, too, holds the lock on it."""
        target = self.path(relative)
        folder, name = posixpath.split(target)
        temporary = posixpath.join(folder, f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}-{name}")
        try:
            self.filesystem.create_dir(folder, recursive=True)
            with self._written(temporary) as stream:
                yield stream
            if create:
                self._require_free(relative)
            self.filesystem.move(temporary, target)
            if self.is_local:
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

    def move(self, relative: str, to: str) -> None:
        """As Backend says."""
        self.filesystem.create_dir(posixpath.dirname(self.path(to)), recursive=True)
        self.filesystem.move(self.path(relative), self.path(to))

    def copy(self, relative: str, to: str) -> None:
        """As Backend says."""
        self.filesystem.create_dir(posixpath.dirname(self.path(to)), recursive=True)
        self.filesystem.copy_file(self.path(relative), self.path(to))

    def delete_file(self, relative: str) -> None:
        """As Backend says."""
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(relative))

    def delete_folder(self, folder: str) -> None:
        """As Backend says."""
        if self.filesystem.get_file_info(self.path(folder)).type != pafs.FileType.NotFound:
            self.filesystem.delete_dir(self.path(folder))

    def delete_unfinished(self, folder: str) -> None:
        """As Backend says."""
        selector = pafs.FileSelector(self.path(folder), allow_not_found=True)
        for info in self.filesystem.get_file_info(selector):
            if info.base_name.startswith(_TEMPORARY_PREFIX):
                self.filesystem.delete_file(info.path)

    @contextlib.contextmanager
    def lock(self, work: Work) -> Iterator[None]:
        """As Backend says; the lock ends with its holder, killed or not."""
        if not self.is_local:
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

    @contextlib.contextmanager
    def _written(self, path: str) -> Iterator[IO[bytes] | Any]:
        """A stream to a new file, whose content is safe when the block has ended."""
        if self.is_local:
            with Path(path).open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
        else:
            with self.filesystem.open_output_stream(path) as stream:
                yield stream

    def _require_free(self, relative: str) -> None:
        if self.size(relative) is not None:
            message = (
                f"{self.path(relative)} is there already; another process has written it. Try again"
            )
            raise AlreadyPublishedError(message)

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
