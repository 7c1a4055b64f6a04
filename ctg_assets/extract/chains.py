"""Chains of pages under way: how far each is, and requests that are answered side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Self, TypeVar

from ctg_assets.extract.shards import ShardInfo, ShardStore

_Key = TypeVar("_Key")
_Answer = TypeVar("_Answer")


class Chain:
    """One chain of pages, each of which is asked for with the token of the one before it."""

    def __init__(
        self,
        shards: ShardStore,
        extraction_id: str,
        there: Collection[int],
        numbers: Sequence[int],
        within: str = "",
    ) -> None:
        """A chain of the pages with these `numbers`, at its first; pages `there` may be some of them.

        `within` is the filter of its slice, empty for everything.
        """
        self.within = within
        self.token: str | None = None
        self._shards = shards
        self._extraction_id = extraction_id
        self._there = there
        self._numbers = numbers
        self._taken = 0

    @property
    def is_at_start(self) -> bool:
        """Whether its first page is next, which needs no token."""
        return self._taken == 0

    def has(self, page: int) -> bool:
        """Whether a page was there when the walk began, perhaps of another walk's token."""
        return page in self._there

    def next_page(self, last_page: int) -> int | None:
        """The number of its next page; None if that is beyond `last_page`, or there is none."""
        if self._taken == len(self._numbers) or self._numbers[self._taken] > last_page:
            return None
        return self._numbers[self._taken]

    def take(self, shard: ShardInfo) -> ShardInfo:
        """Go on behind its next page; returns the page's description."""
        self._taken += 1
        self.token = shard.next_token
        return shard

    def take_kept(self, last_page: int) -> list[ShardInfo]:
        """Go on behind all next pages up to `last_page` that are there; returns their descriptions.

        After a page that was set aside come others that still belong to the same walk; one that was asked for
        with another token does not.
        """
        kept: list[ShardInfo] = []
        while (page := self.next_page(last_page)) is not None and page in self._there:
            shard = self._shards.info(self._extraction_id, page)
            if shard.token != self.token:
                break
            kept.append(self.take(shard))
        return kept


class SideBySide(Generic[_Key, _Answer]):
    """Calls under way at a time, each in a thread of its own; answers come as they are ready.

    Whoever leaves the context does not wait for those that are still under way. They are told by the event that
    each is called with, and what they bring is dropped.
    """

    def __init__(self) -> None:
        self._answers: queue.SimpleQueue[tuple[_Key, _Answer | None, BaseException | None]] = (
            queue.SimpleQueue()
        )
        self._stopped = threading.Event()
        self._under_way = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def start(self, key: _Key, call: Callable[[threading.Event], _Answer]) -> None:
        """Begin a call; its answer comes with `key`."""
        self._under_way += 1
        # Not to be waited for at the end of the process either.
        thread = threading.Thread(target=self._run, args=(key, call), name="request", daemon=True)
        thread.start()

    def __bool__(self) -> bool:
        """Whether calls are under way."""
        return self._under_way > 0

    def next(self) -> tuple[_Key, _Answer]:
        """Wait for the next answer; raises what its call has raised."""
        key, answer, error = self._answers.get()
        self._under_way -= 1
        if error is not None:
            raise error
        return key, answer  # type: ignore[return-value]  # None only beside an error

    def _run(self, key: _Key, call: Callable[[threading.Event], _Answer]) -> None:
        try:
            self._answers.put((key, call(self._stopped), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the answer is waited for
            self._answers.put((key, None, error))
