"""What the registry sends and no table has, with reasons.

Belongs here: the written reasons; a field that no column reads must be here. Does not belong here:
declarations.
"""

from __future__ import annotations

from collections.abc import Mapping

FIELDS_LEFT_OUT: Mapping[str, str] = {
    "derivedSection.miscInfoModule.versionHolder": (
        "The registry's data version, not the study's: it moves on every study with each publication, "
        "and rows depend on the study alone. The Parquet snapshot has it."
    ),
}
"""Leaf fields by path, each with the reason why no column reads it."""
