"""Webhooks: the request, its signature, and what the answers mean."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import threading
from typing import Any

import pytest

from ctg_assets.feed.errors import EventsRefusedError, SinkFileError, SinkUnavailableError
from ctg_assets.feed.webhook import Webhook, signature, signing_key
from ctg_assets_tests.feed.helpers import (
    SECRET,
    Request,
    decoded,
    event,
    messages,
    receiver,
    webhook_settings,
)


def deliver(url: str, count: int = 3, **given: Any) -> None:
    """Send that many events to a receiver."""
    hook = Webhook(webhook_settings(url, **given), SECRET)
    try:
        hook.deliver(messages([event(number) for number in range(1, count + 1)]))
    finally:
        hook.close()


def test_a_batch_is_one_signed_request() -> None:
    """The body holds the events as they are; id, time and signature are those of Standard Webhooks."""
    with receiver() as there:
        deliver(there.url)
        deliver(there.url)
    first, second = there.requests
    assert first.numbers == [1, 2, 3]
    assert first.events[0] == decoded(messages([event(1)])[0].body)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    signed = f"{first.headers['webhook-id']}.{first.headers['webhook-timestamp']}.".encode()
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = hmac.new(key, signed + first.body, hashlib.sha256).digest()
    assert first.headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


def test_the_signature_is_the_standards() -> None:
    """The example that the authors of Standard Webhooks publish gives their signature."""
    key = signing_key(webhook_settings(), SECRET)
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [400, 409, 413, 422])
def test_what_is_called_wrong_is_refused_for_good(status: int) -> None:
    """Answers about the content of the request are about the events."""
    with receiver(lambda _: status) as there, pytest.raises(EventsRefusedError) as found:
        deliver(there.url)
    assert found.value.for_good
    assert f"answered {status}" in str(found.value)
    assert "as told" in str(found.value)


@pytest.mark.parametrize("status", [500, 501, 0])
def test_failing_at_a_batch_is_not_for_good(status: int) -> None:
    """A receiver that breaks, or hangs up, does not say whose fault it was."""
    with receiver(lambda _: status) as there, pytest.raises(EventsRefusedError) as found:
        deliver(there.url)
    assert not found.value.for_good


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 408, 429, 502, 503, 504])
def test_refusing_whatever_is_sent_is_unavailability(status: int) -> None:
    """Answers about address, credentials, rate or outage say nothing about the events."""
    with receiver(lambda _: status) as there, pytest.raises(SinkUnavailableError) as found:
        deliver(there.url)
    assert f"answered {status}" in str(found.value)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Wed, 21 Oct", None)])
def test_a_receiver_can_ask_to_wait(header: str, seconds: float | None) -> None:
    """`Retry-After` is taken over where it gives seconds."""

    def busy(_: Request) -> tuple[int, dict[str, str]]:
        return 429, {"Retry-After": header}

    with receiver(busy) as there, pytest.raises(SinkUnavailableError) as found:
        deliver(there.url)
    assert found.value.retry_after == seconds


def test_nobody_there_is_unavailability() -> None:
    """A refused connection names the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SinkUnavailableError, match=f"127.0.0.1:{port}.*cannot be reached"):
        deliver(f"http://127.0.0.1:{port}/hook")


def test_no_answer_in_time_is_not_for_good() -> None:
    """A receiver that takes the request and then says nothing may hang over one of the events."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(EventsRefusedError, match="ReadTimeout") as found:
            deliver(f"http://127.0.0.1:{port}/hook", timeout_seconds=0.05)
    assert not found.value.for_good


def test_the_status_is_the_answer() -> None:
    """A receiver that confirms and then never ends its answer has confirmed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def confirm() -> None:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            confirmed.append(connection)

        confirmed: list[socket.socket] = []
        thread = threading.Thread(target=confirm)
        thread.start()
        deliver(f"http://127.0.0.1:{listener.getsockname()[1]}/hook", timeout_seconds=0.2)
        thread.join()
        confirmed[0].close()


@pytest.mark.parametrize("secret", ["", "hunter2", "whsec_c2hvcnQ=", "whsec_!!", SECRET[6:]])
def test_a_secret_that_signs_nothing_is_refused(secret: str) -> None:
    """What is no signing secret is refused at once, with the way to make one, and is not shown."""
    with pytest.raises(SinkFileError, match="head -c 32 /dev/urandom") as found:
        Webhook(webhook_settings(), secret)
    assert not secret or secret not in str(found.value)


def test_a_connection_is_used_again() -> None:
    """Batches in a row go over one connection, and closing it is no end."""
    with receiver() as there:
        hook = Webhook(webhook_settings(there.url), SECRET)
        for _ in range(3):
            hook.deliver(messages([event(1)]))
        hook.close()
        hook.deliver(messages([event(1)]))
        hook.close()
        hook.close()
    assert len(there.requests) == 4
    assert len({request.client for request in there.requests}) == 2
