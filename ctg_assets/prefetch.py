"""Reading ahead: the next of what an iterator gives is made while the last is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Prefetch(Generic[_Item]):
    """Gives what an iterator gives, one ahead of who asks; what making an item raises goes through.

    None ends it, as the end of the iterator does.
    """

    def __init__(self, items: Iterator[_Item]) -> None:
        self._items = items
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Iterator[_Item]:
        return self._read()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    def _read(self) -> Iterator[_Item]:
        pending: Future[_Item | None] = self._thread.submit(next, self._items, None)
        while (item := pending.result()) is not None:
            pending = self._thread.submit(next, self._items, None)
            yield item
