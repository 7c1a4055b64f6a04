"""Machines of a network of their own, as far as one kernel has them: namespaces of network, processes and host name.

A machine sees its own processes only, and reaches what listens on the network's address, nothing else. Its disk is a folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

_PROGRAMS = ("ip", "unshare", "hostname")
_PATIENCE_SECONDS = 30
_LARGEST_PIECE = 1 << 16


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Machine:
    """A machine that runs one command, which may be killed and started again."""

    def __init__(self, name: str, namespace: str, link: str, address: str) -> None:
        """Nothing runs yet."""
        self.name = name
        self.address = address
        self._namespace = namespace
        self._link = link
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        """Start the machine, and this as its only command."""
        entered = ["ip", "netns", "exec", self._namespace, "unshare", "--uts", "--pid", "--fork"]
        entered += ["--kill-child", "--mount-proc", "sh", "-c"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*entered, f'hostname {self.name}; exec "$@"', "sh", *command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def is_up(self) -> bool:
        """Whether its command runs."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """The processes of its command, the first one first."""
        if self._process is None or not self.is_up:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            # `unshare` waits for the first one.
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def kill(self) -> None:
        """`kill -9` all of it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_PATIENCE_SECONDS)
            self._process = None

    def unplug(self) -> None:
        """Cut it off: who talks to it hears nothing more, not even that it is gone."""
        _ip("link", "set", self._link, "down")

    def plug_in(self) -> None:
        """Undo `unplug`."""
        _ip("link", "set", self._link, "up")


class Network:
    """Machines, and the address at which they reach what this process forwards to them."""

    def __init__(self, name: str, number: int, stack: contextlib.ExitStack) -> None:
        """Use what `network` has made."""
        self.host = f"10.77.{number}.1"
        self._name = name
        self._number = number
        self._machines = 0
        self._stack = stack

    def machine(self) -> Machine:
        """One more machine, which ends with the network."""
        self._machines += 1
        number = self._machines
        namespace, outer, inner = (f"{self._name}{kind}{number}" for kind in "nop")
        address = f"10.77.{self._number}.{10 + number}"
        _ip("netns", "add", namespace)
        self._stack.callback(_ip, "netns", "delete", namespace)
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
        _ip("link", "set", outer, "master", self._name, "up")
        _ip("link", "set", inner, "netns", namespace)
        _ip("-n", namespace, "address", "add", f"{address}/24", "dev", inner)
        _ip("-n", namespace, "link", "set", inner, "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        machine = Machine(f"machine{number}", namespace, outer, address)
        self._stack.callback(machine.kill)
        return machine


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network without machines; skips the test where none can be made."""
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} (Debian: apt-get install iproute2 util-linux)")
    number = 1 + os.getpid() % 250
    name = f"ctg{os.getpid() % 10**7}"
    with contextlib.ExitStack() as stack:
        try:
            _ip("link", "add", name, "type", "bridge")
            stack.callback(_ip, "link", "delete", name)
            _ip("address", "add", f"10.77.{number}.1/24", "dev", name)
            _ip("link", "set", name, "up")
            _ip("netns", "add", f"{name}try")
            _ip("netns", "delete", f"{name}try")
        except subprocess.CalledProcessError as error:
            pytest.skip(
                f"no network namespaces can be made here (as root they can): {error.stderr}"
            )
        yield Network(name, number, stack)


class Line:
    """Forwards connections from an address to a port of this machine; it can be cut."""

    def __init__(self, host: str, port: int) -> None:
        """Forward from the same port of `host`."""
        self._port = port
        self._is_cut = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((host, port))
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Break all connections, and every new one, while the block runs."""
        self._is_cut.set()
        try:
            self._break_all()
            yield
        finally:
            self._is_cut.clear()

    def close(self) -> None:
        """Forward nothing more."""
        self._is_cut.set()
        # Else the thread would wait for one more connection.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            self._break_all()
            thread.join(_PATIENCE_SECONDS)

    def _start(self, target: Any, *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)
        return thread

    def _break_all(self) -> None:
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                ours.close()
                continue
            self._start(self._connect, ours, theirs)

    def _connect(self, ours: socket.socket, theirs: socket.socket) -> None:
        with ours, theirs:
            with self._lock:
                self._open |= {ours, theirs}
            if self._is_cut.is_set():
                self._break_all()
            back = self._start(_pass_on, theirs, ours)
            _pass_on(ours, theirs)
            back.join()
            with self._lock:
                self._open -= {ours, theirs}


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_LARGEST_PIECE):
            target.sendall(piece)
    for connection in (source, target):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def line(host: str, port: int) -> Iterator[Line]:
    """A line that is there while the block runs."""
    made = Line(host, port)
    try:
        yield made
    finally:
        made.close()
