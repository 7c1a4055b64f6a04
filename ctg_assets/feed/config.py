"""The file of sinks: who gets the events, and how."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationError,
    model_validator,
)

from ctg_assets.clickhouse import ClickHouseAddress, ClickHouseAddressError
from ctg_assets.feed.errors import SinkFileError
from ctg_assets.redaction import keep_secret

_NCT_ID = re.compile(r"NCT[0-9]{8}", re.IGNORECASE)


def _nct_id(value: str) -> str:
    if not _NCT_ID.fullmatch(value):
        message = "an NCT id is NCT and eight digits"
        raise ValueError(message)
    return value.upper()


def _written(value: str) -> str:
    if not value.strip():
        message = "an empty text would match nothing; remove it"
        raise ValueError(message)
    return value


def _url(value: Any, schemes: tuple[str, ...]) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parts = urlsplit(value)
        named = bool(parts.hostname)
        # Reading the port is what checks it.
        _ = parts.port
    except ValueError as error:
        message = f"it is no URL: {error}"
        raise ValueError(message) from error
    if parts.scheme not in schemes or not named:
        message = f"it begins with {' or '.join(scheme + '://' for scheme in schemes)}, then a host"
        raise ValueError(message)
    if parts.password is not None:
        message = (
            "a password does not belong in the file; put it into an environment variable and name "
            "that in secret_env"
        )
        raise ValueError(message)
    return value


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, strict=True)


Pattern = Annotated[str, AfterValidator(_written)]
# TOML has arrays, and a strict tuple takes nothing else.
Patterns = Annotated[tuple[Pattern, ...], Field(strict=False)]


class FilterSettings(_Model):
    """Which events a sink gets: all filters that are given must pass; without any, every event does."""

    conditions: Patterns = Field(default=(), description="Conditions, or MeSH terms of them.")
    sponsors: Patterns = Field(default=(), description="Lead sponsors or collaborators.")
    countries: Patterns = Field(default=(), description="Countries of sites.")
    events: Patterns = Field(default=(), description="Kinds of changes, or types of typed events.")
    nct_ids: Annotated[tuple[Annotated[str, AfterValidator(_nct_id)], ...], Field(strict=False)] = (
        Field(default=(), description="NCT ids.")
    )


class _SinkSettings(_Model):
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
        description="letters, digits, '.', '-' and '_', at most 63; the position is kept under it",
    )
    batch_size: int = Field(
        default=100, ge=1, le=10_000, description="events sent before confirmation"
    )
    start: Literal["newest", "beginning"] = Field(
        default="newest", description="'newest' (only what comes from now on) or 'beginning'"
    )
    attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description="how often a refused event is tried before it is put aside",
    )
    refusals_in_a_row: int = Field(
        default=10,
        ge=1,
        description="events put aside in a row before the sink itself is taken to be at fault",
    )
    timeout_seconds: float = Field(
        default=30.0, gt=0, le=600, description="seconds to wait for an answer"
    )
    filters: FilterSettings = Field(default=FilterSettings(), description="a table of lists")


class WebhookSettings(_SinkSettings):
    """A sink that takes batches by HTTP POST."""

    type: Literal["webhook"]
    url: Annotated[str, BeforeValidator(lambda value: _url(value, ("https", "http")))] = Field(
        description="an http or https URL, without a password"
    )
    secret_env: str = Field(
        min_length=1, description="the environment variable that holds the signing secret"
    )


class AmqpSettings(_SinkSettings):
    """A sink that is a queue or exchange of RabbitMQ."""

    type: Literal["amqp"]
    url: Annotated[str, BeforeValidator(lambda value: _url(value, ("amqps", "amqp")))] = Field(
        description="amqp://user@host:port/virtual-host, without a password"
    )
    secret_env: str | None = Field(
        default=None, min_length=1, description="the environment variable that holds the password"
    )
    queue: str | None = Field(
        default=None, min_length=1, description="the queue; created, durable, if it is not there"
    )
    exchange: str | None = Field(
        default=None, min_length=1, description="an exchange, instead of a queue"
    )
    routing_key: str | None = Field(default=None, description="the routing key, with an exchange")

    @model_validator(mode="after")
    def _one_way(self) -> AmqpSettings:
        if (self.queue is None) is (self.exchange is None):
            message = "give either queue, or exchange and routing_key"
            raise ValueError(message)
        if (self.exchange is None) is not (self.routing_key is None):
            message = "exchange and routing_key go together"
            raise ValueError(message)
        return self


def _clickhouse(value: str) -> str:
    try:
        ClickHouseAddress.parse(value)
    except ClickHouseAddressError as error:
        raise ValueError(str(error)) from error
    return value


class ClickHouseSettings(_SinkSettings):
    """A sink that keeps the flat tables, and marts, in a ClickHouse: all studies, so it has no filters."""

    type: Literal["clickhouse"]
    url: Annotated[str, AfterValidator(_clickhouse)] = Field(
        description="clickhouse://user@host:port/database, or chdb:///folder, without a password"
    )
    secret_env: str | None = Field(
        default=None, min_length=1, description="the environment variable that holds the password"
    )
    batch_size: int = Field(
        default=2000, ge=1, le=5000, description="studies whose rows are brought in one go"
    )

    @model_validator(mode="after")
    def _all_studies(self) -> ClickHouseSettings:
        if self.filters != FilterSettings():
            message = "tables of some studies would be wrong as soon as one of them is another; remove filters"
            raise ValueError(message)
        return self


SinkSettings = WebhookSettings | AmqpSettings | ClickHouseSettings
_TYPES: Mapping[str, type[_SinkSettings]] = {
    "webhook": WebhookSettings,
    "amqp": AmqpSettings,
    "clickhouse": ClickHouseSettings,
}
_Told = Annotated[WebhookSettings | AmqpSettings, Discriminator("type")]


_Sinks = Annotated[tuple[Annotated[SinkSettings, Discriminator("type")], ...], Field(strict=False)]


class _File(_Model):
    sink: _Sinks = ()
    notify: Annotated[tuple[_Told, ...], Field(strict=False)] = ()


def consumed_queue(name: str, url: str, queue: str, secret_env: str | None) -> AmqpSettings:
    """A queue that is named in a command; raises SinkFileError for what cannot be used."""
    return _given(AmqpSettings, name=name, type="amqp", url=url, queue=queue, secret_env=secret_env)


def written_clickhouse(
    name: str, url: str, batch_size: int, secret_env: str | None
) -> ClickHouseSettings:
    """A ClickHouse that is named in a command; raises SinkFileError for what cannot be used."""
    given = {"name": name, "url": url, "batch_size": batch_size, "secret_env": secret_env}
    return _given(ClickHouseSettings, type="clickhouse", **given)


_Given = TypeVar("_Given", bound=_Model)


def _given(model: type[_Given], **told: Any) -> _Given:
    try:
        return model.model_validate(told)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
    message = "unusable options: " + "; ".join(problems)
    raise SinkFileError(message)


# What the tables of the file are for.
_TABLES = ("sink", "notify")


def read_sinks(path: Path, known_events: Collection[str]) -> list[SinkSettings]:
    """The sinks that a file names, in its order; `known_events` is what filters may call events.

    Raises SinkFileError, which tells everything that is wrong with the file.
    """
    sinks = list(_read(path).sink)
    if problems := _beyond_one_field(sinks, known_events):
        raise _unusable(path, problems)
    return sinks


def read_notified(path: Path) -> list[WebhookSettings | AmqpSettings]:
    """Who is told of failures, in the file's order; raises SinkFileError as `read_sinks` does."""
    notified = list(_read(path).notify)
    if problems := _beyond_one_field(notified, ()):
        raise _unusable(path, problems)
    return notified


