"""A process that has imported what commands need, and runs each command in a fork of itself.

To import Dagster and dbt takes longer (four seconds and three) than what most commands do. A fork is a process like any
other: it has an id, a group and files of its own, dies of signals, and leaves behind what a dead process leaves.

`forking.py FOLDER` listens on a socket in the folder. Who asks (`asking.py`) sends the name of a program, its
arguments, environment, working folder, and its own standard streams; is told the id of the process, then
how it ended. When it is gone before that, the process is killed with all of its group. Who sends STAY is
somebody for whom it is here: when all of them are gone, it ends.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import random
import selectors
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

SOCKET = "asked"
STAY = b"stay"
_MOST_BYTES = 1_000_000
# Whoever has started us may have been killed before it came.
_LONELY_SECONDS = 60

Programs = Mapping[str, Callable[[], object]]


class _Server:
    """Forks, and tells those who asked."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self._programs = programs
        self._users = 0
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listening.bind(str(folder / SOCKET))
        self._listening.listen(64)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ, self._accept)

    def serve(self) -> None:
        """Run commands until nobody is left who might ask."""
        while ready := self._selector.select(None if self._users else _LONELY_SECONDS):
            for key, _ in ready:
                key.data()

    def _stay_with(self, user: socket.socket) -> None:
        def gone() -> None:
            self._selector.unregister(user)
            user.close()
            self._users -= 1
            if not self._users:
                sys.exit()

        self._users += 1
        self._selector.register(user, selectors.EVENT_READ, gone)
        user.send(STAY)

    def _accept(self) -> None:
        asking, _ = self._listening.accept()
        self._selector.register(asking, selectors.EVENT_READ, lambda: self._start(asking))

    def _start(self, asking: socket.socket) -> None:
        self._selector.unregister(asking)
        message, streams, _, _ = socket.recv_fds(asking, _MOST_BYTES, 3)
        if not message:
            asking.close()
            return
        if message == STAY:
            self._stay_with(asking)
            return
        child = os.fork()
        if child == 0:
            _be(self._programs, json.loads(message), streams)
        # By both, so that it has been done whoever comes first.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(child, child)
        for stream in streams:
            os.close(stream)
        ended = os.pidfd_open(child)

        def gone() -> None:
            self._selector.unregister(asking)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)

        def over() -> None:
            self._selector.unregister(ended)
            os.close(ended)
            with contextlib.suppress(KeyError):
                self._selector.unregister(asking)
            _, status = os.waitpid(child, 0)
            _tell(asking, os.waitstatus_to_exitcode(status))
            asking.close()

        self._selector.register(asking, selectors.EVENT_READ, gone)
        self._selector.register(ended, selectors.EVENT_READ, over)
        _tell(asking, child)


def _tell(asking: socket.socket, number: int) -> None:
    # It may have been killed.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        asking.send(str(number).encode())


def _be(programs: Programs, asked: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be the process that was asked for, from its beginning to its end."""
    code = 1
    try:
        _begin(asked, streams)
        code = _exit_code(programs[asked["arguments"][0]])
    finally:
        # What Python does when it ends, but for taking everything apart.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.flush()
        if code == -signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(code)


def _begin(asked: dict[str, Any], streams: list[int]) -> None:
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    tempfile.tempdir = None
    random.seed()
    sys.argv = asked["arguments"]
    sys.path[0] = str(Path(sys.executable).parent)


def _exit_code(program: Callable[[], object]) -> int:
    try:
        program()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        sys.stderr.write(f"{end.code}\n")
        return 1
    except KeyboardInterrupt as interrupt:
        sys.excepthook(KeyboardInterrupt, interrupt, interrupt.__traceback__)
        return -signal.SIGINT
    except Exception as error:  # noqa: BLE001 - what Python does with whatever is raised
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def main() -> None:
    """Import, say so on standard output, and run commands."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    # Else commands would call themselves by the name of this module.
    sys.modules["__main__"].__package__ = None
    # Consoles made at import would keep it, whatever width a command is given.
    os.environ.pop("COLUMNS", None)
    # Not imported by whoever starts us.
    programs = import_module("ctg_assets_tests.support.programs").all_programs(folder)
    gc.collect()
    # Else each collection in a fork would look at, and copy, all that was imported.
    gc.freeze()
    server = _Server(folder, programs)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve()


if __name__ == "__main__":
    main()
