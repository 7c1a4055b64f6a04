"""What the tables in ClickHouse are made from, and who has brought them how far: kept beside them, in the same server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ctg_assets.load.clickhouse.server import ClickHouse, ClickHouseAddress, literal, quoted

_BASE = ""
"""Under this name stands the change up to which all tables are whole, whoever brought them there."""


_MARTS = "marts"
"""Under this name of a table stands which marts there are, and with a dot and a mart's name what that is made from."""


@dataclass(frozen=True)
class Base:
    """Up to this change all tables hold what this snapshot has; `history` tells histories apart."""

    change_seq: int
    snapshot_id: str
    history: str


@dataclass(frozen=True)
class ReaderPosition:
    """How far a reader of changes is: up to `change_seq`, in the history of that name, everything is there, or put aside.

    `delivered` counts changes, repeats included. Times are UTC; `failing_since` is None while all is well.
    """

    change_seq: int
    history: str
    delivered: int = 0
    moved_at: datetime | None = None
    last_error: str | None = None
    last_error_at: datetime | None = None
    failing_since: datetime | None = None


@dataclass(frozen=True)
class Letter:
    """A message that could not be brought in, as it came; its `event_id` is made up where it has none."""

    event_id: str
    change_seq: int
    nct_id: str
    reason: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    replay_asked: bool
    body: str


_TIME = "DateTime64(6, 'UTC')"
_TABLES = {
    "ctg_positions": (
        (
            f"reader String, change_seq Int64, snapshot_id String, history String, delivered Int64, moved_at {_TIME},"
            f" last_error Nullable(String), last_error_at Nullable({_TIME}), failing_since Nullable({_TIME})"
        ),
        "reader",
    ),
    "ctg_dead_letters": (
        (
            "reader String, event_id String, change_seq Int64, nct_id String, reason String, attempts Int32,"
            f" first_failed_at {_TIME}, last_failed_at {_TIME}, replay_asked Bool, body String"
        ),
        "reader, event_id",
    ),
    "ctg_tables": ("name String, made_by String", "name"),
}


