"""The tables of schema `who`, and from which columns of an answer the values of two of them come."""

from __future__ import annotations

from dataclasses import dataclass

from ctg_assets.model.spec import Column, ColumnType, TableShape
from ctg_assets.who.indicators import DialectName, Indicator, TargetTable

_TEXT, _NUMBER = ColumnType.TEXT, ColumnType.DOUBLE


@dataclass(frozen=True)
class ColumnReading:
    """A column of ours, and the columns of an answer that may hold it: the first that does counts.

    `is_key` columns are the natural key, one that is `needed` cannot be empty.
    """

    column: Column
    sources: tuple[str, ...]
    is_key: bool = False
    needed: bool = False


# What each row of a release has beside what was sent.
_OF_RELEASE = (
    Column("indicator", _TEXT, "Code of the indicator in our files.", nullable=False),
    Column(
        "release", _TEXT, "Release of the indicator; later ones sort after earlier.", nullable=False
    ),
)
_OF_SOURCE = (
    Column(
        "extras", ColumnType.JSON, "What WHO sent beside it, as a JSON object; NULL if nothing."
    ),
    Column("source", _TEXT, "Who publishes the numbers, and as what.", nullable=False),
    Column("licence", _TEXT, "Licence under which they are published.", nullable=False),
)
_KEY = Column(
    "observation_key",
    _TEXT,
    "Digest of indicator, place, time, dimensions and data source: the same in every release.",
    nullable=False,
)


def _reading(
    name: str,
    type_: ColumnType,
    description: str,
    *sources: str,
    is_key: bool = False,
    needed: bool = False,
) -> ColumnReading:
    column = Column(name, type_, description, nullable=not needed, sources=sources)
    return ColumnReading(column, sources, is_key=is_key, needed=needed)


# GHO's names come first, then those of xMart's RELAY tables.
_OBSERVATIONS = (
    _reading(
        "spatial_type",
        _TEXT,
        "Kind of place: COUNTRY, REGION, GLOBAL, WORLDBANKINCOMEGROUP and others.",
        *("SpatialDimType", "DIM_GEO_CODE_TYPE"),
        is_key=True,
        needed=True,
    ),
    _reading(
        "spatial_code",
        _TEXT,
        "The place; of GHO's countries the three letters of ISO 3166-1, of xMart's the UN's M49 code.",
        *("SpatialDim", "DIM_GEO_CODE_M49"),
        is_key=True,
        needed=True,
    ),
    _reading("parent_location_code", _TEXT, "WHO region of today.", "ParentLocationCode"),
    _reading("parent_location", _TEXT, "Its name.", "ParentLocation"),
    _reading(
        "time_type",
        _TEXT,
        "Kind of time, mostly YEAR.",
        "TimeDimType",
        "DIM_TIME_TYPE",
        is_key=True,
    ),
    _reading("time_value", _TEXT, "The time, mostly a year.", "TimeDim", "DIM_TIME", is_key=True),
    _reading("period_begin", ColumnType.DATE, "First day of that time.", "TimeDimensionBegin"),
    _reading("period_end", ColumnType.DATE, "Last day of that time.", "TimeDimensionEnd"),
    _reading("dim1_type", _TEXT, "First dimension, such as SEX.", "Dim1Type", is_key=True),
    _reading("dim1", _TEXT, "Its member, such as SEX_BTSX.", "Dim1", "DIM_SEX", is_key=True),
    _reading("dim2_type", _TEXT, "Second dimension.", "Dim2Type", is_key=True),
    _reading("dim2", _TEXT, "Its member.", "Dim2", "DIM_AGE", is_key=True),
    _reading("dim3_type", _TEXT, "Third dimension.", "Dim3Type", is_key=True),
    _reading("dim3", _TEXT, "Its member.", "Dim3", is_key=True),
    _reading("data_source_type", _TEXT, "Kind of data source.", "DataSourceDimType", is_key=True),
    _reading("data_source", _TEXT, "The data source, if told.", "DataSourceDim", is_key=True),
    _reading("value", _TEXT, "The value as WHO shows it, with its bounds.", "Value"),
    _reading("numeric_value", _NUMBER, "The value as a number.", "NumericValue", "AMOUNT_N"),
    _reading("low", _NUMBER, "Lower bound.", "Low", "AMOUNT_NL"),
    _reading("high", _NUMBER, "Upper bound.", "High", "AMOUNT_NU"),
    _reading("comments", _TEXT, "WHO's remarks.", "Comments"),
    _reading("updated_at", ColumnType.TIMESTAMP, "When WHO last changed the row.", "Date"),
)


