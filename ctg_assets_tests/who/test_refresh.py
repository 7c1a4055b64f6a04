"""Refreshing WHO's indicators: releases, repetition, configuration, and the command."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ctg_assets.cli.app import app
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import ForeignObjectError, LoadRejectedError
from ctg_assets.refresh.planner import Stage, Step
from ctg_assets.settings import load_settings
from ctg_assets.simulator.who import Row, WhoFault
from ctg_assets.simulator.who_rows import ghe_rows, gho_rows
from ctg_assets.storage.data_folder import lake_storage
from ctg_assets.storage.files import Work
from ctg_assets.storage.locks import BusyError
from ctg_assets.who.errors import IndicatorFileError, UnknownIndicatorError
from ctg_assets.who.indicators import Indicator, Schedule, indicators, named, switch, users_file
from ctg_assets.who.refreshing import Became, WhoSource
from ctg_assets_tests.who.conftest import Who, ghe, gho

Ask = Callable[..., list[tuple[Any, ...]]]

# Every row of the schema with the transaction that wrote it.
WRITTEN = """
    SELECT 'observations', xmin::text, ctid::text, observation_key FROM who.observations
    UNION ALL SELECT 'estimates', xmin::text, ctid::text, cause_code::text FROM who.global_health_estimates
    UNION ALL SELECT 'indicators', xmin::text, ctid::text, indicator FROM who.indicators
    UNION ALL SELECT 'releases', xmin::text, ctid::text, release FROM who.releases
    UNION ALL SELECT 'builds', xmin::text, ctid::text, fingerprint FROM ctg_meta.builds WHERE stage = 'who'
    ORDER BY 1, 2, 3
"""
RELEASES = "SELECT indicator, release, rows, is_newest FROM who.releases ORDER BY 1, release_number"


def sent_again(rows: list[Row]) -> list[Row]:
    """The same rows as WHO sends them another time: in another order, under other ids, dated anew."""
    mixed = [dict(row) for row in rows]
    random.Random(1).shuffle(mixed)
    for number, row in enumerate(mixed):
        row["Id" if "Id" in row else "Sys_PK"] = 10**6 + number
        if "Date" in row:
            row["Date"] = "2025-01-01T00:00:00+01:00"
    return mixed


def refreshed(who: Who, address: PostgresAddress, *asked: Indicator) -> list[Became]:
    """Refresh into the test's database; returns what became of each indicator."""
    source = WhoSource(who.settings(postgres_url=address.url))
    return [outcome.became for outcome in source.refresh(asked)]


