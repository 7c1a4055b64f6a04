"""The measurement of a walk's pace: what it walks, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pace import walk
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.simulator.in_memory import InMemorySource, study

PAGE_SIZE = 4


@pytest.mark.parametrize("chains", [1, 2])
def test_a_walk_is_counted(simulator: RunningSimulator, tmp_path: Path, chains: int) -> None:
    """Chains, pages and requests are those that the registry saw; planning and walking both took some time."""
    source = InMemorySource(study(n, posted=f"20{n:02}-01-01") for n in range(1, 24))
    simulator.advance(source)
    before = len(simulator.requests)
    walked = walk(
        simulator.api_url,
        tmp_path / "data",
        chains=chains,
        requests_per_minute=10_000,
        page_size=PAGE_SIZE,
    )
    paths = [record.path.rpartition("/")[2] for record in simulator.requests[before:]]
    assert walked.requests == len(paths)
    assert walked.chains == chains
    counts = 1 + (chains if chains > 1 else 0)
    assert walked.pages == paths.count("studies") - counts
    assert paths.count("version") == 3
    assert walked.planning > 0 < walked.walking
