"""The results section of a generated study.

A results section holds thousands of values, so it is put together from encoded parts, those of a cohort
of participants (`cohorts.py`).
"""

from __future__ import annotations

from functools import cache

import msgspec

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw
from ctg_assets.simulator.outline import Outline
from ctg_assets.simulator.sections.cohorts import Cohort
from ctg_assets.simulator.sections.parts import (
    Json,
    email,
    paragraphs,
    phone,
    present,
    prose,
)
from ctg_assets.simulator.vocabulary import enum

_TERM_POOL = 2400
# Of the studies with results, those that report thousands of adverse events and reach several megabytes.
_VAST = 0.002
_ORGAN_SYSTEMS = ("Blood and lymphatic system disorders", "Cardiac disorders", "Eye disorders", "Gastrointestinal disorders",
                  "General disorders", "Infections and infestations", "Investigations", "Nervous system disorders",
                  "Psychiatric disorders", "Skin and subcutaneous tissue disorders", "Vascular disorders")  # fmt: skip
_ORGANS = ("Hepatic", "Renal", "Cardiac", "Dermal", "Ocular", "Gastric", "Pulmonary", "Nasal", "Dental", "Spinal", "Vascular",
           "Muscular", "Lymphatic", "Cerebral", "Oral", "Pelvic", "Thoracic", "Abdominal", "Auricular", "Joint")  # fmt: skip
_FINDINGS = ("pain", "oedema", "infection", "haemorrhage", "inflammation", "discomfort", "stiffness", "swelling", "spasm",
             "neoplasm", "injury", "ulcer", "fibrosis", "abscess", "dysfunction")  # fmt: skip
_GRADES = (
    "",
    " grade 1",
    " grade 2",
    " grade 3",
    " acute",
    " chronic",
    " recurrent",
    " aggravated",
)


@cache
def _event_terms() -> tuple[bytes, ...]:
    """Encoded beginnings of adverse events, up to and without their stats; all terms differ."""
    draw = Draw(11)
    terms = [
        f"{organ} {finding}{grade}"
        for grade in _GRADES
        for organ in _ORGANS
        for finding in _FINDINGS
    ]
    beginnings = []
    for number, term in enumerate(terms[:_TERM_POOL]):
        event = {
            "term": term,
            "organSystem": draw.pick(_ORGAN_SYSTEMS),
            "sourceVocabulary": f"MedDRA {draw.between(10, 27)}.{number % 2}"
            if number % 5
            else None,
            "assessmentType": draw.weighted(enum("EventAssessment")),
            "notes": prose(draw, 1) if number % 9 == 0 else None,
        }
        beginnings.append(msgspec.json.encode(present(event))[:-1] + b',"stats":')
    return tuple(beginnings)


def results_section(facts: Outline, people: Cohort) -> Json:
    """The results section of a study whose participants are this cohort."""
    draw = facts.draw
    outcomes = [*_parts(draw, people.primary, min(12, draw.heavy(1.5, 12)))]
    if draw.maybe(0.85):
        outcomes += _parts(draw, people.others, draw.heavy(4.5, 260))
    total = {
        "id": f"BG{len(people.sizes):03d}",
        "title": "Total",
        "description": "Total of all reporting groups",
    }
    return {
        "participantFlowModule": _parts(draw, people.flow, 1)[0],
        "baselineCharacteristicsModule": present(
            {
                "populationDescription": prose(draw, 1) if draw.maybe(0.35) else None,
                "typeUnitsAnalyzed": "eyes" if draw.maybe(0.01) else None,
                "groups": [*people.groups("BG"), total],
                "denoms": [{"units": "Participants", "counts": people.baseline_counts()}],
                "measures": _parts(draw, people.baseline, draw.heavy(3, 45)),
            }
        ),
        "outcomeMeasuresModule": {"outcomeMeasures": outcomes},
        "adverseEventsModule": _adverse_events(draw, people),
        "moreInfoModule": _more_info(draw),
    }


def _parts(draw: Draw, pool: tuple[msgspec.Raw, ...], count: int) -> list[msgspec.Raw]:
    """Parts of the pool; a complete study begins with part 0, which has everything optional."""
    return [*pool[: 1 if draw.complete else 0], *draw.run(pool, count)]


def _adverse_events(draw: Draw, people: Cohort) -> Json:
    def events(count: int) -> list[msgspec.Raw]:
        terms = draw.run(_event_terms(), count)
        stats = draw.run(people.stats, count)
        return [msgspec.Raw(term + stat) for term, stat in zip(terms, stats, strict=True)]

    serious, others = draw.heavy(6, 2000), draw.heavy(12, 700)
    if draw.random() < _VAST:
        serious, others = draw.between(1000, _TERM_POOL), draw.between(1000, _TERM_POOL)
    groups = []
    for group, size in zip(people.groups("EG"), people.sizes, strict=True):
        affected = [draw.below(size + 1) for _ in range(3)]
        deaths = {"deathsNumAffected": affected[0] // 4, "deathsNumAtRisk": size}
        groups.append(
            {
                **group,
                **(deaths if draw.maybe(0.66) else {}),
                "seriousNumAffected": affected[1] // 2,
                "seriousNumAtRisk": size,
                "otherNumAffected": affected[2],
                "otherNumAtRisk": size,
            }
        )
    return present(
        {
            "frequencyThreshold": draw.pick(("0", "5", "2", "1", "3")),
            "timeFrame": draw.pick(vocabulary.TIME_FRAMES) if draw.maybe(0.85) else None,
            "description": prose(draw, 2) if draw.maybe(0.5) else None,
            "allCauseMortalityComment": prose(draw, 1) if draw.maybe(0.02) else None,
            "eventGroups": groups,
            "seriousEvents": events(serious) if draw.maybe(0.7) else None,
            "otherEvents": events(others) if draw.maybe(0.82) else None,
        }
    )


def _more_info(draw: Draw) -> Json:
    contact = draw.pick(vocabulary.people())
    sponsor = draw.pick(vocabulary.organizations()["OTHER"])
    limited = draw.maybe(0.25)
    agreement: Json = {"piSponsorEmployee": draw.random() < 0.3}
    if draw.maybe(0.5):
        agreement["restrictionType"] = draw.weighted(enum("AgreementRestrictionType"))
        agreement["restrictiveAgreement"] = True
        agreement["otherDetails"] = prose(draw, 2)
    return present(
        {
            "limitationsAndCaveats": {"description": paragraphs(draw)} if limited else None,
            "certainAgreement": agreement,
            "pointOfContact": present(
                {
                    "title": contact,
                    "organization": sponsor.name,
                    "email": email(contact),
                    "phone": phone(draw),
                    "phoneExt": str(draw.below(900)) if draw.maybe(0.03) else None,
                }
            ),
        }
    )
