"""Bring changes to a ClickHouse, killed as by `kill -9` at a moment: `bringing.py FOLDER KIND BROKER QUEUE MOMENT`.

KIND is `sink` or `queue`. Moments are those right before and right after a statement or an insert of the engine, which dies
with this process; one that comes too late kills nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ctg_assets.clickhouse import ClickHouse
from ctg_assets.feed.config import consumed_queue, written_clickhouse
from ctg_assets.feed.consuming import consume
from ctg_assets.feed.service import deliver
from ctg_assets.settings import Settings, load_settings
from ctg_assets_tests.feed.helpers import QUICK

SINK, QUEUE = "sink", "queue"


def settings_of(folder: Path, **more: Any) -> Settings:
    """The settings of a lake without a database, with a sink in its folder."""
    file = folder / "sinks.toml"
    file.write_text(
        f'[[sink]]\nname = "columns"\ntype = "clickhouse"\nurl = "chdb://{folder}/clickhouse"\n'
        "batch_size = 7\n"
    )
    return load_settings(
        data_dir=folder / "data",
        feed_file=str(file),
        warehouse="none",
        max_shrink_fraction=1,
        **more,
    )


def bring(folder: Path, kind: str, url: str, queue: str) -> None:
    """Bring what there is, in small batches."""
    settings, stop = settings_of(folder), threading.Event()
    if kind == SINK:
        [outcome] = deliver(settings, (), once=True, stop=stop)
        problem = None if outcome.problem is None else str(outcome.problem)
    else:
        to = written_clickhouse("queue", f"chdb://{folder}/clickhouse", 7, None)
        source = consumed_queue("queue", url, queue, None)
        problem = consume(settings, source, to, {}, once=True, stop=stop, pauses=QUICK).problem
    if problem is not None:
        sys.exit(problem)


def _die_at(moment: int) -> None:
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def framed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            count()
            result = method(*arguments)
            count()
            return result

        return call

    for name in ("do", "ask", "insert"):
        setattr(ClickHouse, name, framed(getattr(ClickHouse, name)))


if __name__ == "__main__":
    _die_at(int(sys.argv[5]))
    bring(Path(sys.argv[1]), *sys.argv[2:5])
