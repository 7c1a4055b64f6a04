"""Dumps in Postgres' custom format, as `pg_restore` takes them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from psycopg import sql

from ctg_assets.postgres.connection import Connection, PostgresAddress, postgres_programs
from ctg_assets.postgres.errors import ServerSetupError, ServerUnavailableError

_PROGRAM = "pg_dump"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class DumpRequest:
    """What goes into a dump: schemas with all that is in them but the relations left out, (schema, name) each.

    `snapshot` is the one that `connection` has exported and holds. `made_at` is written as the time at
    which the dump was made, so that the same content gives the same bytes.
    """

    address: PostgresAddress
    connection: Connection
    snapshot: str
    schemas: Sequence[str]
    left_out: Sequence[tuple[str, str]]
    made_at: datetime


def write_dump(request: DumpRequest, write: Callable[[bytes], object]) -> None:
    """Write a dump, piece by piece; it names no owners and no rights, so that anybody can restore it.

    Raises ServerSetupError when there is no pg_dump for the server's version, ServerUnavailableError when
    it fails.
    """
    program = find_pg_dump(request.connection.info.server_version // 10_000)
    address = request.address
    command = [
        str(program),
        "--format=custom",
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
        "--no-password",
        f"--snapshot={request.snapshot}",
        *(f"--schema={_pattern(schema)}" for schema in request.schemas),
        *(
            f"--exclude-table={_pattern(schema)}.{_pattern(name)}"
            for schema, name in request.left_out
        ),
        # The password goes another way: arguments can be seen by everybody on the machine.
        f"--dbname={address.public_url}",
    ]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if address.password is not None:
        environment["PGPASSWORD"] = address.password
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(  # noqa: S603  our own arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # so that it dies with us
            stderr=said,
            env=environment,
        ) as process,
    ):
        try:
            _hand_on(process.stdout, request.made_at, write)
        except BaseException:
            process.kill()
            raise
        if process.wait() != 0:
            said.seek(0)
            reason = said.read().decode(errors="replace").strip()
            message = f"{program} could not dump {address.public_url}: {reason or f'exit code {process.returncode}'}"
            raise ServerUnavailableError(message)


def _hand_on(pipe: IO[bytes] | None, made_at: datetime, write: Callable[[bytes], object]) -> None:
    if pipe is None:
        return
    write(_with_time(pipe.read(_HEAD_BYTES), made_at))
    while piece := pipe.read(_CHUNK_BYTES):
        write(piece)


def find_pg_dump(major: int) -> Path:
    """The pg_dump for a server of a major version: its own, else the next newer one that is there.

    An older one refuses newer servers; a newer one writes what an older pg_restore cannot read. Raises
    ServerSetupError when there is none.
    """
    found: dict[int, Path] = {}
    for path in (postgres_programs() / _PROGRAM, shutil.which(_PROGRAM)):
        if path is not None and Path(path).exists():
            found.setdefault(_major_of(Path(path)), Path(path))
    fitting = [version for version in sorted(found) if version >= major]
    if not fitting:
        there = ", ".join(f"{path} is of version {version}" for version, path in found.items())
        message = (
            f"a dump needs {_PROGRAM} of Postgres {major} or newer ({there or 'there is none'}); install the "
            f"client programs (Debian: apt-get install postgresql-client-{major}) so that they are on PATH"
        )
        raise ServerSetupError(message)
    return found[fitting[0]]


def _major_of(program: Path) -> int:
    """The major version of a program of Postgres; 0 if it does not say."""
    said = subprocess.run(  # noqa: S603  our own arguments
        [program, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    version = re.search(r"\) (\d+)", said.stdout)
    return int(version[1]) if version else 0


def _pattern(name: str) -> str:
    """A name as a pattern of pg_dump's that only this name matches."""
    return sql.Identifier(name).as_string()


# The head of a dump (pg_backup_archiver.c, WriteHead): magic, three bytes of version, sizes of an integer and
# of an offset, format; compression, by version as an integer or in one byte; then seven integers of time.
_MAGIC = b"PGDMP"
_HEAD_BYTES = 64
_INTEGER_BYTES = 4
_INTEGER_WITH_SIGN = 1 + _INTEGER_BYTES
_COMPRESSION_BYTES: dict[tuple[int, ...], int] = {
    (1, 14): _INTEGER_WITH_SIGN,
    (1, 15): 1,
    (1, 16): 1,
}


def _with_time(head: bytes, made_at: datetime) -> bytes:
    """The beginning of a dump with this time as that at which it was made; another format stays as it is."""
    magic, version, integer_bytes = head[:5], tuple(head[5:7]), head[8:9]
    if magic != _MAGIC or version not in _COMPRESSION_BYTES or integer_bytes != b"\x04":
        return head
    begin = len(_MAGIC) + 3 + 2 + 1 + _COMPRESSION_BYTES[version]
    numbers = (
        made_at.second,
        made_at.minute,
        made_at.hour,
        made_at.day,
        made_at.month - 1,
        made_at.year - 1900,
        0,
    )
    time = b"".join(b"\0" + number.to_bytes(_INTEGER_BYTES, "little") for number in numbers)
    return head[:begin] + time + head[begin + len(time) :]
