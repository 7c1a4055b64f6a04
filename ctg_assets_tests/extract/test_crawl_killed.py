"""kill -9 of a crawl, at every kind of moment."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.orchestration.workplace import wait_until
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.lakes import shard_contents
from ctg_assets_tests.support.processes import COMPLETE, CrawlProcess, Order, crawling

pytestmark = pytest.mark.process

_PAGE_SIZE = 3
_STUDIES = 300
# The last one is empty: the page before it is full.
_PAGES = _STUDIES // _PAGE_SIZE + 1
# Of fewer, none may leave a page in flight.
_KILLS = max(10, times(10, 30))

# A page takes a few milliseconds from its request to its rename.
_LONGEST_DELAY_SECONDS = 0.012
_PATIENCE_SECONDS = 60.0


class _Moment(Enum):
    """When a crawl is killed, with respect to a page."""

    ANSWERING = "it was asked for, and its answer is not there"
    ANY_TIME = "some milliseconds after it was asked for: parsing, writing, asking for the next"
    WRITING = "its shard is being written"
    BETWEEN = "its shard was renamed, and the next page not asked for"


class _WatchedSource(GeneratedSource):
    """Studies that call `watcher` whenever one is read: a request is being answered."""

    watcher: Callable[[], None] | None = None

    def raw(self, index: int) -> bytes:
        if self.watcher is not None:
            self.watcher()
        return super().raw(index)


@dataclass
class _Scene:
    """One registry and one lake, in which crawl after crawl is killed.

    `pending` counts, by page, the kills that left it asked for and not there.
    """

    simulator: RunningSimulator
    source: _WatchedSource
    order: Order
    pending: Counter[int] = field(default_factory=Counter)

    def kill_one(self, moment: _Moment, pages: int, delay: float = 0.0) -> None:
        """Resume the crawl, and kill it at that moment of the `pages`th page from there."""
        # What the crawl that was killed last had asked for is still being answered, which reads studies.
        wait_until("all requests answered", self._all_settled, _PATIENCE_SECONDS, pause=0.005)
        target = self.pages_there() + pages
        halt_at = target if moment is _Moment.BETWEEN else None
        hold = moment is _Moment.ANSWERING
        with (
            self._study_read((pages - 1) * _PAGE_SIZE + 1, hold=hold) as asked,
            crawling(replace(self.order, halt_at=halt_at)) as crawl,
        ):
            if moment is _Moment.BETWEEN:
                assert crawl.message() == "halted"
            else:
                assert asked.wait(_PATIENCE_SECONDS)
            if moment is _Moment.WRITING:
                self._await_writing(crawl, target)
            if moment is _Moment.ANY_TIME:
                # Not to wait for anything: this is what makes the moment random.
                threading.Event().wait(delay)
            crawl.kill()
        assert crawl.exit_code == -signal.SIGKILL
        there = self.pages_there()
        if moment is _Moment.ANSWERING:
            assert there == target - 1
        if moment is _Moment.BETWEEN:
            assert there == target
        else:
            self.pending[there + 1] += 1

    def _all_settled(self) -> bool:
        return all(record.settled for record in self.simulator.requests)

    @contextmanager
    def _study_read(self, number: int, *, hold: bool) -> Iterator[threading.Event]:
        """Tells when so many studies were read; `hold` keeps the reader there until the end."""
        reads = 0
        reached, ended = threading.Event(), threading.Event()

        def count() -> None:
            nonlocal reads
            reads += 1
            if reads == number:
                reached.set()
                if hold:
                    ended.wait(_PATIENCE_SECONDS)

        self.source.watcher = count
        yield reached
        self.source.watcher = None
        ended.set()

    def _await_writing(self, crawl: CrawlProcess, page: int) -> None:
        """Watch the folder until the file of this page, or of a later one, is being written."""
        while crawl.process.is_alive():
            names = self.names()
            unfinished = sum(name.startswith(".") for name in names)
            if unfinished and len(names) - unfinished >= page - 1:
                return

    def pages_there(self) -> int:
        """How many shards there are."""
        return sum(not name.startswith(".") for name in self.names())

    def names(self) -> list[str]:
        """What lies in the folder of pages, unfinished files included."""
        folder = self.order.data_dir / "lake" / "extractions"
        return [path.name for path in folder.glob("*/pages/*")]


def _requests_by_token(simulator: RunningSimulator) -> Counter[str | None]:
    """How often each page was asked for, by its token."""
    asked: Counter[str | None] = Counter()
    for record in simulator.requests:
        parameters = parse_qs(record.query)
        if record.path.endswith("/studies") and "countTotal" not in parameters:
            asked[parameters.get("pageToken", [None])[0]] += 1
    return asked


@pytest.mark.soak
def test_kills_cost_nothing_but_the_page_in_flight(tmp_path: Path) -> None:
    """After the last resume the shards are those of an undisturbed crawl, and each page was asked for was asked for once.

    Once more is allowed for every kill that left the page in flight.
    """
    dice = random.Random(20261121)
    source = _WatchedSource(_STUDIES, seed=5)
    with running_simulator(source) as simulator:
        scene = _Scene(simulator, source, Order(simulator.api_url, tmp_path / "killed", _PAGE_SIZE))
        # The first study read is the one that is read to count them: there is no plan yet.
        scene.kill_one(_Moment.ANSWERING, pages=1)
        assert scene.order.open_lake().extractions.plans() == []
        scene.pending.clear()

        moments = [moment for moment in _Moment for _ in range((_KILLS - 2) // len(_Moment))]
        dice.shuffle(moments)
        for moment in moments:
            scene.kill_one(moment, dice.randint(1, 3), dice.uniform(0, _LONGEST_DELAY_SECONDS))
        # The last page is there, and the extraction is not marked complete.
        scene.kill_one(_Moment.BETWEEN, _PAGES - scene.pages_there())
        with crawling(scene.order) as crawl:
            assert crawl.message() == COMPLETE
        asked = _requests_by_token(simulator)

        undisturbed = Order(simulator.api_url, tmp_path / "undisturbed", _PAGE_SIZE)
        with crawling(undisturbed) as crawl:
            assert crawl.message() == COMPLETE

    lake, other = scene.order.open_lake(), undisturbed.open_lake()
    [plan], [other_plan] = lake.extractions.plans(), other.extractions.plans()
    contents = shard_contents(lake, plan.extraction_id)
    assert contents == shard_contents(other, other_plan.extraction_id)
    assert list(contents) == list(range(1, _PAGES + 1))
    assert scene.pages_there() == len(scene.names())
    tokens = {facts["token"]: page for page, (facts, _) in contents.items()}
    assert asked.keys() == tokens.keys()
    for token, requests in asked.items():
        page = tokens[token]
        assert requests <= 1 + scene.pending[page], f"page {page} was asked for {requests} times"
    assert asked.total() > _PAGES