def _read(path: Path) -> _File:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot read the sinks in {path}: {error.strerror}; correct CTG_FEED_FILE"
        raise SinkFileError(message) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"{path} is not TOML: {error}; docs/feed.md shows a file"
        raise SinkFileError(message) from error
    problems = []
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        problems = [_problem(content, item) for item in error.errors()]
    else:
        if file.sink or file.notify:
            return file
        problems = ["there is no [[sink]] and no [[notify]]; docs/feed.md shows a file"]
    # The validation error would repeat the values, and with them a password.
    raise _unusable(path, problems) from None


def _unusable(path: Path, problems: list[str]) -> SinkFileError:
    message = f"unusable sinks in {path}:\n  " + "\n  ".join(problems)
    return SinkFileError(message)


def secret_of(sink: SinkSettings, environment: Mapping[str, str]) -> str | None:
    """A sink's secret; None if it needs none. Raises SinkFileError when the variable is not set."""
    if sink.secret_env is None:
        return None
    secret = environment.get(sink.secret_env, "")
    if not secret:
        message = (
            f"sink {sink.name!r}: the environment variable {sink.secret_env}, which secret_env names, "
            "is not set; set it to the secret"
        )
        raise SinkFileError(message)
    keep_secret(secret)
    return secret


def _problem(content: Mapping[str, Any], item: Any) -> str:
    """One line on one complaint: where, what was found, what is expected."""
    where, *rest = item["loc"]
    complaint = item["msg"].removeprefix("Value error, ")
    if where not in _TABLES or not rest:
        return f"{where}: {complaint}; the file consists of [[sink]] and [[notify]] tables"
    number, *rest = rest
    named = content[where][number] if isinstance(content[where], list) else {}
    name = named.get("name") if isinstance(named, dict) else None
    said = f"sink {name!r}" if isinstance(name, str) else f"sink number {number + 1}"
    if item["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        kinds = [kind for kind in _TYPES if where == "sink" or kind != "clickhouse"]
        types = [f'type = "{kind}"' for kind in kinds]
        return f"{said}: type: write {' or '.join(types)}"
    kind, *path = rest or [""]
    model = _TYPES.get(str(kind), _SinkSettings)
    if not path:
        return f"{said}: {complaint}"
    shown = ".".join(str(step) for step in path)
    field = str(path[0])
    if item["type"] == "extra_forbidden":
        known = FilterSettings if field == "filters" else model
        return f"{said}: {shown}: no such entry; there are {', '.join(known.model_fields)}"
    found = "" if field == "url" or item["type"] == "missing" else f", found {item['input']!r}"
    described = model.model_fields[field].description if field in model.model_fields else None
    expected = f". Expected: {described}" if described and len(path) == 1 else ""
    return f"{said}: {shown}: {complaint}{found}{expected}"


def _beyond_one_field(sinks: Sequence[SinkSettings], known_events: Collection[str]) -> list[str]:
    """What is wrong though each entry by itself is right."""
    problems = []
    names = [sink.name for sink in sinks]
    problems += [
        f"sink {name!r}: the name is given twice; positions are kept by name"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    for sink in sinks:
        for event in sink.filters.events:
            if "*" in event or event.casefold() in known_events:
                continue
            alike = difflib.get_close_matches(event.casefold(), known_events, n=1)
            hint = (
                f"did you mean {alike[0]!r}?" if alike else f"there are {', '.join(known_events)}"
            )
            problems.append(f"sink {sink.name!r}: filters.events: no event {event!r}; {hint}")
    return problems
