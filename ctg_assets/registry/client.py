"""The registry's API v2 as typed calls.

What the API does is written down in its OpenAPI document 2.0.5; what it was seen to do beyond that
(no documented 429, HTML error pages, 403 from the firewall for browser-like user agents) decides
which failures count as transient.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Self, TypeVar, cast

import httpx
import msgspec
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from ctg_assets.metrics import NO_COUNTERS, Counters
from ctg_assets.model.json_text import cut_list
from ctg_assets.model.published import PublishedEnum, PublishedField
from ctg_assets.registry.counting import RequestCounting
from ctg_assets.registry.errors import (
    BadRequestError,
    PageTokenRejectedError,
    PermanentRegistryError,
    RegistryError,
    RequestStoppedError,
    TransientRegistryError,
)
from ctg_assets.registry.http import server_time, trusted_certificates
from ctg_assets.registry.rate_limit import RateLimit
from ctg_assets.registry.refusals import excerpt, status_error

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_SECONDS = 15.0
_FIRST_RETRY_SECONDS = 0.5
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
class RegistryVersion:
    """The registry's answer to `/version`.

    `data_timestamp` is the time of its last data refresh: ISO 8601 without an offset, UTC.
    """

    api_version: str
    data_timestamp: str


@dataclass(frozen=True)
class PageRequest:
    """What identifies one page of a walk.

    `query` is an Essie expression, empty for every study; `token` is None for the first page.
    `posted_since` leaves out studies whose last update was posted before that day, `within` (an Essie
    expression, empty for none) those that it does not match. `ids` are NCT ids,
    of which the registry also knows those that were merged into others: it answers with the surviving
    study. `fields` are the names of those to return of each study; none means all.
    """

    query: str
    page_size: int
    token: str | None = None
    count_total: bool = False
    posted_since: date | None = None
    ids: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    within: str = ""

    def parameters(self) -> dict[str, str]:
        """The query parameters of this request to `/studies`."""
        parameters = {"format": "json", "pageSize": str(self.page_size)}
        if self.query:
            parameters["query.term"] = self.query
        filters = [self.within] if self.within else []
        if self.posted_since is not None:
            since = self.posted_since.isoformat()
            filters.append(f"AREA[LastUpdatePostDate]RANGE[{since},MAX]")
        if filters:
            # A filter of its own leaves the query as its owner wrote it; joining the two by AND would
            # change the meaning of one that is a list of ids, which the registry treats on its own.
            parameters["filter.advanced"] = (
                filters[0] if len(filters) == 1 else " AND ".join(f"({each})" for each in filters)
            )
        if self.ids:
            parameters["filter.ids"] = "|".join(self.ids)
        if self.fields:
            parameters["fields"] = "|".join(self.fields)
        if self.count_total:
            parameters["countTotal"] = "true"
        if self.token is not None:
            parameters["pageToken"] = self.token
        return parameters


@dataclass(frozen=True)
class Page:
    """One page of studies: each study's JSON exactly as sent, and the token of the page after it.

    `fetched_at` is timezone-aware, UTC, taken when the answer was complete; `seconds` is how long that
    took, with everything waited for: the rate limit, refused and broken attempts.
    """

    studies: list[bytes] = field(repr=False)
    next_token: str | None
    total_count: int | None
    fetched_at: datetime
    seconds: float


class _PageEnvelope(msgspec.Struct):
    studies: list[msgspec.Raw]
    nextPageToken: str | None = None  # noqa: N815 - the API's spelling
    totalCount: int | None = None  # noqa: N815 - the API's spelling


class _PageAround(msgspec.Struct):
    nextPageToken: str | None = None  # noqa: N815 - the API's spelling
    totalCount: int | None = None  # noqa: N815 - the API's spelling

    def with_studies(self, studies: list[bytes]) -> _PageEnvelope:
        return _PageEnvelope(list(map(msgspec.Raw, studies)), self.nextPageToken, self.totalCount)


class _VersionAnswer(msgspec.Struct):
    apiVersion: str  # noqa: N815 - the API's spelling
    dataTimestamp: str  # noqa: N815 - the API's spelling


class RegistryClient:
    """Typed, rate-limited, retrying access to one registry."""

    def __init__(
        self,
        api_url: str,
        *,
        rate_limit: RateLimit,
        user_agent: str,
        read_timeout_seconds: float,
        retry_seconds: float,
        first_pause_seconds: float = _FIRST_RETRY_SECONDS,
        transport: httpx.BaseTransport | None = None,
        counters: Counters = NO_COUNTERS,
    ) -> None:
        """Prepare a connection to `api_url`; nothing is sent yet.

        `retry_seconds` bounds how long one call keeps retrying transient failures; the pause before
        the first retry is `first_pause_seconds` and up to as much again, and doubles from there.
        `transport` is for tests that answer without a network. `counters` hear of every request.
        """
        self.api_url = api_url
        # What the registry's clock said with its last answer; None before the first, or if it did not say.
        self.server_time: datetime | None = None
        # How long that answer took, from the permission to ask until it was complete.
        self.answer_seconds = 0.0
        self._rate_limit = rate_limit
        # Until when (monotonic) the registry asked us to wait, whichever of several requests it said it to.
        self._not_before = 0.0
        self._retry_seconds = retry_seconds
        self._first_pause_seconds = first_pause_seconds
        self._answer_seconds = read_timeout_seconds * _LONGEST_ANSWER_IN_READ_TIMEOUTS
        # stamina keeps hooks for the process as a whole; its own one logs neither cause nor remedy.
        set_on_retry_hooks((_log_retry,))
        self._counting = RequestCounting(api_url, counters)
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

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

    def version(self, retry_seconds: float | None = None) -> RegistryVersion:
        """The API version and the time of the registry's last data refresh.

        `retry_seconds` overrides the client's patience, for callers with somebody waiting.
        """
        answer = self._get("/version", {}, _VersionAnswer, retry_seconds)
        return RegistryVersion(answer.apiVersion, answer.dataTimestamp)

    def count(self, request: PageRequest, stopped: threading.Event | None = None) -> int:
        """How many studies all pages of a walk have together at the current data version.

        What is asked for is the page of `request`, the first one. `stopped` is as for `page`.
        """
        parameters = replace(request, token=None, count_total=True).parameters()
        envelope = self._get("/studies", parameters, _PageEnvelope, stopped=stopped)
        if envelope.totalCount is None:
            message = (
                f"{self.api_url}/studies was asked with countTotal=true and answered without "
                "totalCount; is this the API v2 of ClinicalTrials.gov?"
            )
            raise PermanentRegistryError(message)
        return envelope.totalCount

    def metadata(self, retry_seconds: float | None = None) -> list[PublishedField]:
        """The registry's field tree: its top-level nodes with all that is below them.

        `retry_seconds` overrides the client's patience, as for `version`.
        """
        return self._get("/studies/metadata", {}, list[PublishedField], retry_seconds)

    def enums(self, retry_seconds: float | None = None) -> list[PublishedEnum]:
        """The registry's enumerations with their values.

        `retry_seconds` overrides the client's patience, as for `version`.
        """
        return self._get("/studies/enums", {}, list[PublishedEnum], retry_seconds)

    def page(
        self,
        request: PageRequest,
        retry_seconds: float | None = None,
        stopped: threading.Event | None = None,
    ) -> Page:
        """One page of studies.

        `retry_seconds` overrides the client's patience, as for `version`. Once `stopped` is set, nothing
        more is sent. Raises PageTokenRejectedError when the registry does not accept the token (any more),
        RequestStoppedError when it was stopped.
        """
        started = time.monotonic()
        parameters = request.parameters()
        try:
            envelope = self._get("/studies", parameters, _PageEnvelope, retry_seconds, stopped)
        except BadRequestError as error:
            if request.token is None:
                raise
            message = f"the registry no longer accepts page token {request.token!r}: {error}"
            raise PageTokenRejectedError(message) from error
        return Page(
            studies=[bytes(raw) for raw in envelope.studies],
            next_token=envelope.nextPageToken or None,
            total_count=envelope.totalCount,
            fetched_at=datetime.now(UTC),
            seconds=time.monotonic() - started,
        )

    def _get(
        self,
        path: str,
        parameters: Mapping[str, str],
        answer_type: type[_Answer],
        retry_seconds: float | None = None,
        stopped: threading.Event | None = None,
    ) -> _Answer:
        patience = self._retry_seconds if retry_seconds is None else retry_seconds
        give_up_at = time.monotonic() + patience
        pages_of_html = 0

        def backoff(error: Exception) -> bool | float:
            """Whether, and if the registry said so after how many seconds, to try again."""
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
                body = self._send(path, parameters, stopped)
                if body.lstrip()[:1] == b"<":
                    pages_of_html += 1
                    raise self._html_error(path, body, pages_of_html)
                return self._decode(path, body, answer_type)
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
    ) -> bytes:
        """One attempt: the body of a 200 answer, or a typed failure."""
        url = self.api_url + path
        about = {_STOPPED: stopped}
        try:
            with (
                self._in_use(),
                self._http.stream(
                    "GET", url, params=dict(parameters), extensions=about
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
            message = f"{url} cannot be asked: {error}; check CTG_API_URL"
            raise PermanentRegistryError(message) from error
        except httpx.TransportError as error:
            message = (
                f"no usable answer from {url}: {type(error).__name__}: {str(error) or 'no detail'}; "
                "check the network and CTG_API_URL"
            )
            raise TransientRegistryError(message) from error
        except httpx.DecodingError as error:
            message = f"{url} sent a body that cannot be decompressed: {error}"
            raise TransientRegistryError(message) from error
        if response.status_code == httpx.codes.OK:
            return body
        raise status_error(response, body)

    def _decode(self, path: str, body: bytes, answer_type: type[_Answer]) -> _Answer:
        try:
            answer = msgspec.json.decode(body, type=answer_type)
        except msgspec.ValidationError as error:
            message = (
                f"{self.api_url}{path} answered with JSON of another shape ({error}): "
                f"{excerpt(body)}; is CTG_API_URL the base URL of API v2?"
            )
            raise PermanentRegistryError(message) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            if answer_type is _PageEnvelope and (cut := cut_list(body, "studies")) is not None:
                # A study that cannot be decoded is no reason to go without the others.
                around, studies = cut
                envelope = self._decode(path, around, _PageAround)
                return cast("_Answer", envelope.with_studies(studies))
            message = f"{self.api_url}{path} answered with broken JSON ({error}): {excerpt(body)}"
            raise TransientRegistryError(message) from error
        if isinstance(answer, _VersionAnswer):
            answer.dataTimestamp = self._in_utc(answer.dataTimestamp)
        return answer

    def _in_utc(self, data_timestamp: str) -> str:
        """A data timestamp in the one spelling that is compared: UTC, without an offset."""
        try:
            moment = datetime.fromisoformat(data_timestamp)
            moment = moment.astimezone(UTC) if moment.tzinfo else moment
        except (ValueError, OverflowError) as error:
            # Seen once it may be right the next time, and nothing can be begun without it.
            message = (
                f"{self.api_url}/version says that its data are of {data_timestamp!r}, which is no "
                "time (expected one like 2026-11-20T09:00:05)"
            )
            raise TransientRegistryError(message) from error
        return moment.replace(tzinfo=None).isoformat()

    def _html_error(self, path: str, body: bytes, seen: int) -> RegistryError:
        """A page of HTML where JSON belongs: an outage page now and then, a wrong URL every time."""
        message = f"{self.api_url}{path} answered with HTML instead of JSON: {excerpt(body)}"
        if seen < _HTML_ANSWERS_BEFORE_GIVING_UP:
            return TransientRegistryError(message)
        return PermanentRegistryError(
            f"{message}; seen {seen} times in a row. Is CTG_API_URL the base URL of API v2 "
            "(it ends in /api/v2)?"
        )


def _log_retry(details: RetryDetails) -> None:
    _log.warning("%s; trying again in %.1f s", details.caused_by, details.wait_for)
