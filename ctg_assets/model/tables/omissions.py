"""What the registry sends and no table has, with reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FIELDS_LEFT_OUT: Mapping[str, str] = {
    "derivedSection.miscInfoModule.versionHolder": (
        "The registry's data version, not the study's: it moves on every study with each publication, "
        "and rows depend on the study alone. The Parquet snapshot has it."
    ),
}
"""Leaf fields by path, each with the reason why no column reads it."""

_LOAD_TIME = "AACT's load time; rows here depend on the study alone"
_NEVER_SENT = "always NULL in AACT; the registry has no such field"

AACT_COLUMNS_LEFT_OUT: Mapping[str, str] = {
    "studies.created_at": _LOAD_TIME,
    "studies.updated_at": _LOAD_TIME,
    "studies.nlm_download_date_description": _NEVER_SENT,
    "calculated_values.nlm_download_date": _NEVER_SENT,
    "design_outcomes.population": _NEVER_SENT,
    "drop_withdrawals.count_units": _NEVER_SENT,
    "reported_event_totals.created_at": _LOAD_TIME,
    "reported_event_totals.updated_at": _LOAD_TIME,
    "reported_events.default_assessment": _NEVER_SENT,
    "reported_events.default_vocab": _NEVER_SENT,
    "result_agreements.agreement": _NEVER_SENT,
}
"""AACT's columns, as `table.column`, each with the reason why we have none of that name."""


@dataclass(frozen=True)
class HeldOnce:
    """Where the value of such a column is: in `column` of the row of `table` whose `key` is what `own` is here."""

    table: str
    column: str
    key: str
    own: str

    @property
    def reason(self) -> str:
        """Why it is not here, for the dictionary."""
        return (
            f"the same text in many rows: `{self.table}.{self.column}` has it once, where its `{self.key}` "
            f"is the row's `{self.own}`"
        )


_EVENTS, _MEASURE = "adverse_event_reports", "baseline_measures"

AACT_COLUMNS_HELD_ONCE: Mapping[str, HeldOnce] = {
    "baseline_measurements.description": HeldOnce(
        _MEASURE, "description", "id", "baseline_measure_id"
    ),
    "baseline_measurements.population_description": HeldOnce(
        _MEASURE, "population_description", "id", "baseline_measure_id"
    ),
    "outcome_measurements.description": HeldOnce("outcomes", "description", "id", "outcome_id"),
    "reported_events.description": HeldOnce(_EVENTS, "description", "nct_id", "nct_id"),
    "reported_events.time_frame": HeldOnce(_EVENTS, "time_frame", "nct_id", "nct_id"),
}
"""AACT's columns whose text of any length is repeated for each value or event of a measure or study.

They were 43% of all bytes of the real studies' rows. `ctgov` has them.
"""

AACT_TABLES_LEFT_OUT: Mapping[str, str] = {
    "mesh_headings": "NLM's vocabulary, not the registry's content",
    "mesh_terms": "NLM's vocabulary, not the registry's content",
    "search_results": "what AACT's own saved searches found",
    "study_records": "AACT's experiment with hashes of sections; studies.content_hash is ours",
    "study_searches": "AACT's own saved searches",
}
"""AACT's tables, each with the reason why we have none of that name."""
