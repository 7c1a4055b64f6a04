"""Lakes that a ClickHouse follows. The engine is in a process of its own: 500 MB that forks of a test's must not have."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from ctg_assets.clickhouse import ClickHouse, ClickHouseAddress, MartsSource
from ctg_assets.feed.runner import Outcome
from ctg_assets.feed.service import deliver
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.postgres.copy_format import storable
from ctg_assets.settings import Settings, load_settings
from ctg_assets_tests.release.released import ReleasedLake
from ctg_assets_tests.support.few_tables import few_tables

Result = TypeVar("Result")
Engine = Callable[..., Any]

SHAPES = {shape.name: shape for shape in staging_shapes()}


@contextmanager
def engine_process() -> Iterator[Engine]:
    """A process with the embedded engine, which runs functions of modules."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:

        def run(function: Callable[..., Result], *arguments: object) -> Result:
            return pool.submit(_with_few_tables, function, *arguments).result(300)

        yield run


def _with_few_tables(function: Callable[..., Result], *arguments: object) -> Result:
    with few_tables():
        return function(*arguments)


class FollowedLake(ReleasedLake):
    """A lake of few studies, without a database, and a ClickHouse in its folder."""

    def __init__(self, folder: Path, **sink: Any) -> None:
        super().__init__(folder)
        self._open: ClickHouse | None = None
        self.told: list[str] = []
        self.address = ClickHouseAddress.parse(f"chdb://{folder}/clickhouse")
        told = {"attempts": 1, "batch_size": 100, **sink}
        lines = [f"{name} = {value}" for name, value in told.items()]
        file = folder / "sinks.toml"
        file.write_text(
            f'[[sink]]\nname = "columns"\ntype = "clickhouse"\nurl = "chdb://{folder}/clickhouse"\n'
            + "\n".join(lines)
        )
        self.feed: Settings = load_settings(
            data_dir=folder / "data", feed_file=str(file), warehouse="none"
        )

    def deliver(self, marts: MartsSource | None = None) -> Outcome:
        """Deliver what there is, and these marts."""
        stop, show = threading.Event(), self.told.append
        [outcome] = deliver(self.feed, (), once=True, stop=stop, show=show, marts=marts)
        return outcome

    def delivered(self) -> None:
        """Deliver all there is, and check that the tables are those of a load."""
        outcome = self.deliver()
        assert outcome.problem is None, outcome.problem
        with self.opened() as server:
            check_equal(server, self.rows())

    @contextmanager
    def opened(self) -> Iterator[ClickHouse]:
        """The ClickHouse, for looking at it; within a block around all a test does the engine is started once."""
        if self._open is not None:
            yield self._open
            return
        server = self._open = ClickHouse(self.address, None, 30.0)
        try:
            yield server
        finally:
            self._open = None
            server.close()

    def ask(self, statement: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        with self.opened() as server:
            found: list[dict[str, Any]] = server.ask(statement).to_pylist()
            return found


def rows_there(server: ClickHouse, name: str) -> pa.Table:
    """The rows that readers see of a table, in the order of its key, with the types of its declaration."""
    shape = SHAPES[name]
    found = server.ask(f"SELECT * FROM ctg.`{name}` ORDER BY {', '.join(shape.primary_key)}")
    assert found.column_names == shape.arrow_schema.names
    return found.cast(pa.schema([(field.name, field.type) for field in shape.arrow_schema]))


def check_equal(server: ClickHouse, expected: dict[str, pa.Table]) -> None:
    """Check that each table has these rows and no others, in all columns."""
    there = server.ask("SELECT name FROM system.tables WHERE database = 'ctg'")
    assert set(there["name"].to_pylist()) == set(expected)
    for name, rows in expected.items():
        shown = rows_there(server, name)
        wanted = pa.table(storable(rows).columns, names=rows.column_names)
        assert shown.num_rows == wanted.num_rows, (name, shown.num_rows, wanted.num_rows)
        assert shown.combine_chunks().equals(wanted.combine_chunks()), name
