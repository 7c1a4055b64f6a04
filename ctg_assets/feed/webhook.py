"""Webhooks: batches of events by HTTP POST, signed.

The request follows Standard Webhooks (https://www.standardwebhooks.com), so that receivers can check
the signature with the libraries there are for it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import time
from collections.abc import Sequence

import httpx

from ctg_assets import __version__
from ctg_assets.feed.config import WebhookSettings
from ctg_assets.feed.errors import EventsRefusedError, SinkFileError, SinkUnavailableError
from ctg_assets.feed.events import Sendable
from ctg_assets.redaction import keep_secret

_SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
_SHORTEST_SECRET = 24

_EXCERPT_CHARACTERS = 200

# A redirect would repeat the request as GET and leave the signed body behind.
_REDIRECTS = range(300, 400)

# Refusals that say something about the address, our credentials or the hour, nothing about events.
_NOT_THE_EVENTS = frozenset({401, 402, 403, 404, 405, 406, 407, 408, 410, 421, 423, 425, 426, 429})
# What proxies answer for a receiver that is down.
_DOWN = frozenset({502, 503, 504})


class Webhook:
    """One receiver of batches. For one thread at a time."""

    def __init__(self, settings: WebhookSettings, secret: str) -> None:
        """Prepare; nothing is sent yet. Raises SinkFileError when the secret is not usable."""
        self._settings = settings
        self._key = signing_key(settings, secret)
        # A query may be a token.
        self._shown, _, query = settings.url.partition("?")
        keep_secret(query)
        self._http: httpx.Client | None = None

    def deliver(self, messages: Sequence[Sendable]) -> None:
        """Send a batch and see it confirmed by a 2xx answer.

        Raises SinkUnavailableError or EventsRefusedError.
        """
        url, shown = self._settings.url, self._shown
        body = b'{"events":[' + b",".join(message.body for message in messages) + b"]}"
        try:
            with self._client().stream(
                "POST", url, content=body, headers=self._headers(messages, body)
            ) as response:
                try:
                    excerpt = _excerpt(response)
                except httpx.HTTPError:
                    # The status has said it.
                    if not response.is_success:
                        raise
        except (httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ReadError) as error:
            # It took the batch and then hung, crashed or closed: perhaps over one of the events.
            message = f"{shown} did not answer the batch: {_error_text(error)}; look at the receiver's log"
            raise EventsRefusedError(message, for_good=False) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            message = f"{shown} cannot be reached: {_error_text(error)}; check the address and the receiver"
            raise SinkUnavailableError(message) from error
        if not response.is_success:
            raise _refusal(response, shown, excerpt)

    def close(self) -> None:
        """Close the connections; the next delivery opens new ones."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _client(self) -> httpx.Client:
        if self._http is None:
            self._http = httpx.Client(
                timeout=self._settings.timeout_seconds,
                headers={"User-Agent": f"ctg-assets/{__version__}"},
            )
        return self._http

    def _headers(self, messages: Sequence[Sendable], body: bytes) -> dict[str, str]:
        ids = ",".join(message.event_id for message in messages)
        # The same batch keeps its id, as its events keep theirs.
        webhook_id = "msg_" + hashlib.sha256(ids.encode()).hexdigest()[:32]
        timestamp = str(int(time.time()))
        return {
            "Content-Type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self._key, webhook_id, timestamp, body),
        }


def signing_key(settings: WebhookSettings, secret: str) -> bytes:
    """The key in a secret (`whsec_`, then base64 of at least 24 bytes).

    Raises SinkFileError when there is none.
    """
    key = b""
    with contextlib.suppress(binascii.Error, ValueError):
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    if not secret.startswith(_SECRET_PREFIX) or len(key) < _SHORTEST_SECRET:
        message = (
            f"sink {settings.name!r}: the secret in {settings.secret_env} is not {_SECRET_PREFIX} "
            f"followed by base64 of at least {_SHORTEST_SECRET} bytes; make one with: "
            f'echo "{_SECRET_PREFIX}$(head -c 32 /dev/urandom | base64)"'
        )
        raise SinkFileError(message)
    return key


def signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """The signature header of a request: HMAC-SHA256 over id, time and body."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _refusal(
    response: httpx.Response, shown: str, excerpt: str
) -> SinkUnavailableError | EventsRefusedError:
    status = response.status_code
    found = f"{shown} answered {status} {response.reason_phrase}: {excerpt}"
    if status in _REDIRECTS:
        there = response.headers.get("Location", "elsewhere")
        return SinkUnavailableError(f"{found}; it points to {there}: name that as the sink's url")
    wait = response.headers.get("Retry-After", "")
    seconds = float(wait) if wait.isdecimal() else None
    if status in _NOT_THE_EVENTS:
        return SinkUnavailableError(f"{found}; check the sink's url and secret", seconds)
    if status in _DOWN:
        return SinkUnavailableError(f"{found}; the receiver is down", seconds)
    return EventsRefusedError(found, for_good=status < httpx.codes.INTERNAL_SERVER_ERROR)


def _excerpt(response: httpx.Response) -> str:
    """The beginning of an answer; the rest is not waited for."""
    begun = b""
    for chunk in response.iter_bytes(4 * _EXCERPT_CHARACTERS):
        begun = chunk
        break
    text = begun.decode("utf-8", errors="replace").strip()
    return repr(text[:_EXCERPT_CHARACTERS]) if text else "(empty body)"


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error) or 'no detail'}"
