"""Registries in motion for tests, and what they hold in a form that can be compared with their log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ctg_assets.model.identity import identify
from ctg_assets.simulator.churn import Churn
from ctg_assets.simulator.options import SimulatorOptions
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import StudySource


@dataclass(frozen=True)
class MovingRegistry:
    """A simulator whose data move by the rounds of a churn."""

    simulator: RunningSimulator
    churn: Churn


@contextmanager
def moving_registry(churn: Churn) -> Iterator[MovingRegistry]:
    """Serve a churn: each `simulator.advance()` is a round of it."""
    options = SimulatorOptions(data_timestamp=churn.timestamp, next_source=churn.next_source)
    with running_simulator(churn.source, options) as simulator:
        yield MovingRegistry(simulator, churn)


def content_hashes(source: StudySource) -> dict[str, str]:
    """The content hash of every study by the product's own rule, by NCT id."""
    return {
        source.nct_id(index): identify(source.raw(index)).content_hash
        for index in range(len(source))
    }
