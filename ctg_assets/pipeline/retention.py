"""What is kept and what is thrown away.

Belongs here: pruning extractions and snapshots that nothing needs any more. Does not belong here:
deciding that something is wrong (`checks.py`).
"""

from __future__ import annotations

from ctg_assets.lake.extractions import ExtractionMode, ExtractionState
from ctg_assets.pipeline.services import Lake


def prune(lake: Lake, *, keep_extractions: int) -> list[str]:
    """Delete what the newest `keep_extractions` complete extractions make needless.

    Those are older complete extractions with their snapshots, extractions that were given up, and
    imports that never ended. Open crawls stay. Returns the ids deleted. Nothing happens before the
    newest complete extraction has its snapshot.
    """
    plans = lake.extractions.plans()
    states = {plan.extraction_id: lake.extractions.state(plan.extraction_id) for plan in plans}
    complete = [id_ for id_, state in states.items() if state is ExtractionState.COMPLETE]
    if not complete or lake.snapshots.manifest(complete[-1]) is None:
        return []
    needless = complete[:-keep_extractions]
    needless += [id_ for id_, state in states.items() if state is ExtractionState.SUPERSEDED]
    needless += [
        plan.extraction_id
        for plan in plans
        if plan.mode is ExtractionMode.IMPORT
        and states[plan.extraction_id] is ExtractionState.OPEN
        and plan.extraction_id < complete[-1]
    ]
    for extraction_id in needless:
        lake.snapshots.delete(extraction_id)
        lake.extractions.delete(extraction_id)
    return needless
