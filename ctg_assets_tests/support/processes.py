"""Crawls and imports in processes of their own, to be killed.

They are forked off a server process that has everything imported, since a fresh interpreter would
spend a second on that, thirty times over.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from ctg_assets.extract.crawl import Crawler, ExtractionSupersededError
from ctg_assets.extract.extractions import ExtractionMode, ExtractionState
from ctg_assets.extract.import_file import import_file
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.extract.sizing import Pace
from ctg_assets.lake import Lake, open_lake
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry.errors import RegistryError
from ctg_assets.registry.rate_limit import SharedRateLimit
from ctg_assets.settings import Settings, load_settings
from ctg_assets.storage.locks import BusyError

# Far more than anything here takes; only a test that fails waits for so long.
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Order:
    """What a crawling process is to do; after taking page `halt_at` it waits for its end.

    So it does as soon as `halt_after` pages are there. With `picked` ids, it asks for these.
    """

    api_url: str
    data_dir: Path
    page_size: int
    requests: int = 10_000
    window_seconds: float = 0.1
    read_timeout_seconds: float = 30.0
    halt_at: int | None = None
    halt_after: int | None = None
    chains: int = 1
    picked: tuple[str, ...] = ()

    @property
    def settings(self) -> Settings:
        """The settings that the order amounts to."""
        return load_settings(
            api_url=self.api_url,
            data_dir=self.data_dir,
            page_size=self.page_size,
            query="",
            request_timeout_seconds=self.read_timeout_seconds,
        )

    def open_lake(self) -> Lake:
        """The lake that is crawled into."""
        return open_lake(self.settings)


class CrawlProcess:
    """A running crawl."""

    def __init__(self, order: Order) -> None:
        context = _context()
        self._messages, other_end = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(
            target=_crawl, args=(order, other_end), daemon=True
        )
        self.exit_code: int | None = None
        self.process.start()
        other_end.close()

    def message(self) -> str:
        """What the process says next: `halted`, `complete`, or the name of the error that ended it."""
        if not self._messages.poll(_PATIENCE_SECONDS):
            message = "the crawling process has nothing to say"
            raise TimeoutError(message)
        return str(self._messages.recv())

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()

    def close(self) -> None:
        """Wait for the end of the process."""
        self.process.join(_PATIENCE_SECONDS)
        self.exit_code = self.process.exitcode
        self.process.close()
        self._messages.close()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "ctg_assets_tests.support.following"])
    return context


@contextmanager
def crawling(order: Order) -> Iterator[CrawlProcess]:
    """A crawl that is under way for as long as the context lasts, unless it ends before."""
    crawl = CrawlProcess(order)
    try:
        yield crawl
    except BaseException:
        crawl.kill()
        raise
    finally:
        crawl.close()


def _crawl(order: Order, messages: Connection) -> None:
    try:
        messages.send(_plan_and_walk(order, messages))
    except (ExtractionSupersededError, RegistryError, BusyError) as error:
        messages.send(type(error).__name__)


def _plan_and_walk(order: Order, messages: Connection) -> str:
    settings = order.settings
    lake = open_lake(settings)
    limit = SharedRateLimit(
        settings.data_dir / "requests.sqlite", order.requests, window_seconds=order.window_seconds
    )
    with (
        RegistryClient(
            settings.api_url,
            rate_limit=limit,
            user_agent="tests",
            read_timeout_seconds=order.read_timeout_seconds,
            retry_seconds=settings.retry_seconds,
            first_pause_seconds=0.01,
        ) as client,
    ):
        crawler = Crawler(client, lake.extractions, lake.shards)
        plan = crawler.plan(
            query=settings.query,
            page_size=settings.page_size,
            mode=ExtractionMode.PICKED if order.picked else None,
            ids=order.picked,
            pace=Pace(order.chains, order.requests),
        )
        for there, page in enumerate(crawler.walk(plan, plan.planned_pages or 0), start=1):
            if (page.fresh and order.halt_at == page.shard.page) or order.halt_after == there:
                messages.send("halted")
                signal.pause()
        return str(lake.extractions.state(plan.extraction_id))


def forked(
    target: Callable[..., None], *arguments: object, patience: float = _PATIENCE_SECONDS
) -> int:
    """The exit code of a process that calls a function; negative for the signal that killed it."""
    process = _context().Process(target=target, args=arguments)
    process.start()
    process.join(patience)
    exit_code = process.exitcode
    assert exit_code is not None, f"{target.__name__} has not ended"
    process.close()
    return exit_code


def kill_import(data_dir: Path, file: Path, page_size: int, page: int) -> None:
    """Import a file in a process that is killed as soon as the shard of this page is there."""
    assert forked(_import_and_die, data_dir, file, page_size, page) == -signal.SIGKILL


def _import_and_die(data_dir: Path, file: Path, page_size: int, page: int) -> None:
    def die(shard: ShardInfo) -> None:
        if shard.page == page:
            os.kill(os.getpid(), signal.SIGKILL)

    lake = open_lake(load_settings(data_dir=data_dir))
    import_file(lake, file, page_size=page_size, progress=die)


COMPLETE = str(ExtractionState.COMPLETE)
