"""Requests to an API over HTTP: the rate limit, retries, patience, and what an unusable answer means.

What was seen of the registry (no documented 429, HTML error pages, 403 from the firewall for browser-like
user agents) and of WHO (redirects to an HTML page in outages) decides which failures count as transient.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import httpx
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from ctg_assets.metrics import NO_COUNTERS, Counters
from ctg_assets.registry.counting import RequestCounting
from ctg_assets.registry.errors import (
    PermanentRegistryError,
    RegistryError,
    RequestStoppedError,
    TransientRegistryError,
)
from ctg_assets.registry.http import server_time, trusted_certificates
from ctg_assets.registry.rate_limit import RateLimit
from ctg_assets.registry.refusals import excerpt, status_error

_log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
"""How long the first retry waits, unless somebody says otherwise."""

_CONNECT_TIMEOUT_SECONDS = 15.0
_LONGEST_RETRY_SECONDS = 60.0

# A read time-out restarts with every byte, so a trickling answer would never end. No page of 1,000
# studies (17 MB on average) has reason to take longer than this many read time-outs.
_LONGEST_ANSWER_IN_READ_TIMEOUTS = 10

# Pages of HTML with status 200 have been seen in outages; a wrong URL gives nothing else.
_HTML_ANSWERS_BEFORE_GIVING_UP = 5

# What we note on a request: the event by which it is called off, and when it was permitted.
_STOPPED = "ctg_assets.stopped"
_PERMITTED_AT = "ctg_assets.permitted_at"

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Api:
    """Which API is asked: its base URL, and for messages the setting with it and what that URL is.

    With `says_json`, an answer whose content type is another counts as a page of HTML does.
    """

    url: str
    setting: str
    told_by: str
    says_json: bool = False


class ApiRequests:
    """Rate-limited, retrying requests to one API, by any number of threads."""

    def __init__(
        self,
        api: Api,
        *,
        rate_limit: RateLimit,
        user_agent: str,
        read_timeout_seconds: float,
        retry_seconds: float,
        first_pause_seconds: float = FIRST_RETRY_SECONDS,
        transport: httpx.BaseTransport | None = None,
        counters: Counters = NO_COUNTERS,
    ) -> None:
        """Prepare a connection to an API; nothing is sent yet.

        `retry_seconds` bounds how long one call keeps retrying transient failures; the pause before
        the first retry is `first_pause_seconds` and up to as much again, and doubles from there.
        `transport` is for tests that answer without a network. `counters` hear of every request.
        """
        self.api = api
        # What the API's clock said with its last answer; None before the first, or if it did not say.
        self.server_time: datetime | None = None
        # How long that answer took, from the permission to ask until it was complete.
        self.answer_seconds = 0.0
        self._rate_limit = rate_limit
        # Until when (monotonic) we were asked to wait, whichever of several requests it was said to.
        self._not_before = 0.0
        self._retry_seconds = retry_seconds
        self._first_pause_seconds = first_pause_seconds
        self._answer_seconds = read_timeout_seconds * _LONGEST_ANSWER_IN_READ_TIMEOUTS
        # stamina keeps hooks for the process as a whole; its own one logs neither cause nor remedy.
        set_on_retry_hooks((_log_retry,))
        self._counting = RequestCounting(api.url, counters)
        self._closing = threading.Lock()
        self._under_way = 0
        self._closed = False
        self._http = httpx.Client(
            headers={"User-Agent": user_agent, "Accept": "application/json"},
            timeout=httpx.Timeout(read_timeout_seconds, connect=_CONNECT_TIMEOUT_SECONDS),
            follow_redirects=True,
            verify=trusted_certificates(),
            # A redirect is answered with a request of its own, which counts like any other.
            event_hooks={
                "request": [self._permit, self._counting.sent],
                "response": [self._counting.answered],
            },
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections; while other threads still use some, the last of them closes all."""
        with self._closing:
            self._closed = True
            if not self._under_way:
                self._http.close()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        # httpx drops a connection that is opened while it closes, and its socket stays open.
        with self._closing:
            self._under_way += 1
        try:
            yield
        finally:
            with self._closing:
                self._under_way -= 1
                if self._closed and not self._under_way:
                    self._http.close()

    def get(
        self,
        path: str,
        parameters: Mapping[str, str],
        read: Callable[[bytes], _Answer],
        retry_seconds: float | None = None,
        stopped: threading.Event | None = None,
    ) -> _Answer:
        """What `read` makes of the body of an answer, which is no HTML; `path` begins with a slash, or is a whole URL.

        `read` raises RegistryError for a body that is not what was asked for, and is tried again if that is
        transient. `retry_seconds` overrides the patience. Once `stopped` is set, nothing more is sent.
        Raises RequestStoppedError then, and RegistryError for what brings no usable answer.
        """
        patience = self._retry_seconds if retry_seconds is None else retry_seconds
        give_up_at = time.monotonic() + patience
        pages_of_html = 0

        def backoff(error: Exception) -> bool | float:
            """Whether, and if the API said so after how many seconds, to try again."""
            if not isinstance(error, TransientRegistryError):
                return False
            if error.retry_after is None:
                return True
            # Waiting longer than our patience would only delay the bad news.
            until = time.monotonic() + error.retry_after
            if until >= give_up_at:
                return False
            self._not_before = max(self._not_before, until)
            return error.retry_after

        for attempt in stamina.retry_context(
            on=backoff,
            attempts=None if patience else 1,
            timeout=patience or None,
            wait_initial=self._first_pause_seconds,
            wait_max=_LONGEST_RETRY_SECONDS,
            wait_jitter=self._first_pause_seconds,
        ):
            with attempt, self._counting.attempt(path):
                body, found = self._send(path, parameters, stopped)
                if found is not None:
                    pages_of_html += 1
                    raise self._html_error(path, body, found, pages_of_html)
                return read(body)
        raise AssertionError  # pragma: no cover - stamina lets the last exception through

    def _permit(self, request: httpx.Request) -> None:
        """Wait until a request may be sent, and note when that was."""
        stopped: threading.Event | None = request.extensions.get(_STOPPED)
        while (pause := self._not_before - time.monotonic()) > 0:
            time.sleep(pause)
        self._rate_limit.acquire()
        if stopped is not None and stopped.is_set():
            message = f"{request.url} was not asked: nobody waits for the answer any more"
            raise RequestStoppedError(message)
        request.extensions[_PERMITTED_AT] = time.monotonic()

    def _send(
        self, path: str, parameters: Mapping[str, str], stopped: threading.Event | None
    ) -> tuple[bytes, str | None]:
        """One attempt: the body of a 200 answer, and what it is if not JSON; or a typed failure."""
        url = self._url(path)
        about = {_STOPPED: stopped}
        try:
            with (
                self._in_use(),
                self._http.stream(
                    "GET", url, params=dict(parameters) or None, extensions=about
                ) as response,
            ):
                deadline = time.monotonic() + self._answer_seconds
                chunks = []
                for chunk in response.iter_bytes():
                    chunks.append(chunk)
                    if time.monotonic() > deadline:
                        message = f"{url} was still sending after {self._answer_seconds:.0f} s"
                        raise TransientRegistryError(message)
                body = b"".join(chunks)
                self.server_time = server_time(response)
                permitted_at = response.request.extensions[_PERMITTED_AT]
                self.answer_seconds = time.monotonic() - permitted_at
        except (
            httpx.UnsupportedProtocol,
            httpx.LocalProtocolError,
            httpx.InvalidURL,
            httpx.TooManyRedirects,
        ) as error:
            message = f"{url} cannot be asked: {error}; check {self.api.setting}"
            raise PermanentRegistryError(message) from error
        except httpx.TransportError as error:
            message = (
                f"no usable answer from {url}: {type(error).__name__}: {str(error) or 'no detail'}; "
                f"check the network and {self.api.setting}"
            )
            raise TransientRegistryError(message) from error
        except httpx.DecodingError as error:
            message = f"{url} sent a body that cannot be decompressed: {error}"
            raise TransientRegistryError(message) from error
        if response.status_code == httpx.codes.OK:
            return body, self._found_instead(response, body)
        raise status_error(response, body, self.api.setting, self.api.told_by)

    def _found_instead(self, response: httpx.Response, body: bytes) -> str | None:
        """What an answer is that cannot be JSON; None for one that may be."""
        if body.lstrip()[:1] == b"<":
            return "HTML"
        content_type = str(response.headers.get("Content-Type", "no content type"))
        return content_type if self.api.says_json and "json" not in content_type.lower() else None

    def _url(self, path: str) -> str:
        return self.api.url + path if path.startswith("/") else path

    def _html_error(self, path: str, body: bytes, found: str, seen: int) -> RegistryError:
        """A page of HTML where JSON belongs: an outage page now and then, a wrong URL every time."""
        message = f"{self._url(path)} answered with {found} instead of JSON: {excerpt(body)}"
        if seen < _HTML_ANSWERS_BEFORE_GIVING_UP:
            return TransientRegistryError(message)
        return PermanentRegistryError(
            f"{message}; seen {seen} times in a row. Is {self.api.setting} {self.api.told_by}?"
        )


def _log_retry(details: RetryDetails) -> None:
    _log.warning("%s; trying again in %.1f s", details.caused_by, details.wait_for)
