"""The results section of a generated study.

A results section holds thousands of values, so it is put together from encoded parts. The parts belong
to one of a few cohorts: fixed groups with fixed numbers of participants, so that the denominators of one
study agree with each other and with its enrollment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import msgspec

from ctg_assets.simulator import vocabulary
from ctg_assets.simulator.draws import Draw, Weighted
from ctg_assets.simulator.outline import Outline
from ctg_assets.simulator.protocol import (
    Json,
    email,
    paragraphs,
    partial_date,
    phone,
    present,
    prose,
)
from ctg_assets.simulator.vocabulary import enum

COHORTS = 32
_COHORT_SIZES = Weighted({1: 22, 2: 45, 3: 18, 4: 9, 6: 4, 12: 2})
_CATEGORIES = Weighted({1: 8, 2: 2, 5: 1})
_PRIMARY_POOL = 24
_OTHER_POOL = 72
_BASELINE_POOL = 24
_STATS_POOL = 96
_TERM_POOL = 2400
# Of the studies with results, those that report thousands of adverse events and reach several megabytes.
_VAST = 0.002

# Numbers as sponsors type them. Some of these are no numbers, which is the point.
_ODD_VALUES = ("1,234", "<0.001", "NA", "12.5 (3)", ">99", "0", "-0.4", "1.2E3", "\u22645", "N/A")
_P_VALUES = ("<0.001", "0.04", "<.0001", "= 0.512", "0.1234", "> 0.05", ">0.999", "0.0500", "NS")
_SPREADS = (
    "Standard Deviation",
    "Standard Error",
    "95% Confidence Interval",
    "Inter-Quartile Range",
    "Full Range",
    "Geometric Coefficient of Variation",
)
_UNITS = (
    "participants",
    "score on a scale",
    "mg/dL",
    "percentage of participants",
    "days",
    "µg/mL",
)
_METHODS = (
    "ANCOVA",
    "ANOVA",
    "Log Rank",
    "Regression, Cox",
    "t-test, 2 sided",
    "Fisher Exact",
    "Chi-squared",
)
_ESTIMATES = (
    "Hazard Ratio (HR)",
    "Odds Ratio (OR)",
    "LS Mean Difference",
    "Mean Difference (Final Values)",
)
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
_DROP_REASONS = (
    "Withdrawal by Subject",
    "Lost to Follow-up",
    "Adverse Event",
    "Death",
    "Physician Decision",
)


def _encoded(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _chance(draw: Draw, number: int, every: int) -> bool:
    """Whether part `number` of a pool has something rare; part 0 has everything."""
    return number == 0 or draw.below(every) == 0


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


@dataclass
class Cohort:
    """Groups of participants, and pools of encoded parts that report on just these groups."""

    number: int

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many participants started in each group."""
        draw = Draw(1000 + self.number)
        arms = draw.weighted(_COHORT_SIZES)
        typical = draw.pick((8, 15, 25, 40, 60, 110, 300, 1100))
        return tuple(
            max(2, typical + draw.between(-typical // 4, typical // 4)) for _ in range(arms)
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The groups' titles, which are the labels of the study's arms as well."""
        return tuple(Draw(2000 + self.number).run(vocabulary.ARM_LABELS, len(self.sizes)))

    @property
    def total(self) -> int:
        """How many participants started."""
        return sum(self.sizes)

    def groups(self, prefix: str) -> list[Json]:
        """The groups, numbered with this prefix from 000 as in every part of a results section."""
        draw = Draw(3000 + self.number)
        return [
            {"id": f"{prefix}{place:03d}", "title": label, "description": prose(draw, 1)}
            for place, label in enumerate(self.labels)
        ]

    def counts(self, prefix: str, *, lost: int = 0) -> list[Json]:
        """The numbers of participants by group, as the text they arrive in."""
        return [
            {"groupId": f"{prefix}{place:03d}", "value": str(max(0, size - lost))}
            for place, size in enumerate(self.sizes)
        ]

    def baseline_counts(self) -> list[Json]:
        """Counts of the baseline groups, followed by that of the group of all participants."""
        total = {"groupId": f"BG{len(self.sizes):03d}", "value": str(self.total)}
        return [*self.counts("BG"), total]

    @cached_property
    def flow(self) -> tuple[msgspec.Raw, ...]:
        """Participant flow modules."""
        draw = Draw(4000 + self.number)
        return tuple(_encoded(self._flow(draw, number)) for number in range(4))

    def _flow(self, draw: Draw, number: int) -> Json:
        def stats(lost: list[int], *, remaining: bool) -> list[Json]:
            return [
                present(
                    {
                        "groupId": f"FG{place:03d}",
                        "comment": prose(draw, 1) if _chance(draw, number, 30) else None,
                        "numSubjects": str(size - lost[place] if remaining else lost[place]),
                        "numUnits": str(2 * size) if number == 0 and remaining else None,
                    }
                )
                for place, size in enumerate(self.sizes)
            ]

        nobody = [0] * len(self.sizes)
        lost = [draw.below(max(1, size // 3)) for size in self.sizes]
        milestones = [
            ("STARTED", nobody, True),
            ("COMPLETED", lost, True),
            ("NOT COMPLETED", lost, False),
        ]
        return present(
            {
                "preAssignmentDetails": prose(draw, 2) if _chance(draw, number, 2) else None,
                "recruitmentDetails": prose(draw, 2) if _chance(draw, number, 2) else None,
                "typeUnitsAnalyzed": "eyes" if number == 0 else None,
                "groups": self.groups("FG"),
                "periods": [
                    {
                        "title": title,
                        "milestones": [
                            present(
                                {
                                    "type": type_,
                                    "comment": prose(draw, 1)
                                    if _chance(draw, number, 20)
                                    else None,
                                    "achievements": stats(missing, remaining=remaining),
                                }
                            )
                            for type_, missing, remaining in milestones
                        ],
                        "dropWithdraws": [
                            present(
                                {
                                    "type": reason,
                                    "comment": prose(draw, 1)
                                    if _chance(draw, number, 20)
                                    else None,
                                    "reasons": stats(
                                        lost if place == 0 else nobody, remaining=False
                                    ),
                                }
                            )
                            for place, reason in enumerate(draw.run(_DROP_REASONS, 3))
                        ],
                    }
                    for title in ("Overall Study", "Open Label Extension")[: 1 + (number % 2)]
                ],
            }
        )

    @cached_property
    def baseline(self) -> tuple[msgspec.Raw, ...]:
        """Baseline measures."""
        draw = Draw(5000 + self.number)
        return tuple(_encoded(self._baseline(draw, number)) for number in range(_BASELINE_POOL))

    def _baseline(self, draw: Draw, number: int) -> Json:
        groups = [count["groupId"] for count in self.baseline_counts()]
        denoms = [{"units": "Participants", "counts": self.baseline_counts()}]
        return present(
            {
                "title": draw.pick(
                    ("Age, Continuous", "Sex: Female, Male", "Race (NIH/OMB)", *vocabulary.MEASURES)
                ),
                "description": prose(draw, 1) if _chance(draw, number, 3) else None,
                "populationDescription": prose(draw, 1) if _chance(draw, number, 8) else None,
                "paramType": draw.weighted(enum("MeasureParam")),
                "dispersionType": draw.weighted(enum("MeasureDispersionType")),
                "unitOfMeasure": draw.pick(_UNITS),
                "calculatePct": number % 2 == 0 if _chance(draw, number, 5) else None,
                "denomUnitsSelected": "Participants" if _chance(draw, number, 10) else None,
                "denoms": denoms if _chance(draw, number, 4) else None,
                "classes": _classes(draw, number, groups, denoms),
            }
        )

    @cached_property
    def primary(self) -> tuple[msgspec.Raw, ...]:
        """Primary outcome measures."""
        draw = Draw(6000 + self.number)
        return tuple(
            _encoded(self._outcome(draw, number, "PRIMARY")) for number in range(_PRIMARY_POOL)
        )

    @cached_property
    def others(self) -> tuple[msgspec.Raw, ...]:
        """Outcome measures that are not primary."""
        draw = Draw(7000 + self.number)
        types = Weighted({"SECONDARY": 85, "OTHER_PRE_SPECIFIED": 10, "POST_HOC": 5})
        return tuple(
            _encoded(self._outcome(draw, number, draw.weighted(types)))
            for number in range(_OTHER_POOL)
        )

    def _outcome(self, draw: Draw, number: int, type_: str) -> Json:
        posted = number == 0 or draw.below(40) > 0
        groups = [count["groupId"] for count in self.counts("OG")]
        unit = "eyes" if _chance(draw, number, 40) else None
        denoms = [{"units": "Participants", "counts": self.counts("OG", lost=draw.below(3))}]
        awaited = number == 0 or not posted
        return present(
            {
                "type": type_,
                "title": draw.pick(vocabulary.MEASURES),
                "description": prose(draw, draw.between(1, 5)),
                "populationDescription": prose(draw, draw.between(1, 2))
                if _chance(draw, number, 2)
                else None,
                "reportingStatus": "POSTED" if posted else "NOT_POSTED",
                "anticipatedPostingDate": partial_date(draw, 735_000 + draw.below(4000))
                if awaited
                else None,
                "paramType": draw.weighted(enum("MeasureParam")),
                "dispersionType": draw.pick(_SPREADS) if draw.below(5) else None,
                "unitOfMeasure": draw.pick(_UNITS),
                "calculatePct": number % 2 == 0 if _chance(draw, number, 20) else None,
                "timeFrame": draw.pick(vocabulary.TIME_FRAMES),
                "typeUnitsAnalyzed": unit,
                "denomUnitsSelected": unit,
                "groups": self.groups("OG"),
                "denoms": denoms if posted else None,
                "classes": _classes(draw, number, groups, denoms) if posted else None,
                "analyses": [
                    _analysis(draw, groups, complete=number == 0) for _ in range(draw.between(1, 3))
                ]
                if posted and _chance(draw, number, 3)
                else None,
            }
        )

    @cached_property
    def stats(self) -> tuple[bytes, ...]:
        """Encoded stats of one adverse event, with the brace that ends the event."""
        draw = Draw(8000 + self.number)
        pool = []
        for number in range(_STATS_POOL):
            stats = []
            for place, size in enumerate(self.sizes):
                affected = int(size * draw.random() ** 4)
                events = affected + draw.below(3) if number % 2 else None
                stats.append(
                    present(
                        {
                            "groupId": f"EG{place:03d}",
                            "numEvents": events,
                            "numAffected": affected,
                            "numAtRisk": size,
                        }
                    )
                )
            pool.append(msgspec.json.encode(stats) + b"}")
        return tuple(pool)


@cache
def cohort(number: int) -> Cohort:
    """Cohort `number` of COHORTS; its pools are built when first used and kept."""
    return Cohort(number)


def _classes(draw: Draw, number: int, groups: list[Any], denoms: list[Json]) -> list[Json]:
    """Classes of a measure; most have one class of one category, a few have dozens."""
    classes = min(60, int(1 / (1 - draw.random()) ** 0.6)) if number else 3
    categories = draw.weighted(_CATEGORIES) if number else 2
    limits = _chance(draw, number, 3)
    spread = not limits or number == 0
    return [
        present(
            {
                "title": f"Week {4 * place}" if classes > 1 else None,
                "denoms": denoms if _chance(draw, number, 4) else None,
                "categories": [
                    present(
                        {
                            "title": f"Category {category + 1}" if categories > 1 else None,
                            "measurements": [
                                present(
                                    {
                                        "groupId": group,
                                        "value": _value(draw),
                                        "spread": _value(draw) if spread else None,
                                        "lowerLimit": _value(draw) if limits else None,
                                        "upperLimit": _value(draw) if limits else None,
                                        "comment": prose(draw, 1)
                                        if _chance(draw, number, 60)
                                        else None,
                                    }
                                )
                                for group in groups
                            ],
                        }
                    )
                    for category in range(categories)
                ],
            }
        )
        for place in range(classes)
    ]


def _value(draw: Draw) -> str:
    if draw.below(25) == 0:
        return draw.pick(_ODD_VALUES)
    if draw.below(3) == 0:
        return str(draw.below(200))
    return f"{draw.random() * 90:.{draw.between(1, 3)}f}"


def _analysis(draw: Draw, groups: list[Any], *, complete: bool) -> Json:
    def some(text: str, every: int) -> str | None:
        return text if complete or draw.below(every) == 0 else None

    return present(
        {
            "paramType": draw.pick(_ESTIMATES),
            "paramValue": _value(draw),
            "dispersionType": some(draw.weighted(enum("AnalysisDispersionType")), 4),
            "dispersionValue": some(_value(draw), 4),
            "statisticalMethod": draw.pick(_METHODS),
            "statisticalComment": some(prose(draw, 1), 4),
            "pValue": draw.pick(_P_VALUES),
            "pValueComment": some(prose(draw, 1), 3),
            "ciNumSides": draw.weighted(enum("ConfidenceIntervalNumSides")),
            "ciPctValue": draw.pick(("95", "90", "97.5", "99")),
            "ciLowerLimit": _value(draw),
            "ciUpperLimit": _value(draw),
            "ciLowerLimitComment": some(prose(draw, 1), 30),
            "ciUpperLimitComment": some(prose(draw, 1), 30),
            "estimateComment": some(prose(draw, 1), 4),
            "testedNonInferiority": True if complete or draw.below(4) == 0 else None,
            "nonInferiorityType": draw.weighted(enum("NonInferiorityType")),
            "nonInferiorityComment": some(prose(draw, 1), 6),
            "otherAnalysisDescription": some(prose(draw, 1), 30),
            "groupDescription": some(prose(draw, 1), 2),
            "groupIds": groups[:2],
        }
    )


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
