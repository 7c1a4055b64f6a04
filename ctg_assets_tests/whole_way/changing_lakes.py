"""A registry that changes, and what the lake of it comes to, in a form that can be compared."""

from __future__ import annotations

from typing import Any

import polars as pl

from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.integrity.verification import verify
from ctg_assets.lake import Lake
from ctg_assets_tests.simulator.in_memory import InMemorySource, study

_STUDIES = 20


def source(version: int) -> InMemorySource:
    """In each version some studies are changed, one is new, and one is gone."""
    return InMemorySource(
        study(
            number,
            title=f"Title {version}" if number % 3 == version % 3 else "A Study",
            posted=f"2024-02-{version + 1:02d}" if number % 3 == version % 3 else "2024-01-01",
            enrollment=number,
        )
        for number in range(1 + version, _STUDIES + 2 * version)
    )


def comes_to(lake: Lake) -> dict[str, Any]:
    """What a lake holds, but for ids and times that no two lakes share."""
    entries = lake.history.entries()
    newest = lake.snapshots.latest()
    assert newest is not None
    assert newest.history_sequence == entries[-1].sequence
    typed = pl.concat(
        pl.DataFrame(batch).drop("extraction_id", "page")
        for batch in lake.snapshots.batches(newest.snapshot_id)
    )
    periods = lake.history.periods()
    contents = periods.select("nct_id", "content_hash", "contents_entry").unique()
    changes = pl.concat(lake.history.changes(entry.sequence) for entry in entries)
    return {
        "typed": typed.sort("nct_id").to_dicts(),
        "fingerprint": newest.content_fingerprint,
        "contents": sorted(
            (row["nct_id"], row["study"])
            for rows in lake.history.contents(contents.sort("nct_id", "content_hash"), 100)
            for row in rows.to_pylist()
        ),
        "periods": periods.select("nct_id", "content_hash", "version_number").rows(),
        "changes": changes.select(
            "change_seq", "nct_id", "kind", "old_content_hash", "new_content_hash"
        ).rows(),
        "events": [
            row
            for entry in entries
            for row in lake.history.typed_events(entry.sequence)
            .drop("observed_at", strict=False)
            .rows()
        ],
    }


def is_sound(lake: Lake) -> None:
    """No file is damaged or missing, no number was given twice, nothing is half done."""
    assert verify(lake.storage).findings == []
    plans = lake.extractions.plans()
    numbers = [plan.number for plan in plans]
    assert sorted(set(numbers)) == sorted(numbers)
    states = [lake.extractions.state(plan.extraction_id) for plan in plans]
    assert ExtractionState.OPEN not in states
    recorded = [entry.extraction_id for entry in lake.history.entries()]
    assert len(set(recorded)) == len(recorded)
