"""Looking at a database: what is told, that nothing is changed, and that nobody is in anybody's way."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from ctg_assets.feed.service import sink_statuses
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import LoadBusyError, ServerUnavailableError
from ctg_assets.postgres.watching import database_state, is_loaded, watched
from ctg_assets.serve.state import database_samples, feed_samples
from ctg_assets.settings import load_settings
from ctg_assets_tests.feed.helpers import receiver
from ctg_assets_tests.feed.test_commands import Desk
from ctg_assets_tests.serve.test_state import told
from ctg_assets_tests.support.postgres import ALL, batch, build, query


def load(address: PostgresAddress, studies: int) -> None:
    """Load three small tables."""
    rows = batch(range(1, studies + 1))
    load_tables(LoadRequest(address, ALL, build(studies=studies)), [rows])


def test_an_empty_database_is_up_and_not_loaded(address: PostgresAddress) -> None:
    """No table is told, and none of ours is made by looking."""
    assert told(database_samples(address)) == {"ctg_database_up": 1}
    assert not is_loaded(address)
    assert query(address, "SELECT count(*) FROM pg_namespace WHERE nspname = 'ctg_meta'") == [(0,)]


def test_tables_are_told_with_rows_and_bytes(address: PostgresAddress) -> None:
    """As many rows as were loaded, as many bytes as Postgres says; what others have made is none of ours."""
    load(address, 3)
    query(address, "CREATE SCHEMA theirs; CREATE TABLE theirs.studies (x int)")
    assert is_loaded(address)
    found = told(database_samples(address))
    rows = {name: value for name, value in found.items() if name.startswith("ctg_table_rows")}
    assert rows == {
        "ctg_table_rows schema=staging table=studies": 3,
        "ctg_table_rows schema=staging table=conditions": 6,
        "ctg_table_rows schema=staging table=keywords": 6,
        "ctg_table_rows schema=staging table=load_info": 1,
    } | {name: value for name, value in rows.items() if "schema=ctg_meta" in name}
    [(size,)] = query(address, "SELECT pg_total_relation_size('staging.conditions')")
    assert found["ctg_table_bytes schema=staging table=conditions"] == size
    assert not any("theirs" in name for name in found)
    assert found["ctg_loaded_studies"] == 3
    # 2026-01-01 09:00 UTC, the data version of the build.
    assert found["ctg_loaded_data_timestamp_seconds"] == 1_767_258_000
    assert abs(found["ctg_loaded_timestamp_seconds"] - time.time()) < 600


def test_who_looks_cannot_write(address: PostgresAddress) -> None:
    """A session that looks is told no by Postgres itself, also where the URL has options of its own."""
    own = replace(address, parameters={**address.parameters, "options": "-c work_mem=5MB"})
    with connect(watched(own)) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("CREATE TABLE public.x (y int)")


def test_a_lock_is_not_waited_for_long(address: PostgresAddress) -> None:
    """While somebody has a table for himself the look fails soon, and does not stand in a queue."""
    load(address, 1)
    with connect(address) as holder, holder.transaction():
        holder.execute("LOCK TABLE staging.load_info IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        with pytest.raises((LoadBusyError, ServerUnavailableError)):
            database_state(address)
        assert time.monotonic() - began < 10
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'staging.load_info'::regclass"
        assert query(address, waiting) == [(0,)]


def test_a_sink_that_is_not_in_the_file_any_more_is_told_no_more(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """It stays behind for ever, which is nothing to be alerted of; the others are told as before."""
    desk = Desk(tmp_path, address)
    settings = load_settings(
        data_dir=tmp_path / "data", postgres_url=address.url, feed_file=desk.file
    )
    with receiver(lambda _: 503) as down:
        desk.sinks(former=down.url, other=down.url)
        desk.feed("run", "--once")
        before = told(feed_samples(sink_statuses(settings, 0)))
        assert before["ctg_feed_failing sink=former"] == 1
        desk.sinks(other=down.url)
    others = {name: value for name, value in before.items() if "sink=other" in name}
    assert told(feed_samples(sink_statuses(settings, 0))) == others


def test_a_sink_that_nobody_has_begun_to_deliver_to_is_told(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """One that is to get everything is behind by all changes; of one that is to begin with news, nobody can say."""
    desk = Desk(tmp_path, address)
    settings = load_settings(
        data_dir=tmp_path / "data", postgres_url=address.url, feed_file=desk.file
    )
    desk.sinks(desk="http://127.0.0.1:9/", newcomer="http://127.0.0.1:9/")
    said, _, news = desk.file.read_text().rpartition('start = "beginning"')
    desk.file.write_text(said + 'start = "newest"' + news)
    assert told(feed_samples(sink_statuses(settings, 0))) == {
        "ctg_feed_lag_changes sink=desk": 3,
        "ctg_feed_delivering sink=desk": 0,
        "ctg_feed_delivering sink=newcomer": 0,
    }