def _amount(name: str, description: str, sent: str, *suffixes: str) -> ColumnReading:
    # GHE2019's deaths were VAL_DEATHS_*.
    prefixes = (f"VAL_{sent}", *(["VAL_DEATHS"] if sent == "DTHS" else []))
    sources = [f"{prefix}_{suffix}" for prefix in prefixes for suffix in suffixes]
    return _reading(name, _NUMBER, description, *sources)


_COUNT, _RATE = "COUNT_NUMERIC", "RATE100K_NUMERIC"

_ESTIMATES = (
    _reading(
        *("country_code", _TEXT, "Three letters of ISO 3166-1.", "DIM_COUNTRY_CODE"),
        is_key=True,
        needed=True,
    ),
    _reading(
        *("year", ColumnType.INTEGER, "Calendar year that is estimated.", "DIM_YEAR_CODE"),
        is_key=True,
        needed=True,
    ),
    _reading("sex", _TEXT, "TOTAL, MALE or FEMALE.", "DIM_SEX_CODE", is_key=True, needed=True),
    _reading(
        *("age_group", _TEXT, "TOTAL, or WHO's code such as Y40T44.", "DIM_AGEGROUP_CODE"),
        is_key=True,
        needed=True,
    ),
    _reading(
        *("cause_code", ColumnType.INTEGER, "WHO's number of the cause.", "DIM_GHECAUSE_CODE"),
        is_key=True,
        needed=True,
    ),
    _reading("cause_title", _TEXT, "WHO's title of the cause.", "DIM_GHECAUSE_TITLE"),
    _reading("population", _NUMBER, "Persons.", "ATTR_POPULATION_NUMERIC"),
    _amount("deaths", "Deaths in the year.", "DTHS", _COUNT),
    _amount("deaths_low", "Lower bound.", "DTHS", "COUNT_LOW"),
    _amount("deaths_high", "Upper bound.", "DTHS", "COUNT_HIGH"),
    _amount("deaths_per_100k", "Deaths per 100,000 persons.", "DTHS", _RATE),
    _amount("dalys", "Disability-adjusted life years.", "DALY", _COUNT),
    _amount("dalys_low", "Lower bound.", "DALY", "COUNT_LOW"),
    _amount("dalys_high", "Upper bound.", "DALY", "COUNT_HIGH"),
    _amount("dalys_per_100k", "Disability-adjusted life years per 100,000 persons.", "DALY", _RATE),
    _amount("ylls", "Years of life lost.", "YLL", _COUNT),
    _amount("ylls_low", "Lower bound.", "YLL", "COUNT_LOW"),
    _amount("ylls_high", "Upper bound.", "YLL", "COUNT_HIGH"),
    _amount("ylls_per_100k", "Years of life lost per 100,000 persons.", "YLL", _RATE),
    _amount("ylds", "Years lived with disability.", "YLD", _COUNT),
    _amount("ylds_low", "Lower bound.", "YLD", "COUNT_LOW"),
    _amount("ylds_high", "Upper bound.", "YLD", "COUNT_HIGH"),
    _amount("ylds_per_100k", "Years lived with disability per 100,000 persons.", "YLD", _RATE),
)

READINGS = {TargetTable.OBSERVATIONS: _OBSERVATIONS, TargetTable.ESTIMATES: _ESTIMATES}
"""What is read of a row for each table."""

