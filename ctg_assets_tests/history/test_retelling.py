"""Events of changes that were recorded by other rules are told anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl
import pytest

from ctg_assets.history import retelling
from ctg_assets.history.diff_writer import rewrite_events
from ctg_assets.history.schemas import TYPED_EVENTS_FILE, TYPED_EVENTS_SCHEMA
from ctg_assets.lake import Lake
from ctg_assets.load.staging import wanted_tables
from ctg_assets.model.changes.rules import event_rules
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.refresh.planner import Stage, Step, next_build_step
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.support.lakes import completed, planned

_COLUMN_OF_LATER = "similarity"


def aiming(*measures: str) -> bytes:
    """A study with these primary outcomes."""
    outcomes = [{"measure": measure} for measure in measures]
    return msgspec.json.encode(
        {
            "protocolSection": {
                "identificationModule": {"nctId": "NCT00000001", "briefTitle": "A study"},
                "outcomesModule": {"primaryOutcomes": outcomes},
            }
        }
    )


def observed(
    lake: Lake, settings: Settings, *days: tuple[str, Sequence[bytes]]
) -> SnapshotManifest:
    """The last snapshot after walks on these days."""
    manifest = None
    for day, studies in days:
        plan = planned(lake, settings, studies=len(studies), data_timestamp=f"{day}T09:00:05")
        completed(lake, plan, studies)
        manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    assert manifest is not None
    return manifest


@pytest.fixture
def aged(lake: Lake, settings: Settings) -> SnapshotManifest:
    """A lake as a release has left it that knew no similarity, and told of outcomes that came and went only."""
    manifest = observed(
        lake,
        settings,
        ("2026-11-01", [aiming("Overall survival")]),
        ("2026-11-02", [aiming("Overall survival", "Pain")]),
        ("2026-11-03", [aiming("Overall survival (OS)", "Pain")]),
    )
    earlier = TYPED_EVENTS_SCHEMA.remove(TYPED_EVENTS_SCHEMA.get_field_index(_COLUMN_OF_LATER))
    for entry in lake.history.entries():
        events = lake.history.typed_events(entry.sequence).filter(pl.col("similarity").is_null())
        lake.history.write_rows(entry.sequence, TYPED_EVENTS_FILE, events, earlier)
    older: SnapshotManifest = msgspec.structs.replace(manifest, event_rules="")
    lake.snapshots.write_manifest(older)
    return older


def told(lake: Lake) -> list[tuple[Any, ...]]:
    """All events, by type, measure and similarity."""
    columns = ["event_type", "subject", "similarity"]
    entries = lake.history.entries()
    return [
        row
        for each in entries
        for row in lake.history.typed_events(each.sequence).select(columns).rows()
    ]


ADDED = ("primary_outcome_added", "Pain", None)
REWORDED = ("primary_outcome_reworded", "Overall survival (OS)", 0.8)


def test_an_older_lake_is_read_and_brought_up_to_date(
    lake: Lake, settings: Settings, aged: SnapshotManifest
) -> None:
    """The next step is to tell events anew, which asks nobody for anything; then one table is loaded anew."""
    assert told(lake) == [ADDED]
    held = WarehouseState(wanted_tables(aged), aged.data_timestamp)
    steps = {
        "actual": lambda _: held,
        "desired": lambda it: msgspec.structs.replace(held, tables=wanted_tables(it)),
    }
    step = next_build_step(settings, lake, **steps)
    assert isinstance(step, Step)
    assert step.stage is Stage.SNAPSHOT
    manifest = Compactor(lake.storage, lake.scratch).compact(aged.extraction_id)
    assert manifest == msgspec.structs.replace(aged, event_rules=event_rules())
    assert told(lake) == [ADDED, REWORDED]
    step = next_build_step(settings, lake, **steps)
    assert isinstance(step, Step)
    assert (step.stage, step.tables) == (Stage.STAGING, ("study_events",))


@pytest.mark.slow
def test_a_new_walk_brings_events_up_to_date_as_well(
    lake: Lake, settings: Settings, aged: SnapshotManifest
) -> None:
    """What is recorded next stands beside older changes that are told by the same rules."""
    walk = ("2026-11-04", [aiming("Overall survival (OS)")])
    assert observed(lake, settings, walk).event_rules == event_rules() != aged.event_rules
    assert told(lake) == [ADDED, REWORDED, ("primary_outcome_removed", "Pain", None)]


@pytest.mark.slow
def test_telling_anew_goes_on_where_it_was_killed(
    lake: Lake, aged: SnapshotManifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries that were done are not done again, and while it is not whole the snapshot does not say so."""
    done: list[int] = []

    def rewrite(history: Any, sequence: int) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        rewrite_events(history, sequence)
        done.append(sequence)

    compactor = Compactor(lake.storage, lake.scratch)
    with monkeypatch.context() as patched:
        patched.setattr(retelling, "rewrite_events", rewrite)
        with pytest.raises(KeyboardInterrupt):
            compactor.compact(aged.extraction_id)
    assert lake.snapshots.manifest(aged.extraction_id) == aged
    assert retelling.retell_events(lake.history) == 3 - len(done)
    assert told(lake) == [ADDED, REWORDED]
    assert retelling.retell_events(lake.history) == 0
