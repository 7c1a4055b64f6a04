"""The flat tables and marts in ClickHouse, as the feed knows them: those that write them take turns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ctg_assets.lake import Lake
from ctg_assets.load.clickhouse.following import ChangedStudy, FollowedTables, reflected
from ctg_assets.load.clickhouse.notes import Base, Letter, Notes, ReaderPosition, rows_database
from ctg_assets.load.clickhouse.server import (
    ClickHouse,
    ClickHouseAddress,
    ClickHouseAddressError,
    ClickHouseUnavailableError,
    RowsRefusedError,
    require_clickhouse,
)
from ctg_assets.postgres.builds import StandingMarts
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.storage.locks import BusyError, hold

__all__ = [
    "Base",
    "BusyError",
    "ChangedStudy",
    "ClickHouse",
    "ClickHouseAddress",
    "ClickHouseAddressError",
    "ClickHouseUnavailableError",
    "FollowedTables",
    "Letter",
    "MartsSource",
    "Notes",
    "ReaderPosition",
    "RowsRefusedError",
    "StandingMarts",
    "followed_tables",
    "reflected",
    "require_clickhouse",
    "rows_database",
]


@dataclass(frozen=True)
class MartsSource:
    """Marts to be copied: `open` has their Postgres up for a block, `standing` says what they hold there.

    That is None while they stand for no snapshot. Both raise WarehouseError.
    """

    open: Callable[[], AbstractContextManager[PostgresAddress]]
    standing: Callable[[PostgresAddress], StandingMarts | None]


@contextlib.contextmanager
def followed_tables(
    address: ClickHouseAddress,
    lake: Lake,
    *,
    password: str | None = None,
    timeout: float = 30.0,
    show: Callable[[str], None] = lambda _: None,
) -> Iterator[FollowedTables]:
    """The flat tables of a database, for bringing them changes of the lake until the block ends, and its marts.

    `timeout` is in seconds; `show` is told what takes long. Raises BusyError when another process of this data folder
    brings them already, ClickHouseUnavailableError.
    """
    # ClickHouse has no locks of its own.
    lake.scratch.mkdir(parents=True, exist_ok=True)
    with hold(lake.scratch / address.lock_name, f"the tables at {address}"):
        server = ClickHouse(address, password, timeout)
        try:
            yield FollowedTables(server, lake, show)
        finally:
            server.close()
