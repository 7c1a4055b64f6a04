"""The lake in S3: it comes to what a lake on a disk comes to, whoever dies at what moment.

Few kills as a rule; a soak has two machines killed a hundred times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.integrity.verification import verify
from ctg_assets.lake import Lake, open_lake
from ctg_assets.refresh import planner
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.simulator.in_memory import InMemorySource, study
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.following import refresh
from ctg_assets_tests.support.machines import refresh_on_machine
from ctg_assets_tests.support.object_store import S3Server

pytestmark = pytest.mark.process

_PAGE_SIZE = 8
_STUDIES = 20


def _source(version: int) -> InMemorySource:
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


def _settings(folder: Path, simulator: RunningSimulator, **more: Any) -> Settings:
    return load_settings(
        data_dir=folder,
        api_url=simulator.api_url,
        query="",
        page_size=_PAGE_SIZE,
        requests_per_minute=10_000,
        max_shrink_fraction=1,
        refresh_mode="full",
        **more,
    )


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is to be loaded: what is loaded comes from the snapshot, and that is looked at."""
    monkeypatch.setattr(planner, "actual_state", lambda _: WarehouseState())
    monkeypatch.setattr(planner, "desired_state", lambda *_: WarehouseState())


def _comes_to(lake: Lake) -> dict[str, Any]:
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


def _is_sound(lake: Lake) -> None:
    """No file is damaged or missing, no number was given twice, nothing is half done."""
    assert verify(lake.storage).findings == []
    plans = lake.extractions.plans()
    numbers = [plan.number for plan in plans]
    assert sorted(set(numbers)) == sorted(numbers)
    states = [lake.extractions.state(plan.extraction_id) for plan in plans]
    assert ExtractionState.OPEN not in states
    recorded = [entry.extraction_id for entry in lake.history.entries()]
    assert len(set(recorded)) == len(recorded)


def _rounds(simulator: RunningSimulator, versions: int) -> Iterator[int]:
    for version in range(versions):
        simulator.advance(_source(version))
        yield version


def _on_two_machines(
    settings: Sequence[Settings], environment: dict[str, str], kills: int, seed: int
) -> int:
    """Refresh on all machines at once until nothing is to do, killing each so often; returns the kills."""

    def work(place: int) -> int:
        chosen = random.Random(f"{seed} {place}")
        killed = 0
        while killed < kills and not refresh_on_machine(
            f"machine {place}", settings[place], environment, chosen.randrange(120)
        ):
            killed += 1
        refresh_on_machine(f"machine {place}", settings[place], environment)
        return killed

    with ThreadPoolExecutor(len(settings)) as threads:
        return sum(threads.map(work, range(len(settings))))


@pytest.mark.soak
def test_two_machines_fight_and_die(
    s3: S3Server, simulator: RunningSimulator, tmp_path: Path
) -> None:
    """Both refresh at once and are killed in between: the lake is as if one had done it undisturbed on a disk."""
    url = s3.new_url()
    machines = [_settings(tmp_path / f"machine {n}", simulator, data_url=url) for n in range(2)]
    alone = _settings(tmp_path / "alone", simulator)
    killed = 0
    for version in _rounds(simulator, times(1, 6)):
        killed += _on_two_machines(machines, s3.environment(), times(2, 10), version)
        refresh(alone)
    lake = open_lake(machines[0])
    _is_sound(lake)
    assert _comes_to(lake) == _comes_to(open_lake(alone))
    assert killed > 0
