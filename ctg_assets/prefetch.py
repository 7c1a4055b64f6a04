"""Working ahead: the next of what an iterator gives is made while the last is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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


def map_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, at_once: int
) -> Generator[_Result, None, None]:
    """The results of some work on each item, in their order; so many are worked on at once, in threads.

    What reading an item or working on it raises goes through.
    """
    threads = ThreadPoolExecutor(at_once)
    pending: deque[Future[_Result]] = deque()
    try:
        for item in items:
            pending.append(threads.submit(work, item))
            if len(pending) == at_once:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
