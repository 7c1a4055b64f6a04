"""Putting files of tables where releases are kept, some at a time, while others are made."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from ctg_assets.storage.files import Storage

_COPY_BYTES = 4 << 20

# Each waits for the disk, or the store, most of the time. Many small files one after the other left the cores idle.
_AT_ONCE = 4
# What waits for its turn is on the local disk, so this bounds how much of it is used.
_MOST_UNDER_WAY = 8


class Publisher:
    """Moves local files to where releases are kept; `there` are the paths of files that are there.

    When its block has ended well, all that it took are in place. What one of them raises, StorageError, ends the block or
    a later `take`.
    """

    def __init__(self, storage: Storage, there: set[str]) -> None:
        """Put files into `storage`, and their paths into `there`."""
        self._storage = storage
        self._there = there
        self._threads = ThreadPoolExecutor(_AT_ONCE)
        self._under_way: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            while self._under_way and error is None:
                self._under_way.popleft().result()
        finally:
            self._threads.shutdown(cancel_futures=True)

    def take(self, local: Path, relative: str) -> None:
        """Move a local file to a path, unless the same is there already; waits while many others are on their way."""
        self._under_way.append(self._threads.submit(self._publish, local, relative))
        if len(self._under_way) > _MOST_UNDER_WAY:
            self._under_way.popleft().result()

    def _publish(self, local: Path, relative: str) -> None:
        if relative not in self._there:
            with local.open("rb") as stream, self._storage.publish(relative) as copy:
                while block := stream.read(_COPY_BYTES):
                    copy.write(block)
            self._there.add(relative)
        local.unlink()
