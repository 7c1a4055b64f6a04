"""Between the API and its clients: request log, rate limit, latency, compression, and faults."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ctg_assets.simulator.data_version import Registry
from ctg_assets.simulator.faults import Fault, FaultKind, FaultPlan
from ctg_assets.simulator.rate_window import RateWindow
from ctg_assets.simulator.request_log import RequestLog

API_PREFIX = "/api/v2"

TRANSPORT = "simulator.transport"
_ACCEPTED_GZIP = re.compile(r"gzip(;q=(1(\.0*)?|0\.\d*[1-9]\d*))?", re.ASCII)
_SMALLEST_COMPRESSED = 500
# Level 1 costs a third of the default's time for a tenth more bytes; the simulator shall be fast.
_COMPRESSION_LEVEL = 1
_TRICKLED_PIECES = 20

_FIREWALL_PAGE = (
    b"<html><head><title>403 Forbidden</title></head><body><h1>Request blocked</h1></body></html>"
)
_OUTAGE_PAGE = (
    b"<!DOCTYPE html><html><head><title>ClinicalTrials.gov</title></head>"
    b"<body><h1>We are down for maintenance</h1></body></html>"
)


_TEXT = ((b"content-type", b"text/plain; charset=utf-8"),)
_HTML = ((b"content-type", b"text/html; charset=utf-8"),)


class TransportExposingProtocol(H11Protocol):
    """uvicorn's HTTP protocol, letting the application at the connection that it is to break."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base class
        """Hand the transport to the application with every request of this connection."""
        super().connection_made(transport)
        app = cast("ASGIApp", self.app)

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            await app(scope, receive, send)

        self.app = with_transport


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = _TEXT

    def with_body(self, body: bytes, *headers: tuple[bytes, bytes]) -> _Answer:
        """The same answer with another body, and with these headers besides."""
        return replace(self, body=body, headers=(*self.headers, *headers))

    def start(self) -> Message:
        length = (b"content-length", b"%d" % len(self.body))
        kept = [pair for pair in self.headers if pair[0] != b"content-length"]
        return {"type": "http.response.start", "status": self.status, "headers": [*kept, length]}