def test_a_second_refresh_changes_nothing(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """Rows that come again, in another order and under other ids, are no release, and no row is written."""
    life, estimates = gho_rows("LIFE", years=range(2015, 2022)), ghe_rows()
    who.simulator.entities |= {"LIFE": life, "DEX_CMS/GHE_FULL": estimates}
    assert refreshed(who, address, gho("LIFE"), ghe()) == [Became.NEW_RELEASE] * 2
    before = rows_of(WRITTEN)
    assert len(before) == len(life) + len(estimates) + 2 + 2 + 2
    who.simulator.entities |= {
        "LIFE": sent_again(life),
        "DEX_CMS/GHE_FULL": sent_again(estimates),
    }
    assert refreshed(who, address, gho("LIFE"), ghe()) == [Became.UNCHANGED] * 2
    assert rows_of(WRITTEN) == before
    # What was fetched for nothing is not kept.
    assert who.source.walks.numbers("LIFE") == [1]


def test_a_revised_release_keeps_both(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """Other numbers for the same years are a release of their own beside the former, whose rows stay untouched."""
    who.simulator.entities["DEX_CMS/GHE_FULL"] = ghe_rows()
    refreshed(who, address, ghe())
    of_first = "SELECT xmin::text, cause_code, dalys FROM who.global_health_estimates WHERE release = 'GHE2021' ORDER BY 2, 3"
    before = rows_of(of_first)
    revised = ghe_rows(years=range(2019, 2024), seed=2)
    who.simulator.entities["DEX_CMS/GHE_FULL"] = revised
    assert refreshed(who, address, ghe()) == [Became.NEW_RELEASE]
    assert rows_of(RELEASES) == [("GHE", "GHE2021", 576, False), ("GHE", "GHE2023", 960, True)]
    assert rows_of(of_first) == before
    # A correction within a release has a name that sorts after it and before the next.
    corrected = [dict(row) for row in revised]
    corrected[0]["VAL_DALY_COUNT_NUMERIC"] += 1
    who.simulator.entities["DEX_CMS/GHE_FULL"] = corrected
    refreshed(who, address, ghe())
    assert [row[1] for row in rows_of(RELEASES)] == ["GHE2021", "GHE2023", "GHE2023.02"]


def test_a_release_that_comes_back_is_the_newest_again(
    who: Who, address: PostgresAddress, rows_of: Ask
) -> None:
    """WHO takes a release back: the former counts as the newest again, and nothing is there twice."""
    first, second = gho_rows("LIFE"), gho_rows("LIFE", seed=2)
    for rows in (first, second, first):
        who.simulator.entities["LIFE"] = rows
        refreshed(who, address, gho("LIFE"))
    assert rows_of(RELEASES) == [
        ("LIFE", "2024-08-02", 528, True),
        ("LIFE", "2024-08-02.02", 528, False),
    ]
    assert rows_of("SELECT count(*) FROM who.observations") == [(1056,)]
    assert rows_of("SELECT newest_release FROM who.indicators") == [("2024-08-02",)]


def test_releases_of_a_lake_that_is_lost_stay_and_are_not_the_newest(
    who: Who, address: PostgresAddress, rows_of: Ask, tmp_path: Path
) -> None:
    """Another data folder loads into the same tables: what was there stays, and one release is the newest."""
    who.simulator.entities["DEX_CMS/GHE_FULL"] = ghe_rows()
    refreshed(who, address, ghe())
    who.simulator.entities["DEX_CMS/GHE_FULL"] = ghe_rows(years=range(2019, 2024), seed=2)
    refreshed(replace(who, folder=tmp_path / "another"), address, ghe())
    assert rows_of(RELEASES) == [("GHE", "GHE2021", 576, False), ("GHE", "GHE2023", 960, True)]


def test_keys_are_the_same_everywhere(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """An observation keeps its key over releases, and no two observations of a release have one."""
    for seed in (1, 2):
        who.simulator.entities["LIFE"] = gho_rows("LIFE", seed=seed)
        refreshed(who, address, gho("LIFE"))
    assert rows_of(
        "SELECT count(*), count(DISTINCT observation_key), "
        "count(DISTINCT (spatial_code, time_value, dim1)) FROM who.observations"
    ) == [(1056, 528, 528)]
    [(key,)] = rows_of(
        "SELECT DISTINCT observation_key FROM who.observations "
        "WHERE spatial_code = 'FRA' AND time_value = '2001' AND dim1 = 'SEX_MLE'"
    )
    told = b'["LIFE","COUNTRY","FRA","YEAR","2001","SEX","SEX_MLE",null,null,null,null,null,null]'
    assert key == hashlib.blake2b(told, digest_size=16).hexdigest()


def test_one_that_fails_keeps_no_other_from_it(
    who: Who, address: PostgresAddress, rows_of: Ask
) -> None:
    """The indicators beside one that WHO does not answer for are fetched and loaded."""
    who.simulator.entities |= {
        code: gho_rows(code, years=range(2020, 2022)) for code in ("A", "B", "C")
    }
    who.simulator.faults["B"] = WhoFault.OVERLOADED
    became = refreshed(who, address, gho("A"), gho("B"), gho("C"))
    assert became == [Became.NEW_RELEASE, Became.FAILED, Became.NEW_RELEASE]
    assert [row[0] for row in rows_of(RELEASES)] == ["A", "C"]


def test_an_api_that_is_down_is_waited_for_once(who: Who, address: PostgresAddress) -> None:
    """After one indicator was tried for as long as the settings say, others of the same API are tried once. It waits a second."""
    codes = ("A", "B", "C")
    who.simulator.entities |= {code: gho_rows(code) for code in codes}
    who.simulator.faults |= dict.fromkeys(codes, WhoFault.OVERLOADED)
    settings = who.settings(postgres_url=address.url, retry_seconds=1.2)
    outcomes = WhoSource(settings).refresh([gho(code) for code in codes])
    assert [outcome.became for outcome in outcomes] == [Became.FAILED] * 3
    asked = Counter(request.partition("?")[0][-1] for request in who.simulator.requests)
    assert asked["A"] > 1
    assert (asked["B"], asked["C"]) == (1, 1)


def test_two_indicators_with_the_same_estimates(
    who: Who, address: PostgresAddress, rows_of: Ask
) -> None:
    """A second indicator that gives a country's estimate once more is refused as a whole, and told why."""
    who.simulator.entities |= {"DEX_CMS/GHE_FULL": ghe_rows(), "DEX_CMS/OTHER": ghe_rows(seed=2)}
    refreshed(who, address, ghe())
    with pytest.raises(LoadRejectedError, match="the filters of the two overlap"):
        refreshed(who, address, ghe("GHE_2", entity="DEX_CMS/OTHER"))
    assert rows_of(RELEASES) == [("GHE", "GHE2021", 576, True)]


def test_a_schema_of_somebody_else_is_left_alone(
    who: Who, address: PostgresAddress, rows_of: Ask
) -> None:
    """Somebody's own schema `who` is not touched; the message names the setting, and what was fetched is kept."""
    with connect(address) as connection:
        connection.execute("CREATE SCHEMA who; CREATE TABLE who.band (name text)")
    who.simulator.entities["LIFE"] = gho_rows("LIFE")
    with pytest.raises(ForeignObjectError, match="set CTG_WHO_SCHEMA"):
        refreshed(who, address, gho("LIFE"))
    assert rows_of("SELECT count(*) FROM who.band") == [(0,)]
    source = WhoSource(who.settings(postgres_url=address.url, who_schema="who_data"))
    assert [outcome.became for outcome in source.refresh([gho("LIFE")])] == [Became.UNCHANGED]
    assert rows_of("SELECT count(*) FROM who_data.observations") == [(528,)]


def test_one_process_at_a_time(who: Who) -> None:
    """While another is at WHO's part of the lake, nothing is asked; who waits knows why."""
    who.simulator.entities["LIFE"] = gho_rows("LIFE")
    with (
        lake_storage(who.settings()).lock(Work.WHO),
        ThreadPoolExecutor(1) as other,
        pytest.raises(BusyError, match="another process is at work"),
    ):
        other.submit(who.source.refresh, [gho("LIFE")]).result()
    assert who.simulator.requests == []


def test_indicators_of_a_file_that_a_setting_names(who: Who, tmp_path: Path) -> None:
    """Machines that share a lake share a file of indicators by the setting."""
    file = tmp_path / "etc" / "indicators.toml"
    settings = who.settings(who_indicators_file=file)
    assert switch(settings, "GHE", enabled=False) == file
    assert not indicators(settings)["GHE"].enabled
    assert indicators(who.settings())["GHE"].enabled


def test_the_shipped_indicators(who: Who) -> None:
    """Ten indicators are shipped, most of them enabled, and can all be asked for."""
    known = indicators(who.settings())
    assert {
        *("GHE", "WHOSIS_000001", "WHOSIS_000015", "NCDMORT3070", "MDG_0000000020"),
        *("GHED_CHE_pc_US_SHA2011", "HWF_0001", "UHC_INDEX_REPORTED", "NCD_BMI_30A"),
    } == {code for code, each in known.items() if each.enabled}
    assert known.keys() > {"NCD_GLUC_04"}
    assert named(who.settings(), ["GHE"])[0].entity == "DEX_CMS/GHE_FULL"
    with pytest.raises(UnknownIndicatorError, match="ctg-assets who add NOPE"):
        named(who.settings(), ["NOPE"])


def write(who: Who, text: str) -> None:
    """Write the data folder's own file of indicators."""
    file = users_file(who.settings())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_own_indicators_override_key_by_key(who: Who) -> None:
    """The own file changes what it says of a shipped indicator, and nothing else; switching keeps what people wrote."""
    write(who, '# mine\n[indicators.GHE]\nfilter = "DIM_YEAR_CODE eq 2021"  # one year\n')
    switch(who.settings(), "GHE", enabled=False)
    switch(who.settings(), "NCD_GLUC_04", enabled=True)
    known = indicators(who.settings())
    found = known["GHE"]
    assert (found.filter, found.enabled) == ("DIM_YEAR_CODE eq 2021", False)
    assert (found.entity, found.release) == ("DEX_CMS/GHE_FULL", "GHE{last_year}")
    assert known["NCD_GLUC_04"].enabled
    text = users_file(who.settings()).read_text(encoding="utf-8")
    assert text.startswith("# mine\n[indicators.GHE]\n")
    assert "# one year" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[indicators", "is no TOML"),
        ("[indicator.X]", r"expected only tables \[indicators.CODE\]"),
        ('[indicators.X]\nname = "x"', "missing required field `dialect`"),
        ('[indicators.X]\nname = "x"\ndialect = "odata"', r"Invalid enum value 'odata'"),
        ('[indicators.X]\nname = "x"\ndialect = "xmart"', "entity is to be MART/TABLE"),
        ('[indicators.X]\nname = "x"\ndialect = "gho"\nfilters = ""', "unknown field `filters`"),
        ('[indicators."../X"]\nname = "x"\ndialect = "gho"', "matching regex"),
        ('[indicators.X]\nname = "x"\ndialect = "gho"\nrelease = "{day}"', "may have {last_year}"),
        ('[indicators.X]\ncode = "Y"', "without a key `code`"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(who: Who, text: str, says: str) -> None:
    """What cannot be used in the own file is told with file, indicator and reason."""
    write(who, text)
    with pytest.raises(IndicatorFileError, match=says) as raised:
        indicators(who.settings())
    assert str(users_file(who.settings())) in str(raised.value)


def test_what_is_due(who: Who) -> None:
    """An indicator is due before its first refresh and once its schedule has passed, unless it is disabled."""
    who.simulator.entities["LIFE"] = gho_rows("LIFE", years=range(2020, 2022))
    weekly = gho("LIFE", schedule=Schedule.WEEKLY)
    assert who.source.is_due(weekly)
    who.source.extract(weekly)
    who.source.transform(weekly)
    now = datetime.now(UTC)
    assert not who.source.is_due(weekly, now + timedelta(days=6))
    assert who.source.is_due(weekly, now + timedelta(days=7))
    assert not who.source.is_due(gho("LIFE", enabled=False), now + timedelta(days=99))


@pytest.fixture
def run(
    who: Who, address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """A function that runs `ctg-assets who` on the played WHO and the test's database."""
    settings = who.settings()
    for name in ("data_dir", "who_gho_url", "who_xmart_url", "who_requests_per_minute"):
        monkeypatch.setenv(f"CTG_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("CTG_RETRY_SECONDS", "0")
    monkeypatch.setenv("CTG_POSTGRES_URL", address.url)
    # A wide terminal, in which no line is folded.
    return lambda *arguments: CliRunner().invoke(app, ["who", *arguments], env={"COLUMNS": "200"})


def test_a_new_indicator_needs_no_code(who: Who, run: Callable[..., Result], rows_of: Ask) -> None:
    """What the page of the documentation does: add an indicator by a command, refresh it, see its rows."""
    code = "MDG_0000000026"
    who.simulator.entities[code] = gho_rows(code, years=range(2020, 2022))
    assert run("add", code, "--name", "Maternal mortality ratio").exit_code == 0
    assert run("add", code, "--name", "again").exit_code == 2
    done = run("refresh", code)
    assert done.exit_code == 0, done.output
    assert f"{code}: new release; the newest release is 2024-08-02, 48 rows" in done.output
    assert rows_of("SELECT indicator, count(*) FROM who.observations GROUP BY 1") == [(code, 48)]
    listed = json.loads(run("list", "--json").stdout)
    [added] = [each for each in listed if each["code"] == code]
    assert (added["rows"], added["newest_release"], added["is_due"]) == (48, "2024-08-02", False)
    assert run("disable", code).exit_code == 0
    assert not indicators(load_settings())[code].enabled


def test_an_indicator_of_xmart_needs_no_code(
    who: Who, run: Callable[..., Result], rows_of: Ask
) -> None:
    """A table of xMart with columns of its own is an indicator by what the file says of it."""
    who.simulator.entities["MART/BEDS"] = [
        {"Sys_PK": n, "ISO": country, "YR": 2020 + n, "BEDS": n / 2, "WARD": "ICU"}
        for n, country in enumerate(("FRA", "KEN"))
    ]
    write(
        who,
        """
        [indicators.BEDS]
        name = "Beds"
        dialect = "xmart"
        entity = "MART/BEDS"
        release = "v{last_year}"
        columns = { spatial_code = "ISO", time_value = "YR", numeric_value = "BEDS" }
        fill = { DIM_GEO_CODE_TYPE = "COUNTRY", DIM_TIME_TYPE = "YEAR" }
        """,
    )
    done = run("refresh", "BEDS")
    assert done.exit_code == 0, done.output
    assert rows_of(
        "SELECT release, spatial_type, spatial_code, time_value, numeric_value, extras::text FROM who.observations"
    ) == [
        ("v2021", "COUNTRY", "FRA", "2020", 0.0, '{"WARD":"ICU"}'),
        ("v2021", "COUNTRY", "KEN", "2021", 0.5, '{"WARD":"ICU"}'),
    ]


def test_steps_by_hand(who: Who, run: Callable[..., Result], rows_of: Ask) -> None:
    """Extract, transform and load can be run one by one; what a check holds back can be accepted."""
    code = "WHOSIS_000001"
    who.simulator.entities[code] = gho_rows(code)
    for step, said in (
        ("extract", f"{code}: 528 rows in 1 pages"),
        ("transform", f"{code}: the newest release is 2024-08-02, 528 rows"),
        ("load", f"{code}: 528 rows of release 2024-08-02"),
        ("load", "everything is loaded"),
    ):
        done = run(step, code)
        assert (done.exit_code, done.stdout.strip()) == (0, said)
    who.simulator.faults[code] = WhoFault.COLUMN_LESS
    held = run("refresh", code)
    assert held.exit_code == 3
    assert "no_column_is_missing" in held.output
    assert "no_column_is_missing" in run("list").output
    assert run("transform", code, "--accept").exit_code == 0
    assert run("load", code).exit_code == 0
    assert rows_of("SELECT count(*), count(numeric_value) FROM who.observations") == [(1056, 528)]
    who.simulator.faults[code] = WhoFault.HTML
    failed = run("refresh", code)
    assert failed.exit_code == 1
    assert "answered with HTML" in failed.output


def test_marts_that_a_killed_refresh_left_behind_are_built(
    who: Who, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh that finds nothing new builds marts that are behind all the same."""
    code = "WHOSIS_000001"
    who.simulator.entities[code] = gho_rows(code)
    assert run("refresh", code).exit_code == 0
    behind, built = Step(Stage.MARTS, "marts are behind"), list[Step]()
    monkeypatch.setattr("ctg_assets.refresh.planner.next_build_step", lambda *_: behind)
    monkeypatch.setattr(
        "ctg_assets.cli.stages.run_until_idle", lambda _, __, step: built.append(step)
    )
    again = run("refresh", code)
    assert (again.exit_code, "unchanged" in again.output) == (0, True)
    assert built == [behind]


@pytest.mark.process
def test_the_stand_in_for_people(tmp_path: Path) -> None:
    """`who simulate` serves all indicators of the files at the addresses that it prints, until Ctrl-C."""
    program = str(Path(sys.executable).with_name("ctg-assets"))
    environment = {**os.environ, "CTG_DATA_DIR": str(tmp_path)}
    with subprocess.Popen(
        [program, "who", "simulate"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline().removeprefix("export ").split()
            urls = dict(each.split("=", 1) for each in said)
            settings = load_settings(
                data_dir=tmp_path,
                who_requests_per_minute=10_000,
                who_gho_url=urls["CTG_WHO_GHO_URL"],
                who_xmart_url=urls["CTG_WHO_XMART_URL"],
            )
            source = WhoSource(settings)
            for indicator in named(settings, ["GHE", "NCD_GLUC_04"]):
                assert source.extract(indicator).rows > 500
                assert not source.transform(indicator).is_held_back
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
