"""The flat tables in ClickHouse, the engine in this process."""

from __future__ import annotations

from pathlib import Path

from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import lake_of
from ctg_assets.clickhouse import ClickHouse, ClickHouseAddress, followed_tables, rows_database

BYTES = "bytes"
"""Under this name among the parts of an outcome: how large the tables are on disk."""


def first_load(data_dir: str, folder: str) -> Outcome:
    """Load the snapshot into a ClickHouse in an empty folder."""
    lake = lake_of(data_dir)
    address = ClickHouseAddress.parse(ClickHouseAddress.embedded_url(Path(folder).absolute()))
    clock = Clock()
    with followed_tables(address, lake) as tables:
        with clock.running():
            tables.prepare()
        beside = ClickHouse(address, None, 30.0)
        found = beside.ask(
            "SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes FROM system.parts"
            f" WHERE active AND database = '{rows_database(address)}' GROUP BY table"
        ).to_pylist()
        names = beside.ask(f"SELECT name FROM system.tables WHERE database = '{address.database}'")
        beside.close()
    held = {row["table"]: row["rows"] for row in found}
    return Outcome(
        clock.seconds,
        parts={BYTES: float(sum(row["bytes"] for row in found))},
        rows={name: held.get(name, 0) for name in names["name"].to_pylist()},
    )