OBSERVATIONS = TableShape(
    name=TargetTable.OBSERVATIONS.value,
    description="Values of WHO's indicators by place, time and dimensions, one row each and release; "
    "who.releases tells the newest. Places are countries, and regions and groups of them.",
    columns=(*_OF_RELEASE, _KEY, *(reading.column for reading in _OBSERVATIONS), *_OF_SOURCE),
    primary_key=("release", "observation_key"),
    ordered_columns=("indicator", "release"),
)
ESTIMATES = TableShape(
    name=TargetTable.ESTIMATES.value,
    description="WHO's Global Health Estimates by country, year, sex, age group and cause, one row each and "
    "release. Causes are a tree: never add a cause and its parts.",
    columns=(*_OF_RELEASE, *(reading.column for reading in _ESTIMATES), *_OF_SOURCE),
    primary_key=("release", "country_code", "year", "cause_code", "sex", "age_group"),
    ordered_columns=("indicator", "release"),
)
INDICATORS = TableShape(
    name="indicators",
    description="WHO's indicators that were loaded.",
    columns=(
        Column("indicator", _TEXT, "Code of the indicator in our files.", nullable=False),
        Column("name", _TEXT, "What it measures.", nullable=False),
        Column("dialect", _TEXT, "Which API has it: gho or xmart.", nullable=False),
        Column("entity", _TEXT, "Its entity set there.", nullable=False),
        Column("filter", _TEXT, "Which of its rows are asked for; empty for all.", nullable=False),
        Column("table_name", _TEXT, "Table with its rows.", nullable=False),
        Column("enabled", ColumnType.BOOLEAN, "Whether it is refreshed.", nullable=False),
        Column("newest_release", _TEXT, "Release that WHO gave last.", nullable=False),
        Column("source", _TEXT, "Who publishes the numbers, and as what.", nullable=False),
        Column("licence", _TEXT, "Licence under which they are published.", nullable=False),
    ),
    primary_key=("indicator",),
)
RELEASES = TableShape(
    name="releases",
    description="Releases of WHO's indicators that are loaded, in the order in which they were found.",
    columns=(
        Column("indicator", _TEXT, "Code of the indicator.", nullable=False),
        Column("release", _TEXT, "Name of the release.", nullable=False),
        Column(
            "release_number",
            ColumnType.INTEGER,
            "Its number among those of the indicator.",
            nullable=False,
        ),
        Column("is_newest", ColumnType.BOOLEAN, "Whether WHO gave it last.", nullable=False),
        Column("rows", ColumnType.BIGINT, "Rows that are loaded of it.", nullable=False),
        Column("set_aside", ColumnType.BIGINT, "Rows that could not be used.", nullable=False),
        Column(
            "first_fetched_at", ColumnType.TIMESTAMP, "When it was found (UTC).", nullable=False
        ),
        Column(
            "updated_at", ColumnType.TIMESTAMP, "When WHO last changed a row of it, if rows say so."
        ),
        Column("content_hash", _TEXT, "Digest of its rows.", nullable=False),
    ),
    primary_key=("indicator", "release"),
)

TABLES = {OBSERVATIONS.name: OBSERVATIONS, ESTIMATES.name: ESTIMATES}
"""The tables with rows of indicators, by name."""

SHAPES = (OBSERVATIONS, ESTIMATES, INDICATORS, RELEASES)
"""All tables of the schema."""


def readings_of(indicator: Indicator) -> tuple[ColumnReading, ...]:
    """What is read of an indicator's rows: its own `columns` come before the usual ones."""
    return tuple(
        ColumnReading(
            reading.column,
            (indicator.columns[reading.column.name],)
            if reading.column.name in indicator.columns
            else reading.sources,
            is_key=reading.is_key,
            needed=reading.needed,
        )
        for reading in READINGS[indicator.target]
    )


# Numbers that WHO gives rows anew with every release, and what a row repeats of its indicator.
_LEFT_OUT = {
    DialectName.GHO: frozenset({"Id", "IndicatorCode", "TimeDimensionValue", "TimeDimension"}),
    DialectName.XMART: frozenset({"Sys_PK", "IND_CODE", "IND_ID", "IND_UUID", "IND_PER_CODE"}),
}


def left_out_of(indicator: Indicator) -> frozenset[str]:
    """Columns of an answer that are kept in the raw rows only."""
    return _LEFT_OUT[indicator.dialect]
