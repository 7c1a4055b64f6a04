"""What a build of AACT's tables is asked to do, and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from ctg_assets.load.request import LoadProgress
from ctg_assets.metrics import NO_COUNTERS, Counters
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import TransientWarehouseError

_PATIENCE_SECONDS = 600.0

OtherRows = Mapping[str, pa.Table]
"""The rows of tables that are not made from staging, by table; those of tables not named are none."""


class StagingMovedError(TransientWarehouseError):
    """Staging was loaded while AACT's tables were made from it; nothing was changed."""


@dataclass(frozen=True)
class CtgovReport:
    """What a build did: rows per table now, seconds per phase, rows written, and how many studies it replaced.

    `not_fitting` counts the values that do not fit into AACT's types and are NULL there, by
    `table.column`: of all studies after a build of whole tables, when `changed_studies` is None, and else
    of those that changed.
    """

    rows: Mapping[str, int]
    seconds: Mapping[str, float]
    not_fitting: Mapping[str, int]
    written_rows: int
    changed_studies: int | None = None


@dataclass(frozen=True)
class CtgovRequest:
    """Which schema gets AACT's tables, and from what: today's staging tables unless told otherwise.

    `others` are rows that do not come from staging, and depend on what `other_fingerprints` say; those of
    studies that are not there are left out.
    Readers in the way are waited for `patience_seconds`.
    """

    address: PostgresAddress
    others: OtherRows = field(default_factory=dict)
    other_fingerprints: Mapping[str, str] = field(default_factory=dict)
    progress: Callable[[LoadProgress], None] | None = None
    patience_seconds: float = _PATIENCE_SECONDS
    counters: Counters = NO_COUNTERS

    def tell(self, phase: str, done: int, total: int | None = None) -> None:
        """Say how far the build is, if anybody wants to know."""
        if self.progress is not None:
            self.progress(LoadProgress(phase, done, total))
