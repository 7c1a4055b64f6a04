"""Every setting of ctg_assets, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from ctg_assets import __version__
from ctg_assets.errors import CtgAssetsError, ExitCode
from ctg_assets.redaction import keep_secret
from ctg_assets.setting_values import (
    ALL_MARTS,
    AUTO,
    LogFormat,
    LogLevel,
    MailSecurity,
    RefreshMode,
    StepsBy,
    Warehouse,
    absolute_path,
    amqp_url,
    database_name,
    folder_or_object_url,
    header_value,
    http_url,
    mail_address,
    mail_addresses,
    marts_named,
    number_or_auto,
    object_url,
    password,
    require_schema_name,
    role_name,
)
from ctg_assets.settings_file import (
    SettingsFile,
    SettingsFileError,
    find_settings_file,
    misspelt_variables,
    unknown_names,
)

ENV_PREFIX = "CTG_"

# What is no secret, but may be if it is refused: credentials in an address.
_SECRET_IF_WRONG = {"data_url", "release_place"}


class SettingsError(CtgAssetsError, ValueError):
    """A setting has a value that cannot be used; the message names the variable and the remedy."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


_SCHEMAS = (
    "staging_schema",
    "staging_views_schema",
    "intermediate_schema",
    "marts_schema",
    "ctgov_schema",
    "ctgov_2023_schema",
    "who_schema",
    "meta_schema",
)


