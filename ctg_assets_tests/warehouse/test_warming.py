"""Reading ahead of a delta: what it reads, and how it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctg_assets.model.spec import TableShape
from ctg_assets.warehouse.connection import PostgresAddress, connect
from ctg_assets.warehouse.errors import WarehouseError
from ctg_assets.warehouse.loader import load_tables
from ctg_assets.warehouse.replacing import ChangedStudies, Replacement
from ctg_assets.warehouse.warming import Warming
from ctg_assets_tests.warehouse.helpers import ALL, KEYWORDS, batch, build, nct_id, query

OTHERS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
CHANGED = ChangedStudies([nct_id(study) for study in range(100, 300)])
FEW = ChangedStudies([nct_id(study) for study in range(100, 110)])


def warming(
    address: PostgresAddress, *shapes: TableShape, changed: ChangedStudies = CHANGED
) -> Warming:
    """Reading of the rows that some tables have of the changed studies."""
    return Warming(address, [Replacement(shape, "staging") for shape in shapes], changed)


def rows_fetched(address: PostgresAddress) -> dict[str, int]:
    """The rows that were fetched by their keys, by table, once all sessions have told."""
    while query(address, OTHERS) != [(0,)]:
        pass
    counted: list[tuple[str, int]] = query(
        address,
        "SELECT relname, idx_tup_fetch FROM pg_stat_user_tables"
        " WHERE schemaname = 'staging' AND relname <> 'load_info' ORDER BY relname",
    )
    return dict(counted)


def test_all_rows_of_changed_studies_are_read(address: PostgresAddress) -> None:
    """Each is fetched once, from every table, and no other."""
    rows = batch(range(1, 1000))
    load_tables(address, ALL, [rows], build=build())
    before = rows_fetched(address)
    with warming(address, *ALL) as reading:
        reading.wait()
    read = {name: count - before[name] for name, count in rows_fetched(address).items()}
    of_changed = batch(range(100, 300))
    assert read == {name: table.num_rows for name, table in of_changed.items()}


def test_few_studies_are_not_read_ahead(
    address: PostgresAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """No session is tried for what a delta itself finds as quickly."""
    with warming(replace(address, port=1), *ALL, changed=FEW) as reading:
        reading.wait()
    assert caplog.messages == []


def test_no_connections_to_spare(
    address: PostgresAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no session can be opened it says so, and leaves the reading to the delta."""
    with warming(replace(address, port=1), *ALL) as reading:
        reading.wait()
    assert caplog.messages
    assert all("reading ahead over fewer connections: " in said for said in caplog.messages)


def test_leaving_early_ends_the_sessions(address: PostgresAddress) -> None:
    """Whoever is interrupted while a table cannot be read does not wait for it."""
    load_tables(address, ALL, [batch(range(1, 4))], build=build())
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with connect(address) as holder, holder.transaction():
        holder.execute("LOCK TABLE staging.keywords IN ACCESS EXCLUSIVE MODE")

        def interrupted() -> None:
            with warming(address, *ALL):
                while query(address, waiting) == [(0,)]:
                    pass
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert holder.execute(waiting).fetchone() == (0,)


def test_what_goes_wrong_is_told(address: PostgresAddress) -> None:
    """A table that cannot be read is an error that says what was being done."""
    load_tables(address, ALL, [batch(range(1, 4))], build=build())
    gone = replace(KEYWORDS, name="gone")
    with (
        pytest.raises(WarehouseError, match=r"reading what is to be replaced: .*staging.gone"),
        warming(address, gone) as reading,
    ):
        reading.wait()
