"""Generated rows of WHO's APIs, for those who have none recorded: the same for the same seed."""

from __future__ import annotations

import random
from typing import Any

_COUNTRIES = ("AFG", "BRA", "CAN", "DEU", "FRA", "IND", "KEN", "USA")
_REGIONS = {
    **dict.fromkeys(("DEU", "FRA"), ("EUR", "Europe")),
    **dict.fromkeys(("BRA", "CAN", "USA"), ("AMR", "Americas")),
    "AFG": ("EMR", "Eastern Mediterranean"),
    "IND": ("SEAR", "South-East Asia"),
    "KEN": ("AFR", "Africa"),
}
_SEXES = ("SEX_BTSX", "SEX_MLE", "SEX_FMLE")

# Codes and titles of WHO's causes: all, and some leaves.
_CAUSES = {
    0: "All Causes",
    30: "Tuberculosis",
    220: "Malaria",
    680: "Trachea, bronchus, lung cancers",
    800: "Diabetes mellitus",
    1130: "Ischaemic heart disease",
    1140: "Stroke",
    1510: "Injuries",
}


def gho_rows(code: str, *, years: range = range(2000, 2022), seed: int = 1) -> list[dict[str, Any]]:
    """Rows of an indicator by country, year and sex, as GHO sends them."""
    draw = random.Random(f"{code}/{seed}")  # noqa: S311 - made-up numbers
    rows: list[dict[str, Any]] = []
    for country in _COUNTRIES:
        region, region_name = _REGIONS[country]
        for year in years:
            for sex in _SEXES:
                number = round(draw.uniform(1, 90), 5)
                low, high = round(number * 0.9, 5), round(number * 1.1, 5)
                rows.append(
                    {
                        "Id": draw.randrange(10**7),
                        "IndicatorCode": code,
                        "SpatialDimType": "COUNTRY",
                        "SpatialDim": country,
                        "ParentLocationCode": region,
                        "TimeDimType": "YEAR",
                        "ParentLocation": region_name,
                        "Dim1Type": "SEX",
                        "TimeDim": year,
                        "Dim1": sex,
                        **dict.fromkeys(("Dim2Type", "Dim2", "Dim3Type", "Dim3")),
                        **dict.fromkeys(("DataSourceDimType", "DataSourceDim")),
                        "Value": f"{number:.1f} [{low:.1f}-{high:.1f}]",
                        "NumericValue": number,
                        "Low": low,
                        "High": high,
                        "Comments": None,
                        "Date": "2024-08-02T09:43:39.193+02:00",
                        "TimeDimensionValue": str(year),
                        "TimeDimensionBegin": f"{year}-01-01T00:00:00+01:00",
                        "TimeDimensionEnd": f"{year}-12-31T00:00:00+01:00",
                    }
                )
    return rows


def ghe_rows(*, years: range = range(2019, 2022), seed: int = 1) -> list[dict[str, Any]]:
    """Rows of the Global Health Estimates by country, year, sex and cause, all ages, as xMart sends them."""
    draw = random.Random(f"GHE/{seed}")  # noqa: S311 - made-up numbers
    rows: list[dict[str, Any]] = []
    for country in _COUNTRIES:
        population = draw.randrange(10**6, 10**9)
        for year in years:
            for sex in ("TOTAL", "MALE", "FEMALE"):
                for code, title in _CAUSES.items():
                    deaths = round(draw.uniform(100, 90_000), 2)
                    rows.append(
                        {
                            "Sys_PK": len(rows) + 1,
                            "DIM_COUNTRY_CODE": country,
                            "DIM_YEAR_CODE": year,
                            "DIM_SEX_CODE": sex,
                            "DIM_AGEGROUP_CODE": "TOTAL",
                            "DIM_GHECAUSE_CODE": code,
                            "DIM_GHECAUSE_TITLE": title,
                            "FLAG_LEVEL": 0 if code == 0 else 3,
                            "ATTR_POPULATION_NUMERIC": population,
                            "VAL_DTHS_COUNT_NUMERIC": deaths,
                            "VAL_DTHS_COUNT_LOW": round(deaths * 0.8, 2),
                            "VAL_DTHS_COUNT_HIGH": round(deaths * 1.2, 2),
                            "VAL_DTHS_RATE100K_NUMERIC": round(deaths * 1e5 / population, 4),
                            "VAL_DALY_COUNT_NUMERIC": round(deaths * 30, 2),
                            "VAL_DALY_COUNT_LOW": round(deaths * 24, 2),
                            "VAL_DALY_COUNT_HIGH": round(deaths * 36, 2),
                            "VAL_DALY_RATE100K_NUMERIC": round(deaths * 3e6 / population, 4),
                            "VAL_YLL_COUNT_NUMERIC": round(deaths * 25, 2),
                            "VAL_YLD_COUNT_NUMERIC": round(deaths * 5, 2),
                        }
                    )
    return rows