class Settings(BaseSettings):
    """All settings; each is read from the environment variable `CTG_<NAME>`, or a line of that name in a file.

    A variable that is set but empty counts as unset.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        str_strip_whitespace=True,
    )

    api_url: Annotated[str, AfterValidator(http_url)] = Field(
        "https://clinicaltrials.gov/api/v2",
        description="Base URL of the registry's API v2.",
    )
    data_dir: Annotated[Path, AfterValidator(absolute_path)] = Field(
        Path("data"),
        description="Folder for shards, snapshots, state and the embedded Postgres.",
    )
    data_url: Annotated[str, AfterValidator(object_url)] | None = Field(
        None,
        description="Where the lake lies in an object store, as s3://bucket/prefix (also gs:// and az://), for several "
        "machines (docs/object_storage.md); unset is in the data folder.",
    )
    warehouse: Warehouse = Field(
        Warehouse.POSTGRES,
        description="postgres, or none: a refresh ends with the lake, and releases hold the lake's tables only.",
    )
    # The warehouse says what is wrong with a URL: it alone knows what its drivers can use.
    postgres_url: str | None = Field(
        None,
        repr=False,
        description="Postgres to load into, as postgresql://user:password@host:port/database; "
        "unset starts an embedded server in the data folder.",
    )
    database: Annotated[str, AfterValidator(database_name)] | None = Field(
        None,
        description="Name that the embedded server's database gets, and keeps when this is unset again; at first "
        "ctg. With aact, aact.ctgov.studies means what it means to AACT's users.",
    )
    reader_role: Annotated[str, AfterValidator(role_name)] = Field(
        "ctg_reader",
        description="Postgres role that may read all our tables and write none; made where our user may create roles.",
    )
    tcp_password: Annotated[str, AfterValidator(password)] | None = Field(
        None,
        repr=False,
        description="Password that ctg-assets db-url --tcp gives its role; unset makes one up and shows it once.",
    )
    staging_schema: str = Field(
        "staging",
        description="Postgres schema of the flat tables; set other schemas where these names are taken.",
    )
    staging_views_schema: str = Field(
        "staging_views", description="Postgres schema of the views on the flat tables."
    )
    intermediate_schema: str = Field(
        "intermediate", description="Postgres schema of what the marts are made from."
    )
    marts_schema: str = Field("marts", description="Postgres schema of the marts.")
    marts: Annotated[str, AfterValidator(marts_named)] = Field(
        ALL_MARTS,
        description="Which marts are built: all, none, or names of marts and of their folders (core), separated "
        "by commas; each comes with what it is made from.",
    )
    aact: bool = Field(
        True,
        description="Whether AACT's tables (schemas ctgov and ctgov_2023) are kept beside ours; they take as "
        "much disk as the flat tables.",
    )
    ctgov_schema: str = Field(
        "ctgov", description="Postgres schema of AACT's tables, for SQL that was written for AACT."
    )
    ctgov_2023_schema: str = Field(
        "ctgov_2023",
        description="Postgres schema of AACT's tables with the labels of before June 2024.",
    )
    who_schema: str = Field("who", description="Postgres schema of WHO's numbers (docs/who.md).")
    meta_schema: str = Field(
        "ctg_meta", description="Postgres schema of our notes about the others."
    )
    requests_per_minute: int = Field(
        50, ge=1, le=10_000, description="Most requests sent to the registry in any 60 seconds."
    )
    token_chains: Annotated[str, BeforeValidator(str), AfterValidator(number_or_auto)] = Field(
        AUTO,
        description="Chains of pages that a walk of everything takes side by side, 1 to 16; auto is one, or as many as "
        "reach the limit where the registry's answers take longer.",
    )
    page_size: int = Field(
        1000, ge=1, le=1000, description="Studies per API page (the registry caps it at 1000)."
    )
    query: str = Field(
        "", description="Essie expression that scopes the extraction; empty means every study."
    )
    refresh_mode: RefreshMode = Field(
        RefreshMode.AUTO,
        description="What to ask for when the registry's data moved: auto (by the next three settings), "
        "or always full, incremental or census.",
    )
    full_every_days: int = Field(
        7,
        ge=1,
        description="Days of data after which everything is walked again; only that sees silent edits.",
    )
    census_every_days: int = Field(
        1,
        ge=1,
        description="Days of data after which all ids and dates are compared, which sees removals and "
        "missed updates.",
    )
    # The registry's data timestamp was seen to lag behind by two days; one more is for time zones.
    incremental_overlap_days: int = Field(
        3,
        ge=0,
        description="Days before the last data version seen from which an incremental walk asks for "
        "what was posted.",
    )
    user_agent: Annotated[str, AfterValidator(header_value)] = Field(
        f"ctg-assets/{__version__} (python-httpx; registry mirror)",
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
        description="Largest share of studies that a whole walk may find gone before it is not recorded.",
    )
    max_quarantine_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Largest share of studies in quarantine before loading stops "
        "(lines of a file that are no study do not count).",
    )
    keep_extractions: int = Field(
        2, ge=1, description="Complete extractions whose shards are kept; older ones are pruned."
    )
    keep_releases: int = Field(
        3, ge=1, description="Releases that stay where they are made; older ones are removed."
    )
    release_place: Annotated[str, AfterValidator(folder_or_object_url)] | None = Field(
        None,
        description="Where the asset `release` writes: a folder, or a URL such as s3://bucket/releases; unset is "
        "releases of the data folder.",
    )
    release_iceberg: bool = Field(
        False, description="Whether releases have Apache Iceberg's metadata, too (docs/release.md)."
    )
    release_key: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        None,
        description="Ed25519 private key (PEM) by which releases are signed; unset signs none.",
    )
    feed_file: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        None, description="TOML file that names who is told of changes (docs/feed.md)."
    )
    searches_file: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        None,
        description="TOML file of saved searches, whose studies AACT's tables name (docs/aact.md); unset is "
        "one for COVID-19.",
    )
    mesh_file: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        None,
        description="NLM's file of MeSH descriptors (desc2026.xml, d2026.bin, or either gzipped), from which "
        "ctgov.mesh_terms and mesh_headings are filled.",
    )
    who_gho_url: Annotated[str, AfterValidator(http_url)] = Field(
        "https://ghoapi.azureedge.net/api",
        description="Base URL of WHO's Global Health Observatory (OData).",
    )
    who_xmart_url: Annotated[str, AfterValidator(http_url)] = Field(
        "https://xmart-api-public.who.int",
        description="Base URL of WHO's xMart, which has the Global Health Estimates.",
    )
    who_indicators_file: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        None,
        description="TOML file of WHO's indicators that adds to the shipped ones (docs/who.md); unset is "
        "who/indicators.toml of the data folder.",
    )
    who_requests_per_minute: int = Field(
        30, ge=1, le=10_000, description="Most requests sent to WHO's APIs in any 60 seconds."
    )
    executor: StepsBy = Field(
        StepsBy.IN_PROCESS,
        description="What does the steps of runs of Dagster's UI, sensor and commands: in_process, the run's own process, "
        "or celery, workers on any machine (docs/several_machines.md).",
    )
    broker_url: Annotated[str, AfterValidator(amqp_url)] | None = Field(
        None,
        repr=False,
        description="RabbitMQ by which workers learn of steps, as amqp://user:password@host:5672/vhost.",
    )
    log_format: LogFormat = Field(
        LogFormat.TEXT,
        description="What commands and runs log on standard error: text for people, or json, an object a line "
        "(docs/logging.md).",
    )
    log_level: LogLevel | None = Field(
        None,
        description="Least severity that is logged: debug, info, warning or error; unset is warning for text, info "
        "for JSON lines and files.",
    )
    log_dir: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        None,
        description="Folder for log files, JSON lines, one file a day for each kind of process; unset writes none.",
    )
    log_keep_days: int = Field(30, ge=1, description="Days after which log files are removed.")
    smtp_host: str | None = Field(
        None,
        description="Mail server by which people are told of failures (docs/notifications.md); unset sends no mail.",
    )
    smtp_port: int = Field(587, ge=1, le=65535, description="Port of the mail server.")
    smtp_security: MailSecurity = Field(
        MailSecurity.STARTTLS,
        description="How mail is encrypted: starttls, tls (from the first byte, mostly port 465), or none.",
    )
    smtp_user: str | None = Field(
        None, description="User at the mail server; unset sends without logging in."
    )
    smtp_password: str | None = Field(None, repr=False, description="Password at the mail server.")
    smtp_from: Annotated[str, AfterValidator(mail_address)] | None = Field(
        None, description="Address that mail comes from."
    )
    smtp_to: Annotated[str, AfterValidator(mail_addresses)] | None = Field(
        None, description="Addresses that mail goes to, separated by commas."
    )
    notify_warnings: bool = Field(
        False, description="Whether people are told of checks that only warn, too."
    )
    ui_url: Annotated[str, AfterValidator(http_url)] | None = Field(
        None,
        description="Address at which people reach Dagster's UI, for links in notifications.",
    )

    @property
    def chains_asked_for(self) -> int | None:
        """The number of chains that is set; None where it is to be measured."""
        return None if self.token_chains == AUTO else int(self.token_chains)

    @property
    def has_warehouse(self) -> bool:
        """Whether there is a database beside the lake."""
        return self.warehouse is Warehouse.POSTGRES

    @field_validator(*_SCHEMAS)
    @classmethod
    def _schema(cls, value: str, info: ValidationInfo) -> str:
        others = [str(info.data[name]) for name in _SCHEMAS if name in info.data]
        require_schema_name(value, others)
        return value


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment and the settings file.

    Keyword arguments win over the environment, and that over the file (`ctg.toml` of the current folder, or
    what CTG_CONFIG_FILE names). Relative paths are taken from the current folder, those in the file from
    its own, once, here. A variable that nearly is a setting (`CTG_PAGE_SIZ`) is refused, as its owner
    believes it works; one that is like none is only logged, but refused in the file, which is ours alone.

    Raises SettingsError, naming every variable at fault with the remedy, when a value cannot be used.
    """
    known = [variable(name) for name in Settings.model_fields]
    problems = misspelt_variables(os.environ, ENV_PREFIX, known)
    from_file: dict[str, object] = {}
    file = None
    try:
        file = find_settings_file(os.environ)
    except SettingsFileError as error:
        problems.append(str(error))
    if file is not None:
        problems += unknown_names(file, known)
        from_file = _values_of(file)
    settings = None
    try:
        settings = Settings(**{**from_file, **overrides})  # type: ignore[arg-type]
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            of_file = file is not None and name in from_file and name not in overrides
            where = f" (in {file.path})" if file is not None and of_file else ""
            problems.append(_problem(name, item["input"], item["msg"], where))
    if settings is not None:
        for name in Settings.model_fields:
            if is_secret(name):
                keep_secret(getattr(settings, name))
    if problems or settings is None:
        message = "unusable settings:\n  " + "\n  ".join(problems)
        # The validation error would repeat the values, and with them a password.
        raise SettingsError(message)
    return settings


