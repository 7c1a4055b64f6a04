"""Where a column of AACT means something else than the staging column of its name, or has none.

Each definition is an SQL expression over `s`, the row of the staging table that AACT's table is made
from, and over what `JOINS` adds. `{name}` stands for staging table `name`.

Definitions were found by running AACT's public importer (its code of October 2024, which is what its
columns still show) beside ours on the same records, row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """How AACT's value is computed, and what it means, for the column's comment.

    `is_wide` says that it may not fit into the column's type; it is NULL then.
    `differs` says why it is not what AACT has, where that is so on purpose; such columns are listed in
    docs/aact.md.
    """

    sql: str
    meaning: str
    differs: str | None = None
    is_wide: bool = False


def _always_null(why: str) -> Definition:
    return Definition("NULL", f"Always NULL: {why}.")


def _count_of_outcomes(kind: str) -> Definition:
    column = f"number_of_{kind}_outcomes_to_measure"
    return Definition(
        f"NULLIF(s.{column}, 0)", f"Number of {kind} outcomes planned; NULL if there is none."
    )


def _subjects(event_type: str) -> Definition:
    return Definition(
        f"events.{event_type}",
        f"Sum of reported_events.subjects_affected over the {event_type} events: a subject counts once "
        "for each event and each group. NULL if there is no such event.",
        is_wide=True,
    )


def _plain_number(column: str, meaning: str) -> Definition:
    """A number of staging, unless it was sent with a sign that AACT's columns have no place for."""
    qualifier = f"s.{column.removesuffix('_num')}_qualifier"
    return Definition(
        # By way of text, which has the digits that were sent; a cast keeps only fifteen of them.
        f"CASE WHEN {qualifier} IS NULL OR {qualifier} = '=' THEN s.{column}::text::numeric END",
        f"{meaning}; NULL for a text that is no plain number, such as <5.",
    )


_MEASURED = {
    "param_value_num": "Value measured",
    "dispersion_value_num": "Spread of the value where it is one number",
    "dispersion_lower_limit": "Lower end of the spread where it is a range",
    "dispersion_upper_limit": "Upper end of the spread where it is a range",
}
_ANALYZED = {
    "param_value": "Value estimated",
    "dispersion_value": "Spread of the estimate",
    "ci_percent": "Confidence level in percent",
    "ci_lower_limit": "Lower limit of the confidence interval",
    "ci_upper_limit": "Upper limit of the confidence interval",
}
_LEGACY = "a column of AACT's past"
_MONTHS = "in months of 30 days, cut off"

_CREATED = Definition(
    "seen.created_at",
    "When the study was first observed (UTC).",
    "AACT's is the time at which it last loaded the study, which moves every few days.",
)
_UPDATED = Definition(
    "seen.updated_at",
    "When the study's present content was first observed (UTC).",
    "AACT's is the time at which it last loaded the study, which moves every few days.",
)

DEFINITIONS: Mapping[str, Definition] = {
    "studies.nlm_download_date_description": _always_null(_LEGACY),
    "studies.created_at": _CREATED,
    "studies.updated_at": _UPDATED,
    "calculated_values.nlm_download_date": _always_null(_LEGACY),
    "calculated_values.number_of_primary_outcomes_to_measure": _count_of_outcomes("primary"),
    "calculated_values.number_of_secondary_outcomes_to_measure": _count_of_outcomes("secondary"),
    "calculated_values.number_of_other_outcomes_to_measure": _count_of_outcomes("other"),
    "calculated_values.number_of_sae_subjects": _subjects("serious"),
    "calculated_values.number_of_nsae_subjects": _subjects("other"),
    "calculated_values.actual_duration": Definition(
        """
        CASE WHEN studies.start_date_type IS DISTINCT FROM 'ESTIMATED'
            AND studies.primary_completion_date_type IS DISTINCT FROM 'ESTIMATED'
        THEN (studies.primary_completion_date - studies.start_date) / 30 END
        """,
        f"From start to primary completion, {_MONTHS}; NULL unless both are there and neither is estimated.",
    ),
    "calculated_values.months_to_report_results": Definition(
        "(studies.results_first_submitted_date - studies.primary_completion_date) / 30",
        f"From primary completion to the first submission of results, {_MONTHS}; may be negative.",
    ),
    "calculated_values.were_results_reported": Definition(
        "reported.nct_id IS NOT NULL", "Whether the study has a row in outcomes."
    ),
    "calculated_values.has_us_facility": Definition(
        "CASE WHEN s.number_of_facilities > 0 THEN s.has_us_facility END",
        "Whether any site is in the United States or its territories; NULL without sites.",
    ),
    "calculated_values.has_single_facility": Definition(
        "CASE WHEN s.number_of_facilities > 0 THEN s.has_single_facility END",
        "Whether there is exactly one site; NULL without sites.",
    ),
    "design_outcomes.population": _always_null(_LEGACY),
    "drop_withdrawals.count_units": _always_null(
        "AACT reads a field that the registry does not have"
    ),
    "reported_events.default_vocab": _always_null(_LEGACY),
    "reported_events.default_assessment": _always_null(_LEGACY),
    "reported_events.frequency_threshold": Definition(
        "trunc(s.frequency_threshold)",
        "Threshold in percent above which other events are reported, cut to a whole number.",
        is_wide=True,
    ),
    "reported_event_totals.created_at": _CREATED,
    "reported_event_totals.updated_at": _UPDATED,
    "result_agreements.agreement": _always_null(_LEGACY),
    "outcome_analyses.p_value_modifier": Definition(
        "btrim(translate(s.p_value_raw, '0123456789.-', ''))",
        "What is left of the p value as sent without digits, dots and minus signs: empty for a plain "
        "number, NULL if none was sent.",
    ),
    **{
        f"{table}.{column}": _plain_number(column, meaning)
        for table, columns in (
            ("baseline_measurements", _MEASURED),
            ("outcome_measurements", _MEASURED),
            ("outcome_analyses", _ANALYZED),
        )
        for column, meaning in columns.items()
    },
}

