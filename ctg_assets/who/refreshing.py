"""Refreshing indicators: extract, transform and load, each of which can be done by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from ctg_assets.errors import CtgAssetsError, TransientError
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.server import open_postgres
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings
from ctg_assets.storage.data_folder import STATE, data_folder, lake_storage
from ctg_assets.storage.files import Work
from ctg_assets.who.access import api_of, open_api
from ctg_assets.who.errors import NothingFetchedError
from ctg_assets.who.indicators import DialectName, Indicator
from ctg_assets.who.loading import LoadedIndicator, load_indicators
from ctg_assets.who.releases import IndicatorState, Release, ReleaseStore
from ctg_assets.who.walks import WalkEnd, WalkStore, request_digest


class RefreshPart(StrEnum):
    """The steps of a refresh."""

    EXTRACT = "extract"
    TRANSFORM = "transform"
    LOAD = "load"


class Became(StrEnum):
    """What became of an indicator."""

    NEW_RELEASE = "new release"
    UNCHANGED = "unchanged"
    HELD_BACK = "held back"
    FAILED = "failed"


Progress = Callable[[str, RefreshPart, int, int | None], None]
"""Hears an indicator's code, the step, how many rows are done, and of how many if that is known."""


@dataclass(frozen=True)
class IndicatorOutcome:
    """What a refresh did with an indicator; `problem` is why it failed."""

    code: str
    became: Became
    state: IndicatorState | None = None
    release: Release | None = None
    problem: CtgAssetsError | None = None


def _silent(code: str, stage: RefreshPart, done: int, total: int | None) -> None:
    """Nobody listens."""


def loaded_mark(settings: Settings) -> int:
    """A number that changes when this data folder's commands or runs loaded something; for who must not ask the database."""
    try:
        return _mark_file(settings).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _mark_file(settings: Settings) -> Path:
    return data_folder(settings, STATE) / "who-loaded"


