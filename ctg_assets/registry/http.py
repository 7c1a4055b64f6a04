"""HTTP beneath the client: whose certificates are trusted, and what the headers of an answer say."""

from __future__ import annotations

import ssl
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache

import httpx


@cache
def trusted_certificates() -> ssl.SSLContext:
    """Whom httpx trusts by default, for all clients of this process: reading the list takes each 20 ms."""
    return httpx.create_ssl_context()


def server_time(response: httpx.Response) -> datetime | None:
    """When the server sent an answer, by its own clock (UTC); None when it does not say so."""
    try:
        return parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return None
