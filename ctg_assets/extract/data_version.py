"""Which data version the configured registry has now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ctg_assets.registry_access import open_registry
from ctg_assets.settings import Settings


@dataclass(frozen=True)
class VersionAnswer:
    """What the registry says of itself: when its data were last renewed (UTC, as it writes it), and its clock.

    `server_time` (aware) is None where its answer had none.
    """

    data_timestamp: str
    api_version: str
    server_time: datetime | None


def ask_data_version(
    settings: Settings, *, retry_seconds: float, only_look: bool = False
) -> VersionAnswer:
    """Ask the configured registry, for so long; for `only_look` see `open_registry`. Raises RegistryError."""
    with open_registry(settings, only_look=only_look) as client:
        version = client.version(retry_seconds=retry_seconds)
        return VersionAnswer(version.data_timestamp, version.api_version, client.server_time)
