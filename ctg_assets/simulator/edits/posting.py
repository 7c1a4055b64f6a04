"""What is posted: updates with their day, new studies, results, and ids that became aliases."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import msgspec

from ctg_assets.simulator.edits.desk import Desk, module_of
from ctg_assets.simulator.identity import iso
from ctg_assets.simulator.outline import outline
from ctg_assets.simulator.sections.cohorts import COHORTS, cohort
from ctg_assets.simulator.sections.parts import Json, post_date
from ctg_assets.simulator.sections.results import results_section


@cache
def _results(number: int) -> bytes:
    """A results section to post, one of a few."""
    facts = outline(number, 7)
    return msgspec.json.encode(results_section(facts, cohort(number % COHORTS)))


def results_posted(study: Json, desk: Desk) -> bool:
    """Post results of a study that has none."""
    status = module_of(study, "statusModule")
    if status is None or "resultsSection" in study or "startDateStruct" not in status:
        return False
    study["resultsSection"] = msgspec.json.decode(_results(desk.draw.below(8)))
    study["hasResults"] = True
    status["resultsFirstSubmitDate"] = iso(desk.day - 40)
    status["resultsFirstPostDateStruct"] = post_date(desk.day)
    return True


def results_withdrawn(study: Json, desk: Desk) -> bool:
    """Remove the results with their dates."""
    del desk
    return _without_results(study)


def _without_results(study: Json) -> bool:
    if study.pop("resultsSection", None) is None:
        return False
    study["hasResults"] = False
    status = module_of(study, "statusModule") or {}
    for key in ("resultsFirstSubmitDate", "resultsFirstSubmitQcDate", "resultsFirstPostDateStruct"):
        status.pop(key, None)
    return True


def post_update(study: Json, day: int) -> bool:
    """Say in the study that its latest change was posted on this day; False where it has no place for that."""
    status = module_of(study, "statusModule")
    if status is None:
        return False
    if "statusVerifiedDate" in status:
        status["statusVerifiedDate"] = iso(day - 2)[:7]
    status["lastUpdateSubmitDate"] = iso(day - 2)
    status["lastUpdatePostDateStruct"] = post_date(day)
    return True


def make_new(study: Json, day: int) -> None:
    """Turn a generated study into one that is posted for the first time on this day."""
    _without_results(study)
    protocol = study["protocolSection"]
    protocol["identificationModule"].pop("nctIdAliases", None)
    status = protocol["statusModule"]
    status["studyFirstSubmitDate"] = status["studyFirstSubmitQcDate"] = iso(day - 5)
    status["studyFirstPostDateStruct"] = post_date(day)
    post_update(study, day)


def add_aliases(study: Json, aliases: Iterable[str]) -> None:
    """Note obsolete NCT ids that this study's id now stands for; they come after those it has."""
    identification = study["protocolSection"]["identificationModule"]
    known = identification.get("nctIdAliases")
    merged = [*(known if isinstance(known, list) else ()), *aliases]
    identification["nctIdAliases"] = list(dict.fromkeys(merged))
