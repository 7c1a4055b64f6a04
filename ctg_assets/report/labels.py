"""Values as people read them."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from ctg_assets.model.fields import enum_values
from ctg_assets.printable import printable

NOT_GIVEN = "not given"

# Columns whose values are codes; the registry's enumerations have a label for most of them.
_CODED = {"status", "phase", "study_type", "class", "start_date_type", "what", "reason"}

# Columns that may hold such a code, or any text that somebody wrote.
_MAYBE_CODED = {"old_value", "new_value"}

# Those that no enumeration has, or that it has under a label that says less.
_OWN = {
    "NA": "Not applicable",
    "INTERVENTIONAL": "Interventional",
    "OBSERVATIONAL": "Observational",
    "EXPANDED_ACCESS": "Expanded access",
    "ACTUAL": "Actual",
    "ESTIMATED": "Estimated",
    "NOT_STATED": "Not stated",
    "NIH": "NIH",
    "FED": "U.S. federal",
    "INDIV": "Individual",
    "INDUSTRY": "Industry",
    "NETWORK": "Network",
    "OTHER": "Other (universities, hospitals)",
    "OTHER_GOV": "Other government",
    "AMBIG": "Ambiguous",
    "UNKNOWN": "Unknown",
    "covid19": "COVID-19",
    "insert": "New study",
    "delete": "Gone from the registry",
    "restore": "Back in the registry",
    "merge": "Merged into another study",
    "leave_scope": "Left the scope of this warehouse",
}


@cache
def _enumerated() -> dict[str, str]:
    types = ("Status", "StudyType", "Phase")
    return {one.value: one.legacy_value for name in types for one in enum_values()[name]}


def coded(value: str) -> str:
    """A code of the registry in words; a text that is none stays as it is."""
    known = _enumerated() | _OWN
    parts = value.split("/")
    if len(parts) > 1 and set(parts) <= known.keys():
        # Phases are joined so.
        first, *others = (known[part] for part in parts)
        return "/".join([first, *(other.removeprefix("Phase ") for other in others)])
    return known.get(value, value)


def _in_words(code: str) -> str:
    """A code in words; one of ours that nobody has named says itself what it is."""
    named = coded(code)
    return named.replace("_", " ").replace("-", ", ").capitalize() if named.islower() else named


def label(column: str, value: Any) -> str:
    """A value of a column, on one line, safe to be shown."""
    if value is None:
        return NOT_GIVEN
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return f"{value:%Y-%m-%d}"
    if isinstance(value, int | Decimal) and column != "year":
        return f"{value:,}"
    text = str(value)
    if column in _CODED:
        text = _in_words(text)
    elif column in _MAYBE_CODED:
        text = coded(text)
    return printable(text)
