"""What a disk and an object store do each in their own way: one protocol, which all else builds on."""

from __future__ import annotations

import enum
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol

from ctg_assets.errors import CtgAssetsError, PermanentError, TransientError


class Work(enum.StrEnum):
    """The kinds of work that a lake, or a folder of releases, allows one process at a time, each beside the others."""

    EXTRACTION = "extraction"
    SNAPSHOT = "snapshot"
    WHO = "who"
    RELEASE = "release"


class StorageError(CtgAssetsError):
    """The lake's files cannot be read or written; the message names the path and the cause."""


class TransientStorageError(StorageError, TransientError):
    """The store did not answer as it should, and may do so later."""


class PermanentStorageError(StorageError, PermanentError):
    """The store refuses what was asked, and will until somebody changes something."""


class LockLostError(TransientStorageError):
    """This process was taken for dead, and another has its lock: nothing more of it is published."""


class AlreadyPublishedError(TransientStorageError):
    """A file was to be published under a name that another process has given away meanwhile."""


class InputFile(Protocol):
    """A file opened for random reads, as Arrow's files are."""

    def size(self) -> int:
        """Its size in bytes."""

    def seek(self, position: int, /) -> Any:
        """Go to a byte."""

    def read_buffer(self, count: int, /) -> Any:
        """Some bytes from here on, as Arrow's buffer; fewer at the end."""


class Backend(Protocol):
    """Whole files below one root; all paths are relative to it, with `/` between their parts.

    A file becomes visible complete or not at all, and two processes that publish one name never both
    believe that it holds theirs. What goes wrong is raised as StorageError, and FileNotFoundError where
    a file is read that is not there.
    """

    @property
    def is_remote(self) -> bool:
        """Whether each file that is opened costs a request."""

    def path(self, relative: str) -> str:
        """The full path of a file, as people and other programs name it."""

    def size(self, relative: str) -> int | None:
        """The size of a file in bytes; None when there is none."""

    def modified(self, relative: str) -> int:
        """When a file became visible, in nanoseconds since 1970 by the clock of the storage."""

    def names(self, folder: str) -> list[str]:
        """The names of the published files and folders directly below a folder, sorted."""

    def files(self, folder: str) -> list[str]:
        """The paths of all published files below a folder, however deep, sorted."""

    def read_bytes(self, relative: str) -> bytes:
        """The whole content of a small file."""

    def open_input(self, relative: str) -> AbstractContextManager[Any]:
        """A file opened for random reads: an InputFile that Arrow can read, too."""

    def publish(self, relative: str, *, create: bool) -> AbstractContextManager[IO[bytes] | Any]:
        """A stream to write a file to, which takes its name when the block ends well.

        With `create` raises AlreadyPublishedError where the name is taken; else an older file is replaced.
        """

    def move(self, relative: str, to: str) -> None:
        """Give a file, or a folder with all it holds, another path."""

    def copy(self, relative: str, to: str) -> None:
        """Make a second file of the same content."""

    def delete_file(self, relative: str) -> None:
        """Remove a file; nothing happens when it is not there."""

    def delete_folder(self, folder: str) -> None:
        """Remove a folder with all it holds; nothing happens when it is not there."""

    def delete_unfinished(self, folder: str) -> None:
        """Remove what killed writers left behind directly in a folder."""

    def lock(self, work: Work) -> AbstractContextManager[None]:
        """Hold the right to a kind of work; raises BusyError when another has it."""
