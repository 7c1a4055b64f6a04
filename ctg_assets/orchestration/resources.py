"""Resources: how an asset gets at the settings."""

from typing import Any

import dagster as dg
from pydantic import Field

from ctg_assets.settings import Settings, load_settings


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings, read from the environment of the process that runs the asset."""

    overrides: dict[str, Any] = Field(
        default_factory=dict, description="Settings that win over the environment."
    )

    def load(self) -> Settings:
        """The settings in force; raises SettingsError when one cannot be used."""
        return load_settings(**self.overrides)
