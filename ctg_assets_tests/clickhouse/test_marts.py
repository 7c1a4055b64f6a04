"""Marts in ClickHouse: those of Postgres, whole, whatever happens on the way (8 s of CPU, and a build of marts that others share)."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.clickhouse import ClickHouse, ClickHouseUnavailableError, MartsSource, StandingMarts
from ctg_assets.feed.clickhouse import ClickHouseSink
from ctg_assets.feed.config import ClickHouseSettings
from ctg_assets.feed.delivery import Pauses
from ctg_assets.feed.errors import MartsError
from ctg_assets.feed.service import SinkStatus, configured_sinks, sink_statuses
from ctg_assets.marts.selection import all_marts
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.postgres import arrow_tables
from ctg_assets.postgres.builds import builds
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.refresh.copied_marts import marts_source
from ctg_assets.settings import load_settings
from ctg_assets_tests.clickhouse.bringing import COPIED, MARTS, away, source_of
from ctg_assets_tests.clickhouse.following import Engine, FollowedLake, check_equal
from ctg_assets_tests.conftest import RecordedBuild, new_database
from ctg_assets_tests.release.released import few_studies
from ctg_assets_tests.soak import SHARE, only_in_soaks, times
from ctg_assets_tests.support.forked_commands import forked_commands

pytestmark = pytest.mark.process

_TABLES = """
CREATE SCHEMA marts;
CREATE TABLE marts.dim_country (country_key text NOT NULL, names text[], numbers integer[], population bigint);
CREATE UNIQUE INDEX ON marts.dim_country (country_key);
COMMENT ON TABLE marts.dim_country IS 'Countries; it''s all of them.';
COMMENT ON COLUMN marts.dim_country.names IS 'What they are called: a \\ list.';
INSERT INTO marts.dim_country VALUES
    ('é', '{b,NULL}', '{1,NULL}', 1), ('Z', NULL, NULL, NULL), ('a', '{}', '{-5}', 9223372036854775807);
