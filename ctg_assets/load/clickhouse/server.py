"""A ClickHouse server, or the engine itself in this process (chdb): one client for both.

Of clickhouse-connect only `command`, `query_arrow` and `insert_arrow` are used: over the embedded engine it is
marked experimental.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pyarrow as pa

from ctg_assets.errors import CtgAssetsError, ExitCode, TransientError
from ctg_assets.redaction import without_secrets

EMBEDDED, PLAIN, ENCRYPTED = "chdb", "clickhouse", "clickhouses"
SCHEMES = (PLAIN, ENCRYPTED, EMBEDDED)
_DATABASE = "ctg"
_PORTS = {PLAIN: 8123, ENCRYPTED: 8443}

# A body is built in memory before it is sent.
_INSERTED_BYTES = 128 * 2**20

# What the engine says of rows, not of itself: it cannot parse or convert them, or a constraint forbids them.
_ROW_CODES = frozenset({6, 27, 38, 41, 53, 69, 70, 72, 131, 321, 349, 407, 469})
# Too much at once: the half of it may do.
_SIZE_CODES = frozenset({241, 252, 307, 396})


class ClickHouseError(CtgAssetsError):
    """ClickHouse did not do what was asked; the message says what, why, and what to do."""


class ClickHouseAddressError(ClickHouseError):
    """The address of a ClickHouse cannot be used, or what is needed for it is not installed."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


class ClickHouseUnavailableError(ClickHouseError, TransientError):
    """ClickHouse does not answer, is busy, or refuses us whatever is sent."""


class RowsRefusedError(ClickHouseError):
    """ClickHouse answers, but does not take these rows; `for_good` if it is the rows that it calls wrong."""

    def __init__(self, message: str, *, for_good: bool) -> None:
        super().__init__(message)
        self.for_good = for_good


