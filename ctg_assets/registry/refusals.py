"""What refusals of an API mean: status, headers and body of an answer, as a typed failure."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime

import httpx

from ctg_assets.registry.errors import (
    BadRequestError,
    NotFoundError,
    PermanentRegistryError,
    RegistryError,
    TransientRegistryError,
)

_EXCERPT_CHARACTERS = 200
_HTTP_TOO_MANY_REQUESTS = 429
_HTTP_REQUEST_TIMEOUT = 408


def status_error(
    response: httpx.Response, body: bytes, setting: str, told_by: str
) -> RegistryError:
    """The failure that an answer of another status than 200 stands for; `setting` has the URL, which is `told_by`."""
    status = response.status_code
    found = f"{response.request.url} answered {status} {response.reason_phrase}: {excerpt(body)}"
    if status == _HTTP_TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        seconds = _retry_after_seconds(response)
        if seconds is not None:
            found += f"; it asks to wait {seconds:.0f} s"
        return TransientRegistryError(found, seconds)
    if status == _HTTP_REQUEST_TIMEOUT:
        return TransientRegistryError(found)
    if status == httpx.codes.BAD_REQUEST:
        return BadRequestError(found)
    if status == httpx.codes.FORBIDDEN:
        return PermanentRegistryError(
            f"{found}; a firewall before the API refuses this client. Check CTG_USER_AGENT (it should say "
            "honestly who you are, not claim to be a browser) and whether your network is blocked."
        )
    if status == httpx.codes.NOT_FOUND:
        return NotFoundError(f"{found}; is {setting} {told_by}?")
    return PermanentRegistryError(found)


def _retry_after_seconds(response: httpx.Response) -> float | None:
    """The `Retry-After` header as seconds from now; None when absent or not understood."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    seconds: float = (_in_gmt(when) - _answered_at(response)).total_seconds()
    return max(0.0, seconds)


def _answered_at(response: httpx.Response) -> datetime:
    """When an answer was sent, by the clock of whoever sent it if that is said, else by ours."""
    try:
        return _in_gmt(email.utils.parsedate_to_datetime(response.headers.get("Date", "")))
    except ValueError:
        return datetime.now(UTC)


def _in_gmt(when: datetime) -> datetime:
    """An HTTP date, which is always GMT, also where the zone is left out or "-0000"."""
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def excerpt(body: bytes) -> str:
    """The beginning of a body, as it may stand in a message."""
    text = body[: 4 * _EXCERPT_CHARACTERS].decode("utf-8", errors="replace").strip()
    return repr(text[:_EXCERPT_CHARACTERS]) if text else "(empty body)"
