"""Filters: whether a sink wants an event."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ctg_assets.feed.config import FilterSettings
from ctg_assets.feed.events import ChangeEvent


class Filter:
    """A sink's filters, ready for use.

    Within one filter any value may match, and all filters that are given have to. Case and the width
    of white space are ignored; `*` stands for any text.
    """

    def __init__(self, settings: FilterSettings) -> None:
        """Understand the filters."""
        self._conditions = _alternatives(settings.conditions)
        self._sponsors = _alternatives(settings.sponsors)
        self._countries = _alternatives(settings.countries)
        self._events = _alternatives(settings.events)
        self._nct_ids = frozenset(settings.nct_ids)

    def passes(self, event: ChangeEvent) -> bool:
        """Whether the event is wanted.

        One that takes a change back is wanted where the change was. If nothing is known of the study
        any more, since what was undone is pruned, it is sent all the same: it does no harm.
        """
        if self._nct_ids and event.nct_id not in self._nct_ids:
            return False
        names = [event.kind, *(typed.event_type for typed in event.typed_events)]
        if event.undoes is not None:
            names += [event.undoes.kind, *event.undoes.event_types]
        if not _any(self._events, names):
            return False
        if event.undoes is not None and event.title is None and not event.sponsors:
            return True
        return (
            _any(self._countries, event.countries)
            and _any(self._sponsors, event.sponsors)
            and _any(self._conditions, (*event.conditions, *event.condition_terms))
        )


def _alternatives(patterns: Iterable[str]) -> re.Pattern[str] | None:
    """One expression for all patterns of a filter; None if there are none."""
    written = [
        ".*".join(re.escape(part) for part in _plain(pattern).split("*")) for pattern in patterns
    ]
    return re.compile("|".join(written), re.DOTALL) if written else None


def _any(wanted: re.Pattern[str] | None, values: Iterable[str]) -> bool:
    return wanted is None or any(wanted.fullmatch(_plain(value)) for value in values)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
