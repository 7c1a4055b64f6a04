"""A process that was paused for too long, on a real S3: what it publishes when it wakes up is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from ctg_assets.storage import leases
from ctg_assets.storage.files import Storage, Work
from ctg_assets.storage.locks import BusyError
from ctg_assets.storage.objects import ObjectBackend
from ctg_assets_tests.support.object_store import S3Server

pytestmark = pytest.mark.process

LEASE = timedelta(seconds=3)

PAUSED = """
import sys
from datetime import timedelta
from pathlib import Path
from ctg_assets.storage.files import Storage, Work
from ctg_assets.storage.objects import ObjectBackend
storage = Storage(ObjectBackend.connect(sys.argv[1], Path(sys.argv[2]), timedelta(seconds=3)))
with storage.lock(Work.SNAPSHOT):
    print("ready", flush=True)
    sys.stdin.readline()
    for name in ("history/2/entry.json", "history/2/seen.parquet"):
        try:
            storage.write_bytes(name, b"{}")
            print("published", flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
    try:
        storage.delete_file("history/1/entry.json")
        print("deleted", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


def test_who_was_paused_for_too_long_publishes_nothing(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder is stopped, another machine takes over and publishes; woken up, it publishes and removes nothing."""
    # Processes of this machine that live are never taken for dead; this one looks on from another.
    monkeypatch.setattr(leases, "_kernel", lambda: "another machine")
    url = s3.new_url()
    here = Storage(ObjectBackend.connect(url, tmp_path / "here", LEASE))
    with subprocess.Popen(
        [sys.executable, "-c", PAUSED, url, str(tmp_path / "there")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as there:
        assert there.stdout is not None
        assert there.stdin is not None
        assert there.stdout.readline() == "ready\n"
        with pytest.raises(BusyError, match="if it is dead, this is free in"):
            _take(here)
        os.kill(there.pid, signal.SIGSTOP)
        while not _is_taken(here):
            threading.Event().wait(0.1)
        os.kill(there.pid, signal.SIGCONT)
        told, _ = there.communicate("go on\n", timeout=60)
    assert told.split() == ["LockLostError"] * 3
    assert here.files("history") == ["history/1/entry.json"]


def _take(storage: Storage) -> None:
    with storage.lock(Work.SNAPSHOT):
        storage.write_bytes("history/1/entry.json", b"{}")


def _is_taken(storage: Storage) -> bool:
    try:
        _take(storage)
    except BusyError:
        return False
    return True
