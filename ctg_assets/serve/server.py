"""The HTTP server, in the foreground until SIGTERM or Ctrl-C."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from ctg_assets.errors import CtgAssetsError

# Long enough for a scrape under way.
_SHUTDOWN_SECONDS = 5


class AddressTakenError(CtgAssetsError):
    """The service cannot listen where it was told to; the message says what to do."""


class _Server(uvicorn.Server):
    """A server that says when it takes requests."""

    def __init__(self, app: Starlette, ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        self._tell_ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tell_ready()


def run(app: Starlette, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then finish the answers under way and return.

    Port 0 lets the system choose one. `ready` is told the service's URL once requests are taken. To be called in
    the main thread. Raises AddressTakenError.
    """
    # uvicorn raises the signals it was stopped by once more; to us they are a good end.
    handled = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda *_: None) for number in handled}
    try:
        with _listen(host, port) as listener:
            url = _url(host, listener)
            _Server(app, lambda: ready(url)).run(sockets=[listener])
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        remedy = (
            "choose another --port" if error.errno == errno.EADDRINUSE else "choose another --host"
        )
        message = f"cannot listen on {host} port {port}: {error.strerror or error}; {remedy}"
        raise AddressTakenError(message) from error


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
