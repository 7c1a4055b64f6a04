"""Running a simulator: in the foreground for people, in a thread for tests."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
import uvicorn
from starlette.types import Receive, Scope, Send

from ctg_assets.simulator.data_version import DataVersion
from ctg_assets.simulator.faults import Fault
from ctg_assets.simulator.middleware import API_PREFIX, TransportExposingProtocol
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.request_log import RequestRecord
from ctg_assets.simulator.server import Published, Simulator
from ctg_assets.simulator.source import StudySource

LOOPBACK = "127.0.0.1"

# Long enough for an answer under way, short enough for a person pressing Ctrl-C.
_SHUTDOWN_SECONDS = 2
_START_SECONDS = 30.0


class Stoppable(Protocol):
    """An ASGI application that can be told that it is over."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

    def stop(self) -> None:
        """End answers that are held back."""


class _Server(uvicorn.Server):
    """A uvicorn server that says when it accepts requests, and can be stopped from another thread."""

    def __init__(self, wire: Stoppable, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                wire,
                http=TransportExposingProtocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        self._wire = wire
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Silent answers would otherwise keep their connections, and the shutdown, waiting.
        self._wire.stop()
        await super().shutdown(sockets)


def serve(
    source: StudySource,
    options: SimulatorOptions,
    *,
    host: str = LOOPBACK,
    port: int = 0,
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then finish answers under way and return.

    Port 0 lets the system choose one. `ready` is called with the API's URL once requests are accepted.
    To be called in the main thread. Raises OSError when the address or the request log cannot be used, and
    whatever ends the moving of the data, which ends the serving too.
    """
    simulator = Simulator(source, options)
    # uvicorn raises the signals it was stopped by once more; what follows that is ours to decide.
    handled = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda *_: None) for number in handled}
    try:
        with simulator.log, _listen(host, port) as listener:
            api_url = _base_url(listener) + API_PREFIX
            server = _Server(simulator.wire, lambda: ready(api_url))
            with _moving(simulator, server, options.advance_seconds):
                server.run(sockets=[listener])
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _moving(simulator: Simulator, server: _Server, seconds: float | None) -> Iterator[None]:
    """Publish the next data version every so many seconds for as long as the context lasts; None: never."""
    if seconds is None:
        yield
        return
    stopped = threading.Event()
    failed: list[Exception] = []

    def move() -> None:
        try:
            while not stopped.wait(seconds):
                simulator.registry.advance()
        except Exception as error:  # noqa: BLE001 - raised again where it can be seen
            failed.append(error)
            server.should_exit = True

    thread = threading.Thread(target=move, name="moving data", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if failed:
        raise failed[0]


class RunningSimulator:
    """A simulator being served by a thread of this process."""

    def __init__(self, simulator: Simulator, api_url: str) -> None:
        self._simulator = simulator
        self.api_url = api_url
        self.base_url = api_url.removesuffix(API_PREFIX)

    @property
    def requests(self) -> tuple[RequestRecord, ...]:
        """All API requests so far, in order of arrival."""
        return self._simulator.log.records()

    @property
    def version(self) -> DataVersion:
        """The present data version."""
        return self._simulator.registry.current

    def advance(self, source: StudySource | None = None) -> DataVersion:
        """Publish the next data version, with these studies if given."""
        return self._simulator.registry.advance(source)

    def expire_tokens(self) -> None:
        """Make the page tokens issued so far invalid."""
        self._simulator.registry.expire_tokens()

    def publish_model(
        self,
        metadata: list[dict[str, Any]] | None = None,
        enums: list[dict[str, Any]] | None = None,
    ) -> None:
        """Answer `/studies/metadata` and `/studies/enums` with these; None gives our model's again."""
        self._simulator.published = Published(
            *(
                None if answer is None else msgspec.json.encode(answer)
                for answer in (metadata, enums)
            )
        )

    def set_faults(self, *faults: Fault | str) -> None:
        """Replace the fault plan by these faults, given as such or in FAULT_SYNTAX."""
        self._simulator.set_faults(
            Fault.parse(fault) if isinstance(fault, str) else fault for fault in faults
        )


@contextmanager
def running_simulator(
    source: StudySource, options: SimulatorOptions | None = None
) -> Iterator[RunningSimulator]:
    """Serve on a loopback port of the system's choice for as long as the context lasts."""
    simulator = Simulator(source, options or SimulatorOptions())
    with simulator.log, running_application(simulator.wire) as base_url:
        yield RunningSimulator(simulator, base_url + API_PREFIX)


@contextmanager
def running_application(application: Stoppable) -> Iterator[str]:
    """Serve an application by a thread, on a loopback port of the system's choice; yields its URL."""
    started: Future[None] = Future()
    server = _Server(application, lambda: started.set_result(None))

    def run(listener: socket.socket) -> None:
        try:
            server.run(sockets=[listener])
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    with _listen(LOOPBACK, 0) as listener:
        thread = threading.Thread(target=run, args=(listener,), name="simulator", daemon=True)
        url = _base_url(listener)
        thread.start()
        started.result(timeout=_START_SECONDS)
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port))
    # Connections inherit this. asyncio sets it only on sockets made with an explicit protocol number, and
    # without it every answer waits 40 ms for the client to acknowledge its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
