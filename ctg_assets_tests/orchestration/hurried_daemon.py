"""Dagster's daemon and its server of our code, without what takes a test long: pauses of five seconds and imports.

The daemon looks at sensors and at the queue of runs several times a second. Code server and runs are forks of
processes that have everything imported, where Dagster starts each as a new Python, which imports for five seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from dagster._cli import main as dagster_main
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._daemon import sensor
from dagster._daemon.cli import main as daemon_main
from dagster._grpc import server

_PAUSE_SECONDS = 0.5


def main() -> None:
    """Be `dagster-daemon`."""
    hurried: Any = sensor
    hurried.MIN_INTERVAL_LOOP_TIME = _PAUSE_SECONDS
    coordinator: Any = QueuedRunCoordinator
    coordinator.dequeue_interval_seconds = property(lambda _: _PAUSE_SECONDS)
    servers: Any = server
    program = shutil.which("code-server")
    assert program is not None
    servers.get_python_environment_entry_point = lambda _: [program]
    daemon_main()


def serve_code() -> None:
    """Be `dagster api grpc`, whose runs are forks of this process as it is now, with nothing under way in it."""
    _fork_runs()
    dagster_main()  # type: ignore[no-untyped-call]


def _fork_runs() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(tempfile.mkdtemp(prefix="ctg-assets-runs-")) / "asked")
        listener.bind(address)
        listener.listen()
        alive, alive_until_closed = os.pipe()
        if os.fork() == 0:
            os.close(alive_until_closed)
            try:
                forkserver.main(listener.fileno(), alive, [])
            finally:
                shutil.rmtree(Path(address).parent, ignore_errors=True)
                os._exit(0)
        os.close(alive)
    # Where `multiprocessing` notes the server that it starts itself.
    starter: Any = forkserver._forkserver
    starter._forkserver_address, starter._forkserver_alive_fd = address, alive_until_closed
    starter._forkserver_pid = os.getpid()
    starter.ensure_running = lambda: None
    context = multiprocessing.get_context("forkserver")
    # Set by the server's own `__init__`, which a property of the class overrules.
    servers: Any = server.DagsterApiServer
    servers._mp_ctx = property(lambda _: context, lambda _, _chosen: None)
