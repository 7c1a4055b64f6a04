"""Past months rebuilt from the history, against those that dbt wrote at the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.months import RebuiltMonth, observed_months, rebuild_months
from ctg_assets.marts.up_to_date import marts_made_from, note_built
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import PermanentWarehouseError
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.times import parse_data_timestamp
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.projects import WITHOUT_VIEWS, dbt_on, forked_dbt, values
from ctg_assets_tests.support.lakes import completed, json_of, planned

SEPTEMBER, OCTOBER, NOVEMBER = (date(2026, month, 1) for month in (9, 10, 11))
# Of a year before the history began, and of a month without an observation.
UNCOVERED = [("NCT00000001", date(2025, 9, 1)), ("NCT00000001", date(2026, 8, 1))]

MODELS = ("+fct_study_snapshot_monthly", "dim_snapshot_month")

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Rebuilt:
    """The fact as dbt wrote it month by month, and after its past months were lost and rebuilt."""

    address: PostgresAddress
    settings: Settings
    lake: Lake
    written: Rows
    report: list[RebuiltMonth]
    rows: Rows
    days: Rows


def changed(study: bytes, *conditions: str) -> bytes:
    """The study with other conditions and as many participants."""
    content = msgspec.json.decode(study)
    protocol = content["protocolSection"]
    protocol["conditionsModule"] = {"conditions": list(conditions)}
    protocol.setdefault("designModule", {})["enrollmentInfo"] = {
        "count": len(conditions),
        "type": "ACTUAL",
    }
    return msgspec.json.encode(content)


def untyped(study: bytes) -> bytes:
    """The study with a title that is no text, for which it goes to quarantine."""
    content = msgspec.json.decode(study)
    content["protocolSection"]["identificationModule"]["briefTitle"] = ["no", "text"]
    return msgspec.json.encode(content)


def fact(address: PostgresAddress) -> Rows:
    """All rows of the fact."""
    statement = "SELECT * FROM marts.fct_study_snapshot_monthly ORDER BY snapshot_month, nct_id"
    return values(address, statement)


def observe(lake: Lake, settings: Settings, day: str, studies: Sequence[bytes]) -> Any:
    """Bring a walk of these studies into the lake; gives the snapshot."""
    plan = planned(lake, settings, studies=len(studies), data_timestamp=f"{day}T09:00:05")
    completed(lake, plan, studies)
    return Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)


@pytest.fixture(scope="module")
def rebuilt(server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rebuilt]:
    """Months observed, built, lost and rebuilt, with studies that change, go, come back and are broken."""
    folder = tmp_path_factory.mktemp("months")
    source = GeneratedSource(30, seed=3)
    first = [source.raw(index) for index in range(30)]
    second = [changed(first[0], "a", "b"), untyped(first[1]), *first[2:9], *first[10:]]
    third = [*first[:2], changed(first[2], "c"), *first[3:]]
    with new_database(server) as address:
        settings = load_settings(data_dir=folder, postgres_url=address.url)
        lake = open_lake(settings)
        observe(lake, settings, "2026-09-03", third)
        for day, studies, options in [
            ("2026-09-28", first, ()),
            ("2026-10-31", second, WITHOUT_VIEWS),
            ("2026-11-02", third, WITHOUT_VIEWS),
        ]:
            load_staging(address, lake, observe(lake, settings, day, studies))
            dbt_on(address, folder, "run", "--select", *MODELS, *options)
        with connect(address) as connection:
            connection.cursor().executemany(
                "INSERT INTO marts.fct_study_snapshot_monthly (nct_id, snapshot_month)"
                " VALUES (%s, %s)",
                UNCOVERED,
            )
            written = fact(address)
            connection.execute(
                "DELETE FROM marts.fct_study_snapshot_monthly WHERE snapshot_month = %s",
                [SEPTEMBER],
            )
            connection.execute(
                "DELETE FROM marts.dim_snapshot_month WHERE snapshot_month = %s", [SEPTEMBER]
            )
            connection.execute("UPDATE marts.dim_snapshot_month SET data_date = '2020-02-20'")
            # The current month is not as the history has it, either.
            connection.execute(
                "UPDATE marts.fct_study_snapshot_monthly SET enrollment = -1"
                " WHERE snapshot_month IN (%s, %s)",
                [OCTOBER, NOVEMBER],
            )
        with forked_dbt():
            report = rebuild_months(address, lake)
        days = values(
            address,
            "SELECT snapshot_month, data_date FROM marts.dim_snapshot_month ORDER BY snapshot_month",
        )
        yield Rebuilt(address, settings, lake, written, report, fact(address), days)


def of(rows: Rows, *months: date) -> Rows:
    """The rows of some months."""
    return [row for row in rows if row[1] in months]


def test_past_months_are_as_dbt_wrote_them(rebuilt: Rebuilt) -> None:
    """Lost and damaged months hold the same rows as before, to the last column."""
    assert of(rebuilt.rows, SEPTEMBER, OCTOBER) == of(rebuilt.written, SEPTEMBER, OCTOBER)
    september, october = (of(rebuilt.rows, month) for month in (SEPTEMBER, OCTOBER))
    assert (len(september), len(october)) == (30, 28)


def test_past_months_have_the_day_of_their_last_observation(rebuilt: Rebuilt) -> None:
    """The list of months is rewritten with the fact; the current month's row is dbt's."""
    assert rebuilt.days == [
        (SEPTEMBER, date(2026, 9, 28)),
        (OCTOBER, date(2026, 10, 31)),
        (NOVEMBER, date(2020, 2, 20)),
    ]


def test_the_report_names_the_months(rebuilt: Rebuilt) -> None:
    """Each month is reported with its last observation and its rows before and now."""
    assert rebuilt.report == [
        RebuiltMonth(SEPTEMBER, parse_data_timestamp("2026-09-28T09:00:05"), 0, 30),
        RebuiltMonth(OCTOBER, parse_data_timestamp("2026-10-31T09:00:05"), 28, 28),
    ]


def test_the_current_month_is_left_to_dbt(rebuilt: Rebuilt) -> None:
    """Its rows stay, whatever the history says."""
    november = of(rebuilt.rows, NOVEMBER)
    assert len(november) == 30
    assert {row[4] for row in november} == {-1}


def test_months_without_an_observation_stay(rebuilt: Rebuilt) -> None:
    """Rows that the history does not cover exist nowhere else."""
    months = [month for _, month in UNCOVERED]
    assert of(rebuilt.rows, *months) == of(rebuilt.written, *months)
    assert len(of(rebuilt.rows, *months)) == len(UNCOVERED)


def test_again_and_by_command_changes_nothing(
    rebuilt: Rebuilt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command rebuilds the months asked for, to the same rows; who copies marts sees that these were written."""
    marts = ("dim_snapshot_month", "dim_study", "fct_study_snapshot_monthly")
    note_built(rebuilt.address, marts)
    before = marts_made_from(rebuilt.address)
    monkeypatch.setenv("CTG_POSTGRES_URL", rebuilt.address.url)
    monkeypatch.setenv("CTG_DATA_DIR", str(rebuilt.settings.data_dir))
    with forked_dbt():
        done = CliRunner().invoke(app, ["rebuild-months", "--from", "2026-10", "--to", "2026-10"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "2026-10: 28 studies as of 2026-10-31 09:00:05 UTC; it had 28"
    ]
    assert fact(rebuilt.address) == rebuilt.rows
    after = marts_made_from(rebuilt.address)
    assert after.keys() == before.keys() == {*marts}
    assert {name for name in marts if after[name] != before[name]} == {*marts} - {"dim_study"}


def test_marts_that_were_never_built_are_asked_for(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """The message says what builds them."""
    settings = load_settings(data_dir=tmp_path)
    lake = open_lake(settings)
    for day in ("2026-10-31", "2026-11-02"):
        observe(lake, settings, day, json_of(1, 2))
    with forked_dbt(), pytest.raises(PermanentWarehouseError, match="ctg-assets refresh"):
        rebuild_months(address, lake)


def test_which_months_were_observed() -> None:
    """Past months since the history began, by their last observation; earlier imports only when asked for."""
    times = [
        datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2026, 9, 1, tzinfo=UTC),
        datetime(2026, 11, 5, tzinfo=UTC),
    ]
    assert observed_months(times) == {SEPTEMBER: times[0], NOVEMBER: times[4]}
    assert observed_months(times, last=date(2026, 9, 15)) == {SEPTEMBER: times[0]}
    assert observed_months(times, first=date(2026, 9, 15), last=OCTOBER) == {SEPTEMBER: times[0]}
    assert [*observed_months(times, first=date(2024, 2, 1))] == [
        date(2024, 2, 1),
        SEPTEMBER,
        NOVEMBER,
    ]
    assert observed_months([]) == {}