class Notes:
    """The tables of notes."""

    def __init__(self, server: ClickHouse, database: str) -> None:
        """Keep them in a database of a server."""
        self._server = server
        self._database = database
        self._last = 0

    def are_there(self) -> bool:
        """Whether there are notes."""
        found = self._server.ask(
            f"SELECT name FROM system.tables WHERE database = {literal(self._database)}"
        )
        return set(_TABLES) <= set(found["name"].to_pylist())

    def prepare(self) -> None:
        """Make what is not there."""
        self._server.do(f"CREATE DATABASE IF NOT EXISTS {quoted(self._database)}")
        for name, (columns, sorted_by) in _TABLES.items():
            self._server.do(
                f"CREATE TABLE IF NOT EXISTS {self._named(name)} ({columns}, noted UInt64, is_gone UInt8)"
                f" ENGINE = ReplacingMergeTree(noted, is_gone) ORDER BY ({sorted_by})"
            )

    # what tables are made from

    def made_by(self) -> dict[str, str]:
        """By table, what it was made from."""
        rows = self._rows("ctg_tables", "true")
        return {row["name"]: row["made_by"] for row in rows}

    def made(self, made_by: Mapping[str, str]) -> None:
        """Note that tables are there, and what each was made from."""
        rows = [{"name": name, "made_by": told} for name, told in made_by.items()]
        self._write("ctg_tables", rows)

    def forgotten(self, table: str) -> None:
        """Note that a table is not there any more."""
        self._write("ctg_tables", [{"name": table}], gone=True)

    # marts

    def marts_made_from(self) -> dict[str, str]:
        """By mart, what its copy was made from."""
        begin = f"{_MARTS}."
        return {
            name.removeprefix(begin): told
            for name, told in self.made_by().items()
            if name.startswith(begin)
        }

    def mart_made(self, mart: str, made_from: str) -> None:
        """Note that the copy of a mart is there, and what it was made from."""
        self.made({f"{_MARTS}.{mart}": made_from})

    def mart_forgotten(self, mart: str) -> None:
        """Note that the copy of a mart is not there any more."""
        self.forgotten(f"{_MARTS}.{mart}")

    def marts_brought(self) -> str | None:
        """Which marts there are, in words; None where there were never all of a snapshot."""
        for row in self._rows("ctg_tables", f"name = {literal(_MARTS)}"):
            return str(row["made_by"])
        return None

    def marts_are(self, told: str | None) -> None:
        """Note which marts there are, all of them; None where there are none."""
        if told is None:
            self.forgotten(_MARTS)
        else:
            self.made({_MARTS: told})

    # up to where tables are whole

    def base(self) -> Base | None:
        """Up to where all tables are whole; None before they were."""
        for row in self._rows("ctg_positions", f"reader = {literal(_BASE)}"):
            return Base(row["change_seq"], row["snapshot_id"], row["history"])
        return None

    def rebase(self, base: Base) -> None:
        """Note up to where all tables are whole."""
        told = {
            "change_seq": base.change_seq,
            "snapshot_id": base.snapshot_id,
            "history": base.history,
        }
        self._write("ctg_positions", [{"reader": _BASE, "moved_at": _now(), **told}])

    # positions

    def position(self, reader: str) -> ReaderPosition | None:
        """How far a reader is; None for a new one."""
        for row in self._rows("ctg_positions", f"reader = {literal(reader)}"):
            return ReaderPosition(
                **{name: row[name] for name in ReaderPosition.__dataclass_fields__}
            )
        return None

    def move(self, reader: str, position: ReaderPosition) -> None:
        """Note how far a reader is: the last thing that is written of a batch."""
        told = {name: getattr(position, name) for name in ReaderPosition.__dataclass_fields__}
        told["moved_at"] = position.moved_at or _now()
        self._write("ctg_positions", [{"reader": reader, **told}])

    # dead letters

    def letters(
        self, reader: str, *, asked: bool = False, limit: int | None = None
    ) -> list[Letter]:
        """A reader's dead letters by number, or those of them that are asked for."""
        where = f"reader = {literal(reader)}" + (" AND replay_asked" if asked else "")
        rows = self._rows("ctg_dead_letters", where, order="change_seq, event_id", limit=limit)
        return [Letter(**{name: row[name] for name in Letter.__dataclass_fields__}) for row in rows]

    def count_letters(self, reader: str) -> int:
        """How many dead letters a reader has."""
        where = f"reader = {literal(reader)}"
        asked = f"SELECT count() AS n FROM {self._named('ctg_dead_letters')} FINAL WHERE {where}"
        return int(self._server.ask(asked)["n"][0].as_py())

    def put_aside(self, reader: str, letters: list[Letter]) -> None:
        """Write dead letters, in the place of those of the same events."""
        self._write(
            "ctg_dead_letters",
            [
                {
                    "reader": reader,
                    **{name: getattr(letter, name) for name in Letter.__dataclass_fields__},
                }
                for letter in letters
            ],
        )

    def remove_letters(self, reader: str, event_ids: list[str]) -> None:
        """Forget dead letters."""
        gone = [{"reader": reader, "event_id": event_id} for event_id in event_ids]
        self._write("ctg_dead_letters", gone, gone=True)

    # rows

    def _rows(
        self, table: str, where: str, *, order: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        end = f" ORDER BY {order}" if order else ""
        end += f" LIMIT {limit}" if limit is not None else ""
        statement = f"SELECT * FROM {self._named(table)} FINAL WHERE {where}{end}"
        found: list[dict[str, Any]] = self._server.ask(statement).to_pylist()
        return found

    def _write(self, table: str, rows: list[dict[str, Any]], *, gone: bool = False) -> None:
        if not rows:
            return
        # Later notes win; a clock that goes back must not make one of them lose.
        self._last = max(time.time_ns(), self._last + 1, self._newest(table) + 1)
        columns: Mapping[str, list[Any]] = {
            name: [row.get(name) for row in rows] for name in rows[0]
        }
        noted = pa.array([self._last] * len(rows), pa.uint64())
        marks = pa.array([int(gone)] * len(rows), pa.uint8())
        written = pa.table(dict(columns)).append_column("noted", noted)
        self._server.insert(self._database, table, written.append_column("is_gone", marks))

    def _newest(self, table: str) -> int:
        if self._last:
            return 0
        found = self._server.ask(f"SELECT max(noted) AS noted FROM {self._named(table)}")
        return int(found["noted"][0].as_py() or 0)

    def _named(self, table: str) -> str:
        return f"{quoted(self._database)}.{quoted(table)}"


def rows_database(address: ClickHouseAddress) -> str:
    """The database of rows and notes; in the one that the address names are the views."""
    return f"{address.database}_rows"


def marts_database(address: ClickHouseAddress) -> str:
    """The database of marts."""
    return f"{address.database}_marts"


def _now() -> datetime:
    return datetime.now(UTC)
