"""The state that is read for a scrape."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.lake import Lake
from ctg_assets.refresh.status import extraction_statuses
from ctg_assets.serve.gauges import Sample
from ctg_assets.serve.state import disk_samples, feed_samples, lake_samples, scheduler_samples
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.support.counting import NotedCounters
from ctg_assets_tests.support.lakes import add_page, completed, json_of, planned


def told(samples: Any) -> dict[str, float]:
    """Samples by name and labels, each series once."""
    found: list[Sample] = list(samples)
    spelled = [
        " ".join([each.metric.name, *(f"{k}={v}" for k, v in each.labels.items())])
        for each in found
    ]
    assert max(Counter(spelled).values(), default=1) == 1
    return {name: float(each.value) for name, each in zip(spelled, found, strict=True)}


def test_an_empty_lake_has_no_age(lake: Lake) -> None:
    """Nothing is told of what is not there, rather than a zero that looks like a number."""
    assert told(lake_samples(lake, extraction_statuses(lake))) == {
        "ctg_history_changes": 0,
        "ctg_extraction_open": 0,
    }


def test_the_lake_tells_what_it_holds_and_how_far_the_walk_is(
    lake: Lake, settings: Settings
) -> None:
    """Studies, quarantine and unknown fields of the newest snapshot; pages of the walk that is open."""
    mistyped = {
        "protocolSection": {"identificationModule": {"nctId": "NCT00000007"}},
        "hasResults": "perhaps",
    }
    unknown = {
        "protocolSection": {"identificationModule": {"nctId": "NCT00000008"}},
        "brandNew": 1,
        "andAnother": {"field": 2},
    }
    studies = [*json_of(1, 2, 3), msgspec.json.encode(mistyped), msgspec.json.encode(unknown)]
    plan = completed(lake, planned(lake, settings, studies=5), studies)
    counters = NotedCounters()
    Compactor(lake.storage, lake.scratch, counters).compact(plan.extraction_id)
    assert counters.of("etl_records_processed_total") == {("transform",): 5}
    assert counters.of("etl_transformation_errors_total") == {(): 1}

    found = told(lake_samples(lake, extraction_statuses(lake)))
    recorded = lake.history.entries()[-1].recorded_at
    published = datetime.fromisoformat(plan.data_timestamp).replace(tzinfo=UTC)
    assert found == {
        "ctg_data_timestamp_seconds": published.timestamp(),
        f"ctg_last_walk_timestamp_seconds mode={plan.mode}": recorded.timestamp(),
        "ctg_history_changes": 5,
        "ctg_studies": 4,
        "ctg_studies_quarantined": 1,
        "ctg_unknown_fields": 2,
        "ctg_extraction_open": 0,
        f"ctg_extraction_pages_planned mode={plan.mode}": plan.planned_pages,
        f"ctg_extraction_pages_done mode={plan.mode}": 1,
    }
    unfinished = planned(lake, settings, mode=ExtractionMode.CENSUS, studies=85)
    add_page(lake, unfinished, 1, json_of(1))
    add_page(lake, unfinished, 2, json_of(2))
    found = told(lake_samples(lake, extraction_statuses(lake)))
    assert found["ctg_extraction_open"] == 1
    assert found["ctg_extraction_pages_planned mode=census"] == 9
    assert found["ctg_extraction_pages_done mode=census"] == 2
    assert f"ctg_extraction_pages_done mode={plan.mode}" not in found
    # What is not recorded yet is no walk that was done.
    assert "ctg_last_walk_timestamp_seconds mode=census" not in found


def test_no_feed_tells_nothing() -> None:
    """Where no sinks are set up there is no lag."""
    assert told(feed_samples([])) == {}


@dataclass
class Known:
    """What a scheduler knows."""

    runs: dict[str, int] = field(default_factory=lambda: {"success": 4, "started": 1})
    dead_runs: int = 1
    heartbeats: dict[str, float] = field(default_factory=lambda: {"SENSOR": 1_800_000_000.5})
    failed_checks: dict[str, int] = field(default_factory=lambda: {"warning": 2})
    stage_seconds: dict[str, float] = field(default_factory=lambda: {"page_shards": 12.5})


def test_the_scheduler_is_told_where_there_is_one() -> None:
    """A severity without failures is zero; without a scheduler nothing is told."""
    assert told(scheduler_samples(None)) == {}
    assert told(scheduler_samples(Known())) == {
        "ctg_dagster_runs status=success": 4,
        "ctg_dagster_runs status=started": 1,
        "ctg_dagster_dead_runs": 1,
        "ctg_dagster_daemon_heartbeat_timestamp_seconds daemon=SENSOR": 1_800_000_000.5,
        "ctg_checks_failed severity=error": 0,
        "ctg_checks_failed severity=warning": 2,
        "ctg_stage_seconds stage=page_shards": 12.5,
    }


def test_the_disk_is_told_by_folder(tmp_path: Path) -> None:
    """All files below each folder count, links do not, and a folder that is not there costs nothing."""
    for name, size in (("lake/a", 10), ("lake/deep/er/b", 5), ("state/c", 7)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "lake")
    found = told(disk_samples(tmp_path))
    folders = {name: size for name, size in found.items() if "folder=" in name}
    assert folders == {
        "ctg_data_folder_bytes folder=lake": 15,
        "ctg_data_folder_bytes folder=state": 7,
    }
    assert 0 < found["ctg_disk_free_bytes"] <= found["ctg_disk_size_bytes"]
    assert told(disk_samples(tmp_path / "not there")) == {}


@pytest.mark.parametrize("mode", ["incremental", "full"])
def test_only_whole_walks_count_as_such(mode: str, lake: Lake, settings: Settings) -> None:
    """A walk that brought fewer studies than the registry counted does not renew the age of the last one."""
    short = planned(lake, settings, studies=20, mode=ExtractionMode(mode))
    plan = completed(lake, short, json_of(*range(1, 16)))
    Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    name = f"ctg_last_walk_timestamp_seconds mode={mode}"
    assert (name in told(lake_samples(lake, extraction_statuses(lake)))) is (mode == "incremental")