def setting_sources() -> dict[str, str]:
    """Where each setting has its value from: `environment`, the path of the settings file, or `default`.

    Raises SettingsFileError when there is a file that cannot be read.
    """
    file = find_settings_file(os.environ)
    from_file = {} if file is None else _values_of(file)
    path = "" if file is None else str(file.path)
    return {
        name: "environment"
        if _is_set(variable(name), os.environ)
        else path
        if name in from_file
        else "default"
        for name in Settings.model_fields
    }


def is_secret(name: str) -> bool:
    """Whether a setting may hold a password, which is shown to nobody: its declaration keeps it out of `repr`."""
    return not Settings.model_fields[name].repr


def variable(name: str) -> str:
    """The variable of a setting, which is also its name in the settings file."""
    return ENV_PREFIX + name.upper()


def _is_set(of_setting: str, environment: Mapping[str, str]) -> bool:
    return any(value and name.upper() == of_setting for name, value in environment.items())


def _values_of(file: SettingsFile) -> dict[str, object]:
    """What a file sets that the environment does not, by setting; paths are whole."""
    values: dict[str, object] = {}
    for name, field in Settings.model_fields.items():
        value = file.values.get(variable(name), "")
        if value == "" or _is_set(variable(name), os.environ):
            continue
        if _is_path(field.annotation) and isinstance(value, str):
            with suppress(RuntimeError):  # a user that is not there: the setting itself complains
                value = str(file.path.parent / Path(value).expanduser())
        values[name] = value
    return values


def _is_path(annotation: object) -> bool:
    return annotation is Path or any(map(_is_path, get_args(annotation)))


def _problem(name: str, value: object, complaint: str, where: str = "") -> str:
    field = Settings.model_fields.get(name)
    if field is None:
        return f"{name}: no such setting; the settings are {', '.join(Settings.model_fields)}"
    shown = "" if is_secret(name) or name in _SECRET_IF_WRONG else f"={value!r}"
    default = "" if field.default is None else f" (default: {str(field.default)!r})"
    complaint = complaint.removeprefix("Value error, ")
    return f"{variable(name)}{shown}{where}: {complaint}. Expected: {field.description}{default}"
