"""Recorded rows of WHO load exactly, counted by plain Python."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.who.indicators import TargetTable
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.who.conftest import Who, ghe, gho

Rows = list[dict[str, Any]]
Ask = Callable[..., list[tuple[Any, ...]]]

RECORDED = {"SDGWSHBOD": 570, "WHOSIS_000001": 12_936, "WSH_10_WAT": 528}


def recorded(code: str) -> Rows:
    """The recorded rows of an indicator; skips where they are not."""
    with gzip.open(shared_path(f"gho/{code}.json.gz")) as file:
        rows: Rows = json.load(file)["value"]
    return rows


def estimates(*sources: str) -> Rows:
    """Recorded rows of the Global Health Estimates, as the API sends such: what is empty is null."""
    with gzip.open(shared_path("gho/ghe_sample.csv.gz"), "rt", encoding="utf-8") as file:
        return [
            {"Sys_PK": number} | {k: v or None for k, v in row.items() if k != "SOURCE"}
            for number, row in enumerate(csv.DictReader(file))
            if row["SOURCE"] in sources
        ]


@cache
def causes() -> dict[str, int]:
    """WHO's causes by title."""
    with shared_path("gho/ghe_causes.csv").open(encoding="utf-8", newline="") as file:
        return {row["title"]: int(row["code"]) for row in csv.DictReader(file)}


def totals(rows: Rows, name: str) -> tuple[int, float, float, float]:
    """How many values there are in a column, their sum, the least and the greatest."""
    numbers = [float(row[name]) for row in rows if row[name] is not None]
    if not numbers:
        return 0, 0.0, 0.0, 0.0
    return len(numbers), math.fsum(numbers), min(numbers), max(numbers)


