"""The registry's API v2 as typed calls.

What the API does is written down in its OpenAPI document 2.0.5; how it is asked is in `requests.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Self, TypeVar, cast

import httpx
import msgspec

from ctg_assets.cut_json import cut_list
from ctg_assets.metrics import NO_COUNTERS, Counters
from ctg_assets.registry.errors import (
    BadRequestError,
    PageTokenRejectedError,
    PermanentRegistryError,
    TransientRegistryError,
)
from ctg_assets.registry.rate_limit import RateLimit
from ctg_assets.registry.refusals import excerpt
from ctg_assets.registry.requests import FIRST_RETRY_SECONDS, Api, ApiRequests

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
        first_pause_seconds: float = FIRST_RETRY_SECONDS,
        transport: httpx.BaseTransport | None = None,
        counters: Counters = NO_COUNTERS,
    ) -> None:
        """Prepare a connection to `api_url`; nothing is sent yet.

        `retry_seconds` bounds how long one call keeps retrying transient failures; the pause before
        the first retry is `first_pause_seconds` and up to as much again, and doubles from there.
        `transport` is for tests that answer without a network. `counters` hear of every request.
        """
        self.api_url = api_url
        self._requests = ApiRequests(
            Api(api_url, "CTG_API_URL", "the base URL of API v2 (it ends in /api/v2)"),
            rate_limit=rate_limit,
            user_agent=user_agent,
            read_timeout_seconds=read_timeout_seconds,
            retry_seconds=retry_seconds,
            first_pause_seconds=first_pause_seconds,
            transport=transport,
            counters=counters,
        )

    @property
    def server_time(self) -> datetime | None:
        """What the registry's clock said with its last answer; None before the first, or if it did not say."""
        return self._requests.server_time

    @property
    def answer_seconds(self) -> float:
        """How long that answer took, from the permission to ask until it was complete."""
        return self._requests.answer_seconds

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
        self._requests.close()

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

    def metadata(self, node: type[_Answer], retry_seconds: float | None = None) -> list[_Answer]:
        """The registry's field tree: its top-level nodes with all that is below them, each read as a `node`.

        `retry_seconds` overrides the client's patience, as for `version`.
        """
        return self._list_of("/studies/metadata", node, retry_seconds)

    def enums(self, enum: type[_Answer], retry_seconds: float | None = None) -> list[_Answer]:
        """The registry's enumerations with their values, each read as an `enum`.

        `retry_seconds` overrides the client's patience, as for `version`.
        """
        return self._list_of("/studies/enums", enum, retry_seconds)

    def _list_of(
        self, path: str, item: type[_Answer], retry_seconds: float | None
    ) -> list[_Answer]:
        items = cast("type[list[_Answer]]", list[item])  # type: ignore[valid-type]
        return self._get(path, {}, items, retry_seconds)

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
        def read(body: bytes) -> _Answer:
            return self._decode(path, body, answer_type)

        return self._requests.get(path, parameters, read, retry_seconds, stopped)

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
