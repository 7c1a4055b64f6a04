"""What is decided about a generated study before anything is written: type, status, days, draws."""

from __future__ import annotations

from dataclasses import dataclass

from ctg_assets.simulator import identity, vocabulary
from ctg_assets.simulator.draws import Draw

_FRESH_DAYS = 730
_RESULTS_LEAD = 90
_TERSE = 0.15
_DONE = frozenset({"COMPLETED", "TERMINATED"})

# Of every thousand studies these have everything that is optional, so that any thousand neighbours show
# every field. Status, type and whether there are results, by the last three digits of the index.
_EXEMPLARS: dict[int, tuple[str, str | None, bool]] = {
    7: ("COMPLETED", "INTERVENTIONAL", True),
    67: ("COMPLETED", "OBSERVATIONAL", False),
    127: ("UNKNOWN", "INTERVENTIONAL", False),
    187: ("RECRUITING", "INTERVENTIONAL", False),
    247: ("TERMINATED", "INTERVENTIONAL", True),
    307: ("NOT_YET_RECRUITING", "OBSERVATIONAL", False),
    367: ("ACTIVE_NOT_RECRUITING", "INTERVENTIONAL", False),
    427: ("WITHDRAWN", "INTERVENTIONAL", False),
    487: ("ENROLLING_BY_INVITATION", "OBSERVATIONAL", False),
    547: ("SUSPENDED", "INTERVENTIONAL", False),
    607: ("NO_LONGER_AVAILABLE", "EXPANDED_ACCESS", False),
    667: ("AVAILABLE", "EXPANDED_ACCESS", False),
    727: ("APPROVED_FOR_MARKETING", "EXPANDED_ACCESS", False),
    787: ("TEMPORARILY_NOT_AVAILABLE", "EXPANDED_ACCESS", False),
    847: ("WITHHELD", None, False),
    907: ("COMPLETED", "INTERVENTIONAL", False),
}


@dataclass(slots=True)
class Outline:
    """The shared facts of one study; days are ordinals, and `results_post` is 0 without results.

    `study_type` is None for withheld studies, which show almost nothing; `terse` studies say only what
    must be said.
    """

    seed: int
    index: int
    nct_id: str
    draw: Draw
    status: str
    study_type: str | None
    first_submit: int
    first_post: int
    last_update: int
    terse: bool
    start: int = 0
    primary_completion: int = 0
    completion: int = 0
    results_post: int = 0

    @property
    def is_done(self) -> bool:
        """Whether the study has run to an end, regular or not."""
        return self.status in _DONE


def outline(seed: int, index: int) -> Outline:
    """Decide the shared facts of study `index` as of revision 0."""
    last_update = identity.last_update_post_day(seed, index)
    first_post = identity.first_post_day(seed, index)
    exemplar = _EXEMPLARS.get(index % 1000)
    draw = Draw(identity.mix(seed, index, 5), complete=exemplar is not None)
    if exemplar is not None:
        status, study_type, has_results = exemplar
    else:
        fresh = last_update > identity.FIRST_DATA_DAY - _FRESH_DAYS
        status = draw.weighted(vocabulary.FRESH_STATUS if fresh else vocabulary.STALE_STATUS)
        study_type = _study_type(draw, status)
        has_results = (
            status in _DONE
            and last_update - first_post > _RESULTS_LEAD
            # 13 % of all studies have results; these are the shares of those that can have any.
            and draw.random() < (0.42 if study_type == "INTERVENTIONAL" else 0.05)
        )
    facts = Outline(
        seed,
        index,
        identity.nct_id(seed, index),
        draw,
        status,
        study_type,
        identity.first_submit_day(seed, index),
        first_post,
        last_update,
        terse=draw.random() < _TERSE and not draw.complete,
    )
    if has_results:
        facts.results_post = max(first_post, last_update - draw.below(600))
    _set_days(facts)
    return facts


def _study_type(draw: Draw, status: str) -> str | None:
    if status == "WITHHELD":
        return None
    if status in vocabulary.EXPANDED_ACCESS_STATUSES:
        return "EXPANDED_ACCESS"
    return draw.weighted(vocabulary.STUDY_TYPE)


def _set_days(facts: Outline) -> None:
    """Choose start and completions such that they fit the status and what was posted when."""
    draw = facts.draw
    duration = 90 + int(2200 * draw.random() ** 2)
    if facts.results_post:
        facts.completion = facts.results_post - draw.between(120, 500)
        facts.start = facts.completion - duration
    elif facts.is_done:
        facts.completion = facts.last_update - draw.below(900)
        facts.start = min(facts.completion - 30, facts.first_submit + draw.between(-300, 120))
    elif facts.status == "NOT_YET_RECRUITING":
        facts.start = facts.last_update + draw.between(1, 200)
        facts.completion = facts.start + duration
    elif facts.status == "UNKNOWN":
        # Unknown means: it should have ended by now, but nobody said so for two years.
        facts.start = facts.first_submit + draw.between(-300, 120)
        latest = identity.FIRST_DATA_DAY - 60
        facts.completion = max(facts.start + 30, min(facts.start + duration, latest))
    else:
        facts.start = facts.first_submit + draw.between(-300, 120)
        facts.completion = max(facts.start + 30, facts.last_update + draw.between(30, 1500))
    facts.primary_completion = facts.completion - (
        draw.below(min(600, facts.completion - facts.start)) if draw.maybe(0.5) else 0
    )