def _chunk(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Wire:
    """ASGI middleware that carries the API's answers to clients, well or badly."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        registry: Registry,
        log: RequestLog,
        window: RateWindow | None,
        latency_seconds: float,
        page_number: Callable[[QueryParams], int | None],
    ) -> None:
        self._app = app
        self._registry = registry
        self._log = log
        self._window = window
        self._latency_seconds = latency_seconds
        self._page_number = page_number
        self._stopping = asyncio.Event()
        self.plan = FaultPlan((), 0)

    def stop(self) -> None:
        """End all silences; to be called in the server's event loop before it shuts down."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one request; what is outside the API passes untouched and unlogged."""
        if scope["type"] != "http" or not scope["path"].startswith(API_PREFIX):
            await self._app(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        number = self._log.arrived(
            scope["method"], scope["path"], query, self._registry.current.data_timestamp
        )
        refused = self._rate_limited()
        fault = None if refused else self._next_fault(scope, query)

        def settle(status: int | None) -> None:
            self._log.settled(number, status, None if fault is None else str(fault))

        exchange = _Exchange(scope, receive, send, settle)
        if refused is not None:
            await exchange.complete(refused)
        else:
            await asyncio.sleep(self._latency_seconds)
            await self._carry(exchange, fault)

    def _rate_limited(self) -> _Answer | None:
        wait = self._window.seconds_to_wait(time.monotonic()) if self._window else 0
        return _status_answer(429, wait) if wait else None

    def _next_fault(self, scope: Scope, query: str) -> Fault | None:
        endpoint = _endpoint(scope["path"])
        page = self._page_number(QueryParams(query)) if endpoint == "studies" else None
        return self.plan.next_fault(endpoint, page)

    async def _carry(  # noqa: C901, PLR0912 - one case per kind
        self, exchange: _Exchange, fault: Fault | None
    ) -> None:
        if fault is None:
            await exchange.complete(await self._answer(exchange))
            return
        seconds = fault.seconds or 0
        match fault.kind:
            case FaultKind.STATUS:
                await exchange.complete(_status_answer(fault.status, fault.seconds))
            case FaultKind.HTML:
                await exchange.complete(_Answer(fault.status, _OUTAGE_PAGE, _HTML))
            case FaultKind.RESET:
                await exchange.reset()
            case FaultKind.RESET_BODY:
                await exchange.half(await self._answer(exchange))
                await exchange.reset()
            case FaultKind.TIMEOUT:
                await self._silence(exchange, seconds)
            case FaultKind.TIMEOUT_BODY:
                await exchange.half(await self._answer(exchange))
                await self._silence(exchange, seconds)
            case FaultKind.TRUNCATE:
                await exchange.half(await self._answer(exchange))
                await exchange.close()
            case FaultKind.CUT:
                await exchange.complete(await self._answer(exchange, _cut))
            case FaultKind.MALFORMED:
                await exchange.complete(await self._answer(exchange, _malformed))
            case FaultKind.TRICKLE:
                await exchange.trickle(await self._answer(exchange), seconds)
            case FaultKind.EXPIRE_TOKENS:
                self._registry.expire_tokens()
                await exchange.complete(await self._answer(exchange))
            case FaultKind.NEW_DATA:
                await run_in_threadpool(self._registry.advance)
                await exchange.complete(await self._answer(exchange))

    async def _answer(
        self, exchange: _Exchange, damage: Callable[[bytes], bytes] | None = None
    ) -> _Answer:
        """The API's own answer, its body damaged before it is compressed."""
        answer = await exchange.ask(self._app)
        if damage is not None:
            answer = answer.with_body(damage(answer.body))
        if exchange.accepts_gzip() and len(answer.body) >= _SMALLEST_COMPRESSED:
            answer = await run_in_threadpool(_compressed, answer)
        return answer

    async def _silence(self, exchange: _Exchange, seconds: float) -> None:
        """Send nothing until the client gives up, the time is over or the server stops."""
        exchange.settle(None)
        waits = {
            asyncio.ensure_future(exchange.client_gone()),
            asyncio.ensure_future(self._stopping.wait()),
        }
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await exchange.reset()


class _Exchange:
    """One request and what is sent for it.

    What becomes of it is settled before the client can see it, so that whoever has an answer finds it in
    the log.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, settle: Callable[[int | None], None]
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._settle = settle
        self._settled = False

    def settle(self, status: int | None) -> None:
        """Note the status to be sent, None for none; what was noted first stays."""
        if not self._settled:
            self._settled = True
            self._settle(status)

    def accepts_gzip(self) -> bool:
        accepted = Headers(scope=self._scope).get("accept-encoding", "").replace(" ", "").split(",")
        return any(_ACCEPTED_GZIP.fullmatch(coding) for coding in accepted)

    async def ask(self, app: ASGIApp) -> _Answer:
        """The whole answer of an application, unsent."""
        start: Message = {}
        body: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.append(message.get("body", b""))

        await app(self._scope, self._receive, keep)
        return _Answer(start["status"], b"".join(body), tuple(start["headers"]))

    async def complete(self, answer: _Answer) -> None:
        await self._begin(answer)
        await self._send(_chunk(answer.body, more=False))

    async def half(self, answer: _Answer) -> None:
        """Send head and half the body, leaving the answer unfinished."""
        await self._begin(answer)
        await self._send(_chunk(answer.body[: len(answer.body) // 2], more=True))

    async def trickle(self, answer: _Answer, seconds: float) -> None:
        await self._begin(answer)
        for piece in _pieces(answer.body, _TRICKLED_PIECES):
            await self._send(_chunk(piece, more=True))
            await asyncio.sleep(seconds / _TRICKLED_PIECES)
        await self._send(_chunk(b"", more=False))

    async def _begin(self, answer: _Answer) -> None:
        self.settle(answer.status)
        await self._send(answer.start())

    async def reset(self) -> None:
        """Break the connection so that the client's system reports a reset, not an orderly end."""
        self.settle(None)
        # Without lingering, closing a socket sends RST instead of FIN.
        no_linger = struct.pack("ii", 1, 0)
        transport = self._transport()
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None and not transport.is_closing():
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        transport.abort()
        await self.client_gone()

    async def close(self) -> None:
        """End the connection in an orderly way after what was sent so far."""
        self._transport().close()
        await self.client_gone()

    async def client_gone(self) -> None:
        """Wait until the connection is lost, from either end."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _transport(self) -> asyncio.Transport:
        return cast("asyncio.Transport", self._scope["extensions"][TRANSPORT])


def _endpoint(path: str) -> str:
    match path.removeprefix(API_PREFIX).strip("/").split("/"):
        case ["studies"]:
            return "studies"
        case ["studies", "metadata" | "enums" as name]:
            return name
        case ["studies", _]:
            return "study"
        case ["stats", "size"]:
            return "size"
        case ["version"]:
            return "version"
        case _:
            return "other"


def _status_answer(status: int, retry_after: float | None) -> _Answer:
    if status == HTTPStatus.FORBIDDEN:
        # Refusals come from the firewall before the API, in its own format.
        return _Answer(status, _FIREWALL_PAGE, _HTML)
    known = {item.value: item.phrase for item in HTTPStatus}
    answer = _Answer(status, known.get(status, f"Status {status}").encode())
    if retry_after is None:
        return answer
    return answer.with_body(answer.body, (b"retry-after", b"%d" % round(retry_after)))


def _compressed(answer: _Answer) -> _Answer:
    body = gzip.compress(answer.body, _COMPRESSION_LEVEL, mtime=0)
    return answer.with_body(body, (b"content-encoding", b"gzip"), (b"vary", b"accept-encoding"))


def _cut(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _malformed(body: bytes) -> bytes:
    """JSON with the colon after one key, in the middle if possible, replaced by a blank."""
    at = body.find(b'":', len(body) // 2)
    if at < 0:
        at = body.rfind(b'":')
    return body[: at + 1] + b" " + body[at + 2 :] if at >= 0 else body + b"}"


def _pieces(body: bytes, count: int) -> Iterable[bytes]:
    size = max(1, -(-len(body) // count))
    return (body[at : at + size] for at in range(0, len(body), size))
