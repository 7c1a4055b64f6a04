"""A registry in motion: rounds of inserts, updates, silent edits, deletes, restores and merges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ctg_assets.simulator import identity
from ctg_assets.simulator.churn_acts import Act, ChurnError, ChurnRates
from ctg_assets.simulator.churn_log import ActKind, ActRecord, ChurnLog
from ctg_assets.simulator.churn_round import Newcomers, RegistryState, RoundWork
from ctg_assets.simulator.data_version import DATA_STEP, FIRST_TIMESTAMP
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.overlay import OverlaySource
from ctg_assets.simulator.scales import first_and_last_day
from ctg_assets.simulator.source import GeneratedSource, StudySource

_PURPOSE = 7


@dataclass(frozen=True)
class Round:
    """What a round did: its number from 1, the data version it led to, and its acts in order."""

    number: int
    timestamp: datetime
    source: StudySource
    records: tuple[ActRecord, ...]

    def __str__(self) -> str:
        """The round in one line for people."""
        counts = Counter(record.act for record in self.records)
        acts = ", ".join(f"{counts[kind]} {kind}" for kind in ActKind if counts[kind])
        return f"round {self.number}, data of {self.timestamp:%Y-%m-%d}: {acts or 'nothing'}"


class Churn:
    """Moves a registry on, round by round; the same seed, source and plans make the same rounds.

    Only what changed is kept in memory. `timestamp` is that of the data before the first round, by default
    `first_timestamp` of the source; a round leads to data of the next day. A simulator takes it as follows:

        churn = Churn(GeneratedSource(500, 1), seed=7, log=folder / "churn.jsonl")
        options = SimulatorOptions(data_timestamp=churn.timestamp, next_source=churn.next_source)
        with running_simulator(churn.source, options) as simulator:
            simulator.advance()                   # a round of drawn acts
            churn.plan(Act(ActKind.DELETE))
            simulator.advance()                   # a round of this act and no other

    `log` gets a line for each act before anybody can see the round's data; `listener` gets the round.
    Not to be used from several threads at once; a simulator does not.
    """

    def __init__(
        self,
        source: StudySource,
        seed: int,
        *,
        timestamp: datetime | None = None,
        rates: ChurnRates | None = None,
        log: Path | None = None,
        listener: Callable[[Round], None] | None = None,
    ) -> None:
        self.timestamp = first_timestamp(source) if timestamp is None else timestamp
        self.round = 0
        self._base = source
        self._source: StudySource = source
        self._seed = seed
        self._rates = rates or ChurnRates()
        self._log = None if log is None else ChurnLog(log)
        self._listener = listener
        self._state = RegistryState()
        self._planned: tuple[Act, ...] | None = None

    @property
    def source(self) -> StudySource:
        """The studies as they are now."""
        return self._source

    def plan(self, *acts: Act) -> None:
        """Have the next round do these acts and no others; none at all make it an empty round."""
        self._planned = acts

    def next_source(self, former: StudySource, number: int) -> StudySource:
        """Do a round and return its studies: the `next_source` of a simulator's options.

        Raises ChurnError as `advance` does, and when the simulator's present studies are not this churn's.
        """
        if former is not self._source or number != self.round + 1:
            message = (
                f"data version {number - 1} of the simulator is not round {self.round} of its churn: "
                "publish no other studies in between"
            )
            raise ChurnError(message)
        return self.advance().source

    def advance(self) -> Round:
        """Do a round: the acts planned for it, else drawn ones.

        Raises ChurnError for a planned act that cannot be done; nothing has happened then.
        """
        planned, self._planned = self._planned, None
        work = RoundWork(
            self._state.copy(),
            source=self._source,
            newcomers=Newcomers(self._base, self._seed),
            number=self.round + 1,
            timestamp=self.timestamp + DATA_STEP,
            draw=Draw(identity.mix(self._seed, self.round + 1, _PURPOSE)),
        )
        if planned is None:
            work.draw_acts(self._rates)
        else:
            for act in planned:
                work.do(act)
        self._state = work.state
        self.round = work.round
        self.timestamp = work.timestamp
        self._source = OverlaySource(
            self._base,
            self._state.changed,
            gone=(*self._state.deleted, *self._state.merged),
            data_day=f"{self.timestamp:%Y-%m-%d}",
        )
        done = Round(self.round, self.timestamp, self._source, tuple(work.records))
        if self._log is not None:
            self._log.append(done.records)
        if self._listener is not None:
            self._listener(done)
        return done


def first_timestamp(source: StudySource) -> datetime:
    """The timestamp of a source's data before anything happens: no study of it was posted later."""
    if isinstance(source, GeneratedSource):
        return FIRST_TIMESTAMP
    dates = [source.last_update_post_date(index) for index in range(len(source))]
    latest = max(dates, default="")
    days = first_and_last_day(latest)
    late_by = 0 if days is None else int(days[1]) - FIRST_TIMESTAMP.date().toordinal()
    return FIRST_TIMESTAMP + timedelta(days=max(0, late_by))
