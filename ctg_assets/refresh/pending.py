"""What is extracted and waits to be recorded in the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan, ExtractionState
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.lake import Lake
from ctg_assets.refresh.checks import first_blocking, recording_check_results
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings


@dataclass(frozen=True)
class Pending:
    """A complete extraction that is to be recorded, with the results of its checks by the name of the check."""

    plan: ExtractionPlan
    check_results: Mapping[str, CheckResult]

    @property
    def forbidden(self) -> str | None:
        """Why it may not be recorded, if it may not."""
        return first_blocking(self.check_results)


def next_to_record(settings: Settings, lake: Lake) -> Pending | None:
    """The extraction to be recorded next: the oldest one that may be, else the newest one held back."""
    pending = None
    for plan in unrecorded(settings, lake):
        pending = Pending(plan, recording_check_results(lake, plan, settings))
        if pending.forbidden is None:
            break
    return pending


def unrecorded(settings: Settings, lake: Lake) -> list[ExtractionPlan]:
    """The complete extractions that the history does not have and should have, oldest first.

    What was extracted under other settings and not recorded in time is overtaken, an import is not.
    Neither is an extraction of use when a later one was recorded, or when it was recorded and undone.
    """
    recorded = {entry.extraction_id for entry in lake.history.entries()}
    undone = lake.history.undone_extractions()
    found: list[ExtractionPlan] = []
    for plan in lake.extractions.plans():
        if plan.extraction_id in recorded:
            found.clear()
        elif (
            plan.extraction_id not in undone
            and (plan.mode is ExtractionMode.IMPORT or is_wanted(plan, settings))
            and lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
        ):
            found.append(plan)
    return found


def is_current(entry: HistoryEntry, settings: Settings) -> bool:
    """Whether an entry of the history is of the registry and query that the settings ask for."""
    return entry.is_import or (entry.source, entry.query) == (
        settings.api_url,
        settings.query,
    )


def is_wanted(plan: ExtractionPlan, settings: Settings) -> bool:
    """Whether an extraction is of the registry and query that the settings ask for."""
    return plan.mode is not ExtractionMode.IMPORT and (plan.source, plan.query) == (
        settings.api_url,
        settings.query,
    )
