"""WHO's APIs of the settings, each under a limit that all share who ask it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ctg_assets.registry.rate_limit import RateLimit
from ctg_assets.registry.requests import Api, ApiRequests
from ctg_assets.registry_access import shared_limit
from ctg_assets.settings import Settings
from ctg_assets.who.indicators import DialectName


def api_of(settings: Settings, dialect: DialectName) -> Api:
    """Which API a dialect is spoken with."""
    if dialect is DialectName.GHO:
        told_by = "the base URL of WHO's GHO OData API"
        return Api(settings.who_gho_url.rstrip("/"), "CTG_WHO_GHO_URL", told_by, says_json=True)
    told_by = "the base URL of WHO's xMart"
    return Api(settings.who_xmart_url.rstrip("/"), "CTG_WHO_XMART_URL", told_by, says_json=True)


@contextlib.contextmanager
def open_api(settings: Settings, dialect: DialectName) -> Iterator[ApiRequests]:
    """Requests to one of WHO's APIs; nothing is sent yet."""
    api = api_of(settings, dialect)
    with (
        shared_limit(settings, api.url, settings.who_requests_per_minute) as limit,
        contextlib.closing(_requests(settings, api, limit)) as requests,
    ):
        yield requests


def _requests(settings: Settings, api: Api, limit: RateLimit) -> ApiRequests:
    return ApiRequests(
        api,
        rate_limit=limit,
        user_agent=settings.user_agent,
        read_timeout_seconds=settings.request_timeout_seconds,
        retry_seconds=settings.retry_seconds,
    )
