"""How a simulator behaves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ctg_assets.simulator.data_version import FIRST_TIMESTAMP, NextSource
from ctg_assets.simulator.faults import Fault


@dataclass(frozen=True, kw_only=True)
class SimulatorOptions:
    """Everything that can be chosen about a simulator, besides its studies.

    `requests_per_minute` None means no limit. `latency_seconds` precedes every API answer. `fault_seed`
    decides the `chance` faults. `request_log` is a JSON Lines file that is appended to. `data_timestamp`
    is that of the first data version, UTC; the default follows the generated studies' latest date and never
    changes, so that tokens survive a restart. `next_source` makes the studies of each later version.
    `advance_seconds` is how often a served simulator publishes one by itself; None means never.
    Raises ValueError for a limit below 1, a negative latency, and an advance in no time.
    """

    requests_per_minute: int | None = None
    latency_seconds: float = 0.0
    faults: tuple[Fault, ...] = ()
    fault_seed: int = 0
    request_log: Path | None = None
    data_timestamp: datetime = FIRST_TIMESTAMP
    next_source: NextSource | None = None
    advance_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.requests_per_minute is not None and self.requests_per_minute < 1:
            message = f"requests per minute: expected 1 or more, not {self.requests_per_minute}"
            raise ValueError(message)
        if self.latency_seconds < 0:
            message = f"latency: expected 0 or more seconds, not {self.latency_seconds:g}"
            raise ValueError(message)
        if self.advance_seconds is not None and self.advance_seconds <= 0:
            message = (
                f"seconds between data versions: expected more than 0, not {self.advance_seconds:g}"
            )
            raise ValueError(message)
