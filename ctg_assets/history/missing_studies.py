"""What became of studies that a walk did not see, as the registry tells.

A study that is not found was removed. One that is found under another id was merged into that one,
which bears its id as an alias. One that is found under its own id has left the scope of the query; if
the scope is everything, it came back since the walk, and the next walk will tell.

The history also has records of which no registry can have the id: they came from a file. They are not
asked for, and are gone as soon as a whole walk does not see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctg_assets.extract.by_id import ids_in_registry
from ctg_assets.history.entries import StudyChangeKind
from ctg_assets.history.extraction_diff import MissingReason
from ctg_assets.history.recording import ExplainMissing
from ctg_assets.settings import Settings


def explain_missing(settings: Settings, *, query: str) -> ExplainMissing:
    """A way to ask the configured registry about studies missing from a walk over `query`.

    The asking raises RegistryError when the registry cannot be asked.
    """

    def ask(nct_ids: Sequence[str]) -> Mapping[str, MissingReason]:
        there = MissingReason(StudyChangeKind.LEAVE_SCOPE if query else None)
        return {
            missing: there if found == missing else MissingReason(StudyChangeKind.MERGE, found)
            for missing, found in ids_in_registry(settings, nct_ids).items()
        }

    return ask
