"""Release a lake of `released.py`, killed at a moment as `kill -9` does: `dying.py FOLDER PLACE MOMENT`.

The place is a folder or a URL. The moments are those right before and right after a file becomes visible or is removed. One that comes too late
kills nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctg_assets.release.making import make_release
from ctg_assets.release.places import open_place
from ctg_assets.storage.files import Storage
from ctg_assets_tests.release.released import ReleasedLake


def _die_at(moment: int) -> None:
    passed = 0
    publish, delete = Storage.publish, Storage.delete_file

    def count() -> None:
        nonlocal passed
        passed += 1
        if passed == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def published(storage: Storage, relative: str, **how: bool) -> Iterator[Any]:
        with publish(storage, relative, **how) as stream:
            yield stream
            count()
        count()

    def deleted(storage: Storage, relative: str) -> None:
        count()
        delete(storage, relative)
        count()

    Storage.publish = published  # type: ignore[method-assign, assignment]
    Storage.delete_file = deleted  # type: ignore[method-assign, assignment]


def main() -> None:
    """Release, and keep no older one."""
    folder, place, moment = sys.argv[1:]
    lake = ReleasedLake(Path(folder))
    _die_at(int(moment))
    make_release(lake.request(open_place(place, lake.folder / "scratch"), keep=1))
