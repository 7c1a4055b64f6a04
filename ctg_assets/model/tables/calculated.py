"""The table of values calculated from a study's other tables and dates.

Names are AACT's, but not its mistakes: counts are 0 where there is nothing to count, months are those
of the calendar, and subjects are counted once in each group, not once for each event.
"""

from __future__ import annotations

from ctg_assets.model.tables.column_values import Difference, Span
from ctg_assets.model.tables.columns import (
    age_parts,
    any_row,
    boolean,
    columns,
    difference,
    rows_counted,
    rows_summed,
    single_row,
    year,
)
from ctg_assets.model.tables.declaration import Field, Source, Table
from ctg_assets.model.tables.readings import Condition

_ELIGIBILITY = "protocolSection.eligibilityModule"
_STATUS = "protocolSection.statusModule"
_START = f"{_STATUS}.startDateStruct"
_PRIMARY_COMPLETION = f"{_STATUS}.primaryCompletionDateStruct"
_RESULTS = f"{_STATUS}.resultsFirstSubmitDate"

UNITED_STATES = (
    "United States",
    "American Samoa",
    "Bajo Nuevo Bank",
    "Baker Island",
    "Guam",
    "Howland Island",
    "Jarvis Island",
    "Johnston Atoll",
    "Kingman Reef",
    "Midway Atoll",
    "Navassa Island",
    "Northern Mariana Islands",
    "Palmyra Atoll",
    "Puerto Rico",
    "Serranilla Bank",
    "U.S. Virgin Islands",
    "Virgin Islands (U.S.)",
    "Wake Island",
)
"""What the registry calls countries and AACT takes to be of the United States."""


def calculated_tables() -> tuple[Table, ...]:
    """The calculated tables."""
    return (
        Table(
            name="calculated_values",
            description="Values calculated from a study's other tables and dates, one row per study.",
            sources=(Source(""),),
            declared=columns(_facilities(), _outcomes(), _subjects(), _durations(), _ages()),
            indexes=(
                ("number_of_facilities",),
                ("actual_duration",),
                ("months_to_report_results",),
            ),
        ),
    )


def _facilities() -> tuple[Field, ...]:
    return columns(
        rows_counted(
            "number_of_facilities", "facilities", "Number of sites listed; 0 where none is."
        ),
        any_row(
            "has_us_facility",
            "facilities",
            "country",
            UNITED_STATES,
            "Whether any site is in the United States or its territories; false without sites.",
        ),
        single_row(
            "has_single_facility",
            "facilities",
            "Whether exactly one site is listed; false without sites.",
        ),
    )


def _outcomes() -> tuple[Field, ...]:
    return columns(
        *(
            rows_counted(
                f"number_of_{rank}_outcomes_to_measure",
                "design_outcomes",
                f"Number of planned outcomes that are {rank}; 0 where none is.",
                {"outcome_type": rank},
            )
            for rank in ("primary", "secondary", "other")
        ),
        boolean(
            "were_results_reported",
            "hasResults",
            "Whether the registry holds results of the study.",
        ),
    )


def _subjects() -> tuple[Field, ...]:
    return columns(
        *(
            rows_summed(
                f"number_of_{short}_subjects",
                "reported_event_totals",
                "subjects_affected",
                f"Participants with any {kind} adverse event, each counted once in its group.",
                {"event_type": kind},
            )
            for short, kind in (("sae", "serious"), ("nsae", "other"))
        )
    )


def _durations() -> tuple[Field, ...]:
    estimated = Condition(f"{_PRIMARY_COMPLETION}.type", "ESTIMATED")
    either_estimated = (Condition(f"{_START}.type", "ESTIMATED"), estimated)

    def study(span: Span) -> Difference:
        dates = (f"{_START}.date", f"{_PRIMARY_COMPLETION}.date")
        return Difference(*dates, span, unless=either_estimated)

    def reporting(span: Span) -> Difference:
        return Difference(f"{_PRIMARY_COMPLETION}.date", _RESULTS, span, unless=(estimated,))

    return columns(
        year(
            "registered_in_calendar_year",
            f"{_STATUS}.studyFirstSubmitDate",
            "Year in which the study was first submitted.",
        ),
        difference(
            "actual_duration",
            study(Span.MONTHS),
            "Completed months from start to primary completion; NULL where either is estimated.",
        ),
        difference(
            "actual_duration_days",
            study(Span.DAYS),
            "Days from start to primary completion; NULL where either is estimated.",
            aact=None,
        ),
        difference(
            "months_to_report_results",
            reporting(Span.MONTHS),
            "Completed months from primary completion to the first results; NULL if it is estimated.",
        ),
        difference(
            "days_to_report_results",
            reporting(Span.DAYS),
            "Days from primary completion to the first results; NULL if it is estimated.",
            aact=None,
        ),
    )


def _ages() -> tuple[Field, ...]:
    return columns(
        age_parts("minimum_age", f"{_ELIGIBILITY}.minimumAge", "Youngest age that can take part"),
        age_parts("maximum_age", f"{_ELIGIBILITY}.maximumAge", "Oldest age that can take part"),
    )