class WhoSource:
    """WHO's data in the lake of the settings."""

    def __init__(self, settings: Settings) -> None:
        """Keep walks and releases in the lake; nothing is opened yet. Raises StorageError."""
        self.settings = settings
        self._storage = lake_storage(settings)
        self.walks = WalkStore(self._storage)
        self.releases = ReleaseStore(self._storage)

    def extract(
        self, indicator: Indicator, progress: Progress = _silent, *, patient: bool = True
    ) -> WalkEnd:
        """Fetch an indicator, from where an earlier fetch was ended; returns how the walk ended.

        Unless `patient`, nothing is tried again. A walk that is complete and was not transformed yet is not fetched again. Raises RegistryError,
        StorageError, and BusyError when another process is at WHO's data.
        """
        with self._storage.lock(Work.WHO):
            end = self._waiting(indicator)
            if end is not None:
                return end
            patience = {} if patient else {"retry_seconds": 0.0}
            settings = self.settings.model_copy(update=patience)
            with open_api(settings, indicator.dialect) as requests:
                return self.walks.fetch(
                    requests,
                    indicator,
                    lambda done, total: progress(indicator.code, RefreshPart.EXTRACT, done, total),
                )

    def transform(
        self, indicator: Indicator, progress: Progress = _silent, *, accept: bool = False
    ) -> IndicatorState:
        """Make a release of what was fetched last, if it is a new one; returns what was found.

        With `accept`, also where a check holds it back. Raises NothingFetchedError, StorageError, BusyError.
        """
        with self._storage.lock(Work.WHO):
            end = self.walks.newest_complete(indicator.code)
            if end is None:
                message = (
                    f"nothing was fetched of {indicator.code} that is not transformed yet; "
                    f"`ctg-assets who extract {indicator.code}` fetches it"
                )
                raise NothingFetchedError(message)
            progress(indicator.code, RefreshPart.TRANSFORM, 0, end.rows)
            state = self.releases.compact(
                indicator,
                end,
                most_set_aside=self.settings.max_quarantine_fraction,
                accept=accept,
            )
            progress(indicator.code, RefreshPart.TRANSFORM, end.rows, end.rows)
            return state

    def load(
        self,
        indicators: Iterable[Indicator],
        progress: Progress = _silent,
        address: PostgresAddress | None = None,
    ) -> list[LoadedIndicator]:
        """Load the releases of these indicators that are not loaded yet; raises what `load_indicators` raises."""

        def tell(code: str, done: int, total: int) -> None:
            progress(code, RefreshPart.LOAD, done, total)

        with contextlib.ExitStack() as stack:
            if address is None:
                address = stack.enter_context(open_postgres(self.settings))
            loaded = load_indicators(address, self.releases, indicators, tell)
        if any(each.rows for each in loaded):
            _mark_file(self.settings).touch()
        return loaded

    def refresh(
        self, indicators: Sequence[Indicator], progress: Progress = _silent
    ) -> list[IndicatorOutcome]:
        """Extract, transform and load each of these; one that fails keeps no other from it.

        Raises BusyError when another process is at WHO's data, and what loading raises: then nothing more was
        loaded, and all that was fetched is kept.
        """
        with self._storage.lock(Work.WHO):
            outcomes: list[IndicatorOutcome] = []
            # Where one was waited for in vain, waiting as long for each of the others would take hours.
            down: set[DialectName] = set()
            for indicator in indicators:
                patient = indicator.dialect not in down
                outcomes.append(self._fetch(indicator, progress, patient=patient))
                if isinstance(outcomes[-1].problem, TransientError):
                    down.add(indicator.dialect)
        self.load(indicators, progress)
        return outcomes

    def current(self, code: str) -> Release | None:
        """The release that WHO gave last, as far as one was made."""
        state = self.releases.state(code)
        return next(
            (
                release
                for release in self.releases.releases(code)
                if state is not None and release.number == state.release
            ),
            None,
        )

    def check_loaded(self, indicators: Iterable[Indicator]) -> CheckResult:
        """Whether these indicators have a release, and none of what was fetched last is held back."""
        states = {each.code: self.releases.state(each.code) for each in indicators}
        without = [c for c, state in states.items() if state is None or state.release is None]
        held_back = [c for c, state in states.items() if state is not None and state.is_held_back]
        said = [
            f"{what}: {', '.join(codes)}"
            for what, codes in (("without a release", without), ("held back", held_back))
            if codes
        ]
        return CheckResult(
            not said, "; ".join(said) or f"all {len(states)} are loaded", blocking=False
        )

    def is_due(self, indicator: Indicator, now: datetime | None = None) -> bool:
        """Whether an enabled indicator was not looked for within its schedule."""
        state = self.releases.state(indicator.code)
        return indicator.enabled and (
            state is None
            or (now or datetime.now(UTC)) - state.checked_at
            >= timedelta(days=indicator.schedule.days)
        )

    def _fetch(
        self, indicator: Indicator, progress: Progress, *, patient: bool
    ) -> IndicatorOutcome:
        code = indicator.code
        try:
            before = {release.number for release in self.releases.releases(code)}
            self.extract(indicator, progress, patient=patient)
            state = self.transform(indicator, progress)
        except CtgAssetsError as error:
            return IndicatorOutcome(code, Became.FAILED, problem=error)
        release = self.current(code)
        if state.is_held_back:
            became = Became.HELD_BACK
        elif release is not None and release.number not in before:
            became = Became.NEW_RELEASE
        else:
            became = Became.UNCHANGED
        return IndicatorOutcome(code, became, state, release)

    def _waiting(self, indicator: Indicator) -> WalkEnd | None:
        """A complete walk of the same question that was not transformed yet."""
        end = self.walks.newest_complete(indicator.code)
        state = self.releases.state(indicator.code)
        if end is None or (state is not None and state.checked_at > end.completed_at):
            return None
        plan = self.walks.plan(indicator.code, end.walk)
        request = request_digest(api_of(self.settings, indicator.dialect), indicator)
        return end if plan.request == request else None
