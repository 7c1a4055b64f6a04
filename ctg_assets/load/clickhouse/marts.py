"""Marts in ClickHouse: whole copies of those in Postgres.

Each is filled where nobody reads, and takes its place when all that changed are full: a reader never sees a part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ctg_assets.load.clickhouse.notes import Notes, marts_database, rows_database
from ctg_assets.load.clickhouse.server import ClickHouse, literal, quoted
from ctg_assets.load.clickhouse.tables import NEXT, mart_declaration
from ctg_assets.postgres.arrow_tables import ArrowTable, TablesMoment, one_moment
from ctg_assets.postgres.builds import StandingMarts
from ctg_assets.postgres.connection import PostgresAddress

_DECLARED = "1"
"""Changes when the same mart would be declared in another way: all copies are then made anew."""


class CopiedMarts:
    """The copies of marts in one ClickHouse; one process at a time makes them."""

    def __init__(self, server: ClickHouse, notes: Notes, show: Callable[[str], None]) -> None:
        """Keep what copies are made from in `notes`; `show` is told what takes long."""
        self._server = server
        self._notes = notes
        self._show = show
        self._marts = marts_database(server.address)
        self._beside = rows_database(server.address)
        self.brought: StandingMarts | None = None
        """What was brought last, by this process."""

    def bring(
        self, address: PostgresAddress, standing: Callable[[], StandingMarts | None]
    ) -> StandingMarts | None:
        """Have the marts be those of a Postgres; returns what they hold now.

        `standing` says what those in Postgres hold. While they stand for no snapshot, also if that ends meanwhile, all
        stay here as they are, and None is returned. Raises WarehouseError, ClickHouseUnavailableError and
        RowsRefusedError; whatever ends it, each mart here is an older or a newer whole.
        """
        wanted = standing()
        if wanted is None or wanted == self.brought:
            return wanted
        made_from = {name: f"{_DECLARED}/{told}" for name, told in wanted.made_from.items()}
        held, there = self._notes.marts_made_from(), self._there()
        outdated = [
            name for name, told in made_from.items() if held.get(name) != told or name not in there
        ]
        if outdated:
            self._server.do(f"CREATE DATABASE IF NOT EXISTS {quoted(self._marts)}")
            copied = self._copy(address, outdated, lambda: standing() == wanted)
            if copied is None:
                return None
            # One right after the other, when Postgres is read and all are full.
            for name in copied:
                self._put_in_place(name, is_there=name in there)
                self._notes.mart_made(name, made_from[name])
        for name in sorted(held.keys() - made_from.keys()):
            self._server.do(f"DROP TABLE IF EXISTS {self._mart(name)}")
            self._notes.mart_forgotten(name)
        self._notes.marts_are(str(wanted) if made_from else None)
        self.brought = wanted
        return wanted

    def _copy(
        self, address: PostgresAddress, names: Collection[str], are_same: Callable[[], bool]
    ) -> Sequence[str] | None:
        """Fill a table beside each mart, from one moment of Postgres; None if the marts are others by then."""
        with one_moment(address, application_name="ctg_assets feed") as moment:
            marts = moment.tables(address.schemas.marts, names)
            moment.hold(marts)
            # What was so before and after the moment was so at it.
            if not are_same() or {mart.name for mart in marts} != {*names}:
                return None
            for mart in marts:
                self._fill(moment, mart)
        return [mart.name for mart in marts]

    def _fill(self, moment: TablesMoment, mart: ArrowTable) -> None:
        beside = _beside(mart.name)
        # Of an attempt that Postgres ended.
        self._server.do(f"DROP TABLE IF EXISTS {quoted(self._beside)}.{quoted(beside)}")
        self._server.do(mart_declaration(mart, self._beside, beside))
        count = 0
        for rows in moment.rows(mart):
            self._server.insert(self._beside, beside, rows)
            count += rows.num_rows
            self._show(f"copying mart {mart.name}: {count:,} rows")

    def _put_in_place(self, name: str, *, is_there: bool) -> None:
        beside = f"{quoted(self._beside)}.{quoted(_beside(name))}"
        if is_there:
            self._server.do(f"EXCHANGE TABLES {self._mart(name)} AND {beside}")
            self._server.do(f"DROP TABLE {beside}")
        else:
            self._server.do(f"RENAME TABLE {beside} TO {self._mart(name)}")

    def _there(self) -> set[str]:
        found = self._server.ask(
            f"SELECT name FROM system.tables WHERE database = {literal(self._marts)}"
        )
        return {*found["name"].to_pylist()}

    def _mart(self, name: str) -> str:
        return f"{quoted(self._marts)}.{quoted(name)}"


def _beside(mart: str) -> str:
    return f"{NEXT}marts.{mart}"
