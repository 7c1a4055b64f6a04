"""Registries that do what the simulator cannot be made to do, and clients without limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import msgspec

from ctg_assets.registry.client import RegistryClient

API_URL = "http://registry.test/api/v2"


class Unlimited:
    """A rate limit that never makes anybody wait."""

    def acquire(self) -> None:
        """Return at once."""


def client_of(api_url: str, transport: httpx.BaseTransport | None = None) -> RegistryClient:
    """A client that no limit slows down and that gives up soon."""
    return RegistryClient(
        api_url,
        rate_limit=Unlimited(),
        user_agent="tests",
        read_timeout_seconds=30,
        retry_seconds=1,
        first_pause_seconds=0.01,
        transport=transport,
    )


class LooseRegistry:
    """A registry whose count, pages and data version need not agree, and whose tokens always hold.

    Every page has one study; `pages` says how many there are, the last one without a next token.
    `before_page` is called with a page's number before it is served.
    """

    def __init__(self, *, count: int, pages: int) -> None:
        self.count = count
        self.pages = pages
        self.data_timestamp = "2026-11-20T09:00:05"
        self.before_page: Callable[[int], None] = lambda _: None
        self.asked: Counter[str] = Counter()

    def client(self) -> RegistryClient:
        """A client of this registry."""
        return client_of(API_URL, httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        parameters = request.url.params
        if request.url.path.endswith("/version"):
            self.asked["version"] += 1
            version = {"apiVersion": "2.0.5", "dataTimestamp": self.data_timestamp}
            return httpx.Response(200, json=version)
        if "countTotal" in parameters:
            self.asked["count"] += 1
            return httpx.Response(200, json={"studies": [], "totalCount": self.count})
        page = int(parameters.get("pageToken", "1"))
        self.asked["page"] += 1
        self.before_page(page)
        study = {"protocolSection": {"identificationModule": {"nctId": f"NCT{page:08d}"}}}
        answer: dict[str, Any] = {"studies": [study]}
        if page < self.pages:
            answer |= {"nextPageToken": str(page + 1)}
        return httpx.Response(200, content=msgspec.json.encode(answer))
