"""The progress of a refresh as records, where logs are JSON lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ctg_assets.refresh.planner import Step

_log = logging.getLogger(__name__)


class RefreshLog:
    """Logs the progress of a refresh; a `Listener` of `orchestration.refresh.run_stages`."""

    def __init__(self) -> None:
        """Log nothing yet."""
        self._stage = ""
        self._started = 0.0

    @contextmanager
    def live(self) -> Iterator[None]:
        """Nothing lives here."""
        yield

    def stage_started(self, step: Step) -> None:
        """Name the stage and why it runs."""
        self._stage, self._started = str(step.stage), time.monotonic()
        extraction = None if step.extraction is None else step.extraction.extraction_id
        _log.info("%s: %s", step.stage, step.reason, extra={"extraction": extraction})

    def asset_materialized(self, asset: str, rows: int | None) -> None:
        """Log an asset of the stage that is done."""
        size = "" if rows is None else f", {rows:,} rows"
        _log.info("made %s%s", asset, size, extra={"asset": asset})

    def check_failed(self, check: str, description: str, *, warning: bool) -> None:
        """Log a check that did not pass, with its asset."""
        level = logging.WARNING if warning else logging.ERROR
        word = "warns" if warning else "failed"
        asset = check.partition(": ")[0]
        _log.log(level, "check %s %s: %s", check, word, description, extra={"asset": asset})

    def stage_finished(self) -> None:
        """Say how long the stage took."""
        _log.info("%s is done after %.1f s", self._stage, time.monotonic() - self._started)

    def close(self) -> None:
        """Leave it to the message about the failure."""
