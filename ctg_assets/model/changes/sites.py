"""Which sites of a study opened and closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ctg_assets.model.changes.item_keys import ITEM_KEYS
from ctg_assets.model.changes.matching import ItemNames, matched

# Those in which somebody can join the study now.
OPEN_STATUSES = frozenset({"RECRUITING", "ENROLLING_BY_INVITATION", "AVAILABLE"})


@dataclass(frozen=True, slots=True)
class SiteChange:
    """A site that opened or closed, and its status before and after: None where it was not listed."""

    site: str | None
    old_status: str | None
    new_status: str | None
    is_open: bool


def site_changes(
    old: Sequence[Any], old_status: Any, new: Sequence[Any], new_status: Any
) -> Iterator[SiteChange]:
    """The sites that are open in one of two lists of a study's sites and not in the other.

    A site is open if it is listed with a status in which people can join. The registry gives sites a
    status only while the study recruits; a site without one has the study's overall status.
    """
    before = [site for site in old if isinstance(site, dict)]
    after = [site for site in new if isinstance(site, dict)]
    match = matched(ITEM_KEYS["Location"], before, after)
    names = ItemNames(ITEM_KEYS["Location"], before, after)
    both: list[tuple[Any, Any]] = [
        *((before[one], after[other]) for one, other in match.pairs),
        *((before[one], None) for one in match.removed),
        *((None, after[other]) for other in match.added),
    ]
    for one, other in both:
        was, now = _status(one, old_status), _status(other, new_status)
        if (was in OPEN_STATUSES) != (now in OPEN_STATUSES):
            name = names.name(one if other is None else other)
            yield SiteChange(name, was, now, is_open=now in OPEN_STATUSES)


def _status(site: dict[str, Any] | None, overall_status: Any) -> str | None:
    if site is None:
        return None
    status = site.get("status") or overall_status
    return status if isinstance(status, str) else None
