"""What single settings may be: each function gives the value as it is used, or raises ValueError with what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.headerregistry import Address
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import HttpUrl, TypeAdapter

from ctg_assets.shipped import shipped_marts

ALL_MARTS, NO_MARTS = "all", "none"


class RefreshMode(StrEnum):
    """What is asked of the registry when its data moved; `auto` takes turns."""

    AUTO = "auto"
    FULL = "full"
    INCREMENTAL = "incremental"
    CENSUS = "census"


class StepsBy(StrEnum):
    """What does the steps of Dagster's runs."""

    IN_PROCESS = "in_process"
    CELERY = "celery"


class LogFormat(StrEnum):
    """What is logged on the console: lines for people, or JSON objects."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The severities of what is logged, least first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class MailSecurity(StrEnum):
    """How the way to the mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class Warehouse(StrEnum):
    """Where tables are kept beside the lake."""

    POSTGRES = "postgres"
    NONE = "none"


def marts_named(value: str) -> str:
    """The names, sorted and each once; only names that are no `all` or `none` cost a look at the project.

    Raises ValueError for a name that is neither a mart's nor a folder's, with the list of those.
    """
    names = sorted({name.strip() for name in value.split(",")} - {""})
    if names in ([ALL_MARTS], [NO_MARTS]):
        return names[0]
    folders = shipped_marts()
    known = {*folders, *(mart for marts in folders.values() for mart in marts)}
    unknown = [name for name in names if name not in known]
    if not names or unknown:
        listed = "; ".join(f"{folder} ({', '.join(marts)})" for folder, marts in folders.items())
        what = f"no mart or folder is called {', '.join(unknown)}" if names else "no mart is named"
        alone = (
            f"; {ALL_MARTS} and {NO_MARTS} stand alone" if {ALL_MARTS, NO_MARTS} & {*names} else ""
        )
        message = f"{what}{alone}. There are {listed}"
        raise ValueError(message)
    return ",".join(names)


def mail_address(value: str) -> str:
    """One address, without a name; raises ValueError for what is none."""
    try:
        address = Address(addr_spec=value)
    except (ValueError, IndexError) as error:
        message = f"{value!r} is no mail address: {error}"
        raise ValueError(message) from error
    if not (address.username and address.domain):
        message = f"{value!r} is no mail address; write one as ops@example.org"
        raise ValueError(message)
    return value


def mail_addresses(value: str) -> str:
    """Addresses, separated by commas; raises ValueError for one that is none."""
    return ",".join(mail_address(part.strip()) for part in value.split(","))


def http_url(value: str) -> str:
    """A base URL, without a slash at its end; raises ValueError unless it is one of HTTP and has no query."""
    url = TypeAdapter(HttpUrl).validate_python(value)
    if url.query is not None or url.fragment is not None:
        message = "a base URL has no query and no fragment; leave out what follows ? or #"
        raise ValueError(message)
    return value.rstrip("/")


_OBJECT_STORES = ("s3", "gs", "az")


def object_url(value: str) -> str:
    """The address of a lake in an object store, without a slash at its end; raises ValueError for others.

    Credentials have their own variables, and would be printed with the address.
    """
    parts = urlsplit(value)
    if parts.scheme not in _OBJECT_STORES or not parts.netloc:
        message = (
            "a lake in an object store is at s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; one on a "
            "disk is in CTG_DATA_DIR"
        )
        raise ValueError(message)
    if "@" in parts.netloc or parts.query or parts.fragment:
        message = (
            "the address has no user, query or fragment; credentials and endpoint are taken from the provider's variables "
            "(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL and the like)"
        )
        raise ValueError(message)
    return value.rstrip("/")


def folder_or_object_url(value: str) -> str:
    """A folder, made absolute, or an address in an object store; raises ValueError for what is neither."""
    return object_url(value) if "://" in value else str(absolute_path(Path(value)))


def amqp_url(value: str) -> str:
    """The address of a RabbitMQ; raises ValueError for what is none."""
    parts = urlsplit(value)
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
        message = (
            "a broker is at amqp://user:password@host:5672/vhost, or amqps:// where it is encrypted"
        )
        raise ValueError(message)
    return value


def absolute_path(folder: Path) -> Path:
    """The path from the root, with `~` replaced; raises ValueError for a user who is not there."""
    try:
        return folder.expanduser().absolute()
    except RuntimeError as error:
        message = f"{error}; write the path out"
        raise ValueError(message) from error


def header_value(value: str) -> str:
    """Text as it may stand in an HTTP header; raises ValueError for other text."""
    if not (value.isascii() and value.isprintable() and value.strip()):
        message = "an HTTP header value is printable ASCII text on one line"
        raise ValueError(message)
    return value.strip()


# What Postgres cuts names at.
_LONGEST_NAME = 63


def _require_plain_name(value: str, what: str) -> None:
    """Raise ValueError unless a name needs no quotes in SQL."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", value) or len(value) > _LONGEST_NAME:
        message = (
            f"a {what} is called by small letters, digits and _, not beginning with a digit, at most "
            f"{_LONGEST_NAME} of them"
        )
        raise ValueError(message)


def database_name(value: str) -> str:
    """The name of a database of ours; raises ValueError unless Postgres takes it without quotes."""
    _require_plain_name(value, "database")
    if value in {"postgres", "template0", "template1"}:
        message = "this database is Postgres' own; choose another name, such as aact"
        raise ValueError(message)
    return value


def role_name(value: str) -> str:
    """The name of a role for readers; raises ValueError for one that is Postgres' own."""
    if not value.isprintable() or len(value.encode()) > _LONGEST_NAME:
        message = f"the name of a role is printable and has at most {_LONGEST_NAME} bytes"
        raise ValueError(message)
    if value.startswith("pg_") or value in {"postgres", "public", "none"}:
        message = "this role is Postgres' own, or may write; name one that only reads"
        raise ValueError(message)
    return value


_SHORTEST_PASSWORD = 8


def password(value: str) -> str:
    """A password; raises ValueError unless it is long enough and can be typed."""
    if len(value) < _SHORTEST_PASSWORD or not value.isprintable():
        message = f"a password has at least {_SHORTEST_PASSWORD} printable characters"
        raise ValueError(message)
    return value


def require_schema_name(value: str, others: Iterable[str]) -> None:
    """Raise ValueError unless a schema may be called so, beside others of ours."""
    _require_plain_name(value, "schema")
    if value.startswith("pg_") or value in {"public", "information_schema"}:
        message = "this schema is Postgres' own; name one that is nobody else's"
        raise ValueError(message)
    for other in others:
        # New tables are prepared in <name>_next (postgres/target.py).
        if value in {other, f"{other}_next"} or other == f"{value}_next":
            message = f"{other} is another schema of ours; each needs a name of its own"
            raise ValueError(message)


AUTO = "auto"

# Of answers that take so long that more chains were needed, something is wrong with the registry or the line.
MOST_CHAINS = 16


def number_or_auto(value: str) -> str:
    """A number of chains, or `auto` for what is measured; raises ValueError for anything else."""
    given = value.strip().lower()
    if given != AUTO and not (
        given.isascii() and given.isdigit() and 1 <= int(given) <= MOST_CHAINS
    ):
        message = f"neither {AUTO} nor a number from 1 to {MOST_CHAINS}"
        raise ValueError(message)
    return given if given == AUTO else str(int(given))
