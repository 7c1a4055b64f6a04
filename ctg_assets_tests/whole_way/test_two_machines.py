"""The lake in S3: it comes to what a lake on a disk comes to, whoever dies at what moment.

Few kills as a rule; a soak has two machines killed a hundred times.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.lake import open_lake
from ctg_assets.refresh import planner
from ctg_assets.refresh.desired_state import WarehouseState
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.following import refresh
from ctg_assets_tests.support.machines import refresh_on_machine
from ctg_assets_tests.support.object_store import S3Server
from ctg_assets_tests.whole_way.changing_lakes import comes_to, is_sound, source

pytestmark = pytest.mark.process

_PAGE_SIZE = 8


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


def _rounds(simulator: RunningSimulator, versions: int) -> Iterator[int]:
    for version in range(versions):
        simulator.advance(source(version))
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
    is_sound(lake)
    assert comes_to(lake) == comes_to(open_lake(alone))
    assert killed > 0
