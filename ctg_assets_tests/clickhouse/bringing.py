"""Bring changes to a ClickHouse, killed as by `kill -9` at a moment: `bringing.py FOLDER KIND BROKER QUEUE MOMENT`.

KIND is `sink`, `queue` or `marts`; for marts BROKER is the URL of a Postgres, and QUEUE what its marts are made from. Moments
are those right before and right after a statement or an insert of the engine, which dies with this process, of marts from the
beginning of their copying; one that comes too late kills nothing. All are printed then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ctg_assets.clickhouse import ClickHouse, MartsSource, StandingMarts
from ctg_assets.feed.config import consumed_queue, written_clickhouse
from ctg_assets.feed.consuming import consume
from ctg_assets.feed.service import deliver
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import ServerUnavailableError
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings, load_settings
from ctg_assets_tests.feed.helpers import QUICK
from ctg_assets_tests.support.few_tables import few_tables

COPIED = ("dim_country", "fct_site")
"""The marts that are brought, where marts are."""

SINK, QUEUE, MARTS = "sink", "queue", "marts"


def settings_of(folder: Path, **more: Any) -> Settings:
    """The settings of a lake without a database, with a sink in its folder."""
    file = folder / "sinks.toml"
    file.write_text(
        f'[[sink]]\nname = "columns"\ntype = "clickhouse"\nurl = "chdb://{folder}/clickhouse"\n'
        "batch_size = 7\n"
    )
    given = {"warehouse": "none", "max_shrink_fraction": 1, **more}
    return load_settings(data_dir=folder / "data", feed_file=str(file), **given)


def source_of(
    address: PostgresAddress, made_from: str, *names: str, begin: Callable[[], None] = lambda: None
) -> MartsSource:
    """These marts of a database, made from something; `begin` is called whenever that is asked."""

    def standing(_: PostgresAddress) -> StandingMarts:
        begin()
        return StandingMarts(f"snapshot {made_from}", made_from, dict.fromkeys(names, made_from))

    return MartsSource(lambda: contextlib.nullcontext(address), standing)


def away() -> contextlib.AbstractContextManager[PostgresAddress]:
    """A Postgres that does not answer."""
    message = "no Postgres answers"
    raise ServerUnavailableError(message)


def bring(folder: Path, kind: str, url: str, queue: str, moment: int) -> None:
    """Bring what there is, in small batches, up to a moment."""
    settings, stop = settings_of(folder), threading.Event()
    counter = _Counter(moment)
    if kind != MARTS:
        counter.begin()
    if kind == MARTS:
        warehouse = settings_of(folder, warehouse="postgres", postgres_url=url)
        with open_postgres(warehouse) as address, few_tables():
            marts = source_of(address, queue, *COPIED, begin=counter.begin)
            [outcome] = deliver(settings, (), once=True, stop=stop, marts=marts)
        problem = None if outcome.problem is None else str(outcome.problem)
    elif kind == SINK:
        [outcome] = deliver(settings, (), once=True, stop=stop)
        problem = None if outcome.problem is None else str(outcome.problem)
    else:
        to = written_clickhouse("queue", f"chdb://{folder}/clickhouse", 7, None)
        source = consumed_queue("queue", url, queue, None)
        problem = consume(settings, source, to, {}, once=True, stop=stop, pauses=QUICK).problem
    if problem is not None:
        sys.exit(problem)
    sys.stdout.write("\n".join(counter.passed))


class _Counter:
    """Notes moments once it has begun, by what is done there, and kills at one of them."""

    def __init__(self, moment: int) -> None:
        self.passed: list[str] = []
        self._moment = moment
        self._has_begun = False

    def begin(self) -> None:
        """Count from now on."""
        if not self._has_begun:
            self._has_begun = True
            for name in ("do", "ask", "insert"):
                setattr(ClickHouse, name, self._framed(getattr(ClickHouse, name)))

    def _pass(self, doing: str) -> None:
        self.passed.append(doing)
        if len(self.passed) == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def _framed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(server: ClickHouse, *arguments: Any) -> Any:
            doing = " ".join(map(str, arguments[:2])).split("\n", 1)[0]
            self._pass(f"before {doing}")
            result = method(server, *arguments)
            self._pass(f"after {doing}")
            return result

        return call


def main() -> None:
    """Bring what the arguments say."""
    bring(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))


if __name__ == "__main__":
    main()
