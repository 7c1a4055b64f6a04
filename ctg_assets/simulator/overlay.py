"""Studies that changed since a source was opened, laid over the source."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ctg_assets.simulator.source import StudyFacts, StudySource, study_facts

_VERSION_HOLDER = b'"versionHolder"'
_VERSION_HOLDER_DAY = re.compile(rb'"versionHolder"\s*:\s*"(\d{4}-\d\d-\d\d)"')


@dataclass(frozen=True, slots=True)
class ChangedStudy:
    """A study that the source below does not have, or not so: its JSON, and what a source tells of it."""

    study: bytes
    facts: StudyFacts


def changed_study(study: bytes) -> ChangedStudy:
    """A changed study from its JSON."""
    return ChangedStudy(study, study_facts(study))


class OverlaySource:
    """The studies of a source with some of them gone, some changed and some added; it never changes itself.

    `data_day` (`YYYY-MM-DD`) is the registry's day, which every study that has a `versionHolder` bears as such;
    None leaves the studies as they are. `gone` are NCT ids of the source below. Of that source only the places
    of studies that are gone are kept, so that 600,000 studies cost no more than their changes.
    """

    def __init__(
        self,
        below: StudySource,
        changed: Mapping[str, ChangedStudy],
        gone: Iterable[str] = (),
        data_day: str | None = None,
    ) -> None:
        self._below = below
        self._changed = dict(changed)
        self._data_day = None if data_day is None else data_day.encode("ascii")
        places = (below.index_of(nct_id) for nct_id in gone)
        self._gone = sorted(place for place in places if place is not None)
        # How many of the studies below stand before the n-th that is gone; it grows with n.
        self._kept_before = [place - number for number, place in enumerate(self._gone)]
        self._kept = len(below) - len(self._gone)
        self._added = [nct_id for nct_id in self._changed if below.index_of(nct_id) is None]
        self._added_at = {nct_id: self._kept + at for at, nct_id in enumerate(self._added)}
        self._targets = {
            alias: nct_id
            for nct_id, study in self._changed.items()
            for alias in study.facts.aliases
        }

    def __len__(self) -> int:
        """How many studies there are now."""
        return self._kept + len(self._added)

    def _place_below(self, index: int) -> int:
        if not 0 <= index < len(self):
            message = f"study {index} of {len(self)}"
            raise IndexError(message)
        return index + bisect_right(self._kept_before, index)

    def nct_id(self, index: int) -> str:
        """The NCT id of the study at this place; added studies come last."""
        if self._kept <= index < len(self):
            return self._added[index - self._kept]
        return self._below.nct_id(self._place_below(index))

    def last_update_post_date(self, index: int) -> str:
        """When the study's latest change was posted, as `YYYY-MM-DD`; empty if it does not say."""
        changed = self._changed.get(self.nct_id(index))
        if changed is not None:
            return changed.facts.last_update_post_date
        return self._below.last_update_post_date(self._place_below(index))

    def raw(self, index: int) -> bytes:
        """The study's JSON object at the registry's day."""
        changed = self._changed.get(self.nct_id(index))
        study = self._below.raw(self._place_below(index)) if changed is None else changed.study
        return study if self._data_day is None else _borne_on(study, self._data_day)

    def index_of(self, nct_id: str) -> int | None:
        """The place of the study with this NCT id; None when there is none, and for obsolete ids."""
        added_at = self._added_at.get(nct_id)
        if added_at is not None:
            return added_at
        place = self._below.index_of(nct_id)
        if place is None:
            return None
        gone_before = bisect_left(self._gone, place)
        is_gone = gone_before < len(self._gone) and self._gone[gone_before] == place
        return None if is_gone else place - gone_before

    def alias_target(self, nct_id: str) -> str | None:
        """The NCT id that survives in place of this obsolete one; None when it is no such id."""
        if self.index_of(nct_id) is not None:
            return None
        target = self._targets.get(nct_id)
        if target is None:
            target = self._below.alias_target(nct_id)
        # The survivor itself may have been removed since.
        return target if target is not None and self.index_of(target) is not None else None


def _borne_on(study: bytes, day: bytes) -> bytes:
    """The study with this day as its `versionHolder`, if it has one; every other byte stays.

    Within a JSON text the quotes around the name would be escaped, so what is found is the member itself.
    """
    at = study.rfind(_VERSION_HOLDER)
    match = _VERSION_HOLDER_DAY.match(study, at) if at >= 0 else None
    return study if match is None else study[: match.start(1)] + day + study[match.end(1) :]
