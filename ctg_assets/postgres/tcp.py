"""TCP into the embedded server: where it listens, which roles it lets in, and with what passwords.

All of it is in one file, `tcp.pgpass` beside the cluster, in the format of libpq's password files, so that
clients that use libpq can be pointed to it (PGPASSFILE). Without the file the server listens nowhere.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import sql

from ctg_assets.postgres.connection import Connection
from ctg_assets.postgres.errors import ServerSetupError
from ctg_assets.redaction import keep_secret

LOOPBACK = "127.0.0.1"
EVERYWHERE = "*"
# 5432 is left to a Postgres of the system, which may be started later.
_PORTS = range(5433, 5533)
_FILE = "tcp.pgpass"
_FIELDS = re.compile(r"((?:[^:\\]|\\.)*)(?::|$)")


@dataclass(frozen=True)
class TcpAccess:
    """Where the server listens (`host` as in listen_addresses), and the passwords of the roles let in."""

    host: str
    port: int
    passwords: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        """Have the passwords shown by nothing."""
        for password in self.passwords.values():
            keep_secret(password)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host != EVERYWHERE and ipaddress.ip_address(self.host).is_loopback

    def listens_as(self, host: str, port: int) -> bool:
        """Whether a running server that listens so needs no restart."""
        return (self.host, self.port) == (host, port)


@dataclass(frozen=True)
class TcpRequest:
    """Access that somebody asks for: a role, and where; what is None stays as it was, or is chosen."""

    role: str
    host: str | None = None
    port: int | None = None
    password: str | None = field(default=None, repr=False)


def access_file(folder: Path) -> Path:
    """The file, in the folder that also holds the cluster."""
    return folder / _FILE


def read_access(folder: Path) -> TcpAccess | None:
    """The access that is open, or None; raises ServerSetupError when the file cannot be understood."""
    file = access_file(folder)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        message = f"{file} is not readable for this user; run as its owner"
        raise ServerSetupError(message) from error
    entries = [_fields(line) for line in lines if line and not line.startswith("#")]
    if not entries or any(len(entry) != 5 or not entry[1].isdigit() for entry in entries):
        message = (
            f"{file} is not as ctg-assets writes it; remove it, then run ctg-assets db-url --tcp"
        )
        raise ServerSetupError(message)
    host, port = entries[0][:2]
    return TcpAccess(host, int(port), {role: password for *_, role, password in entries})


def write_access(folder: Path, access: TcpAccess | None) -> None:
    """Keep the access in the file, readable by the cluster's owner alone; None removes it."""
    file = access_file(folder)
    if access is None:
        file.unlink(missing_ok=True)
        return
    lines = [
        "# Written by ctg-assets db-url --tcp: who may connect to the embedded Postgres, and where."
    ]
    # The first line has the address; libpq does not take one name of a host for another.
    hosts = (LOOPBACK, "localhost") if access.host == LOOPBACK else (access.host,)
    for host in hosts:
        for role, password in access.passwords.items():
            # `*` stands for itself in the first three fields.
            parts = (host, str(access.port), EVERYWHERE, role, password)
            lines.append(":".join(re.sub(r"([:\\])", r"\\\1", part) for part in parts))
    temporary = file.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write("\n".join(lines) + "\n")
        output.flush()
        os.fsync(descriptor)
    owner = (folder / "data").stat()
    if os.geteuid() != owner.st_uid:
        os.chown(temporary, owner.st_uid, owner.st_gid)
    temporary.replace(file)


def _fields(line: str) -> list[str]:
    found = [match.group(1) for match in _FIELDS.finditer(line)]
    # The pattern also matches the nothing at the end.
    return [re.sub(r"\\(.)", r"\1", text) for text in found[:-1]]


def opened(before: TcpAccess | None, request: TcpRequest) -> tuple[TcpAccess, bool]:
    """The access with what is asked for added; also whether a password was made up just now.

    Raises ServerSetupError when the host is no address of a network.
    """
    host = _listening_host(request.host) if request.host else before.host if before else LOOPBACK
    port = request.port or (before.port if before else _free_port(host))
    passwords = dict(before.passwords) if before else {}
    is_new = request.password is None and request.role not in passwords
    if is_new:
        passwords[request.role] = secrets.token_urlsafe(18)
    elif request.password is not None:
        passwords[request.role] = request.password
    return TcpAccess(host, port, passwords), is_new


def _listening_host(host: str) -> str:
    host = LOOPBACK if host == "localhost" else host
    try:
        return EVERYWHERE if ipaddress.ip_address(host).is_unspecified else host
    except ValueError as error:
        message = (
            f"--host {host} is no IP address; give {LOOPBACK} (this machine only), another address of this "
            "machine, or 0.0.0.0 (all of them)"
        )
        raise ServerSetupError(message) from error


def _free_port(host: str) -> int:
    for port in _PORTS:
        if is_free(host, port):
            return port
    message = f"no port from {_PORTS[0]} to {_PORTS[-1]} is free at {host}; name one with --port"
    raise ServerSetupError(message)


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    address = "0.0.0.0" if host == EVERYWHERE else host  # noqa: S104  only tried, and closed again
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.closing(socket.socket(family)) as tried:
        # As Postgres does: what a server that just ended has left does not count.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
        except OSError:
            return False
    return True


def require_free(access: TcpAccess) -> None:
    """Raise ServerSetupError when another program has the port, or this machine has no such address."""
    if not is_free(access.host, access.port):
        raise cannot_listen(access)


def cannot_listen(access: TcpAccess) -> ServerSetupError:
    """The error that says that the server does not get the port, and what to do."""
    message = (
        f"cannot listen on {access.host} port {access.port}: another program does, or this machine has no such "
        "address. Nothing was changed. Name another one with --port or --host."
    )
    return ServerSetupError(message)


def rules(access: TcpAccess | None, *, refuse: bool = False) -> str:
    """The lines of pg_hba.conf for TCP: the roles by password, nobody else; nothing without access.

    With `refuse` nobody at all, for a server that still listens.
    """
    lines = ["# Written by ctg_assets at every start and by ctg-assets db-url."]
    if access is not None:
        nets = ("127.0.0.1/32", "::1/128") if access.is_loopback else ("all",)
        lines += [
            f'host all "{role.replace(chr(34), chr(34) * 2)}" {net} scram-sha-256'
            for role in access.passwords
            for net in nets
        ]
    if access is not None or refuse:
        lines.append("host all all all reject")
    return "\n".join(lines) + "\n"


def set_passwords(connection: Connection, access: TcpAccess) -> None:
    """Let the roles log in with their passwords, which leave this process as SCRAM verifiers only."""
    for role, password in access.passwords.items():
        verifier = connection.pgconn.encrypt_password(
            password.encode(), role.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(
                sql.Identifier(role), sql.Literal(verifier.decode())
            )
        )


def withdraw_passwords(connection: Connection, access: TcpAccess) -> None:
    """Take the passwords back, and end the sessions that came over TCP."""
    for role in access.passwords:
        name = sql.Identifier(role)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD NULL").format(name))
        if role != connection.info.user:
            connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(name))
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
    )