@dataclass(frozen=True)
class ClickHouseAddress:
    """Where a ClickHouse is: a server, or (`folder`) the data of the embedded engine; and which database is ours."""

    scheme: str
    database: str
    host: str = ""
    port: int = 0
    user: str = ""
    folder: Path | None = None

    @classmethod
    def parse(cls, url: str) -> ClickHouseAddress:
        """Read `clickhouse://user@host:8123/database`, `clickhouses://…` or `chdb:///folder?database=name`.

        Raises ClickHouseAddressError; a password in it is refused, since it would be shown.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            message = f"the address of ClickHouse is no URL: {error}"
            raise ClickHouseAddressError(message) from error
        if parts.password is not None:
            message = "a password does not belong in the address of ClickHouse; name an environment variable"
            raise ClickHouseAddressError(message)
        given = parse_qs(parts.query)
        if set(given) - {"database"} or parts.scheme not in SCHEMES:
            raise _unusable(parts.scheme)
        if parts.scheme == EMBEDDED:
            if parts.netloc or not parts.path.strip("/"):
                raise _unusable(parts.scheme)
            database = given.get("database", [_DATABASE])[0]
            return cls(EMBEDDED, database, folder=Path(unquote(parts.path)))
        if not parts.hostname or given:
            raise _unusable(parts.scheme)
        return cls(
            parts.scheme,
            unquote(parts.path.strip("/")) or _DATABASE,
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            user=unquote(parts.username or "") or "default",
        )

    @staticmethod
    def embedded_url(folder: Path) -> str:
        """What `parse` reads as the embedded engine in a folder, whatever its name."""
        return f"{EMBEDDED}://{quote(str(folder))}"

    def __str__(self) -> str:
        """Where it is, for people."""
        if self.folder is not None:
            return f"the embedded engine in {self.folder}"
        return f"{self.host}:{self.port}"

    @property
    def lock_name(self) -> str:
        """A name under which one writer at a time takes this database."""
        where = f"{self.scheme} {self.host} {self.port} {self.folder} {self.database}"
        return f"clickhouse-{hashlib.sha256(where.encode()).hexdigest()[:16]}.lock"


def _unusable(scheme: str) -> ClickHouseAddressError:
    return ClickHouseAddressError(
        f"the address of ClickHouse ({scheme}://…) cannot be used; write clickhouse://user@host:8123/database, "
        "clickhouses:// for an encrypted connection, or chdb:///folder?database=name for the embedded engine"
    )


def require_clickhouse(address: ClickHouseAddress) -> None:
    """Raise ClickHouseAddressError unless the libraries for an address are installed."""
    needed = ["clickhouse_connect", *(["chdb"] if address.folder is not None else [])]
    if missing := [name for name in needed if find_spec(name) is None]:
        extra = "clickhouse" if address.folder is None else "clickhouse-embedded"
        message = (
            f"ClickHouse needs {', '.join(missing)}, not installed here; install with "
            f"`pip install 'ctg-assets[{extra}]'`"
        )
        raise ClickHouseAddressError(message)


class ClickHouse:
    """A connection. For one thread at a time."""

    def __init__(self, address: ClickHouseAddress, password: str | None, timeout: float) -> None:
        """Connect; raises ClickHouseUnavailableError."""
        require_clickhouse(address)
        self.address = address
        with self._doing("connecting"):
            self._client = _client(address, password, timeout)

    def close(self) -> None:
        """Close the connection, and with the last one the embedded engine."""
        self._client.close()

    def do(self, statement: str) -> None:
        """Run a statement without a result."""
        with self._doing(statement.split("\n", 1)[0][:80]):
            self._client.command(statement)

    def ask(self, statement: str) -> pa.Table:
        """The rows of a query."""
        with self._doing(statement.split("\n", 1)[0][:80]):
            return self._client.query_arrow(statement, use_strings=True)

    def insert(self, database: str, table: str, rows: pa.Table) -> None:
        """Insert rows; columns that they do not have, and nulls where a column has none, get defaults.

        Returns when they are there. Raises RowsRefusedError, and some may be there then.
        """
        pieces = max(1, -(-rows.nbytes // _INSERTED_BYTES))
        at_a_time = max(1, -(-rows.num_rows // pieces))
        for start in range(0, rows.num_rows, at_a_time):
            with self._doing(f"inserting into {database}.{table}"):
                self._client.insert_arrow(
                    f"{quoted(database)}.{quoted(table)}", rows.slice(start, at_a_time)
                )

    @contextlib.contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        from clickhouse_connect.driver.exceptions import ClickHouseError as Failure  # noqa: PLC0415

        try:
            yield
        except (Failure, OSError) as error:
            code = getattr(error, "code", None)
            told = without_secrets(str(error)).strip().split("\n", 1)[0][:500]
            message = f"ClickHouse at {self.address}, {what}: {told}"
            if code in _ROW_CODES or code in _SIZE_CODES:
                raise RowsRefusedError(message, for_good=code in _ROW_CODES) from error
            message += "; check its address, its rights and its log"
            if self.address.folder is not None:
                message += ", and that no other process has the folder open"
            raise ClickHouseUnavailableError(message) from error


def _client(address: ClickHouseAddress, password: str | None, timeout: float) -> Any:
    # An extra, and a second of imports.
    import clickhouse_connect  # noqa: PLC0415

    if address.folder is not None:
        address.folder.mkdir(parents=True, exist_ok=True)
        return clickhouse_connect.get_client(interface="chdb", path=str(address.folder))
    return clickhouse_connect.get_client(
        interface="https" if address.scheme == ENCRYPTED else "http",
        host=address.host,
        port=address.port,
        username=address.user,
        password=password or "",
        connect_timeout=max(1, round(timeout)),
        # A large insert takes its time.
        send_receive_timeout=max(300, round(timeout)),
        settings={"async_insert": 0},
    )


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def literal(text: str) -> str:
    """A text as SQL writes it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
