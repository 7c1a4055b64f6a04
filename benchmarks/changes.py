"""A refresh of few changed studies, and how fast contents are compared."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import msgspec

from benchmarks.inputs import PAGE_SIZE
from benchmarks.outcome import Clock, Outcome
from benchmarks.pages import extraction_of, lake_of
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    new_extraction_id,
)
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.lake import Lake
from ctg_assets.model.changes.decoding import decode_differing
from ctg_assets.model.changes.field_changes import field_changes
from ctg_assets.model.changes.typed_events import typed_events
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.edits.catalog import edit_at_random
from ctg_assets.simulator.edits.desk import Desk
from ctg_assets.simulator.edits.posting import post_update
from ctg_assets.times import parse_data_timestamp

# One study in this many changes.
ONE_IN = 100


def change_some(data_dir: str) -> Outcome:
    """Add an incremental extraction of one study in a hundred, each edited as sponsors do."""
    lake = lake_of(data_dir)
    before = lake.extractions.plan(extraction_of(lake))
    now = datetime.now(UTC)
    posted = parse_data_timestamp(before.data_timestamp) + timedelta(days=1)
    plan = ExtractionPlan(
        extraction_id=new_extraction_id(ExtractionMode.INCREMENTAL, now),
        mode=ExtractionMode.INCREMENTAL,
        source=before.source,
        query=before.query,
        page_size=PAGE_SIZE,
        data_timestamp=posted.strftime("%Y-%m-%dT%H:%M:%S"),
        planned_at=now,
        since=posted.date(),
    )
    changed = [after for _, after in _edited(lake, before.extraction_id, posted.date())]
    lake.extractions.create(plan)
    for page, start in enumerate(range(0, len(changed), PAGE_SIZE), start=1):
        lake.shards.write(
            ShardInfo(
                extraction_id=plan.extraction_id,
                page=page,
                data_timestamp=plan.data_timestamp,
                fetched_at=now,
            ),
            changed[start : start + PAGE_SIZE],
        )
    completion = Completion(
        pages=-(-len(changed) // PAGE_SIZE),
        rows=len(changed),
        distinct_studies=len(changed),
        json_bytes=sum(map(len, changed)),
        completed_at=now,
    )
    lake.extractions.complete(plan.extraction_id, completion)
    return Outcome(0.0, rows={"studies": len(changed)}, json_bytes=completion.json_bytes)


def compare(data_dir: str) -> Outcome:
    """Compare contents before and after an edit, as recording does; decoding included."""
    lake = lake_of(data_dir)
    pairs = list(_edited(lake, extraction_of(lake), date(2026, 11, 21)))
    clock = Clock()
    with clock.running():
        for old, new in pairs:
            decoded = decode_differing(old, new)
            assert decoded is not None  # noqa: S101 - generated studies are JSON objects
            before, after = decoded
            typed_events(before, after, field_changes(before, after), date(2026, 11, 21))
    return Outcome(clock.seconds, rows={"studies": len(pairs)})


def _edited(lake: Lake, extraction_id: str, day: date) -> Iterator[tuple[bytes, bytes]]:
    """One study in a hundred, and at least one, before and after an edit."""
    place = 0
    for page in lake.shards.pages(extraction_id):
        for study in lake.shards.read(extraction_id, page, ["study"])["study"]:
            place += 1
            if place % ONE_IN == 1:
                before = study.as_py()
                content = msgspec.json.decode(before)
                edit_at_random(content, Desk(Draw(place), day.toordinal()), by_registry=False)
                post_update(content, day.toordinal())
                yield before, msgspec.json.encode(content)
