"""Publishers and consumers in processes of their own, to be killed."""

from __future__ import annotations

import contextlib
import http.server
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pika

from ctg_assets.feed.config import AmqpSettings, WebhookSettings
from ctg_assets.feed.runner import make_sink, run_feed
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.feed.helpers import (
    PATIENCE_SECONDS,
    QUICK,
    SECRET,
    SECRET_ENV,
    some_events,
)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@contextlib.contextmanager
def publishing(
    settings: WebhookSettings | AmqpSettings, address: PostgresAddress, events: int
) -> Iterator[ForkServerProcess]:
    """A process that delivers so many events to a sink, until it is killed."""
    process = _context().Process(target=_publish, args=(settings, address, events), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(PATIENCE_SECONDS)
        process.close()


def _publish(
    settings: WebhookSettings | AmqpSettings, address: PostgresAddress, events: int
) -> None:
    run_feed(
        [(settings, make_sink(settings, {SECRET_ENV: SECRET}))],
        address,
        some_events(events),
        once=False,
        stop=threading.Event(),
        pauses=QUICK,
    )


@contextlib.contextmanager
def receiving(port: int, file: Path, killed_at: int | None) -> Iterator[ForkServerProcess]:
    """A receiver of webhooks that writes down what it gets, and may be killed at the n-th request."""
    process = _context().Process(target=_receive, args=(port, file, killed_at), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join(PATIENCE_SECONDS)
        process.close()


def _receive(port: int, file: Path, killed_at: int | None) -> None:
    requests = 0

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal requests
            requests += 1
            batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["events"]
            _write_down(file, batch)
            if requests == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()


def kill_consumer(port: int, queue: str, file: Path, messages: int) -> None:
    """Let a consumer take so many messages, which it writes down, and kill it before it confirms them."""
    process = _context().Process(target=_consume, args=(port, queue, file, messages), daemon=True)
    process.start()
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    process.close()


def _consume(port: int, queue: str, file: Path, messages: int) -> None:
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)).channel()
    for taken, (_, _, body) in enumerate(channel.consume(queue), start=1):
        _write_down(file, [json.loads(body)])
        if taken == messages:
            os.kill(os.getpid(), signal.SIGKILL)


def _write_down(file: Path, events: list[dict[str, object]]) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.writelines(f"{event['change_seq']} {event['event_id']}\n" for event in events)


def written_down(file: Path) -> list[tuple[int, str]]:
    """Number and id of each event that a consumer wrote down."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        number, event_id = line.split()
        found.append((int(number), event_id))
    return found
