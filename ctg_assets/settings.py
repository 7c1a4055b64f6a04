"""Every setting of ctg_assets, in one place.

Belongs here: the settings model, its environment variables and defaults. Does not belong here:
reading it at import time, or any behaviour that a setting governs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, HttpUrl, TypeAdapter, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ctg_assets import __version__

ENV_PREFIX = "CTG_"


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names the variable and the remedy."""


def _http_url(value: str) -> str:
    TypeAdapter(HttpUrl).validate_python(value)
    return value.rstrip("/")


class Settings(BaseSettings):
    """All settings; each is read from the environment variable `CTG_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore")

    api_url: Annotated[str, AfterValidator(_http_url)] = Field(
        "https://clinicaltrials.gov/api/v2",
        description="Base URL of the registry's API v2.",
    )
    data_dir: Path = Field(
        Path("data"), description="Folder for shards, snapshots, state and the embedded Postgres."
    )
    postgres_url: str | None = Field(
        None,
        description="Postgres to load into, as postgresql://user:password@host:port/database; "
        "unset starts an embedded server in the data folder.",
    )
    requests_per_minute: int = Field(
        50, ge=1, le=10_000, description="Most requests sent to the registry in any 60 seconds."
    )
    page_size: int = Field(
        1000, ge=1, le=1000, description="Studies per API page (the registry caps it at 1000)."
    )
    query: str = Field(
        "", description="Essie expression that scopes the extraction; empty means every study."
    )
    user_agent: str = Field(
        f"ctg-assets/{__version__} (python-httpx; registry mirror)",
        min_length=1,
        description="User-Agent header; say honestly who you are.",
    )
    request_timeout_seconds: float = Field(
        60.0, gt=0, description="How long to wait for the registry to send the next bytes."
    )
    retry_seconds: float = Field(
        600.0,
        ge=0,
        description="How long one request is retried while the registry answers 429, 5xx or not at all.",
    )
    pages_per_run: int = Field(
        100, ge=1, le=1000, description="Pages that the sensor asks of one Dagster run."
    )
    poll_seconds: float = Field(
        900.0, ge=0, description="How often the sensor asks the registry whether its data moved."
    )
    max_shrink_fraction: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Largest share of studies that may vanish between snapshots before loading stops.",
    )
    max_quarantine_fraction: float = Field(
        0.01, ge=0, le=1, description="Largest share of studies in quarantine before loading stops."
    )
    keep_extractions: int = Field(
        2, ge=1, description="Complete extractions whose shards are kept; older ones are pruned."
    )


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment; keyword arguments win over it.

    Raises SettingsError, naming every variable at fault, when a value cannot be used.
    """
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = [
            f"{ENV_PREFIX}{str(item['loc'][0]).upper()}={item['input']!r}: {item['msg']}"
            for item in error.errors()
        ]
        message = "unusable settings:\n  " + "\n  ".join(problems)
        raise SettingsError(message) from error
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})
