"""Walking over a simulator's pages as a client does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx


def pages(client: httpx.Client, **parameters: str | int) -> Iterator[dict[str, Any]]:
    """Every page of a query, following the tokens; raises httpx.HTTPStatusError for a refusal."""
    token: str | None = None
    while True:
        asked = parameters if token is None else {**parameters, "pageToken": token}
        page: dict[str, Any] = client.get("/studies", params=asked).raise_for_status().json()
        yield page
        token = page.get("nextPageToken")
        if token is None:
            return


def nct_ids(page: dict[str, Any]) -> list[str]:
    """The NCT ids on a page, in their order."""
    return [item["protocolSection"]["identificationModule"]["nctId"] for item in page["studies"]]
