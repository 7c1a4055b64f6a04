"""Run a command that kills itself, as `kill -9` does, at a file of the lake: `dying.py WHERE COMMAND ARGUMENT…`.

WHERE is the name of a file (`entry.json`): the command dies when one of that name is written and not yet
visible. Or it is a number: it dies at that moment; the moments are those right before and right after a file
becomes visible. A command that has fewer ends as it does.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from ctg_assets.storage.files import Storage


def _die_at(where: str) -> None:
    moments = itertools.count(1)
    publish = Storage.publish

    def moment(name: str) -> None:
        if where in {name, str(next(moments))}:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def published(storage: Storage, relative: str, **how: bool) -> Iterator[Any]:
        with publish(storage, relative, **how) as stream:
            yield stream
            moment(posixpath.basename(relative))
        moment("")

    Storage.publish = published  # type: ignore[method-assign, assignment]


def main() -> None:
    """Run the command of this name that is installed."""
    where, command = sys.argv[1:3]
    _die_at(where)
    (script,) = entry_points(group="console_scripts", name=command)
    sys.argv = sys.argv[2:]
    sys.exit(script.load()())


if __name__ == "__main__":
    main()