CREATE TABLE marts.fct_site (
    site_key integer NOT NULL PRIMARY KEY, nct_id text NOT NULL, exact numeric, place numeric(10,6), document json,
    day date, at timestamptz, local_at timestamp, is_open boolean, share double precision, kind varchar(9),
    small smallint
);
INSERT INTO marts.fct_site VALUES
    (3, 'NCT00000001', 0.1, 59.913868, '{"b":1, "a": [null]}', '1850-02-03', '2026-02-28 01:00+02',
        '2026-02-28 01:00:00.000001', true, 0.1, 'x', 7),
    (1, 'NCT99999999', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (2, 'NCT00000001', 2, -1, '1', '0999-01-01', '1959-12-31 23:59:59.999999+00', '1999-01-01',
        false, 'Infinity', '', -7);
CREATE TABLE marts.without_key (nct_id text, n integer);
INSERT INTO marts.without_key VALUES (NULL, 1), ('NCT00000001', NULL);
CREATE TABLE marts.of_somebody_else (a integer);
"""


@pytest.fixture
def warehouse(address: PostgresAddress) -> PostgresAddress:
    """A database with some marts, and a table that is none of ours."""
    with connect(address) as connection:
        connection.execute(_TABLES)
    return replace(address, schemas=Schemas())


def test_types_and_comments_are_kept(
    engine: Engine, warehouse: PostgresAddress, tmp_path: Path
) -> None:
    """Each value is what it is in Postgres, but for lists that are missing, which are empty, and local times, which are UTC."""
    engine(_look_at_types, tmp_path, warehouse)


def _look_at_types(folder: Path, address: PostgresAddress) -> None:
    lake = FollowedLake(folder)
    lake.walk(1, few_studies()[:3])
    with lake.opened() as server:
        source = source_of(address, "1", *COPIED, "without_key")
        assert lake.deliver(source).problem is None
        check_equal(server, lake.rows())
        assert lake.ask("SELECT * FROM ctg_marts.dim_country ORDER BY country_key") == [
            {"country_key": "Z", "names": [], "numbers": [], "population": None},
            {"country_key": "a", "names": [], "numbers": [-5], "population": 2**63 - 1},
            {"country_key": "é", "names": ["b", None], "numbers": [1, None], "population": 1},
        ]
        early, full, empty = lake.ask("SELECT * FROM ctg_marts.fct_site ORDER BY nct_id, site_key")
        assert full == {
            "site_key": 3,
            "nct_id": "NCT00000001",
            "exact": 0.1,
            "place": Decimal("59.913868"),
            "document": '{"b":1, "a": [null]}',
            "day": date(1850, 2, 3),
            "at": datetime(2026, 2, 27, 23, tzinfo=UTC),
            "local_at": datetime(2026, 2, 28, 1, 0, 0, 1, tzinfo=UTC),
            "is_open": True,
            "share": 0.1,
            "kind": "x",
            "small": 7,
        }
        assert {name for name, value in empty.items() if value is not None} == {
            "site_key",
            "nct_id",
        }
        assert (early["day"], early["share"]) == (date(999, 1, 1), float("inf"))
        assert early["at"] == datetime(1959, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        assert lake.ask("SELECT * FROM ctg_marts.without_key ORDER BY n") == [
            {"nct_id": None, "n": 1},
            {"nct_id": "NCT00000001", "n": None},
        ]
        tables = lake.ask(
            "SELECT name, sorting_key, comment FROM system.tables WHERE database = 'ctg_marts' ORDER BY name"
        )
        assert [
            (row["name"], row["sorting_key"].strip("()"), row["comment"]) for row in tables
        ] == [
            ("dim_country", "country_key", "Countries; it's all of them."),
            ("fct_site", "nct_id, site_key", ""),
            ("without_key", "", ""),
        ]
        assert lake.ask(
            "SELECT table, name, comment FROM system.columns WHERE database = 'ctg_marts' AND comment != ''"
        ) == [
            {"table": "dim_country", "name": "names", "comment": "What they are called: a \\ list."}
        ]


def test_marts_follow_what_they_are_made_from(
    engine: Engine, warehouse: PostgresAddress, tmp_path: Path
) -> None:
    """What is made from the same is not written again; what is gone goes; while they stand for nothing, or have just been replaced, all stay."""
    engine(_follow, tmp_path, warehouse)


def _follow(folder: Path, address: PostgresAddress) -> None:
    lake = FollowedLake(folder)
    lake.walk(1, few_studies()[:3])
    with lake.opened():
        _follow_in(lake, address)


def _source(address: PostgresAddress, *answers: Mapping[str, str] | None) -> MartsSource:
    """Marts that are made from something else whenever that is asked, and in the end from the last."""
    left = list(answers)

    def standing(_: PostgresAddress) -> StandingMarts | None:
        told = left.pop(0) if len(left) > 1 else left[0]
        return None if told is None else StandingMarts("7", "2026-11-27T09:00:05", told)

    return MartsSource(lambda: contextlib.nullcontext(address), standing)


def _follow_in(lake: FollowedLake, address: PostgresAddress) -> None:
    def brought(*answers: Mapping[str, str] | None) -> dict[str, str]:
        """The tables there, by name with what tells one from another, once this was brought."""
        assert lake.deliver(_source(address, *answers)).problem is None
        rows = lake.ask(
            "SELECT name, toString(uuid) AS id FROM system.tables WHERE database = 'ctg_marts'"
        )
        assert not lake.ask("SELECT name FROM system.tables WHERE name LIKE 'next %'")
        return {row["name"]: row["id"] for row in rows}

    one = dict.fromkeys(COPIED, "1")
    # While they stand for nothing there are none.
    assert brought(None) == {}
    assert _status(lake).marts is None
    first = brought(one)
    assert first.keys() == {*COPIED}
    assert _status(lake).marts == "data version 2026-11-27T09:00:05, snapshot 7"
    with connect(address) as connection:
        connection.execute("UPDATE marts.fct_site SET kind = 'new'")
        connection.execute("UPDATE marts.dim_country SET population = 0")
    assert brought(one) == first == brought(None)
    # Replaced between one look and the next.
    assert brought(one, {**one, "fct_site": "2"}) == first
    assert brought({**one, "fct_site": "2"}, one) == first
    # Said to be built, and not there.
    assert brought({**one, "fct_site": "2", "fct_gone": "1"}) == first
    second = brought({**one, "fct_site": "2"})
    assert second["dim_country"] == first["dim_country"]
    assert second["fct_site"] != first["fct_site"]
    assert lake.ask("SELECT DISTINCT kind FROM ctg_marts.fct_site") == [{"kind": "new"}]
    assert {"population": 0} not in lake.ask("SELECT population FROM ctg_marts.dim_country")
    # One that somebody has dropped here is made again; one of somebody else's stays.
    with lake.opened() as server:
        server.do("DROP TABLE ctg_marts.dim_country")
        server.do("CREATE TABLE ctg_marts.mine (n Int32) ENGINE = MergeTree ORDER BY n")
    third = brought({**one, "fct_site": "2"})
    assert third.keys() == {*COPIED, "mine"}
    assert third["fct_site"] == second["fct_site"]
    assert brought({"fct_site": "2"}).keys() == {"fct_site", "mine"}
    assert brought({}).keys() == {"mine"}
    assert _status(lake).marts is None


def _status(lake: FollowedLake) -> SinkStatus:
    [status] = sink_statuses(lake.feed, 10)
    return status


def test_tables_follow_without_postgres(
    engine: Engine, warehouse: PostgresAddress, tmp_path: Path
) -> None:
    """A Postgres that is away or cannot be read, or a mart that ClickHouse refuses, holds up nothing else, and is told until it is over."""
    engine(_do_without, tmp_path, warehouse)


def _do_without(folder: Path, address: PostgresAddress) -> None:
    lake = FollowedLake(folder)
    absent = MartsSource(away, lambda _: None)
    there = source_of(address, "1", *COPIED)
    with lake.opened() as server:
        lake.walk(1, few_studies()[:3])
        for day in (1, 2):
            lake.walk(1 + day, few_studies(n1=f"Title {day}")[:3])
            outcome = lake.deliver(absent)
            assert isinstance(outcome.problem, MartsError)
            check_equal(server, lake.rows())
            assert _failing_since(lake) is not None
            state = _status(lake).state
            assert state is not None
            assert "no Postgres answers" in (state.last_error or "")
        _hold_on(lake, absent)
        assert lake.deliver(there).problem is None
        assert _failing_since(lake) is None
        _look_now_and_then(lake, address)
        server.do("ALTER TABLE ctg_marts.fct_site COMMENT COLUMN kind 'old'")
        # The driver is not installed; the user has no right; ClickHouse takes a row of one mart for wrong.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(arrow_tables, "find_spec", lambda _: None)
            outcome = lake.deliver(source_of(address, "2", *COPIED))
        assert "pip install 'ctg-assets[clickhouse]'" in str(outcome.problem)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ClickHouse, "do", _forbidding(ClickHouse.do))
            outcome = lake.deliver(source_of(address, "2", *COPIED))
        assert isinstance(outcome.problem, MartsError)
        assert "no right to make marts" in str(outcome.problem)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ClickHouse, "insert", _refusing(ClickHouse.insert))
            outcome = lake.deliver(source_of(address, "2", *COPIED))
        assert isinstance(outcome.problem, MartsError)
        assert "small" in str(outcome.problem)
        assert lake.ask(
            "SELECT count() AS n FROM system.columns WHERE database = 'ctg_marts' AND comment = 'old'"
        ) == [{"n": 1}]
        assert lake.deliver(source_of(address, "2", *COPIED)).problem is None


def _hold_on(lake: FollowedLake, absent: MartsSource) -> None:
    """Events that are delivered do not end it, and for a while it is not tried again."""
    asked = count()

    def opened() -> contextlib.AbstractContextManager[PostgresAddress]:
        next(asked)
        return away()

    source = replace(absent, open=opened)
    [settings] = configured_sinks(lake.feed)
    assert isinstance(settings, ClickHouseSettings)
    sink = ClickHouseSink(settings, None, lake.lake, marts=source)
    with sink.open_progress() as progress:
        position = progress.position()
        assert position is not None
        problem = sink.bring_marts(Pauses(first=60))
        since = _failing_since(lake)
        assert since is not None
        assert progress.advance(position, position, ["e"], ())
        assert sink.bring_marts(Pauses(first=60)) is problem is not None
        assert not sink.are_marts_waiting(Pauses())
        assert _failing_since(lake) == since
        assert next(asked) == 1


def _look_now_and_then(lake: FollowedLake, address: PostgresAddress) -> None:
    """What a consumer of a queue asks while nothing comes: it is to stop for what there is to be done or told, and for that alone."""
    made_from: dict[str, str] | None = None
    source = MartsSource(
        lambda: contextlib.nullcontext(address),
        lambda _: None if made_from is None else StandingMarts("7", "now", made_from),
    )
    [settings] = configured_sinks(lake.feed)
    assert isinstance(settings, ClickHouseSettings)
    sink = ClickHouseSink(settings, None, lake.lake, marts=source)
    always, seldom = Pauses(for_news=0), Pauses(for_news=60)
    with sink.open_progress() as progress:
        progress.position()
        for told in (None, dict.fromkeys(COPIED, "a"), dict.fromkeys(COPIED, "b"), None):
            made_from = told
            assert sink.are_marts_waiting(always)
            assert sink.bring_marts(always) is None
            assert not sink.are_marts_waiting(always)
        made_from = {"fct_site": "3"}
        assert sink.are_marts_waiting(seldom)
        # It was looked at not long ago.
        assert not sink.are_marts_waiting(always)


def _failing_since(lake: FollowedLake) -> datetime | None:
    state = _status(lake).state
    assert state is not None
    return state.failing_since


def _forbidding(do: Any) -> Any:
    """Statements of a user who has no right to make marts."""

    def forbidding(server: ClickHouse, statement: str) -> None:
        if "CREATE DATABASE IF NOT EXISTS `ctg_marts`" in statement:
            message = "no right to make marts"
            raise ClickHouseUnavailableError(message)
        do(server, statement)

    return forbidding


def _refusing(insert: Any) -> Any:
    """An insert into tables that a CHECK keeps large shares out of."""

    def refusing(server: ClickHouse, database: str, table: str, rows: Any) -> None:
        if table.endswith("fct_site"):
            server.do(f"ALTER TABLE `{database}`.`{table}` ADD CONSTRAINT small CHECK share < 9")
        insert(server, database, table, rows)

    return refusing


def test_killed_at_any_moment_marts_are_whole(
    engine: Engine, warehouse: PostgresAddress, tmp_path: Path
) -> None:
    """`kill -9` around the exchanges of two marts, and anywhere: each is an older one or the new one, and the next run finishes (2 s a run)."""
    FollowedLake(tmp_path).walk(1, few_studies()[:3])
    newest = 1
    engine(_bring_first, tmp_path, warehouse)
    _write(warehouse, newest)
    moments = _brought(tmp_path, warehouse, newest, 0)
    assert moments is not None
    kills = [place for place, doing in enumerate(moments, 1) if " EXCHANGE " in doing]
    assert len(kills) == 4
    # Before the first exchange, and before it is noted; in soaks also around the second, and anywhere.
    dice = random.Random(3)
    kills = (
        kills + [dice.randint(1, len(moments)) for _ in range(times(2, 30))] if SHARE else kills[:2]
    )
    before: Sequence[int] = [newest, newest]
    for kill in kills:
        newest += 1
        _write(warehouse, newest)
        assert _brought(tmp_path, warehouse, newest, kill) is None
        shown = engine(_shown, tmp_path)
        assert all(now in {then, newest} for then, now in zip(before, shown, strict=True))
        before = shown
    assert _brought(tmp_path, warehouse, newest, 0) is not None
    assert engine(_shown, tmp_path) == [newest, newest]


def _bring_first(folder: Path, address: PostgresAddress) -> None:
    assert FollowedLake(folder).deliver(source_of(address, "0", *COPIED)).problem is None


def _write(address: PostgresAddress, number: int) -> None:
    """Have the rows of both marts say which time they are of."""
    with connect(address) as connection:
        connection.execute("UPDATE marts.dim_country SET population = %s", [number])
        connection.execute("UPDATE marts.fct_site SET small = %s", [number])


def _brought(
    folder: Path, address: PostgresAddress, newest: int, moment: int
) -> Sequence[str] | None:
    """Bring marts in a process that is killed at a moment; returns all moments, None if it was killed."""
    begin = "from ctg_assets_tests.clickhouse.bringing import main; main()"
    command = [str(forked_commands() / "python"), "-c", begin, str(folder), MARTS, address.url]
    done = subprocess.run(
        [*command, str(newest), str(moment)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def _shown(folder: Path) -> Sequence[int]:
    """Of which time each mart is: all rows of the same, and of no earlier one than is noted."""
    lake = FollowedLake(folder)
    with lake.opened():
        found = [
            lake.ask(
                f"SELECT count() AS n, groupUniqArray(assumeNotNull({column})) AS times FROM ctg_marts.{mart}"
            )
            for mart, column in zip(COPIED, ("population", "small"), strict=True)
        ]
        notes = lake.ask("SELECT name, made_by FROM ctg_rows.ctg_tables FINAL")
    noted = {row["name"]: row["made_by"] for row in notes}
    shown = []
    for mart, [rows] in zip(COPIED, found, strict=True):
        assert rows["n"] == 3
        [time] = rows["times"]
        assert int(noted[f"marts.{mart}"].rpartition("/")[2]) <= time
        shown.append(time)
    return shown


def test_every_mart_is_that_of_postgres(
    engine: Engine, server: PostgresAddress, generated_marts: str, tmp_path: Path
) -> None:
    """All marts of generated studies, all columns of all rows, with comments; and a round with nothing to do leaves them alone."""
    with new_database(server, generated_marts) as address:
        _check_every_mart(engine, address, tmp_path)


@pytest.mark.soak
@only_in_soaks
def test_every_mart_of_real_studies_is_that_of_postgres(
    engine: Engine, server: PostgresAddress, recorded_build: RecordedBuild, tmp_path: Path
) -> None:
    """The same of all recorded studies; skips where there are none (30 s of CPU, and the build)."""
    with new_database(server, recorded_build.database) as address:
        _check_every_mart(engine, address, tmp_path)


def _check_every_mart(engine: Engine, address: PostgresAddress, folder: Path) -> None:
    address = replace(address, schemas=Schemas())
    note_built(address)
    assert {build.name for build in builds(address, "marts")} == all_marts()
    lake = FollowedLake(folder)
    lake.walk(1, few_studies()[:3])
    declared, rows = _in_postgres(address)
    shown = engine(_in_clickhouse, folder, address)
    assert shown[0] == declared
    assert shown[1].keys() == rows.keys() == all_marts()
    for name, expected in rows.items():
        assert shown[1][name] == expected, name
    assert sum(map(len, rows.values())) > 1000


_Declared = Mapping[tuple[str, str], str]
_Rows = Mapping[str, Sequence[str]]


def _in_postgres(address: PostgresAddress) -> tuple[_Declared, _Rows]:
    """Comments by table and column, and each mart's rows as ClickHouse is to have them, as text in order."""
    with connect(address) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        names = [
            name
            for (name,) in connection.execute(
                "SELECT tablename::text FROM pg_tables WHERE schemaname = 'marts'"
            )
        ]
        declared = {
            (table, column): said or ""
            for table, column, said in connection.execute(
                "SELECT c.relname::text, a.attname::text, col_description(c.oid, a.attnum) FROM pg_class AS c "
                "JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
                "WHERE c.relnamespace = 'marts'::regnamespace AND c.relkind = 'r'"
            )
        }
        rows = {}
        for name in names:
            cursor = connection.execute(
                sql.SQL("SELECT * FROM {}").format(sql.Identifier("marts", name))
            )
            lists = {
                index
                for index, column in enumerate(cursor.description or ())
                if (column.type_display or "").endswith("[]")
            }
            rows[name] = sorted(
                repr([_value(value, is_list=index in lists) for index, value in enumerate(row)])
                for row in cursor
            )
    return declared, rows


def _value(value: Any, *, is_list: bool = False) -> Any:
    if value is None:
        return [] if is_list else None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat()
    return value


def _in_clickhouse(folder: Path, address: PostgresAddress) -> tuple[_Declared, _Rows]:
    """Bring all marts, and return the same of them."""
    lake = FollowedLake(folder)
    source = marts_source(load_settings(data_dir=folder / "data", postgres_url=address.url))
    assert source is not None
    environment = {
        "CTG_DATA_DIR": str(lake.feed.data_dir),
        "CTG_FEED_FILE": str(lake.feed.feed_file),
        "CTG_POSTGRES_URL": address.url,
    }
    with lake.opened() as server:
        done = CliRunner().invoke(app, ["feed", "run", "--once"], env=environment)
        assert done.exit_code == 0, done.output
        told = CliRunner().invoke(app, ["feed", "status"], env=environment).output
        assert f"columns: marts of {source.standing(address)}" in " ".join(told.split())
        parts = "SELECT name, toString(uuid) AS id FROM system.tables WHERE database = 'ctg_marts'"
        before = lake.ask(parts)
        # As while a refresh builds one of them.
        rename = "UPDATE ctg_meta.builds SET fingerprint = %s WHERE stage = 'marts' AND name = 'dim_study'"
        with connect(address) as connection:
            [made_from] = [
                each.fingerprint for each in builds(address, "marts") if each.name == "dim_study"
            ]
            connection.execute(rename, ["of yesterday"])
            assert source.standing(address) is None
            assert lake.deliver(source).problem is None
            connection.execute(rename, [made_from])
        standing = source.standing(address)
        assert standing is not None
        assert standing.made_from.keys() == all_marts()
        assert lake.deliver(source).problem is None
        assert lake.ask(parts) == before
        columns = lake.ask(
            "SELECT table, name, comment FROM system.columns WHERE database = 'ctg_marts'"
        )
        rows = {
            row["name"]: sorted(
                repr([_value(value) for value in row.values()])
                for row in server.ask(f"SELECT * FROM ctg_marts.`{row['name']}`").to_pylist()
            )
            for row in before
        }
    return {(row["table"], row["name"]): row["comment"] for row in columns}, rows
