"""How a generated study is designed: its arms, interventions, outcomes and who may take part."""

from __future__ import annotations

from functools import cache

import msgspec

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.outline import Outline
from ctg_assets.simulator.sections.parts import Json, few, present, prose
from ctg_assets.simulator.vocabulary import enum


def design(facts: Outline, enrolled: int | None) -> Json:
    """The design module; `enrolled` is the number of participants where results name it."""
    draw = facts.draw
    count = draw.pick(vocabulary.ENROLLMENTS) + draw.below(3) if enrolled is None else enrolled
    if facts.status == "WITHDRAWN":
        count = 0
    elif enrolled is None and (
        draw.random() < 0.0002 or (draw.complete and facts.status == "UNKNOWN")
    ):
        count = vocabulary.UNKNOWN_ENROLLMENT
    enrollment = {
        "count": count,
        "type": "ACTUAL" if facts.completion <= facts.last_update else "ESTIMATED",
    }
    if facts.study_type == "EXPANDED_ACCESS":
        return present(
            {
                "studyType": facts.study_type,
                "nPtrsToThisExpAccNctId": draw.between(1, 4) if draw.maybe(0.5) else None,
                "expandedAccessTypes": {
                    kind: True
                    for kind in ("individual", "intermediate", "treatment")
                    if draw.maybe(0.4)
                }
                or None,
            }
        )
    if facts.study_type == "OBSERVATIONAL":
        registry = draw.maybe(0.15)
        return present(
            {
                "studyType": facts.study_type,
                "patientRegistry": registry,
                "targetDuration": f"{draw.between(2, 10)} {draw.pick(('Years', 'Months', 'Weeks', 'Days'))}"
                if registry
                else None,
                "designInfo": {
                    "observationalModel": draw.weighted(enum("ObservationalModel")),
                    "timePerspective": draw.weighted(enum("DesignTimePerspective")),
                },
                "bioSpec": {
                    "retention": draw.weighted(enum("BioSpecRetention")),
                    "description": prose(draw, 1),
                }
                if draw.maybe(0.3)
                else None,
                "enrollmentInfo": enrollment,
            }
        )
    phases = draw.weighted(vocabulary.PHASES)
    masking = draw.weighted(enum("DesignMasking"))
    return {
        "studyType": facts.study_type,
        "phases": list(phases),
        "designInfo": present(
            {
                "allocation": draw.weighted(enum("DesignAllocation")),
                "interventionModel": draw.weighted(enum("InterventionalAssignment")),
                "interventionModelDescription": prose(draw, 2) if draw.maybe(0.2) else None,
                "primaryPurpose": draw.weighted(enum("PrimaryPurpose")),
                "maskingInfo": present(
                    {
                        "masking": masking,
                        "maskingDescription": prose(draw, 1) if draw.maybe(0.1) else None,
                        "whoMasked": draw.several(enum("WhoMasked").values, 4)
                        if masking != "NONE" or draw.complete
                        else None,
                    }
                ),
            }
        ),
        "enrollmentInfo": enrollment,
    }


def arms_and_interventions(
    facts: Outline, arms: tuple[str, ...], treatments: list[tuple[str, str]]
) -> Json:
    """Arms and interventions; `arms` are labels that results name already, `treatments` are (type, name)."""
    draw = facts.draw
    labels = list(arms) or draw.run(vocabulary.ARM_LABELS, min(5, 1 + few(draw)))
    if draw.random() < 0.01:
        # The registry does not refuse two arms of the same label, so such studies exist.
        labels.append(labels[0])
    typed = [f"{kind.replace('_', ' ').title()}: {name}" for kind, name in treatments]
    if facts.study_type == "EXPANDED_ACCESS":
        groups = None
    else:
        groups = [
            present(
                {
                    "label": label,
                    "type": draw.weighted(enum("ArmGroupType"))
                    if facts.study_type == "INTERVENTIONAL"
                    else None,
                    "description": prose(draw, draw.between(1, 2))
                    if not facts.terse and draw.maybe(0.9)
                    else None,
                    "interventionNames": [typed[place % len(typed)]] if draw.maybe(0.95) else None,
                }
            )
            for place, label in enumerate(labels)
        ]
    interventions = [
        present(
            {
                "type": kind,
                "name": name,
                "description": prose(draw, draw.between(1, 3))
                if not facts.terse and draw.maybe(0.9)
                else None,
                "armGroupLabels": labels[place :: len(treatments)] or None if groups else None,
                "otherNames": [
                    f"{name} {suffix}" for suffix in ("hydrochloride", "®", "generic")[: few(draw)]
                ]
                if draw.maybe(0.3)
                else None,
            }
        )
        for place, (kind, name) in enumerate(treatments)
    ]
    return present({"armGroups": groups, "interventions": interventions})


@cache
def _outcome_pool() -> tuple[msgspec.Raw, ...]:
    draw = Draw(8)
    return tuple(
        msgspec.Raw(
            msgspec.json.encode(
                present(
                    {
                        "measure": f"{measure} ({place})",
                        "description": prose(draw, draw.between(1, 3)) if place % 4 else None,
                        "timeFrame": draw.pick(vocabulary.TIME_FRAMES),
                    }
                )
            )
        )
        for place in range(1, 100)
        for measure in vocabulary.MEASURES
    )


def outcomes(facts: Outline) -> Json:
    """The outcome measures that a study has planned."""
    draw = facts.draw
    pool = _outcome_pool()
    return present(
        {
            "primaryOutcomes": draw.run(pool, few(draw)),
            "secondaryOutcomes": draw.run(pool, draw.heavy(2.8, 120))
            if not facts.terse and draw.maybe(0.9)
            else None,
            "otherOutcomes": draw.run(pool, draw.heavy(3, 80)) if draw.maybe(0.08) else None,
        }
    )


def eligibility(facts: Outline) -> Json:
    """Who may take part in a study."""
    draw = facts.draw
    minimum = draw.weighted(vocabulary.MINIMUM_AGE) if draw.maybe(0.94) else None
    maximum = draw.weighted(vocabulary.MAXIMUM_AGE) if draw.maybe(0.55) else None
    if minimum and maximum and minimum[1] > maximum[1]:
        maximum = None
    youngest = minimum[1] if minimum else 0.0
    oldest = maximum[1] if maximum else 200.0
    ages = [
        name
        for name, low, high in (("CHILD", 0, 18), ("ADULT", 18, 65), ("OLDER_ADULT", 65, 200))
        if youngest < high and oldest >= low
    ]
    items = vocabulary.criteria()
    inclusion = "\n".join(draw.run(items, 2 if facts.terse else draw.heavy(3.5, 40)))
    exclusion = "\n".join(draw.run(items, 2 if facts.terse else draw.heavy(4.5, 50)))
    gender_based = draw.maybe(0.015)
    observational = facts.study_type == "OBSERVATIONAL"
    return present(
        {
            "eligibilityCriteria": f"Inclusion Criteria:\n\n{inclusion}\n\nExclusion Criteria:\n\n{exclusion}",
            "healthyVolunteers": draw.random() < 0.25 if draw.maybe(0.98) else None,
            "sex": draw.weighted(vocabulary.SEX),
            "genderBased": True if gender_based else None,
            "genderDescription": prose(draw, 1) if gender_based else None,
            "minimumAge": minimum[0] if minimum else None,
            "maximumAge": maximum[0] if maximum else None,
            "stdAges": ages,
            "studyPopulation": prose(draw, 2) if observational else None,
            "samplingMethod": draw.weighted(enum("SamplingMethod")) if observational else None,
        }
    )
