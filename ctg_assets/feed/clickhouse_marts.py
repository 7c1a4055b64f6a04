"""Marts for a ClickHouse: looked after beside the events, and never in their way."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack

from ctg_assets.clickhouse import (
    ClickHouseUnavailableError,
    FollowedTables,
    MartsSource,
    RowsRefusedError,
    StandingMarts,
)
from ctg_assets.feed.clickhouse_progress import ClickHouseProgress
from ctg_assets.feed.delivery import Pauses
from ctg_assets.feed.errors import MartsError
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import WarehouseError

_log = logging.getLogger(__name__)


class FollowedMarts:
    """The marts of a Postgres for one ClickHouse, as long as the tables there are open. For one thread."""

    def __init__(
        self,
        source: MartsSource,
        tables: FollowedTables,
        progress: ClickHouseProgress,
        stack: ExitStack,
    ) -> None:
        """Bring what `source` has; the Postgres that this opens is left when `stack` is."""
        self._source = source
        self._copied = tables.marts
        self._progress = progress
        # One that went away is left before, and another one opened.
        self._postgres = stack.enter_context(ExitStack())
        self._address: PostgresAddress | None = None
        self._problem: MartsError | None = None
        self._pause = 0.0
        self._next_try = 0.0
        self._next_look = 0.0
        # What was told last, unless that was a problem or nothing.
        self._told: StandingMarts | None = None
        self._is_well = False

    def are_waiting(self, pauses: Pauses) -> bool:
        """Whether `bring` has something to do or to tell; asked every moment, Postgres is looked at now and then."""
        now = time.monotonic()
        if now < max(self._next_look, self._next_try):
            return False
        self._next_look = now + pauses.for_news
        try:
            standing = self._standing()
        except WarehouseError:
            return True
        return standing != self._told or not self._is_well

    def bring(self, pauses: Pauses) -> MartsError | None:
        """Bring the marts if they are not those that are there; returns what is in the way, if anything is.

        What is in the way is noted, and tried again after a pause. Raises SinkUnavailableError.
        """
        if time.monotonic() < self._next_try:
            return self._problem
        try:
            brought = self._copied.bring(self._opened(), self._standing)
        except (WarehouseError, ClickHouseUnavailableError, RowsRefusedError) as error:
            # Also of ClickHouse, which may take tables and not let us make marts.
            self._failed(error, pauses)
            return self._problem
        self._problem, self._pause = None, 0.0
        if brought != self._told or not self._is_well:
            _log.info("marts of ClickHouse: %s", brought or _WAITING)
            self._progress.is_well()
            self._told, self._is_well = brought, True
        return None

    def _opened(self) -> PostgresAddress:
        if self._address is None:
            self._address = self._postgres.enter_context(self._source.open())
        return self._address

    def _standing(self) -> StandingMarts | None:
        return self._source.standing(self._opened())

    def _failed(self, error: Exception, pauses: Pauses) -> None:
        self._address = None
        self._postgres.close()
        self._pause = min(max(pauses.first, 2 * self._pause), pauses.longest_while_down)
        self._next_try = time.monotonic() + self._pause
        problem = MartsError(f"marts stay as they are, all else follows: {error}")
        self._problem, self._is_well = problem, False
        self._progress.marts_failed(str(problem))
        _log.warning("%s; trying again in %.1f s", problem, self._pause)


_WAITING = (
    "as they were, since those in Postgres are not all of the snapshot that is loaded there; they "
    "follow when `ctg-assets refresh` has built them"
)