_SEEN = """
LEFT JOIN (
    SELECT nct_id, min(valid_from) AT TIME ZONE 'UTC' AS created_at,
        max(valid_from) AT TIME ZONE 'UTC' AS updated_at
    FROM {study_versions} AS v GROUP BY nct_id
) AS seen ON seen.nct_id = s.nct_id
"""

JOINS: Mapping[str, str] = {
    "studies": _SEEN,
    "reported_event_totals": _SEEN,
    "calculated_values": """
    JOIN {studies} AS studies ON studies.nct_id = s.nct_id
    LEFT JOIN (SELECT DISTINCT o.nct_id FROM {outcomes} AS o) AS reported ON reported.nct_id = s.nct_id
    LEFT JOIN (
        SELECT e.nct_id,
            sum(e.subjects_affected) FILTER (WHERE e.event_type = 'serious') AS serious,
            sum(e.subjects_affected) FILTER (WHERE e.event_type = 'other') AS other
        FROM {reported_events} AS e GROUP BY e.nct_id
    ) AS events ON events.nct_id = s.nct_id
    """,
}
"""What expressions of a table need besides its own staging row: joins that add no rows and lose none."""

DEVIATIONS: Mapping[str, str] = {
    "baseline_counts.count": "AACT reads 1,553 as 1; here it is 1553.",
    "outcome_counts.count": "AACT reads 1,553 as 1; here it is 1553.",
    "baseline_measurements.param_value_num": "AACT has NULL for 1,553 and for 80.; here they are numbers.",
    "baseline_measurements.dispersion_value_num": "As param_value_num.",
    "baseline_measurements.dispersion_lower_limit": "As param_value_num.",
    "baseline_measurements.dispersion_upper_limit": "As param_value_num.",
    "outcome_measurements.param_value_num": "AACT has NULL for 1,553 and for 80.; here they are numbers.",
    "outcome_measurements.dispersion_value_num": "As param_value_num.",
    "outcome_measurements.dispersion_lower_limit": "As param_value_num.",
    "outcome_measurements.dispersion_upper_limit": "As param_value_num.",
    "baseline_measurements.number_analyzed": "AACT looks the denominator up without the study, so that "
    "three values in four belong to another study; here it is the study's own.",
    "outcome_analyses.p_value": "AACT reads a text with an escaped < as 0; here it is the number sent.",
    "outcome_analyses.param_value": "AACT reads a decimal comma as 0; here it is NULL unless it is certain.",
    "design_group_interventions.design_group_id": "Where groups of a study have one title, AACT takes the "
    "last of them for what an intervention names; here it is the first. No study seen has such groups.",
    "milestones.description": "AACT's is always NULL, since it asks for a field of another name; here it is "
    "the comment sent.",
    "id": "AACT's ids are new at every load; here they are the same at every load and on every machine, and "
    "bigint instead of integer.",
}
"""Columns whose staging value is kept although AACT has another, which is an error of its importer."""

_EXTRA_ROWS = (
    "Where the first class of a measure has no categories, AACT adds a row for each of the measure's classes "
    "without categories, with class and title and without group, category and value ({often}). It is an error "
    "of its importer; here these rows are not made."
)

ROW_DEVIATIONS: Mapping[str, str] = {
    "baseline_measurements": _EXTRA_ROWS.format(often="about one row in 1,700"),
    "outcome_measurements": _EXTRA_ROWS.format(often="about one row in 6,400"),
    "facility_investigators": "AACT takes any contact with the words investigator or study chair in the role; "
    "here it needs to be one of the registry's roles, and others are in facility_contacts. No study seen has "
    "other roles.",
    "study_records": "Empty: an experiment of AACT's with the JSON of studies, which the lake and the history have here.",
    "search_results": "AACT's is empty since 2025; here it has the studies of the saved searches (CTG_SEARCHES_FILE).",
    "search_terms": "AACT's has causes of death; here it has the saved searches (CTG_SEARCHES_FILE).",
    "search_term_results": "As search_terms.",
    "mesh_terms": "Empty as in AACT, unless NLM's file of descriptors is given (CTG_MESH_FILE).",
    "mesh_headings": "Empty as in AACT, unless NLM's file of descriptors is given (CTG_MESH_FILE).",
}
"""Tables that have other rows than AACT's, by table."""
