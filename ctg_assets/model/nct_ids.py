"""What an NCT id is: the one place that says which texts name a study."""

from __future__ import annotations

import re

import polars as pl

_FORM = "NCT[0-9]{8}"
_NUMBER_NOUGHT = "NCT00000000"

_WHOLE = re.compile(_FORM)
_ASKABLE = re.compile(r"NCT0*[1-9][0-9]{0,7}", re.ASCII)

NCT_ID_BYTES = 11
"""How long every id is."""

UNIDENTIFIED = "?"
"""What stands before the content hash in place of an NCT id, for a record that has none."""

EXPECTED = "NCT and eight digits, not all of them 0"
"""The form of an id in words, for messages."""


def is_nct_id(text: str) -> bool:
    """Whether a registry can have a study of this id: NCT and eight digits, not all of them 0."""
    return _WHOLE.fullmatch(text) is not None and text != _NUMBER_NOUGHT


def are_nct_ids(column: pl.Expr) -> pl.Expr:
    """As `is_nct_id`, for a column of text; false where there is none."""
    formed = column.str.contains(f"^{_FORM}$") & (column != _NUMBER_NOUGHT)
    return formed.fill_null(value=False)


def is_askable(text: str) -> bool:
    """Whether the registry takes this for an id in a request.

    It also takes ids without their leading zeros; a single other text has it refuse all that it is
    asked with.
    """
    return _ASKABLE.fullmatch(text) is not None
