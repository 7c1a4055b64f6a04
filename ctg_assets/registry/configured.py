"""The registry of the settings, under the rate limit that all processes of a data folder share."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from ctg_assets.counters_file import counters_of
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry.rate_limit import SharedRateLimit
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import STATE, data_folder


@contextlib.contextmanager
def open_registry(settings: Settings) -> Iterator[RegistryClient]:
    """A client of the configured registry, under the rate limit shared through the data folder."""
    registry = hashlib.sha256(settings.api_url.encode()).hexdigest()[:12]
    record = data_folder(settings, STATE) / f"requests-{registry}.sqlite"
    rate_limit = SharedRateLimit(record, settings.requests_per_minute)
    try:
        with RegistryClient(
            settings.api_url,
            rate_limit=rate_limit,
            user_agent=settings.user_agent,
            read_timeout_seconds=settings.request_timeout_seconds,
            retry_seconds=settings.retry_seconds,
            counters=counters_of(settings),
        ) as client:
            yield client
    finally:
        rate_limit.close()
