"""What tests of the feed need: events, a receiver of webhooks, sinks that do as they are told."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from ctg_assets.feed.config import FilterSettings, WebhookSettings
from ctg_assets.feed.delivery import Pauses
from ctg_assets.feed.events import ChangeEvent, Message

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRET_ENV = "RECEIVER_SECRET"
QUICK = Pauses(first=0.001, longest=0.01, longest_while_down=0.05, for_news=0.05)

# Far more than anything here takes; only a test that fails waits for so long.
PATIENCE_SECONDS = 60.0


def event(change_seq: int, **facts: Any) -> ChangeEvent:
    """An update of the study of the same number, but for what is given."""
    return ChangeEvent(
        **{
            "change_seq": change_seq,
            "nct_id": f"NCT{change_seq:08d}",
            "kind": "update",
            "observed_at": datetime(2026, 11, 20, 9, tzinfo=UTC),
            **facts,
        }
    )


@dataclass(frozen=True)
class ListedEvents:
    """A source of events that lie in a list."""

    listed: Sequence[ChangeEvent]

    def events(self, after_seq: int, limit: int) -> Sequence[ChangeEvent]:
        """The next events."""
        return [event for event in self.listed if event.change_seq > after_seq][:limit]

    def newest(self) -> int:
        """The number of the last event."""
        return max((event.change_seq for event in self.listed), default=0)


def some_events(count: int) -> ListedEvents:
    """Events numbered from 1."""
    return ListedEvents([event(number) for number in range(1, count + 1)])


def ids(events: Sequence[ChangeEvent]) -> list[str]:
    """The ids of events."""
    return [event.event_id for event in events]


def webhook_settings(url: str = "http://127.0.0.1:9/", **given: Any) -> WebhookSettings:
    """A webhook that wants everything from the beginning, but for what is given."""
    return WebhookSettings(
        **{
            "name": "hook",
            "type": "webhook",
            "url": url,
            "secret_env": SECRET_ENV,
            "start": "beginning",
            "batch_size": 4,
            "attempts": 2,
            "filters": FilterSettings(),
            **given,
        }
    )


@dataclass
class ScriptedSink:
    """A sink in this process; `verdict` raises what a batch is to fail with."""

    verdict: Callable[[Sequence[int]], object] = lambda numbers: None
    taken: list[int] = field(default_factory=list)
    tries: list[list[int]] = field(default_factory=list)

    def deliver(self, messages: Sequence[Message]) -> None:
        """Take messages, unless told otherwise."""
        numbers = [message.change_seq for message in messages]
        self.tries.append(numbers)
        self.verdict(numbers)
        self.taken += numbers

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Request:
    """What a receiver was sent, and from which address."""

    client: tuple[str, int]
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of the batch."""
        found: list[dict[str, Any]] = json.loads(self.body)["events"]
        return found

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events."""
        return [event["change_seq"] for event in self.events]


Answer = tuple[int, dict[str, str]]


class Receiver:
    """A web server on loopback that keeps what it is sent."""

    def __init__(self, answer: Callable[[Request], int | Answer]) -> None:
        """Answer each request with a status, and headers if given."""
        self.requests: list[Request] = []
        self._answer = answer
        self._changed = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver._take(
                    Request(self.client_address, dict(self.headers.items()), body)
                )
                status, headers = answer if isinstance(answer, tuple) else (answer, {})
                if status == 0:
                    self.close_connection = True
                    return
                said = b"as told"
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(said))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Threads that hold a request are not waited for when the server closes.
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def _take(self, request: Request) -> int | Answer:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return self._answer(request)

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        """Wait until requests have come that make the condition true."""
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_SECONDS), what

    @contextlib.contextmanager
    def running(self) -> Iterator[Receiver]:
        """Serve while the block runs."""
        # It looks this often whether it is to stop; by default each test would wait for half a second.
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


@contextlib.contextmanager
def receiver(answer: Callable[[Request], int | Answer] = lambda _: 200) -> Iterator[Receiver]:
    """A receiver that answers as told, with 200 unless told."""
    with Receiver(answer).running() as running:
        yield running


def messages(events: Sequence[ChangeEvent]) -> list[Message]:
    """Events as they are sent."""
    return [Message.of(event) for event in events]


def decoded(body: bytes) -> dict[str, Any]:
    """A message's JSON."""
    found: dict[str, Any] = msgspec.json.decode(body)
    return found
