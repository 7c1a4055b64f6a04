"""What is kept and what is thrown away."""

from __future__ import annotations

from ctg_assets.extract.extractions import ExtractionMode, ExtractionState
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake


def prune(lake: Lake, *, keep_extractions: int) -> list[str]:
    """Delete what the newest `keep_extractions` complete extractions make needless.

    Those are older complete extractions with their snapshots, extractions that were given up, and
    imports that never ended. Open crawls stay, and so does what is complete and has contents that the
    history lacks, even if it was overtaken before it could be recorded. Returns the ids deleted.
    Nothing happens before the newest recorded extraction has its snapshot. Raises BusyError when another
    process records, compacts or undoes.
    """
    with lake.history.lock():
        plans = lake.extractions.plans()
        states = [lake.extractions.state(plan.extraction_id) for plan in plans]
        recorded = {entry.extraction_id for entry in lake.history.entries()}
        undone = lake.history.undone_extractions()
        complete = [
            i
            for i, (plan, state) in enumerate(zip(plans, states, strict=True))
            if state is ExtractionState.COMPLETE and plan.extraction_id in recorded
        ]
        if not complete or lake.snapshots.manifest(plans[complete[-1]].extraction_id) is None:
            return []
        newest = complete[-1]
        kept = complete[-keep_extractions:]
        needless = []
        for place, (plan, state) in enumerate(zip(plans, states, strict=True)):
            is_import_without_end = (
                plan.mode is ExtractionMode.IMPORT
                and state is ExtractionState.OPEN
                # One that began later may still be running.
                and place < newest
            )
            is_older = (
                state is ExtractionState.COMPLETE
                and place < newest
                and place not in kept
                and (
                    plan.extraction_id in recorded
                    or Recorder(lake.storage, lake.scratch).holds(plan.extraction_id)
                )
            )
            is_given_up = state is ExtractionState.SUPERSEDED or plan.extraction_id in undone
            if is_older or is_import_without_end or is_given_up:
                needless.append(plan.extraction_id)
        for extraction_id in needless:
            lake.snapshots.delete(extraction_id)
            lake.extractions.delete(extraction_id)
        return needless
