"""Sending rows into tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
from psycopg import sql

from ctg_assets.model.spec import TableShape
from ctg_assets.postgres import ddl
from ctg_assets.postgres.connection import Connection, postgres_errors
from ctg_assets.postgres.copy_format import UnencodableError, encode_rows
from ctg_assets.postgres.errors import LoadRejectedError
from ctg_assets.postgres.target import Target

# Small batches of many tables would cost a COPY each; what is gathered and what is being sent bounds
# memory at about tables * 4 MB + 512 MB beside the caller's batch. The rows of 8,000 studies, some
# 270 MB, find room, so that they are sent while the next ones are made.
_GATHER_BYTES = 4 << 20
_UNSENT_BYTES = 512 << 20


class CopyWriter:
    """Creates tables in the schema `into` and sends their rows, over several connections at once.

    Each connection is in a transaction of the caller's, in which it creates and fills the tables assigned
    to it: only so can COPY freeze rows and, under wal_level=minimal, skip the WAL.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        shapes: Mapping[str, TableShape],
        copied_bytes: dict[str, int],
        target: Target,
        *,
        into: str,
    ) -> None:
        self._connections = connections
        self._shapes = shapes
        self._copied_bytes = copied_bytes
        self._target = target
        self._into = into
        self._threads = [ThreadPoolExecutor(1) for _ in connections]
        self._assigned_bytes = [0] * len(connections)
        self._lane: dict[str, int] = {}
        self._gathered: dict[str, list[pa.Table]] = {name: [] for name in shapes}
        self._gathered_bytes = dict.fromkeys(shapes, 0)
        self._unsent: deque[tuple[Future[None], int]] = deque()
        self._unsent_bytes = 0

    def __enter__(self) -> CopyWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for threads in self._threads:
            threads.shutdown(cancel_futures=True)

    def add(self, name: str, rows: pa.Table) -> None:
        """Take rows of a table.

        Raises LoadRejectedError for rows that are not the table's, and what went wrong with rows
        taken earlier.
        """
        rows = conform(self._shapes[name], rows, self._target)
        self._gathered[name].append(rows)
        self._gathered_bytes[name] += rows.nbytes
        if self._gathered_bytes[name] >= _GATHER_BYTES:
            self._send(name)

    def finish(self) -> None:
        """Send what is left, and create tables that got no rows."""
        for name in sorted(self._shapes, key=lambda name: -self._gathered_bytes[name]):
            self._send(name)
        self._wait(until_bytes=-1)

    def _send(self, name: str) -> None:
        size = self._gathered_bytes[name]
        self._wait(until_bytes=_UNSENT_BYTES - size)
        is_new = name not in self._lane
        lane = self._lane.setdefault(name, self._assigned_bytes.index(min(self._assigned_bytes)))
        self._assigned_bytes[lane] += size
        task = _SendOf(
            self._shapes[name],
            tuple(self._gathered[name]),
            self._target,
            into=self._into,
            is_new=is_new,
            copied_bytes=self._copied_bytes,
        )
        self._unsent.append((self._threads[lane].submit(task, self._connections[lane]), size))
        self._unsent_bytes += size
        self._gathered[name] = []
        self._gathered_bytes[name] = 0

    def _wait(self, *, until_bytes: int) -> None:
        while self._unsent and (self._unsent_bytes > until_bytes or self._unsent[0][0].done()):
            future, size = self._unsent.popleft()
            self._unsent_bytes -= size
            future.result()


@dataclass(frozen=True)
class _SendOf:
    """One COPY of some rows of a table, which it creates first if they are its first."""

    shape: TableShape
    rows: tuple[pa.Table, ...]
    target: Target
    into: str
    is_new: bool
    copied_bytes: dict[str, int]

    def __call__(self, connection: Connection) -> None:
        name = f"{self.target.schema}.{self.shape.name}"
        if self.is_new:
            with postgres_errors(f"creating {name}"):
                connection.execute(ddl.create_table(self.shape, self.into))
        if any(rows.num_rows for rows in self.rows):
            statement = ddl.copy_rows(self.shape, self.into, freeze=True)
            sent = copy_rows(connection, statement, pa.concat_tables(self.rows), into=name)
            self.copied_bytes[self.shape.name] += sent


def copy_rows(connection: Connection, statement: sql.Composed, rows: pa.Table, *, into: str) -> int:
    """Run a COPY of these rows; returns the bytes sent. `into` is what messages call the table."""
    doing = f"copying rows into {into}"
    sent = 0
    try:
        with (
            postgres_errors(doing),
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            for piece in encode_rows(rows):
                copy.write(piece)
                sent += len(piece)
    except UnencodableError as error:
        message = f"{doing}: {error}"
        raise LoadRejectedError(message) from error
    return sent


def conform(shape: TableShape, rows: pa.Table, target: Target) -> pa.Table:
    """The rows with exactly the shape's columns; raises LoadRejectedError if they are not its own."""
    names = [column.name for column in shape.columns]
    if sorted(names) != sorted(rows.column_names):
        odd = sorted(set(names) ^ set(rows.column_names))
        message = (
            f"rows for {target.schema}.{shape.name} do not have its columns; they differ in {odd}"
        )
        raise LoadRejectedError(message)
    # NOT NULL is left to Postgres, whose message shows the row.
    schema = pa.schema([pa.field(column.name, column.type.arrow) for column in shape.columns])
    try:
        return rows.select(names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        message = f"rows for {target.schema}.{shape.name} do not have its types: {error}"
        raise LoadRejectedError(message) from error
