"""What the stand-in registry holds at a moment: its studies, its data version, its valid tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from threading import Lock

from ctg_assets.simulator import identity
from ctg_assets.simulator.query import StudyIndex
from ctg_assets.simulator.source import StudySource

FIRST_TIMESTAMP = datetime.combine(date.fromordinal(identity.FIRST_DATA_DAY), time(9, 0, 5))
"""When the data of generated studies are from, UTC; the real registry's timestamps say 09:00:05 too."""

DATA_STEP = timedelta(days=1)
"""From one data version to the next."""

NextSource = Callable[[StudySource, int], StudySource]
"""Makes the studies of the next data version from those of the present one and its number."""


@dataclass(frozen=True)
class DataVersion:
    """One state of the registry's data; `number` counts from 0, `timestamp` is UTC without offset."""

    number: int
    timestamp: datetime
    index: StudyIndex
    token_generation: int = 0

    @property
    def data_timestamp(self) -> str:
        """The version as `/version` gives it."""
        return self.timestamp.isoformat(timespec="seconds")

    @property
    def token_binding(self) -> bytes:
        """What page tokens of this version have in common, and no other version's."""
        state = (self.data_timestamp, len(self.index.source), self.token_generation)
        return repr(state).encode()


class Registry:
    """The stand-in registry's present data version, and what moves it. Safe to use from several threads."""

    def __init__(
        self, source: StudySource, timestamp: datetime, next_source: NextSource | None = None
    ) -> None:
        self._current = DataVersion(0, timestamp, StudyIndex(source))
        self._next_source = next_source
        self._moving = Lock()

    @property
    def current(self) -> DataVersion:
        """The present data version; take it once per request."""
        return self._current

    def advance(self, source: StudySource | None = None) -> DataVersion:
        """Publish the next data version, a day later; tokens of the former one become invalid.

        Its studies are those of `source`, else what the `next_source` callback makes, else the same ones.
        """
        with self._moving:
            former = self._current
            number = former.number + 1
            if source is None and self._next_source is not None:
                source = self._next_source(former.index.source, number)
            index = former.index if source is None else StudyIndex(source)
            self._current = DataVersion(number, former.timestamp + DATA_STEP, index)
            return self._current

    def expire_tokens(self) -> None:
        """Make every page token issued so far invalid, while the data stay as they are."""
        with self._moving:
            generation = self._current.token_generation + 1
            self._current = replace(self._current, token_generation=generation)