def test_indicators_load_exactly(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """Of three recorded indicators every row is there, with its number and bounds, and no other."""
    sent = {code: recorded(code) for code in RECORDED}
    who.simulator.entities |= sent
    asked = [gho(code) for code in RECORDED]
    for indicator in asked:
        who.source.extract(indicator)
        assert not who.source.transform(indicator).is_held_back
    who.source.load(asked, address=address)
    for code, count in RECORDED.items():
        assert len(sent[code]) == count
        for name, column in (("NumericValue", "numeric_value"), ("Low", "low"), ("High", "high")):
            [(found, *numbers)] = rows_of(
                f"SELECT count({column}), coalesce(sum({column}), 0), coalesce(min({column}), 0), "
                f"coalesce(max({column}), 0) FROM who.observations WHERE indicator = %s",
                code,
            )
            there, *expected = totals(sent[code], name)
            assert found == there
            assert numbers == pytest.approx(expected)
        kinds = rows_of(
            "SELECT spatial_type, dim1, dim2, count(*) FROM who.observations WHERE indicator = %s GROUP BY 1, 2, 3",
            code,
        )
        assert {kind[:3]: kind[3] for kind in kinds} == Counter(
            (row["SpatialDimType"], row["Dim1"], row["Dim2"]) for row in sent[code]
        )
    [denmark] = rows_of(
        """
        SELECT release, value, numeric_value, low, high, parent_location, period_begin::text, period_end::text,
        updated_at::text, extras::text FROM who.observations
        WHERE indicator = 'WHOSIS_000001' AND spatial_code = 'DNK' AND time_value = '2021' AND dim1 = 'SEX_MLE'
        """
    )
    assert denmark == (
        *("2024-08-02", "79.5 [79.4-79.6]", 79.46414153, 79.42575775, 79.55433077, "Europe"),
        *("2021-01-01", "2021-12-31", "2024-08-02 07:43:39.193+00", None),
    )


def test_estimates_load_exactly(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """Rows without codes of causes get them by their titles, empty ages what the configuration says, and no rate is lost."""
    sent = estimates("dd2021")
    assert len(sent) == 34_438
    who.simulator.entities["DEX_CMS/GHE_FULL_DD"] = sent
    indicator = ghe(
        entity="DEX_CMS/GHE_FULL_DD", fill={"DIM_AGEGROUP_CODE": "TOTAL"}, page_size=10_000
    )
    who.source.extract(indicator)
    assert all(check.passed for check in who.source.transform(indicator).checks)
    who.source.load([indicator], address=address)
    sexes = {"BTSX": "TOTAL", "MLE": "MALE", "FMLE": "FEMALE"}
    expected = {
        (
            row["DIM_COUNTRY_CODE"],
            sexes[row["DIM_SEX_CODE"]],
            causes()[row["DIM_GHECAUSE_TITLE"]],
        ): (float(row["VAL_DTHS_RATE100K_NUMERIC"]))
        for row in sent
    }
    found = rows_of(
        "SELECT country_code, sex, cause_code, deaths_per_100k FROM who.global_health_estimates "
        "WHERE release = 'GHE2021' AND year = 2021 AND age_group = 'TOTAL'"
    )
    assert len(found) == len(sent)
    assert {row[:3]: row[3] for row in found} == expected


def test_estimates_of_other_views_load_exactly(
    who: Who, address: PostgresAddress, rows_of: Ask
) -> None:
    """Codes and years sent as numbers or texts, with the decimals of either view, come to the same types."""
    who.simulator.entities |= {
        "DEX_CMS/UKR": estimates("full_ukr"),
        "DEX_CMS/IND": estimates("full_ind"),
        "DEX_CMS/PHL": estimates("dd_api"),
    }
    total = {"DIM_AGEGROUP_CODE": "TOTAL", "DIM_SEX_CODE": "TOTAL"}
    asked = [ghe(code, entity=f"DEX_CMS/{code}", fill=total) for code in ("UKR", "IND", "PHL")]
    for indicator in asked:
        who.source.extract(indicator)
        assert all(check.passed for check in who.source.transform(indicator).checks)
    who.source.load(asked, address=address)
    assert rows_of(
        "SELECT indicator, count(*), min(year), max(year) FROM who.global_health_estimates GROUP BY 1 ORDER BY 1"
    ) == [("IND", 30, 2000, 2021), ("PHL", 1, 2021, 2021), ("UKR", 220, 2000, 2021)]
    [phl] = rows_of(
        "SELECT sex, age_group, cause_code, population, ylls, ylls_low, ylls_high, ylds_per_100k "
        "FROM who.global_health_estimates WHERE indicator = 'PHL'"
    )
    assert phl == ("TOTAL", "TOTAL", 300, 113_100_947, 92_468.3, 61_604.13, 163_810.99, 10.95)
    [(dalys,)] = rows_of(
        "SELECT sum(dalys_per_100k) FROM who.global_health_estimates WHERE indicator = 'UKR'"
    )
    rates = totals(who.simulator.entities["DEX_CMS/UKR"], "VAL_DALY_RATE100K_NUMERIC")  # type: ignore[arg-type]
    assert dalys == pytest.approx(rates[1])


def test_what_is_not_filled_is_no_row(who: Who) -> None:
    """Rows without sex and age are set aside unless the configuration says what they are of, and hold the release back."""
    who.simulator.entities["DEX_CMS/UKR"] = estimates("full_ukr")
    indicator = ghe("UKR", entity="DEX_CMS/UKR")
    who.source.extract(indicator)
    state = who.source.transform(indicator)
    assert state.is_held_back
    assert "220: it has no sex (DIM_SEX_CODE)" in state.results()["rows_are_usable"].description


def test_a_table_of_another_mart_loads(who: Who, address: PostgresAddress, rows_of: Ask) -> None:
    """Long tables of xMart are observations by their own names of columns; their codes of countries keep their zeros."""
    with shared_path("gho/recorded/relay_whs_hale_head.csv").open(encoding="utf-8") as file:
        sent = [{"Sys_PK": n, **row} for n, row in enumerate(csv.DictReader(file))]
    who.simulator.entities["DATA_/RELAY_WHS"] = sent
    indicator = ghe(
        "HALE", entity="DATA_/RELAY_WHS", target=TargetTable.OBSERVATIONS, release="{last_year}"
    )
    who.source.extract(indicator)
    assert not who.source.transform(indicator).is_held_back
    who.source.load([indicator], address=address)
    found = rows_of(
        "SELECT spatial_code, time_value, dim1, numeric_value FROM who.observations WHERE spatial_type = 'COUNTRY'"
    )
    assert {row[:3]: row[3] for row in found} == {
        (row["DIM_GEO_CODE_M49"], row["DIM_TIME"], row["DIM_SEX"]): float(row["AMOUNT_N"])
        for row in sent
        if row["DIM_GEO_CODE_TYPE"] == "COUNTRY"
    }
