"""Counting the requests to the registry: how many, how long they took, and how many brought nothing usable."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx

from ctg_assets.metrics import (
    ENDPOINTS,
    REQUEST_SECONDS,
    REQUESTS,
    REQUESTS_FAILED,
    Counters,
)
from ctg_assets.registry.errors import RegistryError


class _UnderWay(threading.local):
    """The request that this thread has under way."""

    sent_at: float | None = None
    status: int | None = None

    def forget(self) -> None:
        """There is none yet."""
        self.sent_at = self.status = None


class RequestCounting:
    """Counts what one client sends and what becomes of it; each thread has at most one request under way."""

    def __init__(self, api_url: str, counters: Counters) -> None:
        """Count requests to the API at `api_url`."""
        self._base = urlsplit(api_url).path.rstrip("/")
        self._counters = counters
        self._under_way = _UnderWay()

    def sent(self, request: httpx.Request) -> None:
        """Count a request that is about to be sent, so that one which is then killed is counted, too."""
        self._under_way.sent_at = time.monotonic()
        self._counters.add(REQUESTS.by(1, endpoint=self._endpoint(request.url.path)))

    def answered(self, response: httpx.Response) -> None:
        """Note that an answer has begun."""
        self._under_way.status = response.status_code

    @contextmanager
    def attempt(self, path: str) -> Iterator[None]:
        """Count how an attempt to get an answer from a path of the API ends."""
        under_way = self._under_way
        under_way.forget()
        failed = []
        endpoint = self._endpoint(self._base + path)
        try:
            yield
        except RegistryError:
            reason = _reason(under_way.status)
            failed = [REQUESTS_FAILED.by(1, endpoint=endpoint, reason=reason)]
            raise
        finally:
            if under_way.sent_at is not None:
                seconds = time.monotonic() - under_way.sent_at
                self._counters.add(*failed, *REQUEST_SECONDS.observed(seconds, endpoint=endpoint))

    def _endpoint(self, path: str) -> str:
        endpoint = path.removeprefix(self._base)
        return endpoint if endpoint in ENDPOINTS else "other"


def _reason(status: int | None) -> str:
    if status is None:
        return "no answer"
    return "unusable" if status == httpx.codes.OK else str(status)
